//! `sshd-mend-repair.service`: the packaged unit in which effects run.
//!
//! systemd is then the supervisor, the lock and the sandbox, and nothing depends on the caller's terminal, process tree
//! or SSH session. The caller follows the unit's state, not its job: after a crash a new attempt is "activating".

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::plan::Trigger;
use crate::record::Record;
use crate::report::Outcome;
use crate::signals::Signals;
use crate::systemd::{Job, Manager};

/// The unit's name.
pub const NAME: &str = "sshd-mend-repair.service";
const POLL: Duration = Duration::from_millis(100);

/// An outcome on record, with the time at which it was left.
#[derive(Debug, Serialize, Deserialize)]
pub struct Left {
    /// CLOCK_MONOTONIC in milliseconds: older outcomes are not about this request.
    at: u64,
    outcome: Outcome,
}

/// Why the outcome of the unit's run is not known.
#[derive(Debug)]
pub enum Lost {
    /// systemd did not start it, or does not tell how it is.
    Systemd(crate::systemd::Error),
    /// It could not be asked: nothing can be written under /run/sshd-mend.
    CannotRecord(std::io::Error),
    /// It ended without leaving an outcome.
    NoOutcome,
    /// It still runs at the deadline.
    StillRunning,
    /// The caller was asked to stop waiting.
    AskedToStop,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Systemd(error) => write!(f, "{NAME} could not be followed: {error}"),
            Self::CannotRecord(error) => {
                write!(f, "the request could not be written under /run/sshd-mend ({error}), so nothing was started")
            }
            Self::NoOutcome => write!(f, "{NAME} ended without leaving an outcome. See: journalctl -u {NAME}"),
            Self::StillRunning => write!(f, "{NAME} is still at work. See: journalctl -fu {NAME}"),
            Self::AskedToStop => write!(f, "the repair goes on in {NAME}. See: journalctl -fu {NAME}"),
        }
    }
}

impl std::error::Error for Lost {}

/// The unit runs, or is about to.
pub fn is_busy(manager: &Manager) -> bool {
    manager.unit(NAME).is_ok_and(|unit| unit.is_busy())
}

/// systemd knows the unit.
pub fn is_installed(manager: &Manager) -> bool {
    manager.unit(NAME).is_ok_and(|unit| unit.load == "loaded")
}

/// When the last outcome was left: tells whether a repair came to its end meanwhile.
#[must_use]
pub fn last_outcome() -> Option<u64> {
    Record::open_existing().ok()?.outcome::<Left>().map(|left| left.at)
}

/// Starts the unit, or joins its run if it runs already, and waits for the outcome.
///
/// # Errors
/// The outcome is not known, and why.
pub fn follow(trigger: Trigger, manager: &Manager, signals: &Signals, deadline: Deadline) -> Result<Outcome, Lost> {
    let record = Record::open().map_err(Lost::CannotRecord)?;
    if let Err(error) = record.write_request(trigger) {
        // What was begun has to be finished, whoever asks and however full /run is.
        if record.intent().is_none() {
            return Err(Lost::CannotRecord(error));
        }
    }
    if !is_busy(manager) {
        // The unit's start limit is meant for attempts that are killed, not for the package runs of an hour.
        let cleared = manager.reset_failed(NAME);
        log::debug!("the start limit of {NAME} begins anew: {cleared:?}");
    }
    let asked = now();
    manager.enqueue(Job::Start, NAME).map_err(Lost::Systemd)?;
    loop {
        let unit = manager.unit(NAME).map_err(Lost::Systemd)?;
        // After a crash, or while a repair cannot be finished yet, a new attempt is "activating (auto-restart)".
        let waits = unit.sub == "auto-restart";
        if !unit.is_busy() || waits {
            match record.outcome::<Left>().filter(|left| left.at >= asked) {
                Some(left) => return Ok(left.outcome),
                None if waits => {}
                None => return Err(Lost::NoOutcome),
            }
        }
        if signals.noted() {
            return Err(Lost::AskedToStop);
        }
        if deadline.has_passed() {
            return Err(Lost::StillRunning);
        }
        std::thread::sleep(POLL);
    }
}

/// Leaves an outcome for those who follow the unit.
///
/// # Errors
/// It could not be written.
pub fn leave(record: &Record, outcome: Outcome) -> std::io::Result<()> {
    record.write_outcome(&Left { at: now(), outcome })
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}
