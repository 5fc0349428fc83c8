//! The only place with effects on the host: takes a plan's steps one after the other.
//!
//! What is to be ended is pinned, looked at again, and put on record before the first signal; from then on the start of
//! its successor follows whatever happens, and nothing that is asked of this process or that fails on the way keeps it
//! from trying.

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::diagnosis::Diagnosis;
use crate::events;
use crate::observe::{RUNTIME_DIRECTORY, SERVICE, SOCKET};
use crate::pid_ref::PidRef;
use crate::plan::{Action, Plan};
use crate::probe::{Probe, ProbeResult, probe};
use crate::record::{Intent, Record, boot_id};
use crate::refusal::{Reason, Refusal};
use crate::rescue;
use crate::signals::Signals;
use crate::snapshot::Snapshot;
use crate::systemd::{Error, Job, Manager};
use crate::target::{self, Target};

/// For one job of systemd. A restart of ssh.service takes 0.1 s; what takes longer than this keeps people out.
const JOB: Duration = Duration::from_secs(15);
/// How long a fresh listener may take until it accepts, where its unit does not tell that it is ready.
const READY: Duration = Duration::from_secs(5);

/// For the probe of one address.
const PROBE: Duration = Duration::from_secs(15);

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The step.
    #[serde(flatten)]
    pub action: Action,
    /// It did what it should.
    pub ok: bool,
    /// What came of it, for a person.
    pub result: String,
    /// How long it took.
    pub duration_ms: u64,
}

/// What came of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CarriedOut {
    /// The steps that were taken.
    pub done: Vec<Done>,
    /// Sessions that were open before.
    pub sessions_before: usize,
    /// Those of them that are still open.
    pub sessions_after: usize,
    /// From the first signal or restart until a connection got through again.
    pub unreachable: Option<Duration>,
    /// Nothing was ended, for this reason.
    pub refusal: Option<Refusal>,
    /// Nothing was ended: a listener is no longer what it was when it was judged.
    pub changed: bool,
}

/// Whose hands carry a plan out.
pub struct Hands<'a> {
    /// systemd.
    pub manager: &'a Manager,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Requests to stop.
    pub signals: &'a Signals,
}

/// Creates sshd's privilege separation directory, which alone brings logins back if it is missing.
#[must_use]
pub fn first_aid() -> Done {
    let begun = Instant::now();
    let action = Action::CreateRuntimeDirectory { path: RUNTIME_DIRECTORY.to_owned() };
    let made = match rustix::fs::mkdir(RUNTIME_DIRECTORY, Mode::from_raw_mode(0o755)) {
        // The umask may have taken bits away.
        Ok(()) => rustix::fs::chmod(RUNTIME_DIRECTORY, Mode::from_raw_mode(0o755)),
        Err(rustix::io::Errno::EXIST) if Path::new(RUNTIME_DIRECTORY).is_dir() => Ok(()),
        Err(error) => Err(error),
    };
    let done = finished(action, begun, made.map(|()| "created".to_owned()).map_err(|error| error.to_string()));
    events::first_aid(&done);
    done
}

/// Takes the steps of a plan.
#[must_use]
pub fn carry_out(
    plan: &Plan,
    snapshot: &Snapshot,
    diagnosis: &Diagnosis,
    record: Option<&Record>,
    hands: &Hands<'_>,
) -> CarriedOut {
    let sessions: Vec<PidRef> = diagnosis.sessions.iter().filter_map(|pid| PidRef::open(*pid).ok().flatten()).collect();
    let mut out = CarriedOut { sessions_before: sessions.len(), ..CarriedOut::default() };
    let Some(old) = target::pin(plan, snapshot, diagnosis) else { return CarriedOut { changed: true, ..out } };
    if plan.replaces() {
        if let Err(refusal) = announce(plan, record) {
            return CarriedOut { refusal: Some(refusal), sessions_after: sessions.len(), ..out };
        }
    }
    let mut work =
        Work { hands, old: &old, program: &snapshot.program.path, done: Vec::new(), unreachable_since: None };
    let finished = match work.end_listeners(plan) {
        Ended::AsPlanned => {
            let up = work.bring_up(plan);
            let reachable = work.verify(plan, &mut out.unreachable);
            !plan.replaces() || reachable || (up && work.serves()) || work.rescue(plan)
        }
        Ended::Changed => {
            out.changed = true;
            true
        }
        Ended::StillThere => false,
    };
    if work.took(|action| matches!(action, Action::StopRescue { .. }))
        && !work.took(|action| matches!(action, Action::StartRescue { .. }))
    {
        rescue::tidy(hands.manager);
    }
    // What is not finished stays on record: systemd starts this program again, or the next package run does.
    if let Some(record) = record.filter(|_| finished) {
        let cleared = record.clear_intent();
        log::debug!("the intent was taken off the record: {cleared:?}");
    }
    out.sessions_after = sessions.iter().filter(|session| session.has_exited().is_ok_and(|exited| !exited)).count();
    CarriedOut { done: work.done, ..out }
}

fn announce(plan: &Plan, record: Option<&Record>) -> Result<(), Refusal> {
    let units = plan.actions.iter().filter_map(|action| match action {
        Action::StartUnit { unit } | Action::RestartUnit { unit } => Some(unit.clone()),
        _ => None,
    });
    let record = record.ok_or_else(|| Reason::CannotRecord.because(""))?;
    let addresses = plan.probed();
    // That of a repair that was cut off says the same, and /run may be full by now.
    if record.intent().is_some_and(|intent| intent.addresses.is_superset(&addresses)) {
        return Ok(());
    }
    boot_id()
        .and_then(|boot_id| record.write_intent(&Intent { boot_id, addresses, units: units.collect() }))
        .map_err(|error| Reason::CannotRecord.because(&error.to_string()))
}

/// How the ending of listeners went.
enum Ended {
    /// All that had to be ended are gone.
    AsPlanned,
    /// Nothing was ended: a listener is no longer what it was, or this process was asked to stop.
    Changed,
    /// One got SIGKILL and is still there, in uninterruptible sleep. A start would fail and take /run/sshd along.
    StillThere,
}

/// A plan on its way.
struct Work<'a> {
    hands: &'a Hands<'a>,
    old: &'a [Target<'a>],
    program: &'a Path,
    done: Vec<Done>,
    /// When the first listener was signalled, or its unit's restart asked for.
    unreachable_since: Option<Instant>,
}

impl Work<'_> {
    fn end_listeners(&mut self, plan: &Plan) -> Ended {
        for action in &plan.actions {
            let Action::Terminate { pid, .. } = action else { continue };
            let Some(target) = self.old.iter().find(|target| target.pid() == *pid) else { continue };
            if !target.is_unchanged(self.program) || (self.unreachable_since.is_none() && self.hands.signals.noted()) {
                if self.unreachable_since.is_none() {
                    return Ended::Changed;
                }
                continue;
            }
            let begun = Instant::now();
            self.unreachable_since.get_or_insert(begun);
            if !self.record(action, begun, target.end(self.hands.grace)) {
                self.record_first_aid();
                return Ended::StillThere;
            }
        }
        Ended::AsPlanned
    }

    /// Starts what was declared; if that fails, the service without its socket.
    fn bring_up(&mut self, plan: &Plan) -> bool {
        for action in &plan.actions {
            let begun = Instant::now();
            let manager = self.hands.manager;
            let result = match action {
                Action::CreateRuntimeDirectory { .. } => {
                    self.done.push(first_aid());
                    continue;
                }
                Action::ResetFailed { unit } => {
                    manager.reset_failed(unit).map(|()| "cleared".to_owned()).map_err(|error| error.to_string())
                }
                Action::StopUnit { unit } => run(manager, Job::Stop, unit),
                Action::StartUnit { unit } => run(manager, Job::Start, unit),
                Action::StopRescue { .. } => rescue::stop(manager, Deadline::after(JOB))
                    .map(|()| "stopped".to_owned())
                    .map_err(|error| error.to_string()),
                Action::RestartUnit { unit } => run(manager, Job::Restart, unit),
                Action::Terminate { .. } | Action::Probe { .. } | Action::StartRescue { .. } => continue,
            };
            if matches!(action, Action::StopRescue { .. } | Action::RestartUnit { .. }) {
                self.unreachable_since.get_or_insert(begun);
            }
            if !self.record(action, begun, result) && !matches!(action, Action::ResetFailed { .. }) {
                self.record_first_aid();
                return self.without_the_socket(action);
            }
        }
        true
    }

    /// The socket could not be started, but perhaps the service can be.
    fn without_the_socket(&mut self, failed: &Action) -> bool {
        if !matches!(failed, Action::StartUnit { unit } | Action::StopUnit { unit } if unit == SOCKET) {
            return false;
        }
        let manager = self.hands.manager;
        let _ = manager.abort(SOCKET);
        let _ = manager.reset_failed(SERVICE);
        let begun = Instant::now();
        let action = Action::StartUnit { unit: SERVICE.to_owned() };
        let result = run(manager, Job::Start, SERVICE);
        self.record(&action, begun, result)
    }

    /// Probes what the plan says; one address that answers tells that SSH is back.
    fn verify(&mut self, plan: &Plan, unreachable: &mut Option<Duration>) -> bool {
        let mut reachable = false;
        for action in &plan.actions {
            let Action::Probe { address } = action else { continue };
            let begun = Instant::now();
            let result = self.probe(*address);
            if self.record(action, begun, result) {
                reachable = true;
                *unreachable = unreachable.or(self.unreachable_since.map(|since| since.elapsed()));
            }
        }
        reachable
    }

    /// A connection gets through, and not to one of the old listeners.
    fn probe(&self, address: SocketAddr) -> Result<String, String> {
        if self.hands.signals.noted() {
            return Err("not probed: this process was asked to stop".to_owned());
        }
        if let Some(target) = self.old.iter().find(|target| !target.has_exited() && target.serves(address)) {
            return Err(format!("the old listener {} is still there", target.pid()));
        }
        let ready = Deadline::after(READY);
        loop {
            // What was begun has to be seen, whatever is left of the deadline.
            let Probe { result, detail } = probe(address, Deadline::after(PROBE));
            match result {
                ProbeResult::Ok => return Ok(format!("a new connection gets through ({detail})")),
                ProbeResult::Dead => return Err(detail),
                ProbeResult::Inconclusive
                    if detail.starts_with("no connection") && !ready.has_passed() && self.serves() =>
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
                _ => return Err(format!("unverified: {detail}")),
            }
        }
    }

    /// systemd says that somebody serves SSH.
    fn serves(&self) -> bool {
        let active =
            |name| self.hands.manager.unit(name).is_ok_and(|unit| unit.active == "active" && !unit.name.is_empty());
        let per_connection =
            || self.hands.manager.unit(SOCKET).is_ok_and(|unit| unit.accept && unit.active == "active");
        active(SERVICE) || per_connection()
    }

    fn took(&self, kind: impl Fn(&Action) -> bool) -> bool {
        self.done.iter().any(|done| kind(&done.action))
    }

    fn rescue(&mut self, plan: &Plan) -> bool {
        let begun = Instant::now();
        // Not those of another instance that was not restarted yet and still serves.
        let still_served = |address: &SocketAddr| self.old.iter().any(|old| !old.has_exited() && old.serves(*address));
        let addresses: BTreeSet<SocketAddr> = plan.probed().into_iter().filter(|a| !still_served(a)).collect();
        let action = Action::StartRescue { addresses: addresses.clone() };
        let result = rescue::start(&addresses, self.hands.manager, Deadline::after(JOB));
        let result = result.map(|()| "serves SSH in its place".to_owned()).map_err(|error| error.to_string());
        let started = self.record(&action, begun, result);
        self.record_first_aid();
        if started {
            for address in addresses {
                let begun = Instant::now();
                let seen = probe(address, Deadline::after(PROBE));
                let result =
                    if seen.is_ok() { Ok(format!("the rescue answers ({})", seen.detail)) } else { Err(seen.detail) };
                self.record(&Action::Probe { address }, begun, result);
            }
        }
        started
    }

    /// After a failed start: whoever still listens needs the directory that the start took away.
    fn record_first_aid(&mut self) {
        if !Path::new(RUNTIME_DIRECTORY).is_dir() {
            self.done.push(first_aid());
        }
    }

    fn record(&mut self, action: &Action, begun: Instant, result: Result<String, String>) -> bool {
        let done = finished(action.clone(), begun, result);
        events::step(&done, self.old);
        let ok = done.ok;
        self.done.push(done);
        ok
    }
}

fn run(manager: &Manager, job: Job, unit: &str) -> Result<String, String> {
    let first = match manager.run(job, unit, Deadline::after(JOB)) {
        Ok(()) => return Ok(word(job).to_owned()),
        // What hangs once hangs twice.
        Err(error @ Error::JobTimedOut { .. }) => return Err(error.to_string()),
        Err(error) => error,
    };
    // Once more with a clean slate: the start limit may have been used up, or somebody's job been in the way.
    log::debug!("{first}; once more");
    let _ = manager.reset_failed(unit);
    // What still runs was not even stopped: to start it would look like success.
    if job == Job::Restart && manager.unit(unit).is_ok_and(|unit| unit.is_active()) {
        return Err(first.to_string());
    }
    let again = if job == Job::Restart { Job::Start } else { job };
    match manager.run(again, unit, Deadline::after(JOB)) {
        Ok(()) => Ok(format!("{} at the second attempt", word(job))),
        Err(_) => Err(first.to_string()),
    }
}

const fn word(job: Job) -> &'static str {
    match job {
        Job::Start => "started",
        Job::Stop => "stopped",
        Job::Restart => "restarted",
    }
}

fn finished(action: Action, begun: Instant, result: Result<String, String>) -> Done {
    let (ok, result) = match result {
        Ok(result) => (true, result),
        Err(result) => (false, result),
    };
    Done { action, ok, result, duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) }
}
