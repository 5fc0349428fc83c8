//! What was learned by trying the program on disk with the options of an instance, before anything is terminated.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// The trials of a run, by the instance's service.
pub type Trials = BTreeMap<String, Trial>;

/// What the program on disk does with the options of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// `sshd -t`
    pub config: Check,
    /// `sshd -i` up to its KEXINIT.
    pub handshake: Check,
    /// Why systemd would not start the unit, whatever its program is like.
    pub start_hindrance: Option<String>,
    /// `ExecCondition=`: a command decides whether the unit is started. It is not run.
    pub exec_condition: bool,
    /// A setting of the unit's sandbox that was changed after its last start.
    pub untried: Option<String>,
    /// The addresses that sshd binds when no socket unit gives it any. `None`: sshd does not tell, see `config`.
    pub own_addresses: Option<BTreeSet<SocketAddr>>,
    /// Those of `own_addresses` that it binds to one network interface (`rdomain` in sshd_config(5)).
    pub own_device_bound: BTreeSet<SocketAddr>,
    /// Addresses of its own or of its socket that no interface of this host has: they cannot be bound.
    pub unassigned: BTreeSet<SocketAddr>,
    /// Its configuration or one of its units was changed after its last start: what it declares is not in force yet.
    pub changed: bool,
    /// Whether dpkg has finished with the package that owns the program.
    pub package: Package,
    /// The arguments with which the trial was made: those of `ExecStart=`, expanded, without those that choose how
    /// sshd runs.
    pub options: Vec<String>,
    /// The text of the service's unit file and drop-ins, in systemd's order.
    pub service_files: Vec<String>,
    /// The same of the socket.
    pub socket_files: Vec<String>,
    /// Processes in the service's control group other than its main process.
    pub other_processes: OtherProcesses,
    /// policy-rc.d's answer for its units. Only the hook asks it.
    pub policy: Policy,
    /// The instance's share of the time was used up before everything was tried.
    pub timed_out: bool,
}

/// A check of the program on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    Passed,
    /// It failed, in the program's own words.
    Failed(String),
    /// It cannot be made before `/run/sshd` is there again, and nothing before that was wrong.
    NeedsRuntimeDirectory,
}

/// dpkg's view of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Package {
    /// Installed and configured, or owned by no package at all.
    Ready,
    /// In the middle of something: package and dpkg's status.
    Unconfigured(String),
}

/// What policy-rc.d says about a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Policy {
    /// There is none, nobody asked, or it allows the restart.
    #[default]
    Allows,
    /// It denies the restart, or gave no usable answer: why.
    Denies(String),
}

/// What else a stop of the unit would end, with a `KillMode=` that ends more than the main process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtherProcesses {
    /// Their pids, without the main process.
    Known(Vec<i32>),
    /// The control group could not be read: why.
    Unknown(String),
}

impl Trial {
    /// The program would serve, as far as that can be tried now.
    pub fn has_passed(&self) -> bool {
        let failed = |check: &Check| matches!(check, Check::Failed(_));
        !failed(&self.config) && !failed(&self.handshake) && self.start_hindrance.is_none() && !self.timed_out
    }

    /// The last checks can be made only where `/run/sshd` is.
    pub fn needs_runtime_directory(&self) -> bool {
        self.config == Check::NeedsRuntimeDirectory || self.handshake == Check::NeedsRuntimeDirectory
    }
}
