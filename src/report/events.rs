//! What is written to the log: each kind of event with its MESSAGE_ID and fields. packaging/sshd-mend.catalog explains
//! each. [`crate::host::log`] writes them.
//!
//! What was achieved is a notice in the journal, a finding a warning, and what failed an error; the library that speaks
//! journald's protocol maps the levels info, warn and error to these priorities.

use log::{Level, Record};
use std::fmt::Arguments;

use super::conclusion::conclusion;
use super::human::word;
use super::outcome::{Outcome, Verdict};
use crate::host::log::JOURNAL_ONLY;
use crate::model::address::list;
use crate::model::diagnosis::{Diagnosis, Finding, Severity};
use crate::model::execution::{StepOutcome, Success};
use crate::model::names::RUNTIME_DIRECTORY;
use crate::model::plan::{Plan, Step, Trigger};
use crate::model::printable::printable;
use crate::model::process::Process;
use crate::model::snapshot::Snapshot;

/// A fault was found.
pub const FOUND: &str = "0d5ba4a39b4e4b6ca0b3d3d1b0b2e6f1";
/// The agent declined to act.
pub const REFUSED: &str = "5b0f8f5a2c7d4d6fb5c9a1f3e4d7c802";
/// `/run/sshd` was created.
pub const FIRST_AID: &str = "a7d1c6e0f2b84f0d9a63b2c4d5e6f713";
/// A listener was ended.
pub const ENDED: &str = "c41e9b7d8a5f4e22b1d0f6a7c8394e24";
/// A unit was started or restarted.
pub const RESTARTED: &str = "3f8a2d6b1c9e47508e7f4a5b6c7d8935";
/// A unit, or a rescue, was stopped.
pub const STOPPED: &str = "86b85075ac634c6288590b8f5856bdd2";
/// A new connection got through.
pub const VERIFIED: &str = "e92c5f0a7b3d4c81a6b8d9e0f1a2b346";
/// An instance listens where nobody can connect, so no connection was tried.
pub const NOT_PROBED: &str = "7585b8ef1bb24101a57b910e03b6b85f";
/// The units could not be started, and a rescue serves in their place.
pub const RESCUED: &str = "b3e751b959d54f96b4e6dd771cd6bec6";
/// A step did not achieve what it is for.
pub const FAILED: &str = "7c6b5a4938271f60e5d4c3b2a1908f57";
/// What came of a repair is not known to the process that asked for it.
pub const UNFOLLOWED: &str = "f9815da9b3ea481db882ad101f4c6e24";
/// What came of a run: its last event.
pub const CONCLUDED: &str = "3e4a972132ed48ac8ed6845130cfd618";

/// An event on its way to the log. A field that says nothing about this event is not there, so that no filter matches it.
struct Event {
    level: Level,
    target: &'static str,
    fields: Vec<(&'static str, String)>,
}

impl Event {
    fn new(level: Level, id: &str) -> Self {
        Self { level, target: module_path!(), fields: vec![("MESSAGE_ID", id.to_owned())] }
    }

    fn with(mut self, field: &'static str, value: impl ToString) -> Self {
        self.fields.push((field, value.to_string()));
        self
    }

    fn with_any(self, field: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(field, value),
            None => self,
        }
    }

    /// The macros of `log` take a fixed set of fields, and check the level as this does.
    fn write(&self, message: Arguments<'_>) {
        if self.level <= log::max_level() {
            let mut record = Record::builder();
            record.level(self.level).target(self.target).key_values(&self.fields);
            log::logger().log(&record.args(message).build());
        }
    }
}

/// What was found, and why nothing is done about it if nothing is.
pub fn found(snapshot: &Snapshot, diagnosis: &Diagnosis, plan: &Plan) {
    findings(snapshot, &diagnosis.findings);
    let first_aid = if plan.first_aid.is_some() { " First aid is given all the same." } else { "" };
    for (instance, refusal) in plan.refusals() {
        Event::new(Level::Error, REFUSED)
            .with("REASON", refusal.code.as_str())
            .with("UNIT_NAME", instance)
            .write(format_args!("Refused: {}.{first_aid} {}", refusal.message, refusal.advice));
    }
}

/// What was found, as far as it matters.
pub fn findings(snapshot: &Snapshot, findings: &[Finding]) {
    for finding in findings.iter().filter(|finding| finding.severity > Severity::Info) {
        let process = snapshot.processes.iter().find(|process| Some(process.pid) == finding.pid);
        let addresses = process.map(|process| list(&process.addresses())).filter(|addresses| !addresses.is_empty());
        let unit = process.and_then(|process| process.unit.clone()).or_else(|| finding.instance.clone());
        Event::new(Level::Warn, FOUND)
            .with_any("OBJECT_PID", finding.pid)
            .with_any("EXECUTABLE", process.map(exe))
            .with_any("UNIT_NAME", unit)
            .with_any("ADDRESS", addresses)
            .with("REASON", finding.code.as_str())
            .write(format_args!("Found: {}", finding.message));
    }
}

fn exe(process: &Process) -> String {
    printable(&process.exe.to_string_lossy())
}

/// A step was taken. `listener`: the one that it terminated.
pub fn step(outcome: &StepOutcome, listener: Option<&Process>) {
    let took = u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX);
    let (result, failed) = match &outcome.result {
        Ok(success) => (success.to_string(), false),
        Err(failure) => (failure.to_string(), true),
    };
    let event = |level, id| {
        let (level, id) = if failed { (Level::Error, FAILED) } else { (level, id) };
        Event::new(level, id).with("REASON", &result).with("DURATION_MS", took)
    };
    match &outcome.step {
        Step::CreateRuntimeDirectory { .. } => {
            let event = event(Level::Info, FIRST_AID);
            event.write(format_args!("First aid: {RUNTIME_DIRECTORY} was missing: {result}"));
        }
        Step::Terminate { pid, .. } => {
            let exe = listener.map(exe).unwrap_or_default();
            let event = event(Level::Info, ENDED).with("OBJECT_PID", pid).with("EXECUTABLE", &exe);
            event.write(format_args!("Listener {pid} ({exe}): {result}"));
        }
        Step::StopUnit { unit } | Step::StopRescue { unit } => {
            of_unit(event(Level::Info, STOPPED), unit).write(format_args!("{unit}: {result} ({took} ms)"));
        }
        Step::StartUnit { unit } | Step::RestartUnit { unit } => {
            of_unit(event(Level::Info, RESTARTED), unit).write(format_args!("{unit}: {result} ({took} ms)"));
        }
        // A rescue is a failure to investigate, also when it serves.
        Step::StartRescue { unit, addresses } => {
            let event = event(Level::Error, RESCUED).with("UNIT_NAME", unit).with("ADDRESS", list(addresses));
            event.write(format_args!("The units could not be started. {unit}: {result}"));
        }
        Step::Probe { address } => {
            let id = if matches!(outcome.result, Ok(Success::NobodyCanConnect(_))) { NOT_PROBED } else { VERIFIED };
            event(Level::Info, id).with("ADDRESS", address).write(format_args!("{address}: {result}"));
        }
        Step::ResetFailed { unit } if failed => {
            event(Level::Error, FAILED).with("UNIT_NAME", unit).write(format_args!("{unit}: {result}"));
        }
        Step::ResetFailed { .. } => {}
    }
}

/// `journalctl -u UNIT` shows it too.
fn of_unit(event: Event, unit: &str) -> Event {
    event.with("UNIT_NAME", unit).with("OBJECT_SYSTEMD_UNIT", unit)
}

/// What came of a repair is not known.
pub fn unknown_result(why: &str) {
    Event::new(Level::Error, UNFOLLOWED).with("REASON", why).write(format_args!("{why}"));
}

/// What came of a run: its last event, and for the journal only, since a terminal shows the outcome itself.
pub fn concluded(outcome: &Outcome, trigger: Trigger) {
    let verdict = outcome.verdict.as_str();
    let trigger = match trigger {
        Trigger::Hook => "hook",
        Trigger::Unattended => "unattended",
        Trigger::Repair => "repair",
    };
    let event = Event::new(conclusion_level(outcome), CONCLUDED)
        .with("VERDICT", verdict)
        .with("EXIT_STATUS", outcome.exit_status)
        .with_any("UNREACHABLE_MS", outcome.unreachable_ms)
        .with("SESSIONS_BEFORE", outcome.sessions.before)
        .with("SESSIONS_AFTER", outcome.sessions.after)
        .with("DURATION_MS", outcome.duration_ms)
        .with_any("REASON", outcome.refusal.as_ref().map(|refusal| refusal.code.as_str()))
        .with("TRIGGER", trigger);
    Event { target: JOURNAL_ONLY, ..event }.write(format_args!("{}: {}", word(outcome.verdict), conclusion(outcome)));
}

/// By the worst that is left, as the exit status is: 2 says that a new connection does not get through, or that a rescue
/// serves.
const fn conclusion_level(outcome: &Outcome) -> Level {
    match (outcome.exit_status, outcome.verdict) {
        // A package run finds that again and again, and somebody did it on purpose.
        (_, Verdict::Stopped) => Level::Warn,
        (2, _) => Level::Error,
        (_, Verdict::Healthy | Verdict::NotApplicable | Verdict::Repaired) => Level::Info,
        _ => Level::Warn,
    }
}
