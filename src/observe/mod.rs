//! Facts, no judgement: examines the machine and returns a [`Snapshot`].
//!
//! Nothing in here changes the machine, and nothing decides what a fact means. It starts programs that only test
//! or tell (`sshd -t`, `sshd -T`, `sshd -i` on a socketpair, dpkg-query, `systemd-analyze condition`, `systemctl show`,
//! policy-rc.d). Where the facts about a process cannot be
//! had, the process is named as unreadable and left alone.

pub mod basis;
pub mod control_group;
mod descriptors;
pub mod holders;
mod instances;
mod libraries;
pub mod options;
pub mod package;
pub mod policy;
pub mod processes;
mod sandbox;
pub mod server;
pub mod trials;
mod unit_files;
mod unit_settings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::host::deadline::Deadline;
use crate::host::pid_ref::PidRef;
use crate::host::probe::probe;
use crate::host::proof;
use crate::host::sock_diag;
use crate::host::systemd::Manager;
use crate::model::intent::Intent;
use crate::model::names::{NOT_TO_BE_RUN, RUNTIME_DIRECTORY};
use crate::model::probe::{Probe, ProbeResult};
use crate::model::process::{ListenSocket, Process};
use crate::model::snapshot::{Host, Snapshot};
use crate::model::unit::Unit;
use processes::{Named, Observed, Proc};

pub use instances::wanted_addresses;

/// Before each further look at the connections of processes that hold a socket in LISTEN, all of them together.
const PAUSES_BEFORE_CONNECTION_IS_KEPT: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(50)];

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
    Systemd(crate::host::systemd::Error),
    /// `/proc` could not be read.
    Proc(procfs::ProcError),
    /// The kernel did not list its listening sockets.
    Sockets(std::io::Error),
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
            Self::Sockets(error) => {
                write!(f, "the kernel did not list its listening sockets: {error}. Nothing was examined or changed")
            }
        }
    }
}

impl std::error::Error for Unexaminable {}

/// Makes sure that the host can be examined from here.
///
/// # Errors
/// Says what prevents it.
pub fn examinable() -> Result<(), Unexaminable> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(Unexaminable::NoSystemd);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Unexaminable::NotRoot);
    }
    let proc = Proc::host().map_err(Unexaminable::Proc)?;
    proc.foreign_surroundings().map_or(Ok(()), |what| Err(Unexaminable::NotTheHost(what)))
}

/// Examines the whole machine once. `intent` is that of an interrupted repair.
///
/// # Errors
/// Nothing can be said about the machine, and why.
pub fn observe(manager: &Manager, intent: Option<Intent>) -> Result<Snapshot, Unexaminable> {
    let proc = Proc::host().map_err(Unexaminable::Proc)?;
    let sockets = sock_diag::listening().map_err(Unexaminable::Sockets)?;
    let of_init = proc.sockets_of_init().map_err(Unexaminable::Proc)?;
    let named = proc.sshd_processes(user_of_sshd()).map_err(Unexaminable::Proc)?;
    let (processes, unreadable) = observe_processes(&proc, &named.of_root, &sockets).map_err(Unexaminable::Proc)?;
    let instances = instances::observe(manager, &processes, intent.as_ref()).map_err(Unexaminable::Systemd)?;
    let held = |inode: u64| processes.iter().flat_map(|p| &p.sockets).any(|socket| socket.inode == inode);
    // What PID 1 holds for other socket units is somebody else's.
    let of_units = instances.iter().flat_map(|instance| [&instance.socket, &instance.rescue]);
    let of_units: BTreeSet<SocketAddr> =
        of_units.filter(|unit| unit.is_active()).flat_map(Unit::tcp_addresses).collect();
    let (systemd_holds, others): (Vec<ListenSocket>, Vec<ListenSocket>) =
        sockets.into_iter().partition(|socket| of_init.contains(&socket.inode) && of_units.contains(&socket.address));
    let foreign = others.iter().filter(|socket| !held(socket.inode)).copied().collect();
    let host = Host {
        runtime_directory: Path::new(RUNTIME_DIRECTORY).is_dir(),
        not_to_be_run: Path::new(NOT_TO_BE_RUN).exists(),
        shutting_down: manager.is_stopping().map_err(Unexaminable::Systemd)?,
    };
    let Named { children, of_users, unauthenticated, .. } = named;
    Ok(Snapshot {
        host,
        instances,
        processes,
        children,
        unauthenticated,
        of_users,
        unreadable,
        systemd_holds,
        foreign,
        holders: BTreeMap::new(),
        intent,
    })
}

/// The uid of the user that sshd serves as before somebody has authenticated (`SSH_PRIVSEP_USER`). It is in the file, or
/// sshd does not start.
fn user_of_sshd() -> Option<u32> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| line.strip_prefix("sshd:")?.split(':').nth(1)?.parse().ok())
}

/// How far a listener is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// One address, up to KEXINIT: all of a listener's sockets lead to the same process.
    OneAddress,
    /// Every address, and a client that goes as far as authentication at one of them.
    Proof,
}

/// Probes the listeners with these pids, and stores the results in the snapshot.
pub fn probe_listeners(snapshot: &mut Snapshot, pids: &[i32], depth: Depth, deadline: Deadline) {
    for process in snapshot.processes.iter_mut().filter(|process| pids.contains(&process.pid)) {
        // IPv4 has source addresses of our own.
        let reached = process.sockets.iter().filter(|socket| !socket.vrf).map(|socket| socket.address);
        let mut addresses: Vec<_> = BTreeSet::from_iter(reached).into_iter().collect();
        addresses.sort_by_key(|address| (!address.is_ipv4(), !address.ip().is_unspecified()));
        let Some((first, others)) = addresses.split_first() else {
            process.probe = Some(Probe::skipped("it serves a VRF, where no probe reaches it"));
            continue;
        };
        let mut result = probe(*first, deadline);
        if depth == Depth::Proof && result.is_ok() {
            result = proof::prove(result, *first, deadline);
            let others: Vec<_> = others.iter().map(|address| (address, probe(*address, deadline))).collect();
            let dead = others.iter().find(|(_, other)| other.is_dead());
            // Clients from `::1` share one source address, and its penalties.
            let is_unknown = |other: &Probe| other.result == ProbeResult::Inconclusive && !other.refused;
            let unknown = others.iter().find(|(_, other)| is_unknown(other));
            if let Some((address, other)) = dead.or(unknown.filter(|_| result.is_ok())) {
                result = Probe::new(other.result, format!("{address}: {}", other.detail));
            }
        }
        process.probe = Some(result);
    }
}

/// Facts about one process, read while it is pinned. `None`: it has no program any more.
///
/// # Errors
/// A fact could not be read although the process is alive.
pub fn process_again(pinned: &PidRef) -> Result<Option<Process>, procfs::ProcError> {
    let proc = Proc::host()?;
    let sockets = sock_diag::listening()?;
    let Some(observed) = proc.facts(pinned.process(), &sockets)? else { return Ok(None) };
    let mut found = vec![(observed, pinned)];
    keep_lasting_connections(&mut found)?;
    Ok(found.pop().map(|(observed, _)| observed.process))
}

type Unreadable = Vec<(i32, String)>;

fn observe_processes(
    proc: &Proc,
    pids: &[i32],
    sockets: &[ListenSocket],
) -> Result<(Vec<Process>, Unreadable), procfs::ProcError> {
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    for pid in pids.iter().copied() {
        let Some(pinned) = PidRef::open(pid)? else { continue };
        match proc.facts(pinned.process(), sockets) {
            Ok(Some(observed)) => found.push((observed, pinned)),
            Ok(None) => {}
            // Without descriptors or memory of our own, every process would look like one that cannot be read.
            Err(error) if is_shortage(&error) => return Err(error),
            Err(_) if pinned.has_exited()? => {}
            Err(error) => unreadable.push((pid, error.to_string())),
        }
    }
    keep_lasting_connections(&mut found)?;
    let mut processes = Vec::new();
    for (observed, pinned) in found {
        if !pinned.has_exited()? {
            processes.push(observed.process);
        }
    }
    Ok((processes, unreadable))
}

/// Tells sessions from listeners that have just accepted a connection.
///
/// A listener holds each new connection for a moment, between accept(2) and the fork: under load there is one at almost
/// every look, but never the same for long. A session keeps its own.
fn keep_lasting_connections<P: std::borrow::Borrow<PidRef>>(
    found: &mut [(Observed, P)],
) -> Result<(), procfs::ProcError> {
    for pause in PAUSES_BEFORE_CONNECTION_IS_KEPT {
        let in_doubt = |observed: &Observed| !observed.process.sockets.is_empty() && !observed.connections.is_empty();
        if !found.iter().any(|(observed, _)| in_doubt(observed)) {
            break;
        }
        std::thread::sleep(pause);
        for (observed, pinned) in found.iter_mut().filter(|(observed, _)| in_doubt(observed)) {
            match processes::still_connected((*pinned).borrow().process(), observed) {
                Ok(connections) => observed.connections = connections,
                Err(error) if is_shortage(&error) => return Err(error),
                // It has exited; whoever uses the facts finds out.
                Err(_) => {}
            }
            observed.process.connected = !observed.connections.is_empty();
        }
    }
    Ok(())
}

/// This process or the system has run out of descriptors or memory.
fn is_shortage(error: &procfs::ProcError) -> bool {
    let shortages = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOMEM];
    match error {
        procfs::ProcError::Io(error, _) => {
            shortages.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
        }
        _ => false,
    }
}
