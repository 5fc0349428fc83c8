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
use crate::diagnosis::{self, is_listener};
use crate::journal;
use crate::observe::{RUNTIME_DIRECTORY, look_again};
use crate::pid_ref::PidRef;
use crate::plan::{Action, Plan};
use crate::probe::{Probe, ProbeResult, probe};
use crate::record::{Intent, Record, boot_id};
use crate::refusal::{Reason, Refusal};
use crate::signals::Signals;
use crate::snapshot::{Process, Snapshot};
use crate::systemd::{Error, Job, Manager};

/// For one job of systemd. A restart of ssh.service takes 0.1 s, and its own TimeoutStartSec= is 90 s.
const JOB: Duration = Duration::from_secs(30);
/// After SIGKILL. Only a process in uninterruptible sleep takes longer.
const KILLED: Duration = Duration::from_secs(3);
/// How long a fresh listener may take until it accepts, where its unit does not tell that it is ready.
const READY: Duration = Duration::from_secs(5);

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
    /// For what can wait. The start of a successor cannot.
    pub deadline: Deadline,
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
    log::warn!(MESSAGE_ID = journal::FIRST_AID, REASON = done.result.as_str(), DURATION_MS = done.duration_ms;
        "First aid: {RUNTIME_DIRECTORY} was missing under a running sshd: {}", done.result);
    done
}

/// Takes the steps of a plan that replaces listeners.
#[must_use]
pub fn carry_out(
    plan: &Plan,
    snapshot: &Snapshot,
    diagnosis: &diagnosis::Diagnosis,
    record: Option<&Record>,
    hands: &Hands<'_>,
) -> CarriedOut {
    let mut out = CarriedOut::default();
    let sessions = pin_all(&diagnosis.sessions);
    out.sessions_before = sessions.len();
    let old = match pin_targets(plan, snapshot, diagnosis) {
        Some(old) => old,
        None => return CarriedOut { changed: true, ..out },
    };
    if plan.replaces() {
        if let Err(refusal) = announce(plan, &old, record) {
            return CarriedOut { refusal: Some(refusal), sessions_after: sessions.len(), ..out };
        }
    }
    let mut unreachable_since = None;
    for action in &plan.actions {
        let begun = Instant::now();
        let result = match action {
            Action::CreateRuntimeDirectory { .. } => {
                out.done.push(first_aid());
                continue;
            }
            Action::Terminate { pid, .. } => {
                let Some(target) = old.iter().find(|target| target.pinned.pid() == *pid) else { continue };
                if unreachable_since.is_none()
                    && (hands.signals.noted() || !target.is_unchanged(&snapshot.program.path))
                {
                    out.changed = true;
                    break;
                }
                unreachable_since.get_or_insert(begun);
                target.end(hands.grace)
            }
            Action::ResetFailed { unit } => {
                hands.manager.reset_failed(unit).map(|()| "cleared".to_owned()).map_err(|error| error.to_string())
            }
            Action::StopUnit { unit } => run(hands.manager, Job::Stop, unit),
            Action::StartUnit { unit } => run(hands.manager, Job::Start, unit),
            Action::RestartUnit { unit } => {
                unreachable_since.get_or_insert(begun);
                run(hands.manager, Job::Restart, unit)
            }
            Action::Probe { address } => verify(*address, &old, hands),
        };
        if matches!((action, &result), (Action::Probe { .. }, Ok(_))) {
            out.unreachable = out.unreachable.or(unreachable_since.map(|since| since.elapsed()));
        }
        let done = finished(action.clone(), begun, result);
        log_done(&done, &old);
        out.done.push(done);
    }
    if let Some(record) = record {
        let cleared = record.clear_intent();
        log::debug!("the intent was taken off the record: {cleared:?}");
    }
    out.sessions_after = sessions.iter().filter(|session| session.has_exited().is_ok_and(|exited| !exited)).count();
    out
}

/// A listener that is to be replaced, pinned.
struct Target<'a> {
    pinned: PidRef,
    judged: &'a Process,
}

impl Target<'_> {
    /// It is still what it was when it was judged.
    fn is_unchanged(&self, program: &Path) -> bool {
        look_again(&self.pinned, program).ok().flatten().is_some_and(|now| {
            is_listener(&now)
                && now.started_ticks == self.judged.started_ticks
                && now.stale() == self.judged.stale()
                && now.image == self.judged.image
                && now.listening == self.judged.listening
        })
    }

    /// SIGTERM, a wait, SIGKILL. SIGTERM frees the port at once, and sessions go on.
    fn end(&self, grace: Duration) -> Result<String, String> {
        let gone = |error: std::io::Error| {
            self.pinned.has_exited().unwrap_or(false).then(|| "had exited".to_owned()).ok_or_else(|| error.to_string())
        };
        if let Err(error) = self.pinned.terminate() {
            return gone(error);
        }
        if self.pinned.wait(Deadline::after(grace)).unwrap_or(false) {
            return Ok("ended by SIGTERM".to_owned());
        }
        if let Err(error) = self.pinned.kill() {
            return gone(error);
        }
        if self.pinned.wait(Deadline::after(KILLED)).unwrap_or(false) {
            return Ok("ended by SIGKILL".to_owned());
        }
        Err("it is still there after SIGKILL".to_owned())
    }
}

fn pin_all(pids: &[i32]) -> Vec<PidRef> {
    pids.iter().filter_map(|pid| PidRef::open(*pid).ok().flatten()).collect()
}

/// Pins the listeners that the plan ends or restarts. `None`: one of them is no longer what it was.
fn pin_targets<'a>(plan: &Plan, snapshot: &'a Snapshot, diagnosis: &diagnosis::Diagnosis) -> Option<Vec<Target<'a>>> {
    let restarted = |unit: &str| {
        plan.actions.iter().any(|action| matches!(action, Action::RestartUnit { unit: name } if name == unit))
    };
    let ended = |pid: i32| {
        plan.actions.iter().any(|action| matches!(action, Action::Terminate { pid: target, .. } if *target == pid))
    };
    let affected = diagnosis.listeners.iter().filter(|l| ended(l.pid) || l.unit.as_deref().is_some_and(restarted));
    let mut targets = Vec::new();
    for listener in affected {
        let judged = snapshot.processes.iter().find(|process| process.pid == listener.pid)?;
        let target = Target { pinned: PidRef::open(listener.pid).ok().flatten()?, judged };
        if !target.is_unchanged(&snapshot.program.path) {
            return None;
        }
        targets.push(target);
    }
    Some(targets)
}

fn announce(plan: &Plan, old: &[Target<'_>], record: Option<&Record>) -> Result<(), Refusal> {
    let addresses: BTreeSet<SocketAddr> =
        old.iter().flat_map(|target| target.judged.listening.iter().copied()).collect();
    let units = plan.actions.iter().filter_map(|action| match action {
        Action::StartUnit { unit } | Action::RestartUnit { unit } => Some(unit.clone()),
        _ => None,
    });
    let record = record.ok_or_else(|| Reason::CannotRecord.because(""))?;
    boot_id()
        .and_then(|boot_id| record.write_intent(&Intent { boot_id, addresses, units: units.collect() }))
        .map_err(|error| Reason::CannotRecord.because(&error.to_string()))
}

fn run(manager: &Manager, job: Job, unit: &str) -> Result<String, String> {
    let deadline = Deadline::after(JOB);
    let first = match manager.run(job, unit, deadline) {
        Ok(()) => return Ok(word(job).to_owned()),
        Err(error) => error,
    };
    // Once more with a clean slate: a failed start takes /run/sshd along, and may have used up the start limit.
    let _ = manager.reset_failed(unit);
    match (&first, manager.run(if job == Job::Restart { Job::Start } else { job }, unit, deadline)) {
        (_, Ok(())) => Ok(format!("{} at the second attempt", word(job))),
        (Error::JobFailed { .. }, Err(_)) | (_, Err(Error::Unreachable(_))) => Err(first.to_string()),
        (_, Err(second)) => Err(second.to_string()),
    }
}

const fn word(job: Job) -> &'static str {
    match job {
        Job::Start => "started",
        Job::Stop => "stopped",
        Job::Restart => "restarted",
    }
}

/// A connection gets through, and not to one of the old listeners.
fn verify(address: SocketAddr, old: &[Target<'_>], hands: &Hands<'_>) -> Result<String, String> {
    if hands.signals.noted() {
        return Err("not probed: this process was asked to stop".to_owned());
    }
    if let Some(target) = old.iter().find(|target| !target.pinned.has_exited().unwrap_or(false)) {
        return Err(format!("the old listener {} is still there", target.pinned.pid()));
    }
    let ready = Deadline::after(READY);
    loop {
        let Probe { result, detail } = probe(address, hands.deadline);
        match result {
            ProbeResult::Ok => return Ok(format!("a new connection gets through ({detail})")),
            ProbeResult::Inconclusive if detail.starts_with("no connection") && !ready.has_passed() => {
                std::thread::sleep(Duration::from_millis(50))
            }
            ProbeResult::Dead => return Err(detail),
            _ => return Err(format!("unverified: {detail}")),
        }
    }
}

fn finished(action: Action, begun: Instant, result: Result<String, String>) -> Done {
    let (ok, result) = match result {
        Ok(result) => (true, result),
        Err(result) => (false, result),
    };
    Done { action, ok, result, duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) }
}

fn log_done(done: &Done, old: &[Target<'_>]) {
    let (result, took) = (done.result.as_str(), done.duration_ms);
    match &done.action {
        Action::Terminate { pid, .. } => {
            let exe = old
                .iter()
                .find(|t| t.pinned.pid() == *pid)
                .map(|t| t.judged.exe.to_string_lossy().escape_debug().to_string())
                .unwrap_or_default();
            let id = if done.ok { journal::ENDED } else { journal::FAILED };
            log::warn!(MESSAGE_ID = id, OBJECT_PID = pid, EXECUTABLE = exe.as_str(), REASON = result, DURATION_MS = took;
                "Listener {pid} ({exe}): {result}");
        }
        Action::StopUnit { unit } | Action::StartUnit { unit } | Action::RestartUnit { unit } if done.ok => {
            log::warn!(MESSAGE_ID = journal::RESTARTED, UNIT_NAME = unit.as_str(), OBJECT_SYSTEMD_UNIT = unit.as_str(), DURATION_MS = took;
                "{unit}: {result} in {took} ms");
        }
        Action::StopUnit { unit }
        | Action::StartUnit { unit }
        | Action::RestartUnit { unit }
        | Action::ResetFailed { unit }
            if !done.ok =>
        {
            log::error!(MESSAGE_ID = journal::FAILED, UNIT_NAME = unit.as_str(), OBJECT_SYSTEMD_UNIT = unit.as_str(), REASON = result, DURATION_MS = took;
                "{unit}: {result}");
        }
        Action::Probe { address } if done.ok => {
            log::warn!(MESSAGE_ID = journal::VERIFIED, ADDRESS = address.to_string().as_str(), DURATION_MS = took;
                "{address}: {result}");
        }
        Action::Probe { address } => {
            log::error!(MESSAGE_ID = journal::FAILED, ADDRESS = address.to_string().as_str(), REASON = result, DURATION_MS = took;
                "{address}: {result}");
        }
        _ => {}
    }
}
