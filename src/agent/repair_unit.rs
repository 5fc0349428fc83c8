//! `sshd-mend-repair.service`: the packaged unit in which effects run.
//!
//! systemd is then the supervisor, the lock and the sandbox, and nothing depends on the caller's terminal, process tree
//! or SSH session. The caller follows the unit's state, not its job: after a crash a new attempt is "activating".

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

use crate::act::record::Record;
use crate::act::request::Request;
use crate::host::deadline::Deadline;
use crate::host::signals::Signals;
use crate::host::systemd::Manager;
use crate::model::intent::Intent;
use crate::model::plan::{Job, Trigger};
use crate::model::unit::LoadState;
use crate::report::{Outcome, Verdict};

pub use crate::model::names::REPAIR_UNIT as NAME;

/// Between two looks for the outcome.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Between two questions to systemd about the unit's state.
const STATE_INTERVAL: Duration = Duration::from_millis(200);

/// An outcome on record, with the time at which it was stored.
#[derive(Debug, Serialize, Deserialize)]
struct StoredOutcome {
    /// CLOCK_MONOTONIC in milliseconds: older outcomes are not about this request.
    at: u64,
    outcome: Outcome,
}

/// Why the outcome of the unit's run is not known.
#[derive(Debug)]
pub enum FollowError {
    /// systemd did not start it, or does not tell how it is.
    Systemd(crate::host::systemd::Error),
    /// It could not be asked: nothing can be written under /run/sshd-mend.
    CannotRecord(std::io::Error),
    /// It ended without storing an outcome.
    NoOutcome,
    /// It still runs at the deadline.
    StillRunning,
    /// The caller was asked to stop waiting.
    AskedToStop,
}

impl std::fmt::Display for FollowError {
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

impl std::error::Error for FollowError {}

/// The unit runs, or is about to.
pub fn is_busy(manager: &Manager) -> bool {
    manager.is_busy(NAME).unwrap_or(false)
}

/// systemd knows the unit.
pub fn is_installed(manager: &Manager) -> bool {
    manager.unit(NAME).is_ok_and(|unit| unit.load == LoadState::Loaded)
}

/// When the last outcome was stored: tells whether a repair came to its end meanwhile.
pub fn time_of_last_outcome() -> Option<u64> {
    Record::open_existing().ok()?.outcome::<StoredOutcome>().map(|stored| stored.at)
}

/// Starts the unit, or joins its run if it runs already, and waits for the outcome.
///
/// # Errors
/// The outcome is not known, and why.
pub fn follow(
    trigger: Trigger,
    manager: &Manager,
    signals: &Signals,
    deadline: Deadline,
) -> Result<Outcome, FollowError> {
    let record = Record::open().map_err(FollowError::CannotRecord)?;
    if let Err(error) = record.write_request(trigger) {
        // What was begun has to be finished, whoever asks and however full /run is.
        if record.intent().is_none() {
            return Err(FollowError::CannotRecord(error));
        }
    }
    let joined = is_busy(manager);
    if !joined {
        // The unit's start limit is meant for attempts that are killed, not for the package runs of an hour.
        let cleared = manager.reset_failed(NAME);
        log::debug!("the start limit of {NAME} begins anew: {cleared:?}");
    }
    let outcome = wait_for_outcome(&record, joined, manager, signals, deadline);
    record.discard_own_outcome();
    if outcome.is_err() {
        record.withdraw_request();
    }
    outcome
}

/// Starts the unit and waits for the outcome. `joined`: it is running already.
fn wait_for_outcome(
    record: &Record,
    joined: bool,
    manager: &Manager,
    signals: &Signals,
    deadline: Deadline,
) -> Result<Outcome, FollowError> {
    let mut is_last = false;
    let mut asked = now();
    let mut looked = Deadline::after(STATE_INTERVAL);
    manager.enqueue(Job::Start, NAME).map_err(FollowError::Systemd)?;
    loop {
        if let Some(stored) = record.own_outcome::<StoredOutcome>().filter(|stored| stored.at >= asked) {
            return Ok(stored.outcome);
        }
        if !looked.has_passed() && !signals.noted() && !deadline.has_passed() {
            std::thread::sleep(POLL_INTERVAL);
            continue;
        }
        looked = Deadline::after(STATE_INTERVAL);
        let unit = manager.unit(NAME).map_err(FollowError::Systemd)?;
        // After a crash, or while a repair cannot be finished yet, a new attempt is "activating (auto-restart)".
        let waits = unit.sub == "auto-restart";
        if !unit.is_busy() || waits {
            let outcome = record.outcome::<StoredOutcome>().filter(|stored| stored.at >= asked);
            let stands = |request: Request| match request.process == std::process::id() {
                // The run that was joined had begun before it was asked for.
                true => joined,
                false => outcome.is_none(),
            };
            if !waits && !is_last && record.request().is_some_and(stands) {
                is_last = true;
                asked = now();
                manager.enqueue(Job::Start, NAME).map_err(FollowError::Systemd)?;
                continue;
            }
            match outcome {
                Some(stored) => return Ok(stored.outcome),
                None if waits => {}
                None => return Err(FollowError::NoOutcome),
            }
        }
        if signals.noted() {
            return Err(FollowError::AskedToStop);
        }
        if deadline.has_passed() {
            return Err(FollowError::StillRunning);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Stores an outcome for those who follow the unit.
///
/// # Errors
/// It could not be written.
pub fn store(record: &Record, request: Option<Request>, outcome: Outcome) -> std::io::Result<()> {
    let asked_by = request.map(|request| request.process);
    record.write_outcome(asked_by, &StoredOutcome { at: now(), outcome })
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

/// What is on record is not served again, nor by a rescue: systemd is to start the program again.
pub fn is_worth_another_attempt(outcome: &Outcome, intent: &Intent) -> bool {
    intent.instances.iter().any(|intent| {
        let Some(instance) = outcome.instances.iter().find(|instance| instance.instance == intent.instance) else {
            // The machine could not be examined.
            return true;
        };
        let is_served = |wanted: &SocketAddr| instance.addresses.iter().any(|have| have.port() == wanted.port());
        let lost = !intent.addresses.iter().all(is_served);
        match instance.verdict {
            // Nothing was terminated, and the next attempt would fail as this one did.
            _ if intent.stopped => false,
            Verdict::Failed => true,
            Verdict::Refused | Verdict::Unknown => lost && instance.rescue.is_none(),
            _ => false,
        }
    })
}
