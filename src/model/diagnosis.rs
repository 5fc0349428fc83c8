//! What the facts mean: findings, and what each process that is called sshd is.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::SystemTime;

use super::probe::Probe;

/// What is wrong with a machine, and who serves on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Worst first. Empty on a healthy machine.
    pub findings: Vec<Finding>,
    /// Every listener of this host.
    pub listeners: Vec<Listener>,
    /// Processes that serve one connection each, one for each connection.
    pub sessions: Vec<i32>,
    /// Processes that are called sshd and are neither, and why.
    pub excluded: Vec<(i32, Exclusion)>,
    /// The host has an OpenSSH server.
    pub applicable: bool,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub code: FindingCode,
    pub severity: Severity,
    /// The service of the instance that it is about. `None`: the machine as a whole.
    pub instance: Option<String>,
    /// The process that it is about, if any.
    pub pid: Option<i32>,
    /// One sentence for a person.
    pub message: String,
    /// What a person should do about it. Empty: what a repair would do, or nothing.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub advice: String,
}

/// The kinds of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingCode {
    /// A stale listener that no active unit owns.
    StaleOrphan,
    /// A stale listener that is the main process of an active unit.
    StaleService,
    /// A listener that no active unit owns, not stale yet.
    Orphan,
    /// `/run/sshd` is missing under a running listener.
    RuntimeDirectoryMissing,
    /// ssh.socket is enabled but inactive, and sshd listens without it.
    SocketDetached,
    /// Nobody listens, and an enabled unit has failed.
    Down,
    /// Nobody listens yet: systemd is starting the unit.
    Starting,
    /// An instance other than the main one has failed, or serves less than it did.
    InstanceDown,
    /// A repair was interrupted: addresses that it was about to serve again are not served.
    Interrupted,
    /// A rescue is serving.
    RescueActive,
    /// Nobody listens, though a unit is enabled; nothing has failed.
    Stopped,
    /// Another program holds an address that an enabled unit would serve.
    ForeignListener,
    /// A current listener of an active unit closes every new connection.
    ListenerDead,
    /// A current listener of an active unit accepts, and sends nothing or rejects everyone.
    NotAnswering,
    /// A socket unit is active, and nothing holds its addresses.
    SocketDeaf,
    /// A unit is active, and none of its listeners is seen.
    Unseen,
    /// An instance serves in a network namespace of its own, which is not examined; or its program cannot be tried.
    NotExamined,
    /// The program on disk would not start again.
    WouldNotRestart,
    /// A listener uses libraries that are no longer on disk.
    StaleLibraries,
}

impl FindingCode {
    /// As in JSON, documentation and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StaleOrphan => "stale-orphan",
            Self::StaleService => "stale-service",
            Self::Orphan => "orphan",
            Self::RuntimeDirectoryMissing => "runtime-directory-missing",
            Self::SocketDetached => "socket-detached",
            Self::Down => "down",
            Self::Starting => "starting",
            Self::InstanceDown => "instance-down",
            Self::Interrupted => "interrupted",
            Self::RescueActive => "rescue-active",
            Self::Stopped => "stopped",
            Self::ForeignListener => "foreign-listener",
            Self::ListenerDead => "listener-dead",
            Self::NotAnswering => "not-answering",
            Self::SocketDeaf => "socket-deaf",
            Self::Unseen => "unseen",
            Self::NotExamined => "not-examined",
            Self::WouldNotRestart => "would-not-restart",
            Self::StaleLibraries => "stale-libraries",
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// SSH works now, and may stop working.
    Warning,
    /// A new connection does not get through.
    Critical,
}

/// A listener of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub pid: i32,
    /// When it was started.
    #[serde(with = "super::json::rfc3339")]
    pub started: SystemTime,
    /// What `/proc/PID/exe` reads, printable.
    pub exe: String,
    /// The program that it runs is not the file now at its path.
    pub stale: bool,
    /// There is no program at its path any more.
    #[serde(default)]
    pub removed: bool,
    /// Libraries that it runs and that are no longer on disk, by file name.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub stale_libraries: Vec<String>,
    /// No active unit owns it.
    pub orphan: bool,
    /// The unit that owns it.
    pub unit: Option<String>,
    /// The service of the instance that it belongs to.
    pub instance: String,
    /// Where it serves.
    pub addresses: BTreeSet<SocketAddr>,
    #[serde(flatten)]
    pub probe: Probe,
}

/// What a process that is called sshd is to this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It serves SSH from a socket in LISTEN. The only kind of process that is ever terminated.
    Listener,
    /// It serves one connection: never terminated.
    Session,
    /// Neither, or none of this host's: never terminated.
    Excluded(Exclusion),
}

/// Why a process is neither listener nor session of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusion {
    /// Another PID, network or user namespace, or another root directory: a container, a pod, a chroot.
    Elsewhere,
    /// Its program is at another path than those of the declared instances.
    OtherProgram,
    /// It does not run as root.
    NotRoot,
    /// It holds no TCP socket in LISTEN.
    NotListening,
}

impl Exclusion {
    /// For a person.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Elsewhere => "it runs in another namespace or root directory (a container, a pod, a chroot)",
            Self::OtherProgram => "no unit starts its program as an OpenSSH server",
            Self::NotRoot => "it does not run as root",
            Self::NotListening => "it holds no TCP socket in LISTEN",
        }
    }
}

impl Diagnosis {
    /// Adds findings, worst first.
    pub fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    }

    /// The worst of its findings. `None` on a healthy machine.
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// There is a finding of this kind.
    pub fn has(&self, code: FindingCode) -> bool {
        self.findings.iter().any(|finding| finding.code == code)
    }

    /// There is a finding of this kind about an instance.
    pub fn has_for(&self, instance: &str, code: FindingCode) -> bool {
        self.of(instance).any(|finding| finding.code == code)
    }

    /// The findings about one instance.
    pub fn of<'a>(&'a self, instance: &'a str) -> impl Iterator<Item = &'a Finding> + Clone {
        self.findings.iter().filter(move |finding| finding.instance.as_deref() == Some(instance))
    }

    /// The listeners of one instance.
    pub fn listeners_of<'a>(&'a self, instance: &'a str) -> impl Iterator<Item = &'a Listener> {
        self.listeners.iter().filter(move |listener| listener.instance == instance)
    }
}
