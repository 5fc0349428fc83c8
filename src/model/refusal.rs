//! Why nothing is done about a fault. Each reason has a plain sentence, and advice on what to do about it.

use serde::{Deserialize, Serialize};

/// A named reason not to act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub code: RefusalCode,
    /// One sentence, with what was seen.
    pub message: String,
    /// What a person should do.
    pub advice: String,
}

/// Each reason once: its type, its name in JSON, documentation and the journal, its sentence, and its advice.
macro_rules! refusals {
    ($($variant:ident $name:literal: $sentence:literal, $advice:literal;)*) => {
        /// The reasons.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum RefusalCode {
            $(#[doc = $sentence] #[serde(rename = $name)] $variant,)*
        }

        impl RefusalCode {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As in JSON, documentation and the journal.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Its sentence, without what was seen.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }

            /// What a person should do. PID stands for the old listener, UNIT stands for the service of the instance.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }
        }
    };
}

refusals! {
    ConfigInvalid "config-invalid":
        "the configuration of sshd is not valid, so a restart would leave no listener at all",
        "Do not reboot or restart UNIT before. 1. Correct what is named above; `sudo sshd -t` tests it (with the options of UNIT, if it has any). 2. sudo sshd-mend repair";
    BinaryMissing "binary-missing":
        "the program that the unit starts is not on disk",
        "Do not reboot or restart UNIT before. 1. sudo apt-get install --reinstall openssh-server. 2. sudo sshd-mend repair";
    BinaryUnusable "binary-unusable":
        "the sshd on disk does not serve a connection",
        "Do not reboot or restart UNIT before. 1. Repair what is named above, or: sudo apt-get install --reinstall openssh-server. 2. sudo sshd-mend repair";
    UnitWouldNotStart "unit-would-not-start":
        "systemd would not start the unit that would take over",
        "Do not reboot or restart UNIT before. 1. Correct that; `systemctl cat UNIT` shows the files of the unit. 2. sudo sshd-mend repair";
    SettingsUntried "settings-untried":
        "the unit's sandbox was changed after its last start, and whether sshd serves in it is not known before the next",
        "From a session that you keep open: 1. sudo sh -c 'kill PID; systemctl restart UNIT'. 2. Test a login. 3. If it fails, take the change back \
         (systemctl cat UNIT shows its files), and restart UNIT again";
    PackageUnconfigured "package-unconfigured":
        "the package that sshd belongs to is not fully configured",
        "1. sudo dpkg --configure -a. 2. sudo sshd-mend repair";
    UnitMissing "unit-missing":
        "no unit that systemd knows would take over",
        "1. sudo systemctl daemon-reload, or install openssh-server again. 2. sudo sshd-mend repair";
    UnitMasked "unit-masked":
        "a unit that would have to be started is masked",
        "If SSH is wanted here: 1. sudo systemctl unmask UNIT. 2. sudo sshd-mend repair";
    NothingToStart "nothing-to-start":
        "no unit that would take over from the old listener is enabled or may be started",
        "1. sudo systemctl enable UNIT. 2. sudo sshd-mend repair";
    AddressesNotCovered "addresses-not-covered":
        "after a restart some addresses that are served now would no longer be",
        "1. Add them where UNIT takes its addresses from (ListenAddress and Port, or ListenStream= of its socket unit). 2. sudo \
         sshd-mend repair. If nobody needs them any more, from a session that you keep open: sudo sh -c 'sshd -t && kill PID && \
         systemctl restart UNIT'";
    BeingDebugged "being-debugged":
        "a debugger is attached to the old listener",
        "1. End the debugger (TracerPid in /proc/PID/status is its pid). 2. sudo sshd-mend repair";
    JobPending "job-pending":
        "a job for a unit that would have to be restarted is in systemd's queue",
        "1. Wait until it is done: systemctl list-jobs. 2. sudo sshd-mend repair";
    WouldKillSessions "would-kill-sessions":
        "a restart of the unit would end sessions or other processes that run in its control group",
        "Do not restart UNIT by hand, which would end them. 1. Wait for them to end, or set KillMode=process in [Service]: sudo systemctl edit UNIT. 2. sudo sshd-mend repair";
    NotToBeRun "not-to-be-run":
        "/etc/ssh/sshd_not_to_be_run exists: sshd is not wanted here, and a restart would not bring it back",
        "If SSH is wanted here: 1. sudo rm /etc/ssh/sshd_not_to_be_run. 2. sudo sshd-mend repair";
    ShuttingDown "shutting-down":
        "the system is shutting down",
        "Nothing: the next boot starts a fresh sshd";
    TimedOut "timed-out":
        "the examination did not end before the deadline (DEADLINE= in /etc/default/sshd-mend), so not everything was tried",
        "1. See what is slow: sudo journalctl -t sshd-mend; or raise DEADLINE=. 2. sudo sshd-mend repair";
    CannotRecord "cannot-record":
        "what is about to be done could not be recorded under /run, so an interrupted repair could not be finished",
        "1. Make room in /run, or make it writable. 2. sudo sshd-mend repair";
    ForeignListener "foreign-listener":
        "another program holds an address that ssh needs",
        "1. See what it is: sudo ss -ltnp. 2. Unless you are logged in through it, end that program or move it to another port. 3. sudo sshd-mend repair";
    PolicyRcD "policy-rc.d":
        "/usr/sbin/policy-rc.d does not allow a restart in this package run",
        "It binds package runs only. To restart sshd now: sudo sshd-mend repair";
    Suspended "suspended":
        "SSHD_MEND_SUSPEND=1 is set for this package run",
        "When the package run is over: sudo sshd-mend repair";
}

impl Refusal {
    /// The same with advice that names this unit.
    #[must_use]
    pub fn about(self, unit: &str) -> Self {
        Self { advice: self.advice.replace("UNIT", unit), ..self }
    }

    /// The same with advice that names this process.
    #[must_use]
    pub fn about_process(self, pid: i32) -> Self {
        Self {
            advice: self.advice.replace("/PID/", &format!("/{pid}/")).replace("kill PID", &format!("kill {pid}")),
            ..self
        }
    }
}

impl RefusalCode {
    /// A refusal for this reason. `seen` completes its sentence.
    pub fn because(self, seen: &str) -> Refusal {
        let sentence = self.sentence();
        let message = if seen.is_empty() { sentence.to_owned() } else { format!("{sentence}: {seen}") };
        Refusal { code: self, message, advice: self.advice().to_owned() }
    }
}
