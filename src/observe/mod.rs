//! Facts, no judgement: looks at the machine and returns a [`Snapshot`].
//!
//! Nothing in here changes the machine, and nothing decides what a fact means. Where a fact cannot be had, the process
//! that it belongs to is left out rather than guessed at.

mod listening;
mod process;

use rustix::fs::{Mode, OFlags};
use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::address;
use crate::deadline::Deadline;
use crate::pid_ref::PidRef;
use crate::preflight;
use crate::probe::{Probe, probe, probe_families};
use crate::record::Intent;
use crate::rescue;
use crate::snapshot::{FileId, Host, Process, Program, Snapshot};
use crate::systemd::Manager;

pub use listening::read as listening_sockets;
pub use process::{Proc, unit_of_cgroup};

/// The units of Debian's and Ubuntu's openssh-server.
pub const SERVICE: &str = "ssh.service";
/// See [`SERVICE`].
pub const SOCKET: &str = "ssh.socket";
/// An instance of what [`SOCKET`] starts for each connection with `Accept=yes`: as good as any, and never started.
const PER_CONNECTION: &str = "ssh@sshd-mend.service";
/// sshd's privilege separation directory, compiled into Debian's sshd (`--with-privsep-path`).
pub const RUNTIME_DIRECTORY: &str = "/run/sshd";
const NOT_TO_BE_RUN: &str = "/etc/ssh/sshd_not_to_be_run";
const DEFAULT_PROGRAM: &str = "/usr/sbin/sshd";

/// Why a machine cannot be examined at all.
#[derive(Debug)]
pub enum Unexaminable {
    /// Other users cannot see what root's processes hold open.
    NotRoot,
    /// `/run/systemd/system` is missing (sd_booted(3)): a chroot, an image build, a container without init.
    NoSystemd,
    /// The caller's root directory or one of its namespaces is not PID 1's.
    NotTheHost(&'static str),
    /// systemd did not answer, neither on the bus nor through systemctl.
    Systemd(crate::systemd::Error),
    /// `/proc` could not be read.
    Proc(procfs::ProcError),
}

impl std::fmt::Display for Unexaminable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRoot => {
                f.write_str("only root can see what sshd holds open; nothing was examined. Run it with sudo")
            }
            Self::NoSystemd => f.write_str("systemd is not running here, so there is no ssh.service to examine"),
            Self::NotTheHost(what) => write!(
                f,
                "this process runs in another {what} than PID 1, so it cannot see the host's sshd. Run it on the host itself"
            ),
            Self::Systemd(error) => write!(f, "{error}. Nothing was examined or changed"),
            Self::Proc(error) => write!(f, "/proc could not be read: {error}. Nothing was examined or changed"),
        }
    }
}

impl std::error::Error for Unexaminable {}

/// Which listeners get a new connection as a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probing {
    /// All: a person asks whether a new connection gets through.
    All,
    /// Those that look wrong: the hook runs dozens of times a day, and each probe is a line in sshd's log.
    Suspects,
}

/// Makes sure that the host can be examined from here.
///
/// # Errors
/// Says what is in the way.
pub fn examinable() -> Result<(), Unexaminable> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(Unexaminable::NoSystemd);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Unexaminable::NotRoot);
    }
    Proc::host()
        .map_err(Unexaminable::Proc)?
        .foreign_surroundings()
        .map_or(Ok(()), |what| Err(Unexaminable::NotTheHost(what)))
}

/// Looks at the whole machine once. `intent` is that of a repair that was cut off, see [`crate::record`].
///
/// # Errors
/// Nothing can be said about the machine, and why.
pub fn observe(
    manager: &Manager,
    probing: Probing,
    intent: Option<Intent>,
    deadline: Deadline,
) -> Result<Snapshot, Unexaminable> {
    let service = manager.unit(SERVICE).map_err(Unexaminable::Systemd)?;
    let socket = manager.unit(SOCKET).map_err(Unexaminable::Systemd)?;
    let per_connection = match socket.accept {
        true => Some(manager.unit(PER_CONNECTION).map_err(Unexaminable::Systemd)?),
        false => None,
    };
    let rescue = manager.unit(rescue::SOCKET).map_err(Unexaminable::Systemd)?;
    let shutting_down = manager.is_stopping().map_err(Unexaminable::Systemd)?;
    let program = program(service.server().map(|exec| exec.path.as_path()));

    let proc = Proc::host().map_err(Unexaminable::Proc)?;
    let sockets = proc.listening().map_err(Unexaminable::Proc)?;
    let systemd_holds = proc.sockets_of_init().map_err(Unexaminable::Proc)?;
    let mut processes = Vec::new();
    for pid in proc.sshd_pids(&program.path).map_err(Unexaminable::Proc)? {
        match look_at(&proc, pid, &program.path, &sockets) {
            Ok(Some(process)) => processes.push(process),
            Ok(None) => {}
            // Gone in between, or of a kind that root may not look into: nothing could be done about it.
            Err(error) if is_out_of_reach(&error) => log::debug!("process {pid} is left out: {error}"),
            // No descriptors left, say: a machine without this process would be another one than it is.
            Err(error) => return Err(Unexaminable::Proc(error)),
        }
    }

    let mut other_units = Vec::new();
    let names: BTreeSet<&str> =
        processes.iter().filter(|p| !p.listening_inodes.is_empty()).filter_map(|p| p.process.unit.as_deref()).collect();
    for name in names.into_iter().filter(|name| *name != SERVICE && *name != SOCKET) {
        other_units.push(manager.unit(name).map_err(Unexaminable::Systemd)?);
    }

    let held = |inode: u64| processes.iter().any(|p| p.listening_inodes.contains(&inode));
    let foreign =
        sockets.iter().filter(|s| !systemd_holds.contains(&s.inode) && !held(s.inode)).map(|s| s.address).collect();
    let host = Host {
        runtime_directory: Path::new(RUNTIME_DIRECTORY).is_dir(),
        not_to_be_run: Path::new(NOT_TO_BE_RUN).exists(),
        shutting_down,
    };
    let mut snapshot = Snapshot {
        host,
        program,
        service,
        socket,
        per_connection,
        rescue,
        intent,
        other_units,
        processes: processes.into_iter().map(|observed| observed.process).collect(),
        foreign,
        wanted: BTreeSet::new(),
    };
    let taken = |address: &SocketAddr| {
        let listening = snapshot.processes.iter().flat_map(|process| &process.listening);
        listening.into_iter().any(|other| other.port() == address.port())
    };
    let nobody = !snapshot.service.is_active() && !snapshot.socket.is_active();
    if nobody || snapshot.foreign.iter().any(taken) {
        snapshot.wanted = wanted(&snapshot, deadline);
    }
    probe_listeners(&mut snapshot, probing, deadline);
    Ok(snapshot)
}

/// Where the enabled units would serve.
fn wanted(snapshot: &Snapshot, deadline: Deadline) -> BTreeSet<SocketAddr> {
    if snapshot.socket.is_enabled() && !snapshot.service.is_active() {
        return snapshot.socket.listen.iter().filter_map(|text| address::parse(text)).collect();
    }
    if !snapshot.service.is_enabled() && !snapshot.service.is_active() {
        return BTreeSet::new();
    }
    let own = preflight::own_addresses(&snapshot.program.path, &snapshot.service, deadline);
    // Without /run/sshd the sshd of Debian 12 does not tell: then what it serves by default.
    let own = own.unwrap_or_else(|| ["0.0.0.0:22", "[::]:22"].iter().filter_map(|text| address::parse(text)).collect());
    own.into_iter().collect()
}

/// Facts about one process, read while it is pinned.
///
/// # Errors
/// A fact could not be read although the process is alive.
pub fn look_again(pinned: &PidRef, program: &Path) -> Result<Option<Process>, procfs::ProcError> {
    let proc = Proc::host()?;
    let sockets = proc.listening()?;
    Ok(proc.facts(pinned.process(), program, &sockets)?.map(|observed| observed.process))
}

fn look_at(
    proc: &Proc,
    pid: i32,
    program: &Path,
    sockets: &[listening::Socket],
) -> Result<Option<process::Observed>, procfs::ProcError> {
    let Some(pinned) = PidRef::open(pid)? else { return Ok(None) };
    let observed = proc.facts(pinned.process(), program, sockets)?;
    Ok(if pinned.has_exited()? { None } else { observed })
}

fn is_out_of_reach(error: &procfs::ProcError) -> bool {
    match error {
        procfs::ProcError::NotFound(_) | procfs::ProcError::PermissionDenied(_) => true,
        procfs::ProcError::Io(error, _) => error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()),
        _ => false,
    }
}

fn program(exec_start: Option<&Path>) -> Program {
    let named = exec_start.unwrap_or(Path::new(DEFAULT_PROGRAM));
    let path = named.canonicalize().unwrap_or_else(|_| canonical_parent(named));
    let file = rustix::fs::stat(&path).ok().map(|stat| FileId { device: stat.st_dev, inode: stat.st_ino });
    Program { path, file }
}

/// The kernel names a process's program with the links of its directory resolved (`/sbin` is `/usr/sbin`), also when
/// the file is gone.
fn canonical_parent(path: &Path) -> PathBuf {
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// Probes listeners of this host. The judgement which process is one is the diagnosis's.
fn probe_listeners(snapshot: &mut Snapshot, probing: Probing, deadline: Deadline) {
    let suspicious = |process: &Process, snapshot: &Snapshot| {
        process.stale() || !snapshot.host.runtime_directory || !crate::diagnosis::is_owned(process, snapshot)
    };
    let listeners: Vec<usize> =
        (0..snapshot.processes.len()).filter(|i| crate::diagnosis::is_listener(&snapshot.processes[*i])).collect();
    for index in listeners {
        let process = &snapshot.processes[index];
        let result = if probing == Probing::Suspects && !suspicious(process, snapshot) {
            Probe::skipped("nothing about it looks wrong")
        } else {
            // One address tells: all of a listener's sockets lead to the same process.
            match process.listening.iter().next() {
                Some(address) => {
                    // The wildcard, if it has one: it tells for both families.
                    let wildcard = process.listening.iter().find(|address| address.ip() == Ipv6Addr::UNSPECIFIED);
                    let address = *wildcard.unwrap_or(address);
                    let (probe, ipv6_only) = if wildcard.is_some() && ipv4_is_others(process, address.port(), snapshot)
                    {
                        (probe(SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())), deadline), true)
                    } else {
                        probe_families(address, deadline)
                    };
                    snapshot.processes[index].ipv6_only = ipv6_only;
                    probe
                }
                None => Probe::skipped("it holds no address"),
            }
        };
        snapshot.processes[index].probe = Some(result);
    }
}

/// Somebody else holds the port for IPv4, so a process that holds `[::]` has it for IPv6 only.
fn ipv4_is_others(process: &Process, port: u16, snapshot: &Snapshot) -> bool {
    let ipv4 = |address: &SocketAddr| address.is_ipv4() && address.port() == port;
    let of_others =
        snapshot.processes.iter().filter(|other| other.pid != process.pid).flat_map(|other| &other.listening);
    !process.listening.iter().any(ipv4) && snapshot.foreign.iter().chain(of_others).any(ipv4)
}

/// Opens without following what it names: for facts about the file itself.
const fn path_only() -> (OFlags, Mode) {
    (OFlags::PATH.union(OFlags::CLOEXEC), Mode::empty())
}
