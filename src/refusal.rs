//! Why the agent saw a fault and did not act. Each reason has a plain sentence, and what to do about it.

use serde::{Deserialize, Serialize};

/// A named reason not to act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which reason.
    pub code: Reason,
    /// One sentence, with what was seen.
    pub message: String,
    /// What a person should do.
    pub advice: String,
}

/// The reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// `sshd -t` says no.
    ConfigInvalid,
    /// There is no program to start.
    BinaryMissing,
    /// The program on disk does not serve a connection.
    BinaryUnusable,
    /// dpkg has not finished with the package.
    PackageUnconfigured,
    /// ssh.service does not exist.
    UnitMissing,
    /// A unit to be started is masked.
    UnitMasked,
    /// No unit is declared that would serve SSH.
    NothingToStart,
    /// A restart would serve fewer addresses.
    AddressesNotCovered,
    /// A debugger is attached to the listener.
    BeingDebugged,
    /// systemd has a job for the unit in its queue.
    JobPending,
    /// A restart would end sessions.
    WouldKillSessions,
    /// `/etc/ssh/sshd_not_to_be_run` is there.
    NotToBeRun,
    /// The system is shutting down.
    ShuttingDown,
    /// The intent cannot be written.
    CannotRecord,
    /// Another program holds an address that ssh needs.
    ForeignListener,
    /// policy-rc.d denies the restart.
    #[serde(rename = "policy-rc.d")]
    PolicyRcD,
    /// `SSHD_MEND_SUSPEND=1`.
    Suspended,
}

impl Reason {
    /// Every reason there is.
    pub const ALL: [Self; 17] = [
        Self::ConfigInvalid,
        Self::BinaryMissing,
        Self::BinaryUnusable,
        Self::PackageUnconfigured,
        Self::UnitMissing,
        Self::UnitMasked,
        Self::NothingToStart,
        Self::AddressesNotCovered,
        Self::BeingDebugged,
        Self::JobPending,
        Self::WouldKillSessions,
        Self::NotToBeRun,
        Self::ShuttingDown,
        Self::CannotRecord,
        Self::ForeignListener,
        Self::PolicyRcD,
        Self::Suspended,
    ];

    /// As in JSON, documentation and the journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigInvalid => "config-invalid",
            Self::BinaryMissing => "binary-missing",
            Self::BinaryUnusable => "binary-unusable",
            Self::PackageUnconfigured => "package-unconfigured",
            Self::UnitMissing => "unit-missing",
            Self::UnitMasked => "unit-masked",
            Self::NothingToStart => "nothing-to-start",
            Self::AddressesNotCovered => "addresses-not-covered",
            Self::BeingDebugged => "being-debugged",
            Self::JobPending => "job-pending",
            Self::WouldKillSessions => "would-kill-sessions",
            Self::NotToBeRun => "not-to-be-run",
            Self::ShuttingDown => "shutting-down",
            Self::CannotRecord => "cannot-record",
            Self::ForeignListener => "foreign-listener",
            Self::PolicyRcD => "policy-rc.d",
            Self::Suspended => "suspended",
        }
    }

    /// A refusal for this reason. `seen` completes its sentence.
    #[must_use]
    pub fn because(self, seen: &str) -> Refusal {
        let (sentence, advice) = self.words();
        let message = if seen.is_empty() { sentence.to_owned() } else { format!("{sentence}: {seen}") };
        Refusal { code: self, message, advice: advice.to_owned() }
    }

    /// Its sentence, without what was seen.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        self.words().0
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::ConfigInvalid => (
                "the configuration of sshd is not valid, so a restart would leave no listener at all",
                "Correct what `sshd -t` reports, then run: sshd-mend repair",
            ),
            Self::BinaryMissing => (
                "the program that ssh.service starts is not on disk",
                "Install it again (apt-get install --reinstall openssh-server), then run: sshd-mend repair",
            ),
            Self::BinaryUnusable => (
                "the sshd on disk does not serve a connection",
                "Install it again (apt-get install --reinstall openssh-server) or repair what it names, then run: sshd-mend repair",
            ),
            Self::PackageUnconfigured => (
                "the package that sshd belongs to is not fully configured",
                "Finish it (dpkg --configure -a), then run: sshd-mend repair",
            ),
            Self::UnitMissing => (
                "systemd knows no ssh.service to take over",
                "Install openssh-server again, or run: systemctl daemon-reload; then: sshd-mend repair",
            ),
            Self::UnitMasked => (
                "a unit that would have to be started is masked",
                "If SSH is wanted here, unmask it (systemctl unmask ssh.service ssh.socket), then run: sshd-mend repair",
            ),
            Self::NothingToStart => (
                "neither ssh.service nor ssh.socket is enabled or may be started, so nothing would take over from the old listener",
                "Enable one of them (systemctl enable ssh.service), then run: sshd-mend repair",
            ),
            Self::AddressesNotCovered => (
                "after a restart some addresses that are served now would no longer be",
                "Add them to sshd_config (ListenAddress, Port) or to ssh.socket (ListenStream=), then run: sshd-mend repair",
            ),
            Self::BeingDebugged => (
                "a debugger is attached to the old listener: somebody is at work on it",
                "End the debugger (TracerPid in /proc/PID/status is its pid), then run: sshd-mend repair",
            ),
            Self::JobPending => (
                "systemd has a job in its queue for a unit that would have to be restarted",
                "See `systemctl list-jobs`; when it is done, run: sshd-mend repair",
            ),
            Self::WouldKillSessions => (
                "a restart of the unit would end sessions that are open now",
                "Set KillMode=process for the unit, or wait for the sessions to end, then run: sshd-mend repair",
            ),
            Self::NotToBeRun => (
                "/etc/ssh/sshd_not_to_be_run exists: sshd is not wanted here, and a restart would not bring it back",
                "If SSH is wanted here, remove that file, then run: sshd-mend repair",
            ),
            Self::ShuttingDown => ("the system is shutting down", "Nothing: the next boot starts a fresh sshd"),
            Self::CannotRecord => (
                "what is about to be done could not be recorded under /run/sshd-mend, so an interrupted repair could not be finished",
                "Make room in /run, or make it writable, then run: sshd-mend repair",
            ),
            Self::ForeignListener => (
                "another program holds an address that ssh needs",
                "See `ss -ltnp`; end that program or move it to another port, then run: sshd-mend repair",
            ),
            Self::PolicyRcD => (
                "/usr/sbin/policy-rc.d does not allow a restart in this package run",
                "The machine needs a person. Run: sshd-mend repair",
            ),
            Self::Suspended => {
                ("SSHD_MEND_SUSPEND=1 is set for this package run", "When the run is over, run: sshd-mend repair")
            }
        }
    }
}
