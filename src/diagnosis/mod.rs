//! What the facts mean. Pure: a [`Snapshot`] in, a [`Diagnosis`] out; no file system, no bus, no clock, no log.
//!
//! The rule for what may ever be ended, [`role`], is in here and nowhere else.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::SystemTime;

use crate::printable::printable;
use crate::probe::Probe;
use crate::snapshot::{Process, Snapshot, Unit};
use findings::findings;

mod findings;

pub use findings::{in_the_way, taken_by_others};

/// What a machine's state is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// What is wrong, worst first. Empty on a healthy machine.
    pub findings: Vec<Finding>,
    /// Every listener of this host.
    pub listeners: Vec<Listener>,
    /// Processes that serve one connection each, one for each connection.
    pub sessions: Vec<i32>,
    /// Processes that are called sshd, and why they are neither.
    pub left_out: Vec<(i32, LeftOut)>,
    /// The host has an OpenSSH server.
    pub applicable: bool,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// The process that it is about, if any.
    pub pid: Option<i32>,
    /// One sentence for a person.
    pub message: String,
}

/// The kinds of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// A stale listener that no active unit owns.
    StaleOrphan,
    /// A stale listener that is the main process of an active unit.
    StaleService,
    /// A listener that no active unit owns, not stale yet.
    Orphan,
    /// `/run/sshd` is missing under a running listener.
    RuntimeDirectoryMissing,
    /// ssh.socket is enabled but inactive, and sshd serves by itself.
    SocketDetached,
    /// Nobody listens, and an enabled unit has failed.
    Down,
    /// A repair was cut off.
    Interrupted,
    /// The rescue serves.
    RescueActive,
    /// Nobody listens, though a unit is enabled; nothing has failed.
    Stopped,
    /// Another program holds an address that an enabled unit would serve, and nobody of ours serves it.
    ForeignListener,
    /// A listener that is what it should be closes every new connection.
    ListenerDead,
}

impl Code {
    /// As in JSON, documentation and the journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StaleOrphan => "stale-orphan",
            Self::StaleService => "stale-service",
            Self::Orphan => "orphan",
            Self::RuntimeDirectoryMissing => "runtime-directory-missing",
            Self::SocketDetached => "socket-detached",
            Self::Down => "down",
            Self::Interrupted => "interrupted",
            Self::RescueActive => "rescue-active",
            Self::Stopped => "stopped",
            Self::ForeignListener => "foreign-listener",
            Self::ListenerDead => "listener-dead",
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// It works, and will not for long.
    Warning,
    /// A new connection does not get through.
    Critical,
}

/// A listener of this host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Its pid.
    pub pid: i32,
    /// When it was started.
    #[serde(with = "crate::json::rfc3339")]
    pub started: SystemTime,
    /// What `/proc/PID/exe` reads.
    pub exe: String,
    /// The program that it runs is not the file now at its path.
    pub stale: bool,
    /// No active unit owns it.
    pub orphan: bool,
    /// The unit that owns it.
    pub unit: Option<String>,
    /// Where it serves.
    #[serde(with = "crate::json::addresses")]
    pub addresses: BTreeSet<SocketAddr>,
    /// Does a new connection get through.
    #[serde(flatten, with = "crate::json::probe_fields")]
    pub probe: Probe,
}

/// What a process that is called sshd is to this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It serves SSH from a socket in LISTEN: looked after, and ended if it is stale.
    Listener,
    /// It serves one connection: never ended.
    Session,
    /// Neither, or none of ours: never ended.
    LeftOut(LeftOut),
}

/// Why a process is neither listener nor session of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftOut {
    /// Another PID, network or user namespace, or another root directory: a container, a pod, a chroot.
    Elsewhere,
    /// Its program is at another path than ssh.service's.
    OtherProgram,
    /// It does not run as root.
    NotRoot,
    /// It holds no TCP socket in LISTEN.
    NotListening,
}

impl LeftOut {
    /// For a person.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Elsewhere => "it runs in another namespace or root directory (a container, a pod, a chroot)",
            Self::OtherProgram => "its program is not the one that ssh.service starts",
            Self::NotRoot => "it does not run as root",
            Self::NotListening => "it holds no TCP socket in LISTEN",
        }
    }
}

/// Judges one process. Only kernel facts decide, and every doubt is in the process's favour.
#[must_use]
pub fn role(process: &Process) -> Role {
    let here = process.surroundings;
    if !(here.pid_namespace && here.network_namespace && here.user_namespace && here.root_directory) {
        return Role::LeftOut(LeftOut::Elsewhere);
    }
    // A root session with -R or X11 forwarding holds a socket in LISTEN and, up to 9.7, runs the listener's program.
    if process.connected || process.stdin_is_socket || process.parent_is_sshd {
        return Role::Session;
    }
    if !process.at_program_path {
        return Role::LeftOut(LeftOut::OtherProgram);
    }
    if process.real_uid != 0 || process.effective_uid != 0 {
        return Role::LeftOut(LeftOut::NotRoot);
    }
    if process.listening.is_empty() {
        return Role::LeftOut(LeftOut::NotListening);
    }
    Role::Listener
}

/// See [`role`].
#[must_use]
pub fn is_listener(process: &Process) -> bool {
    role(process) == Role::Listener
}

/// The active unit whose main process this is.
#[must_use]
pub fn owner<'a>(process: &Process, snapshot: &'a Snapshot) -> Option<&'a Unit> {
    let mut units = std::iter::once(&snapshot.service).chain(&snapshot.other_units);
    units.find(|unit| unit.is_active() && unit.main_pid == Some(process.pid))
}

/// See [`owner`].
#[must_use]
pub fn is_owned(process: &Process, snapshot: &Snapshot) -> bool {
    owner(process, snapshot).is_some()
}

/// Says what the facts mean.
#[must_use]
pub fn diagnose(snapshot: &Snapshot) -> Diagnosis {
    let listeners: Vec<Listener> =
        snapshot.processes.iter().filter(|p| is_listener(p)).map(|p| listener(p, snapshot)).collect();
    let sessions = snapshot
        .processes
        .iter()
        .filter(|p| role(p) == Role::Session && !is_half_of_a_session(p, snapshot))
        .map(|p| p.pid)
        .collect();
    let left_out = snapshot.processes.iter().filter_map(|p| match role(p) {
        Role::LeftOut(reason) => Some((p.pid, reason)),
        _ => None,
    });
    let applicable = snapshot.program.file.is_some() || snapshot.service.exists() || !listeners.is_empty();

    let mut findings = findings(snapshot, &listeners);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Diagnosis { findings, sessions, left_out: left_out.collect(), applicable, listeners }
}

impl Diagnosis {
    /// The worst of its findings. `None` on a healthy machine.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// There is a finding of this kind.
    #[must_use]
    pub fn has(&self, code: Code) -> bool {
        self.findings.iter().any(|finding| finding.code == code)
    }
}

fn listener(process: &Process, snapshot: &Snapshot) -> Listener {
    let unit = owner(process, snapshot);
    Listener {
        pid: process.pid,
        started: process.started,
        exe: printable(&process.exe.to_string_lossy()),
        stale: process.stale(),
        orphan: unit.is_none(),
        unit: unit.map(|unit| unit.name.clone()),
        addresses: process.listening.clone(),
        probe: process.probe.clone().unwrap_or_else(|| Probe::skipped("not probed")),
    }
}

/// A connection is served by two processes, the monitor and its child. The monitor counts.
fn is_half_of_a_session(process: &Process, snapshot: &Snapshot) -> bool {
    snapshot.processes.iter().any(|other| other.pid == process.parent && role(other) == Role::Session)
}
