//! What each finding means, how bad it is, and who does what about it: the manual and `--help` have it from here.

use super::diagnosis::FindingCode;

/// What there is to know about a kind of finding, in sentences without a full stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    pub what: &'static str,
    pub severity: &'static str,
    /// What `repair` does.
    pub repair: &'static str,
    /// What a package run's hook does.
    pub hook: &'static str,
}

const BY_ITS_PROBE: &str = "warning; critical if it closes new connections";
const SAME: &str = "does the same";
const REPORTS: &str = "reports it";
/// It probes as little as it can: each probe is a line in sshd's log.
const IF_PROBED: &str = "reports it only if it probes the listener, because something else looks wrong";
const NOTHING: &str = "does nothing";

impl FindingCode {
    /// Every kind of finding.
    pub const ALL: &'static [Self] = &[
        Self::StaleOrphan,
        Self::StaleService,
        Self::Orphan,
        Self::RuntimeDirectoryMissing,
        Self::SocketDetached,
        Self::Down,
        Self::Starting,
        Self::InstanceDown,
        Self::Interrupted,
        Self::RescueActive,
        Self::Stopped,
        Self::ForeignListener,
        Self::ListenerDead,
        Self::NotAnswering,
        Self::SocketDeaf,
        Self::Unseen,
        Self::NotExamined,
        Self::WouldNotRestart,
        Self::StaleLibraries,
    ];

    /// What it means.
    pub const fn meaning(self) -> Meaning {
        let (what, severity, repair, hook) = match self {
            Self::StaleOrphan => (
                "A listener runs a program that is no longer on disk, and no active unit owns it",
                BY_ITS_PROBE,
                "terminates it, once the sshd on disk is known to serve, and starts the units that were declared",
                SAME,
            ),
            Self::StaleService => (
                "The main process of an active unit runs a program that is no longer on disk",
                BY_ITS_PROBE,
                "has systemd restart the unit, once the sshd on disk is known to serve",
                SAME,
            ),
            Self::Orphan => (
                "No active unit owns a listener whose program is current, so the next upgrade may lock everybody out",
                BY_ITS_PROBE,
                "replaces it as it does a stale orphan",
                "does the same if it closes new connections, and otherwise reports it",
            ),
            Self::RuntimeDirectoryMissing => (
                "/run/sshd is missing under a running listener, which then resets every new connection",
                "critical",
                "creates it, unless the administrator disabled SSH, and probes again",
                SAME,
            ),
            Self::SocketDetached => (
                "ssh.socket is enabled but not active, and sshd listens without it",
                "info",
                "does nothing, since a healthy sshd would have to be stopped for it; the finding has the commands",
                "is silent",
            ),
            Self::Down => (
                "Nobody listens in place of the main instance, and an enabled unit of it has failed",
                "critical",
                "clears the failed state and starts the units",
                SAME,
            ),
            Self::Starting => (
                "Nobody listens, because systemd is starting or stopping the unit, or is about to",
                "warning; critical if a start takes more than 15 seconds",
                "does nothing, since systemd is at it",
                REPORTS,
            ),
            Self::InstanceDown => (
                "An instance other than the main one has failed, or one serves less than it declares",
                "critical; warning if a socket unit does",
                "starts it if it is enabled and not active, and otherwise does nothing",
                SAME,
            ),
            Self::Interrupted => (
                "A repair was interrupted or failed, and addresses that were served before are not served any more",
                "critical",
                "completes it, unless the instance serves its other addresses",
                SAME,
            ),
            Self::RescueActive => (
                "A rescue serves in place of units that could not be started",
                "critical",
                "stops the rescue and starts the units, or else the rescue again",
                "reports it, since people may be using the rescue",
            ),
            Self::Stopped => (
                "Nobody listens though a unit is enabled, because somebody stopped it: nobody can log in",
                "critical",
                "does nothing; the finding names the unit to start",
                "is silent",
            ),
            Self::ForeignListener => {
                ("Another program holds an address that an enabled unit would serve", "critical", "refuses", REPORTS)
            }
            Self::ListenerDead => (
                "A current listener of an active unit closes every new connection",
                "critical",
                "does nothing, since a restart would not remove the cause",
                IF_PROBED,
            ),
            Self::NotAnswering => (
                "A current listener of an active unit accepts connections and sends nothing, or turns everybody away, so whether it lets anybody in is not known",
                "warning",
                "does nothing, since anybody who fills MaxStartups can bring it about",
                IF_PROBED,
            ),
            Self::SocketDeaf => (
                "A socket unit is active, but nothing listens at its addresses, as after a reload that changed them",
                "critical",
                "restarts the socket and what it activates",
                SAME,
            ),
            Self::Unseen => ("A unit is active, but none of its listeners is seen", "warning", NOTHING, REPORTS),
            Self::NotExamined => (
                "An instance serves in a network namespace of its own, or its program cannot be tried, so whether it lets anybody in is not known",
                "warning",
                NOTHING,
                REPORTS,
            ),
            Self::WouldNotRestart => (
                "The unit, or the program on disk with its configuration and options, would not start again, or not serve what it serves now; where systemd holds the socket, the next connection fails",
                "warning; critical where systemd holds the socket",
                "does nothing before the cause is removed",
                REPORTS,
            ),
            Self::StaleLibraries => (
                "A listener whose program is current uses libraries that are no longer on disk, as after an upgrade of libssl or libc",
                "info; critical if it closes new connections",
                "does nothing; restart the unit at a convenient time",
                "is silent unless it closes new connections",
            ),
        };
        Meaning { what, severity, repair, hook }
    }
}
