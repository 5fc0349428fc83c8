//! A unit of systemd, as far as decisions need it (org.freedesktop.systemd1(5)).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A unit. For one that systemd does not know, see [`Unit::absent`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// `Id`: its name, also when it was asked for by an alias.
    pub name: String,
    pub load: LoadState,
    pub active: ActiveState,
    /// How long systemd has been starting it. `None`: it is not being started.
    pub starting_for: Option<Duration>,
    /// How long ago it became active last; since the boot, if it never was (`ActiveEnterTimestampMonotonic`).
    pub last_started: Duration,
    /// `SubState`. A restart that waits shows in nothing else ("auto-restart").
    pub sub: String,
    /// `Result`, for people: success, exit-code, resources, …
    pub result: String,
    pub enablement: Enablement,
    /// `MainPID`, if the unit is a service and has one.
    pub main_pid: Option<i32>,
    /// `ControlPID`: what the service runs while it starts, reloads or stops.
    pub control_pid: Option<i32>,
    /// `NRestarts`: automatic restarts since somebody started the service (`Restart=`).
    pub restarts: u32,
    /// A job for the unit is queued.
    pub job: bool,
    /// `CanStart`: false for a unit with `RefuseManualStart=yes`.
    pub can_start: bool,
    /// `NeedDaemonReload`: its file is newer than what systemd knows of it.
    pub needs_reload: bool,
    pub kill_mode: KillMode,
    /// `ControlGroup`: where its processes live, below the root of the hierarchy. Empty if it has none now.
    pub control_group: String,
    /// First command of `ExecStart=`.
    pub exec_start: Option<ExecStart>,
    /// `EnvironmentFiles=`, in order.
    pub environment_files: Vec<PathBuf>,
    /// `Environment=`, in order.
    pub environment: Vec<String>,
    /// `NetworkNamespacePath=` or `PrivateNetwork=yes`: it does not serve in the host's network namespace.
    pub own_network: bool,
    /// A stop or a failed start removes `/run/sshd` (`RuntimeDirectory=sshd` without `RuntimeDirectoryPreserve=yes`).
    pub removes_runtime_directory: bool,
    /// It has no `RuntimeDirectory=sshd`: `/run/sshd` has to be there before it starts.
    pub needs_runtime_directory: bool,
    /// `FragmentPath` and `DropInPaths`, in systemd's order.
    pub files: Vec<PathBuf>,
    /// Sockets that start the service (`TriggeredBy`).
    pub triggered_by: Vec<String>,
    /// Units that are stopped whenever this one is (`ConsistsOf`, `RequiredBy`, `BoundBy`).
    pub stopped_along: Vec<String>,
    /// Stream addresses of a socket unit.
    pub listen: Vec<Listen>,
    /// `BindIPv6Only=ipv6-only` of a socket unit: `[::]` does not serve IPv4.
    pub ipv6_only: bool,
    /// `Accept=` of a socket unit: each connection gets a service of its own.
    pub accept: bool,
    /// `FreeBind=` of a socket unit: it binds addresses that no interface has.
    pub free_bind: bool,
    /// `BindToDevice=` of a socket unit.
    pub device_bound: bool,
}

/// A stream address of a socket unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    /// A path, vsock: not an address that a client of SSH over TCP could connect to. As systemd writes it.
    Other(String),
}

/// A command of `ExecStart=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecStart {
    pub path: PathBuf,
    /// Its arguments without the program's name, `$VARIABLES` not yet expanded.
    pub arguments: Vec<String>,
}

/// A word of systemd as a type, and back.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant,)*
            /// Any other word.
            Other(String),
        }

        impl $name {
            /// From systemd's word.
            pub fn parse(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }

            /// systemd's word.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::Other(String::new())
            }
        }
    };
}

words!(
    /// `LoadState`
    LoadState { Loaded = "loaded", NotFound = "not-found", Masked = "masked" }
);
words!(
    /// `ActiveState`
    ActiveState {
        Active = "active",
        Reloading = "reloading",
        Refreshing = "refreshing",
        Inactive = "inactive",
        Failed = "failed",
        Activating = "activating",
        Deactivating = "deactivating",
        Maintenance = "maintenance",
    }
);
words!(
    /// `UnitFileState`
    Enablement {
        Enabled = "enabled",
        EnabledRuntime = "enabled-runtime",
        Alias = "alias",
        Generated = "generated",
        Static = "static",
        Disabled = "disabled",
        Masked = "masked",
    }
);
words!(
    /// `KillMode`
    KillMode { ControlGroup = "control-group", Mixed = "mixed", Process = "process", None = "none" }
);

impl ActiveState {
    /// Nothing of it runs or is about to.
    pub fn is_at_rest(&self) -> bool {
        [Self::Inactive, Self::Failed, Self::Maintenance, Self::default()].contains(self)
    }
}

impl Unit {
    /// A unit that systemd does not know.
    pub fn absent(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            load: LoadState::NotFound,
            active: ActiveState::Inactive,
            sub: "dead".to_owned(),
            ..Self::default()
        }
    }

    /// Its file is known to systemd.
    pub fn exists(&self) -> bool {
        self.load != LoadState::NotFound
    }

    /// Declared to run: by an enablement link, or by a generator that speaks for the administrator.
    pub fn is_enabled(&self) -> bool {
        let declared = [Enablement::Enabled, Enablement::EnabledRuntime, Enablement::Generated, Enablement::Alias];
        self.load == LoadState::Loaded && declared.contains(&self.enablement)
    }

    /// Running, or about to.
    pub fn is_active(&self) -> bool {
        let running = [ActiveState::Active, ActiveState::Activating, ActiveState::Reloading, ActiveState::Refreshing];
        running.contains(&self.active) && !self.restarts_itself()
    }

    /// It has failed, and systemd waits to start it again or is doing so (`Restart=`): "activating (auto-restart)", then
    /// "activating (start)", with a queued job that nobody asked for. That may go on forever, and nobody listens
    /// meanwhile.
    pub fn restarts_itself(&self) -> bool {
        self.sub.starts_with("auto-restart") || (self.active == ActiveState::Activating && self.restarts > 0)
    }

    /// In systemd's `failed` state, or between a failure and the end of the next attempt.
    pub fn has_failed(&self) -> bool {
        self.active == ActiveState::Failed || self.restarts_itself()
    }

    /// Running, about to run, or about to stop.
    pub fn is_busy(&self) -> bool {
        self.job || !self.active.is_at_rest()
    }

    /// What it starts, if that is an sshd. A wrapper is not to be run with sshd's options: `/bin/sh -t -c …` and
    /// `/etc/init.d/ssh -t` (systemd-sysv-generator(8)) would do something else than test.
    pub fn sshd(&self) -> Option<&ExecStart> {
        self.exec_start.as_ref().filter(|exec| exec.path.file_name().is_some_and(|name| name == "sshd"))
    }

    /// A stop ends the main process only.
    pub fn spares_other_processes(&self) -> bool {
        matches!(self.kill_mode, KillMode::Process | KillMode::None)
    }

    /// The addresses at which clients reach the TCP sockets of a socket unit: `[::]` serves IPv4 too, unless it is kept to
    /// IPv6.
    pub fn reached_at(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.tcp_addresses().flat_map(|address| {
            let dual = address.is_ipv6() && address.ip().is_unspecified() && !self.ipv6_only;
            let ipv4 = dual.then(|| SocketAddr::from(([0, 0, 0, 0], address.port())));
            ipv4.into_iter().chain([address])
        })
    }

    /// The TCP addresses of a socket unit.
    pub fn tcp_addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.listen.iter().filter_map(|listen| match listen {
            Listen::Tcp(address) => Some(*address),
            Listen::Other(_) => None,
        })
    }
}

impl Listen {
    /// From systemd's text: `[::]:22`, `/run/x`, `vsock::22`.
    pub fn parse(text: &str) -> Self {
        super::address::parse(text).map_or_else(|| Self::Other(text.to_owned()), Self::Tcp)
    }

    /// As systemd writes it.
    pub fn text(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Other(text) => text.clone(),
        }
    }
}
