//! Facts about processes, read from a `/proc` whose path is a parameter: tests point it at a tree of their own.
//!
//! Names, titles, arguments and environments of processes are not read at all: a process chooses them. What a user's
//! process can make large or odd (its descriptors) is read of root's processes only.

use procfs::process::Process as ProcDirectory;
use procfs::{ProcError, ProcResult};
use rustix::fs::{OFlags, fstat, readlinkat_raw, statat};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::descriptors::{connections, descriptors, socket_inodes};
use super::{control_group, libraries};
use crate::model::process::{Child, FileId, ListenSocket, Process, Surroundings};

/// What the kernel appends to the name of a program whose directory entry is gone (d_path, fs/d_path.c).
const DELETED: &[u8] = b" (deleted)";
/// File names of OpenSSH's server: the listener, and from 9.8 on the two that serve a connection.
const PROGRAMS: [&str; 3] = ["sshd", "sshd-session", "sshd-auth"];
/// The kernel has no names of programs that are longer (do_proc_readlink, fs/proc/base.c, with pages of 4 KiB).
const LINK_MAX: usize = 4096;
/// `/proc/PID/status` and `stat` are shorter.
const TEXT_LIMIT: u64 = 64 * 1024;

/// A `/proc`, and the process that stands for the host: PID 1, with which every other is compared.
#[derive(Debug)]
pub struct Proc {
    root: PathBuf,
    init: PathBuf,
    boot: SystemTime,
    host: Identity,
}

/// Processes by the name of their program.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Pids.
    pub of_root: Vec<i32>,
    /// Those whose parent is one of root's, too.
    pub children: Vec<Child>,
    /// Pids and programs.
    pub of_users: Vec<(i32, PathBuf)>,
    /// Processes whose child sshd has given the rights of its own user: nobody has authenticated to them yet.
    pub unauthenticated: BTreeSet<i32>,
}

/// A process, and the sockets that it may be serving.
#[derive(Debug)]
pub struct Observed {
    pub process: Process,
    /// Inodes of sockets that are or may be connections.
    pub connections: BTreeSet<u64>,
}

/// Namespaces and root directory.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    pid: FileId,
    network: FileId,
    user: FileId,
    root: FileId,
}

impl Proc {
    /// The host's own.
    ///
    /// # Errors
    /// It is not mounted, or this user may not read PID 1's part of it.
    pub fn host() -> ProcResult<Self> {
        Self::below(Path::new("/proc"), "1", procfs::boot_time_secs()?)
    }

    /// A `/proc` at another place, where process `init` stands for a host that was booted at `boot` seconds since 1970.
    ///
    /// # Errors
    /// It has no readable process `init`.
    pub fn below(root: &Path, init: &str, boot: u64) -> ProcResult<Self> {
        let init = root.join(init);
        let host = identity(&ProcDirectory::new_with_root(init.clone())?)?;
        Ok(Self { root: root.to_owned(), init, boot: SystemTime::UNIX_EPOCH + Duration::from_secs(boot), host })
    }

    /// What of the caller's own surroundings is not PID 1's, if anything.
    pub fn foreign_surroundings(&self) -> Option<&'static str> {
        let Ok(own) = ProcDirectory::new_with_root(self.root.join("self")).and_then(|own| identity(&own)) else {
            return Some("PID namespace");
        };
        let compared = [
            (own.root == self.host.root, "root directory"),
            (own.pid == self.host.pid, "PID namespace"),
            (own.network == self.host.network, "network namespace"),
            (own.user == self.host.user, "user namespace"),
        ];
        compared.into_iter().find(|(same, _)| !same).map(|(_, what)| what)
    }

    /// Inodes of the sockets that PID 1 holds.
    ///
    /// # Errors
    /// Its descriptors could not be read.
    pub fn sockets_of_init(&self) -> ProcResult<BTreeSet<u64>> {
        socket_inodes(&ProcDirectory::new_with_root(self.init.clone())?)
    }

    /// Inodes of the sockets that a process holds.
    ///
    /// # Errors
    /// Its descriptors could not be read.
    pub fn sockets_of(&self, pid: i32) -> ProcResult<BTreeSet<u64>> {
        socket_inodes(&ProcDirectory::new_with_root(self.root.join(pid.to_string()))?)
    }

    /// Processes whose program is called like a part of OpenSSH's server: one readlink(2) for each process, one stat(2)
    /// more for each of these, and two files for each of root's. `user_of_sshd`: the uid of the user that sshd serves as
    /// before somebody has authenticated.
    ///
    /// # Errors
    /// The directory could not be read.
    pub fn sshd_processes(&self, user_of_sshd: Option<u32>) -> ProcResult<Named> {
        let mut named = Named::default();
        let mut of_root = BTreeMap::new();
        let proc = File::open(&self.root)?;
        let mut target = [MaybeUninit::uninit(); LINK_MAX];
        for entry in std::fs::read_dir(&self.root)? {
            let Ok(entry) = entry else { continue };
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let Ok((exe, _)) = readlinkat_raw(&proc, format!("{pid}/exe"), &mut target) else { continue };
            let exe = Path::new(OsStr::from_bytes(exe));
            if !is_sshd(exe) {
                continue;
            }
            let exe = exe.to_owned();
            // The directory itself belongs to the effective user, whether the process is dumpable or not
            // (task_dump_owner, fs/proc/base.c).
            match rustix::fs::stat(entry.path()) {
                Ok(directory) if directory.st_uid == 0 => drop(of_root.insert(pid, exe)),
                Ok(directory) if Some(directory.st_uid) == user_of_sshd => {
                    named.unauthenticated.extend(self.child(pid, &exe).map(|child| child.parent));
                }
                Ok(_) => named.of_users.push((pid, exe)),
                // It has exited.
                Err(_) => {}
            }
        }
        for (pid, exe) in &of_root {
            match self.child(*pid, exe) {
                Some(child) if of_root.contains_key(&child.parent) => named.children.push(child),
                _ => named.of_root.push(*pid),
            }
        }
        named.of_users.sort_unstable();
        Ok(named)
    }

    /// `None`: it has exited, or it has to be read with everything else.
    fn child(&self, pid: i32, exe: &Path) -> Option<Child> {
        let directory = self.root.join(pid.to_string());
        let (parent, _) = parent_and_start(&std::fs::read(directory.join("stat")).ok()?)?;
        let cgroup = std::fs::read(directory.join("cgroup")).ok()?;
        let cgroup = String::from_utf8_lossy(&cgroup);
        let control_group = control_group::of_process(&cgroup);
        let unit = control_group::unit(control_group);
        Some(Child { pid, parent, exe: exe.to_owned(), control_group: control_group.to_owned(), unit })
    }

    /// Facts about one process. `None`: it has no program (any more), as a zombie has none.
    ///
    /// # Errors
    /// A fact could not be read.
    pub fn facts(&self, directory: &ProcDirectory, sockets: &[ListenSocket]) -> ProcResult<Option<Observed>> {
        let exe = match directory.exe() {
            Ok(exe) => exe,
            Err(ProcError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let image = file_id(directory, "exe")?;
        let root = open_path(directory, "root")?;
        let below_root = |path: &Path| {
            let relative = path.strip_prefix("/").unwrap_or(path);
            statat(root.as_fd(), relative, rustix::fs::AtFlags::empty())
                .ok()
                .map(|stat| FileId { device: stat.st_dev, inode: stat.st_ino })
        };
        // A file can really be named "sshd (deleted)": then that name leads to the image, and it is the program's own.
        let path = match without_deleted(&exe) {
            Some(path) if below_root(&exe) != Some(image) => path,
            _ => exe.clone(),
        };
        let on_disk = below_root(&path);

        let own = identity(directory)?;
        let malformed = |file: &str| ProcError::Other(format!("/proc/{}/{file} is malformed", directory.pid));
        let status = Status::parse(&bytes(directory, "status")?).ok_or_else(|| malformed("status"))?;
        let (parent, started_ticks) = parent_and_start(&bytes(directory, "stat")?).ok_or_else(|| malformed("stat"))?;
        let is_root = status.real_uid == 0 && status.effective_uid == 0;
        let descriptors = if is_root { descriptors(directory)? } else { Vec::new() };
        let holds = |socket: &&ListenSocket| descriptors.iter().any(|d| d.socket == Some(socket.inode));
        let listening: Vec<ListenSocket> = sockets.iter().filter(holds).copied().collect();
        let is_listening = !listening.is_empty();
        let cgroup = bytes(directory, "cgroup")?;
        let cgroup = String::from_utf8_lossy(&cgroup);
        let control_group = control_group::of_process(&cgroup);
        let ticks = procfs::ticks_per_second().max(1);
        let connections = connections(&descriptors, &listening);
        let process = Process {
            pid: directory.pid,
            started_ticks,
            started: self.boot.checked_add(Duration::from_secs(started_ticks / ticks)).unwrap_or(self.boot),
            exe,
            path,
            image,
            on_disk,
            surroundings: Surroundings {
                pid_namespace: own.pid == self.host.pid,
                network_namespace: own.network == self.host.network,
                user_namespace: own.user == self.host.user,
                root_directory: own.root == self.host.root,
            },
            real_uid: status.real_uid,
            effective_uid: status.effective_uid,
            parent,
            parent_is_sshd: std::fs::read_link(self.root.join(parent.to_string()).join("exe"))
                .is_ok_and(|exe| is_sshd(&exe)),
            sockets: listening,
            connected: !connections.is_empty(),
            traced: status.tracer != 0,
            stdin_is_socket: descriptors.iter().any(|descriptor| descriptor.number == 0 && descriptor.socket.is_some()),
            unit: control_group::unit(control_group),
            control_group: control_group.to_owned(),
            stale_libraries: match is_listening && on_disk == Some(image) {
                true => libraries::stale(&bytes(directory, "maps").unwrap_or_default()),
                false => Vec::new(),
            },
            probe: None,
        };
        Ok(Some(Observed { process, connections }))
    }
}

/// The connections that a process still holds of those that it held at the first look.
///
/// # Errors
/// Its descriptors could not be read.
pub fn still_connected(directory: &ProcDirectory, observed: &Observed) -> ProcResult<BTreeSet<u64>> {
    let now = connections(&descriptors(directory)?, &observed.process.sockets);
    Ok(observed.connections.intersection(&now).copied().collect())
}

fn is_sshd(exe: &Path) -> bool {
    let path = without_deleted(exe);
    let name = path.as_deref().unwrap_or(exe).file_name();
    PROGRAMS.iter().any(|program| name == Some(OsStr::new(program)))
}

fn without_deleted(exe: &Path) -> Option<PathBuf> {
    let path = exe.as_os_str().as_bytes().strip_suffix(DELETED)?;
    Some(PathBuf::from(OsString::from_vec(path.to_vec())))
}

/// The fields of `/proc/PID/status` that decide. Its first line is a name that the process chooses, in any bytes.
struct Status {
    real_uid: u32,
    effective_uid: u32,
    tracer: i32,
}

impl Status {
    fn parse(text: &[u8]) -> Option<Self> {
        let line = |key: &[u8]| text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key));
        let fields = |key: &[u8]| std::str::from_utf8(line(key)?).ok().map(str::split_whitespace);
        let mut uids = fields(b"Uid:")?;
        Some(Self {
            real_uid: uids.next()?.parse().ok()?,
            effective_uid: uids.next()?.parse().ok()?,
            tracer: fields(b"TracerPid:")?.next()?.parse().ok()?,
        })
    }
}

/// From `/proc/PID/stat`, whose second field is a name in parentheses that the process chooses (proc_pid_stat(5)).
fn parent_and_start(text: &[u8]) -> Option<(i32, u64)> {
    let after_name = text.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&text[after_name..]).ok()?.split_whitespace();
    // Field 3 is the first of these; the parent is field 4, the start field 22.
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((parent, start))
}

fn bytes(directory: &ProcDirectory, file: &str) -> ProcResult<Vec<u8>> {
    let mut bytes = Vec::new();
    directory.open_relative(file)?.take(TEXT_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn identity(directory: &ProcDirectory) -> ProcResult<Identity> {
    Ok(Identity {
        pid: file_id(directory, "ns/pid")?,
        network: file_id(directory, "ns/net")?,
        user: file_id(directory, "ns/user")?,
        root: file_id(directory, "root")?,
    })
}

/// Device and inode of what a link of `/proc/PID` leads to.
fn file_id(directory: &ProcDirectory, link: &str) -> ProcResult<FileId> {
    let stat = fstat(open_path(directory, link)?.as_fd()).map_err(std::io::Error::from)?;
    Ok(FileId { device: stat.st_dev, inode: stat.st_ino })
}

/// Opens what a link of `/proc/PID` leads to, for facts about the file itself.
fn open_path(directory: &ProcDirectory, link: &str) -> ProcResult<File> {
    directory.open_relative_flags(link, OFlags::PATH | OFlags::CLOEXEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_component_of_a_path_names_a_program() {
        for (exe, expected) in [
            ("/usr/sbin/sshd", true),
            ("/usr/sbin/sshd (deleted)", true),
            ("/usr/lib/openssh/sshd-session", true),
            ("/opt/sshd/bin/server", false),
            ("/usr/sbin/sshd-agent", false),
            ("/usr/sbin/sshd\n", false),
        ] {
            assert_eq!(is_sshd(Path::new(exe)), expected, "{exe:?}");
        }
    }

    #[test]
    fn a_name_in_any_bytes_hides_no_fact() {
        let status = Status::parse(b"Name:\t\xff\xfe\nUid:\t0\t1000\t0\t0\nTracerPid:\t7\n").expect("a status");
        assert_eq!((status.real_uid, status.effective_uid, status.tracer), (0, 1000, 7));
        assert!(Status::parse(b"Name:\tUid: 0 0\nUid:\tx\n").is_none());
        let stat = b"5 (\xff) 1 2 3) S 42 5 5 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 777 0\n";
        assert_eq!(parent_and_start(stat), Some((42, 777)));
        assert_eq!(parent_and_start(b"5 (x"), None);
    }
}
