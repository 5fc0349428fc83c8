//! Facts about processes, read from a `/proc` whose path is a parameter: tests point it at a tree of their own.
//!
//! Names, titles, arguments and environments of processes are not read at all: a process chooses them.

use procfs::process::Process as ProcDirectory;
use procfs::{ProcError, ProcResult};
use rustix::fs::{Dir, OFlags, fstat, statat};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::listening::{self, Socket};
use super::path_only;
use crate::snapshot::{FileId, Process, Surroundings};

/// What the kernel appends to the name of a program whose directory entry is gone (d_path, fs/d_path.c).
const DELETED: &[u8] = b" (deleted)";
/// File names of OpenSSH's server: the listener, and from 9.8 on the two that serve a connection.
const PROGRAMS: [&str; 3] = ["sshd", "sshd-session", "sshd-auth"];
/// The kinds of socket that sshd uses to talk to its own host (`sk_prot->name`): the log, systemd, the audit.
const LOCAL_PROTOCOLS: [&[u8]; 3] = [b"UNIX", b"UNIX-STREAM", b"NETLINK"];

/// Before each further look at a connection of a process that has a socket in LISTEN.
const LOOKS_AGAIN: [Duration; 3] = [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(50)];

/// A `/proc`, and the process that stands for the host: PID 1, which every other is compared with.
#[derive(Debug)]
pub struct Proc {
    root: PathBuf,
    init: PathBuf,
    boot: SystemTime,
    host: Identity,
}

/// A process, and which sockets it holds.
#[derive(Debug)]
pub struct Observed {
    /// The facts.
    pub process: Process,
    /// Inodes of its TCP sockets in LISTEN.
    pub listening_inodes: BTreeSet<u64>,
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
    /// It is not mounted, or PID 1 is not for this user to look at.
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
    #[must_use]
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

    /// TCP sockets in LISTEN in the host's network namespace.
    ///
    /// # Errors
    /// The kernel's table could not be read.
    pub fn listening(&self) -> ProcResult<Vec<Socket>> {
        listening::read(&self.init.join("net"))
    }

    /// Inodes of the sockets that PID 1 holds.
    ///
    /// # Errors
    /// Its descriptors could not be read.
    pub fn sockets_of_init(&self) -> ProcResult<BTreeSet<u64>> {
        let init = ProcDirectory::new_with_root(self.init.clone())?;
        Ok(descriptors(&init)?.into_iter().filter_map(|descriptor| descriptor.socket).collect())
    }

    /// Processes whose program is called like a part of OpenSSH's server: one readlink(2) each.
    ///
    /// # Errors
    /// The directory could not be read.
    pub fn sshd_pids(&self, program: &Path) -> ProcResult<Vec<i32>> {
        let mut pids = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let Ok(entry) = entry else { continue };
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            if std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| is_sshd(&exe, program)) {
                pids.push(pid);
            }
        }
        pids.sort_unstable();
        Ok(pids)
    }

    /// Facts about one process. `None`: it has no program (any more), as a zombie has none.
    ///
    /// # Errors
    /// A fact could not be read.
    pub fn facts(&self, directory: &ProcDirectory, program: &Path, sockets: &[Socket]) -> ProcResult<Option<Observed>> {
        let exe = match directory.exe() {
            Ok(exe) => exe,
            Err(ProcError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let image = file_id(directory, "exe")?;
        let root = directory.open_relative_flags("root", path_only().0)?;
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
        let status = directory.status()?;
        let stat = directory.stat()?;
        let descriptors = match descriptors(directory) {
            // Another user's process, which is never ended: without CAP_DAC_READ_SEARCH its descriptors stay hidden.
            Err(ProcError::PermissionDenied(_)) if status.ruid != 0 && status.euid != 0 => Vec::new(),
            result => result?,
        };
        let mut listening = BTreeSet::new();
        let mut listening_inodes = BTreeSet::new();
        for descriptor in &descriptors {
            let Some(inode) = descriptor.socket else { continue };
            if let Some(socket) = sockets.iter().find(|socket| socket.inode == inode) {
                listening.insert(socket.address);
                listening_inodes.insert(inode);
            }
        }
        let ticks = procfs::ticks_per_second().max(1);
        let process = Process {
            pid: directory.pid,
            started_ticks: stat.starttime,
            started: self.boot.checked_add(Duration::from_secs(stat.starttime / ticks)).unwrap_or(self.boot),
            at_program_path: path == program,
            exe,
            image,
            on_disk,
            surroundings: Surroundings {
                pid_namespace: own.pid == self.host.pid,
                network_namespace: own.network == self.host.network,
                user_namespace: own.user == self.host.user,
                root_directory: own.root == self.host.root,
            },
            real_uid: status.ruid,
            effective_uid: status.euid,
            parent: stat.ppid,
            parent_is_sshd: std::fs::read_link(self.root.join(stat.ppid.to_string()).join("exe"))
                .is_ok_and(|exe| is_sshd(&exe, program)),
            listening,
            ipv6_only: false,
            connected: stays_connected(directory, &descriptors, &listening_inodes)?,
            traced: status.tracerpid != 0,
            stdin_is_socket: descriptors.iter().any(|descriptor| descriptor.number == 0 && descriptor.socket.is_some()),
            unit: unit(directory)?,
            probe: None,
        };
        Ok(Some(Observed { process, listening_inodes }))
    }
}

fn is_sshd(exe: &Path, program: &Path) -> bool {
    let path = without_deleted(exe);
    let name = path.as_deref().unwrap_or(exe).file_name();
    name == program.file_name() || PROGRAMS.iter().any(|program| name == Some(OsStr::new(program)))
}

fn without_deleted(exe: &Path) -> Option<PathBuf> {
    let path = exe.as_os_str().as_bytes().strip_suffix(DELETED)?;
    Some(PathBuf::from(OsString::from_vec(path.to_vec())))
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
    let file = directory.open_relative_flags(link, path_only().0)?;
    let stat = fstat(file.as_fd()).map_err(std::io::Error::from)?;
    Ok(FileId { device: stat.st_dev, inode: stat.st_ino })
}

/// One open descriptor.
struct Descriptor {
    number: i32,
    /// Inode, if it is a socket.
    socket: Option<u64>,
    /// It is a socket of [`LOCAL_PROTOCOLS`].
    local: bool,
}

fn descriptors(directory: &ProcDirectory) -> ProcResult<Vec<Descriptor>> {
    let open = directory.open_relative_flags("fd", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
    let mut found = Vec::new();
    for entry in Dir::read_from(open.as_fd()).map_err(std::io::Error::from)? {
        let entry = entry.map_err(std::io::Error::from)?;
        let Some(number) = entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Closed in between: no longer a descriptor of the process.
        let Ok(target) = rustix::fs::readlinkat(open.as_fd(), entry.file_name(), Vec::new()) else { continue };
        let socket = target.to_str().ok().and_then(socket_inode);
        let local = socket.is_some() && is_local(open.as_raw_fd(), number);
        found.push(Descriptor { number, socket, local });
    }
    Ok(found)
}

/// It holds a socket that is or may be a connection, and goes on holding it.
///
/// A listener has each new connection in its hands for a moment, between accept(2) and the fork: with a crowd at the door
/// there is one at almost every look, but never the same for long. A session keeps its own.
fn stays_connected(directory: &ProcDirectory, first: &[Descriptor], listening: &BTreeSet<u64>) -> ProcResult<bool> {
    let connections = |descriptors: &[Descriptor]| -> BTreeSet<u64> {
        let sockets = descriptors.iter().filter(|descriptor| !descriptor.local).filter_map(|d| d.socket);
        sockets.filter(|inode| !listening.contains(inode)).collect()
    };
    let mut held = connections(first);
    for pause in LOOKS_AGAIN {
        if held.is_empty() || listening.is_empty() {
            break;
        }
        std::thread::sleep(pause);
        let now = connections(&descriptors(directory)?);
        held.retain(|inode| now.contains(inode));
    }
    Ok(!held.is_empty())
}

/// Paths of files start with a slash, so no file can pass for a socket.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The kernel's name for a socket's protocol (sockfs_xattr_get, net/socket.c). In doubt it is not local.
fn is_local(directory: i32, number: i32) -> bool {
    let mut name = [0_u8; 64];
    let path = format!("/proc/self/fd/{directory}/{number}");
    let length = rustix::fs::getxattr(path, "system.sockprotoname", &mut name[..]).unwrap_or(0);
    let name = name[..length].split(|byte| *byte == 0).next().unwrap_or_default();
    LOCAL_PROTOCOLS.contains(&name)
}

fn unit(directory: &ProcDirectory) -> ProcResult<Option<String>> {
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut directory.open_relative("cgroup")?, &mut text)?;
    Ok(unit_of_cgroup(&String::from_utf8_lossy(&text)))
}

/// The unit that a `/proc/PID/cgroup` names: the first component that is no slice (cg_path_get_unit in systemd's
/// cgroup-util.c), from the unified tree, else from systemd's own.
#[must_use]
pub fn unit_of_cgroup(text: &str) -> Option<String> {
    let tree = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix));
    let unit = |path: &str| {
        let component = path.split('/').find(|part| !part.is_empty() && !part.ends_with(".slice"))?;
        // systemd puts an underscore before names that the kernel uses itself (cg_escape).
        let name = component.strip_prefix('_').unwrap_or(component);
        let kind = name.rsplit_once('.').map(|(_, suffix)| suffix);
        matches!(kind, Some("service" | "scope" | "socket")).then(|| name.to_owned())
    };
    tree("0::").and_then(unit).or_else(|| {
        let line = text.lines().find(|line| line.contains(":name=systemd:"))?;
        unit(line.splitn(3, ':').nth(2)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_first_component_that_is_no_slice() {
        let of = |text: &str| unit_of_cgroup(text);
        assert_eq!(of("0::/system.slice/ssh.service\n"), Some("ssh.service".into()));
        assert_eq!(of("0::/user.slice/user-1000.slice/session-3.scope\n"), Some("session-3.scope".into()));
        assert_eq!(
            of("0::/user.slice/user-0.slice/user@0.service/app.slice/evil.service\n"),
            Some("user@0.service".into())
        );
        assert_eq!(of("0::/system.slice/system-sshd.slice/sshd@1.service/sub\n"), Some("sshd@1.service".into()));
        assert_eq!(of("9:name=systemd:/\n8:pids:/\n0::/system.slice/ssh.service\n"), Some("ssh.service".into()));
        assert_eq!(of("1:name=systemd:/system.slice/ssh.service\n0::/\n"), Some("ssh.service".into()));
        assert_eq!(of("0::/\n"), None);
        assert_eq!(of(""), None);
    }

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
            assert_eq!(is_sshd(Path::new(exe), Path::new("/usr/sbin/sshd")), expected, "{exe:?}");
        }
    }
}
