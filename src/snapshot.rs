//! The facts of one moment: what [`crate::observe`] saw, before anybody judges it.
//!
//! Plain data, so that a test can write down any machine it likes. Nothing in here was chosen by the process that it
//! describes: every field comes from the kernel, from systemd or from the file system.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

use crate::probe::Probe;
use crate::record::Intent;

/// Everything that a diagnosis is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The machine as a whole.
    pub host: Host,
    /// The program that `ssh.service` starts, as it is on disk now.
    pub program: Program,
    /// `ssh.service`.
    pub service: Unit,
    /// `ssh.socket`.
    pub socket: Unit,
    /// What an ssh.socket with `Accept=yes` starts for each connection, an instance of `ssh@.service`.
    pub per_connection: Option<Unit>,
    /// `sshd-mend-rescue.socket`.
    pub rescue: Unit,
    /// What a repair was about to do when it was cut off. `None` also while one is at work.
    pub intent: Option<Intent>,
    /// Other units that own one of `processes`.
    pub other_units: Vec<Unit>,
    /// Every process whose program is called sshd, sshd-session or sshd-auth, wherever it runs.
    pub processes: Vec<Process>,
    /// TCP addresses in LISTEN that neither PID 1 nor one of `processes` holds.
    pub foreign: Vec<SocketAddr>,
    /// Where the declared units want to serve. Looked up only if that may be in somebody's hands: while they are not
    /// active, or if another program is at a port of theirs.
    pub wanted: BTreeSet<SocketAddr>,
}

/// Facts about the machine as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `/run/sshd` is a directory. Without it sshd resets every connection after the client's KEXINIT.
    pub runtime_directory: bool,
    /// `/etc/ssh/sshd_not_to_be_run` exists: the administrator wants no sshd.
    pub not_to_be_run: bool,
    /// systemd is stopping the system.
    pub shutting_down: bool,
}

/// The file at a path, told apart from every other file: device and inode (stat(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    /// `st_dev`
    pub device: u64,
    /// `st_ino`
    pub inode: u64,
}

/// The OpenSSH server on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// What `ExecStart=` of ssh.service names, with symbolic links resolved; else `/usr/sbin/sshd`.
    pub path: PathBuf,
    /// `None`: no such file.
    pub file: Option<FileId>,
}

/// One process whose program is called like a part of OpenSSH's server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id in the host's PID namespace.
    pub pid: i32,
    /// Start in clock ticks since boot (proc_pid_stat(5)): with the pid it names one process for ever.
    pub started_ticks: u64,
    /// Start as wall clock time.
    pub started: SystemTime,
    /// What `/proc/PID/exe` reads, ` (deleted)` included.
    pub exe: PathBuf,
    /// The file that the process runs.
    pub image: FileId,
    /// The file now at the program's path as this process sees it (below its own root). `None`: there is none.
    pub on_disk: Option<FileId>,
    /// The program's path is the one that ssh.service names.
    pub at_program_path: bool,
    /// In which of the host's surroundings it runs.
    pub surroundings: Surroundings,
    /// Real user id.
    pub real_uid: u32,
    /// Effective user id.
    pub effective_uid: u32,
    /// Its parent's pid.
    pub parent: i32,
    /// Its parent's program is an sshd as well.
    pub parent_is_sshd: bool,
    /// Addresses of its TCP sockets in LISTEN.
    pub listening: BTreeSet<SocketAddr>,
    /// The kernel refused IPv4 at an address where it listens to `[::]`.
    pub ipv6_only: bool,
    /// It holds a socket that is, or may be, a connection: neither TCP in LISTEN nor of the kinds that sshd uses to
    /// talk to its own host.
    pub connected: bool,
    /// A debugger is attached to it (`TracerPid`, proc_pid_status(5)).
    pub traced: bool,
    /// Descriptor 0 is a socket, as under inetd.
    pub stdin_is_socket: bool,
    /// The systemd unit whose cgroup it lives in.
    pub unit: Option<String>,
    /// Does a new connection get through. Only a listener has one.
    pub probe: Option<Probe>,
}

/// Whether a process runs in the host's own namespaces and root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// The host's PID namespace.
    pub pid_namespace: bool,
    /// The host's network namespace.
    pub network_namespace: bool,
    /// The host's user namespace.
    pub user_namespace: bool,
    /// The host's root directory (device and inode).
    pub root_directory: bool,
}

impl Process {
    /// The program that the process runs is not the file now at its path.
    #[must_use]
    pub fn stale(&self) -> bool {
        self.on_disk != Some(self.image)
    }

    /// All addresses at which people reach it: `[::]` serves IPv4 too, unless it is known not to.
    #[must_use]
    pub fn reached_at(&self) -> BTreeSet<SocketAddr> {
        let both = self.listening.iter().filter(|a| a.is_ipv6() && a.ip().is_unspecified() && !self.ipv6_only);
        let ipv4 = both.map(|address| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())));
        ipv4.chain(self.listening.iter().copied()).collect()
    }
}

/// A unit of systemd, in systemd's own words (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Name with suffix.
    pub name: String,
    /// `LoadState`: loaded, not-found, masked, bad-setting, error.
    pub load: String,
    /// `ActiveState`: active, activating, inactive, deactivating, failed, reloading.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `Result`: success, exit-code, resources, …
    pub result: String,
    /// `UnitFileState`: enabled, disabled, static, masked, …
    pub enabled: String,
    /// `MainPID`, if the unit is a service and has one.
    pub main_pid: Option<i32>,
    /// A job for the unit is queued.
    pub job: bool,
    /// `CanStart`: false for a unit with `RefuseManualStart=yes`.
    pub can_start: bool,
    /// `KillMode`.
    pub kill_mode: String,
    /// First command of `ExecStart=`.
    pub exec_start: Option<ExecStart>,
    /// `EnvironmentFiles=`, in order.
    pub environment_files: Vec<PathBuf>,
    /// `Environment=`, in order.
    pub environment: Vec<String>,
    /// Stream addresses of a socket unit, as systemd writes them.
    pub listen: Vec<String>,
    /// `BindIPv6Only=` of a socket unit: default, both, ipv6-only.
    pub bind_ipv6_only: String,
    /// `Accept=` of a socket unit: each connection gets a service of its own.
    pub accept: bool,
}

/// A command of `ExecStart=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStart {
    /// The program.
    pub path: PathBuf,
    /// Its arguments without the program's name, `$VARIABLES` not yet expanded.
    pub arguments: Vec<String>,
}

impl Unit {
    /// The unit file is known to systemd.
    #[must_use]
    pub fn exists(&self) -> bool {
        !matches!(self.load.as_str(), "not-found" | "")
    }

    /// The administrator masked it.
    #[must_use]
    pub fn masked(&self) -> bool {
        self.load == "masked"
    }

    /// Declared to run: by an enablement link, or by a generator that speaks for the administrator.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        matches!(self.enabled.as_str(), "enabled" | "enabled-runtime" | "generated" | "alias") && self.load == "loaded"
    }

    /// Running, or about to.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.active.as_str(), "active" | "activating" | "reloading" | "refreshing")
            && !self.waits_after_failure()
    }

    /// "activating (auto-restart)": it has failed, and systemd will start it again after a while (Restart=). That may go
    /// on for ever, and nobody listens meanwhile.
    fn waits_after_failure(&self) -> bool {
        self.sub.starts_with("auto-restart")
    }

    /// What it starts, if that is an sshd. A wrapper is not to be run with sshd's options: `/bin/sh -t -c …` and
    /// `/etc/init.d/ssh -t` (systemd-sysv-generator(8)) would do something else than look.
    #[must_use]
    pub fn server(&self) -> Option<&ExecStart> {
        self.exec_start.as_ref().filter(|exec| exec.path.file_name().is_some_and(|name| name == "sshd"))
    }

    /// Running, about to, or about to stop.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.job || !matches!(self.active.as_str(), "inactive" | "failed" | "maintenance" | "")
    }

    /// In systemd's `failed` state, or between a failure and the next attempt.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.active == "failed" || self.waits_after_failure()
    }
}
