//! systemd, asked in two ways: over the system bus, and through systemctl, which reaches systemd without the bus.
//!
//! The bus can be away in the middle of an upgrade (dbus-daemon restarts, systemd re-executes itself). A request whose
//! answer was lost may have been carried out, so what came of a job is judged by the unit's state as well.

mod bus;
mod error;
mod systemctl;

pub use error::Error;
pub use systemctl::parse as parse_shown;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::time::Duration;

use super::deadline::Deadline;
use crate::model::plan::Job;
use crate::model::unit::{ActiveState, Unit};
use bus::Bus;
use error::Failure;
use systemctl::Systemctl;
use tokio::runtime::{self, Runtime};

/// How long a bus that does not answer is tried again before systemctl is used: a restart of dbus-daemon, a
/// re-execution of systemd.
const BUS_RETRY_TIMEOUT: Duration = Duration::from_secs(5);
/// Limits one question over the bus, a new connection included; each of its calls has a shorter limit of its own.
const BUS_QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at a unit's state.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A question for the thread that has the connection.
type Question = Box<dyn FnOnce(&Rc<Runtime>, &mut Option<Bus>) + Send>;

/// The manager of this machine's units.
pub struct Manager {
    /// The thread that has the connection.
    bus: RefCell<Option<Sender<Question>>>,
    bus_health: Cell<BusHealth>,
    systemctl: Systemctl,
}

impl Default for Manager {
    fn default() -> Self {
        Self::new()
    }
}

impl Manager {
    /// Connects when it is first asked.
    pub fn new() -> Self {
        Self { bus: RefCell::new(None), bus_health: Cell::new(BusHealth::Good), systemctl: Systemctl }
    }

    /// Reads a unit's properties. A unit that does not exist has `LoadState=not-found`.
    ///
    /// # Errors
    /// systemd did not answer.
    pub fn unit(&self, name: &str) -> Result<Unit, Error> {
        let owned = name.to_owned();
        self.ask(move |bus| bus.unit(&owned), |systemctl| systemctl.unit(name))
    }

    /// Services that have failed, or wait for their next start after a failure.
    ///
    /// # Errors
    /// systemd did not answer.
    pub fn failed_services(&self) -> Result<Vec<String>, Error> {
        self.ask(|bus| bus.failed_services(), |systemctl| systemctl.failed_services())
    }

    /// A unit runs, or is about to.
    ///
    /// # Errors
    /// systemd did not answer.
    pub fn is_busy(&self, name: &str) -> Result<bool, Error> {
        let owned = name.to_owned();
        self.ask(move |bus| bus.is_busy(&owned), |systemctl| Ok(systemctl.unit(name)?.is_busy()))
    }

    /// The system is being shut down (`SystemState` is `stopping`).
    ///
    /// # Errors
    /// systemd did not answer.
    pub fn is_stopping(&self) -> Result<bool, Error> {
        self.ask(|bus| bus.is_stopping(), |systemctl| systemctl.is_stopping())
    }

    /// Clears a unit's failed state and its start counter.
    ///
    /// # Errors
    /// systemd did not answer, or refused.
    pub fn reset_failed(&self, name: &str) -> Result<(), Error> {
        let owned = name.to_owned();
        self.ask(move |bus| bus.reset_failed(&owned), |systemctl| systemctl.reset_failed(name))
    }

    /// Queues a job in mode `fail`, which never cancels somebody else's, and does not wait for it.
    ///
    /// # Errors
    /// systemd did not answer, or refused.
    pub fn enqueue(&self, job: Job, unit: &str) -> Result<(), Error> {
        let owned = unit.to_owned();
        self.ask(move |bus| bus.enqueue(job, &owned), |systemctl| systemctl.enqueue(job, unit))
    }

    /// Stops a unit, in place of whatever job is queued for it: for a start of our own that hangs.
    ///
    /// # Errors
    /// systemd did not answer, or refused.
    pub fn abort(&self, unit: &str) -> Result<(), Error> {
        let owned = unit.to_owned();
        self.ask(move |bus| bus.abort(&owned), |systemctl| systemctl.abort(unit))
    }

    /// Reads unit files again.
    ///
    /// # Errors
    /// systemd did not answer, or refused.
    pub fn reload(&self) -> Result<(), Error> {
        self.ask(|bus| bus.reload(), |systemctl| systemctl.reload())
    }

    /// Queues a job as [`Self::enqueue`] does and waits until it is done and the unit is in the state that it asked for.
    ///
    /// # Errors
    /// systemd did not answer, refused, the job failed, or it took too long.
    pub fn run(&self, job: Job, unit: &str, deadline: Deadline) -> Result<(), Error> {
        self.enqueue(job, unit)?;
        loop {
            let told = self.job_result(unit, POLL_INTERVAL.min(deadline.remaining()));
            if let Some(result) = told.filter(|result| result != "done") {
                return Err(Error::JobFailed { unit: unit.to_owned(), job, result });
            }
            let state = self.unit(unit)?;
            if !state.job {
                // `done` does not mean running: an unmet Condition gives it too.
                let reached = if job == Job::Stop { !state.is_active() } else { state.active == ActiveState::Active };
                return if reached {
                    Ok(())
                } else {
                    Err(Error::JobFailed { unit: unit.to_owned(), job, result: state.active.as_str().to_owned() })
                };
            }
            if deadline.has_passed() {
                return Err(Error::JobTimedOut { unit: unit.to_owned(), job });
            }
        }
    }

    /// The result of a job for `unit` that was queued over the bus, if one ends within `limit`.
    fn job_result(&self, unit: &str, limit: Duration) -> Option<String> {
        let owned = unit.to_owned();
        let told = match self.bus_health.get() {
            BusHealth::Hung => None,
            _ => self.over_bus(move |bus| Ok(bus.job_result(&owned, limit))).ok(),
        };
        told.unwrap_or_else(|| {
            std::thread::sleep(limit);
            None
        })
    }

    /// Asks over the bus; if that gives no answer for [`BUS_RETRY_TIMEOUT`], through systemctl.
    fn ask<T: Send + 'static>(
        &self,
        over_bus: impl Fn(&mut Bus) -> Result<T, Failure> + Clone + Send + 'static,
        through_systemctl: impl Fn(&Systemctl) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let retry = Deadline::after(BUS_RETRY_TIMEOUT);
        let mut why = String::new();
        while bus::is_there() && self.bus_health.get() != BusHealth::Hung {
            match self.over_bus(over_bus.clone()) {
                Ok(answer) => {
                    self.bus_health.set(BusHealth::Good);
                    return Ok(answer);
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::NoAnswer(reason)) => {
                    log::debug!("the system bus gave no answer: {reason}");
                    why = reason;
                }
            }
            if retry.has_passed() || self.bus_health.get() != BusHealth::Good {
                self.bus_health.set(self.bus_health.get().max(BusHealth::Unreliable));
                break;
            }
            std::thread::sleep(POLL_INTERVAL.min(retry.remaining()));
        }
        match through_systemctl(&self.systemctl) {
            Ok(answer) => Ok(answer),
            Err(Failure::Final(error)) => Err(error),
            Err(Failure::NoAnswer(reason)) => Err(Error::Unreachable(format!("{why}; {reason}"))),
        }
    }

    /// One question to the thread that has the connection: whatever that comes to, a hang or a panic of the library included,
    /// a repair goes on without it.
    fn over_bus<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Bus) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, answer) = sync_channel(1);
        let ask = move |runtime: &Rc<Runtime>, connected: &mut Option<Bus>| {
            let bus = match connected.take() {
                Some(bus) => Ok(bus),
                None => Bus::connect(runtime),
            };
            let answer = bus.and_then(|mut bus| {
                let answer = question(&mut bus);
                // One that gave no answer is not used again.
                if !matches!(answer, Err(Failure::NoAnswer(_))) {
                    *connected = Some(bus);
                }
                answer
            });
            let _ = sender.send(answer);
        };
        let asked = self.thread()?.send(Box::new(ask)).map_err(|error| Failure::NoAnswer(error.to_string()));
        match asked.and_then(|()| {
            answer.recv_timeout(BUS_QUESTION_TIMEOUT).map_err(|error| Failure::NoAnswer(error.to_string()))
        }) {
            Ok(answer) => answer,
            Err(failure) => {
                self.bus_health.set(BusHealth::Hung);
                Err(failure)
            }
        }
    }

    fn thread(&self) -> Result<Sender<Question>, Failure> {
        let mut bus = self.bus.borrow_mut();
        if let Some(questions) = bus.as_ref() {
            return Ok(questions.clone());
        }
        let (sender, questions) = channel();
        let started = std::thread::Builder::new().name("bus".to_owned()).spawn(move || answer(&questions));
        started.map_err(|error| Failure::NoAnswer(error.to_string()))?;
        Ok(bus.insert(sender).clone())
    }
}

/// What the thread does. Without a runtime nobody gets an answer.
fn answer(questions: &Receiver<Question>) {
    let Ok(runtime) = runtime::Builder::new_current_thread().enable_io().enable_time().build().map(Rc::new) else {
        return;
    };
    // The library starts tasks, also when a connection is dropped.
    let _entered = runtime.enter();
    let mut connected = None;
    while let Ok(question) = questions.recv() {
        question(&runtime, &mut connected);
    }
}

/// How far the bus can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum BusHealth {
    /// It answered, or was not asked yet.
    Good,
    /// It was away for longer than [`BUS_RETRY_TIMEOUT`]: each question is tried once.
    Unreliable,
    /// A question was never answered: it is not asked again.
    Hung,
}
