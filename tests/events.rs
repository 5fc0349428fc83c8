//! The journal: each kind of event has exactly one entry in the catalog, which names only fields that all of them carry;
//! and the priorities of events.
#![allow(missing_docs)]

mod support;

use log::kv::{self, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use sshd_mend::decide::{diagnose, plan};
use sshd_mend::model::execution::{Failure, StepOutcome, Success};
use sshd_mend::model::plan::{Step, Trigger};
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::trial::Check;
use sshd_mend::report::{Outcome, Sessions, Verdict, events};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use support::{healthy, incident, listener, ready, service, stale, trial};

const CATALOG: &str = include_str!("../packaging/sshd-mend.catalog");

/// An event as journald gets it.
#[derive(Debug, Clone)]
struct Written {
    level: Level,
    fields: BTreeMap<String, String>,
    message: String,
}

/// Keeps what is logged.
struct Kept(Mutex<Vec<Written>>);

static KEPT: Kept = Kept(Mutex::new(Vec::new()));
/// There is one logger for all tests.
static TURN: Mutex<()> = Mutex::new(());

impl Kept {
    fn all(&self) -> MutexGuard<'_, Vec<Written>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Fields(BTreeMap<String, String>);

impl VisitSource<'_> for Fields {
    fn visit_pair(&mut self, key: kv::Key<'_>, value: kv::Value<'_>) -> Result<(), kv::Error> {
        assert!(self.0.insert(key.to_string(), value.to_string()).is_none(), "{key} is there twice");
        Ok(())
    }
}

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut fields = Fields(BTreeMap::new());
        record.key_values().visit(&mut fields).expect("fields");
        self.all().push(Written { level: record.level(), fields: fields.0, message: record.args().to_string() });
    }

    fn flush(&self) {}
}

/// What is logged meanwhile.
fn written(work: impl FnOnce()) -> Vec<Written> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = log::set_logger(&KEPT);
    log::set_max_level(LevelFilter::Info);
    KEPT.all().clear();
    work();
    KEPT.all().drain(..).collect()
}

fn step(step: Step, result: Result<Success, Failure>) -> Vec<Written> {
    let listener = stale(listener(60));
    written(|| events::step(&StepOutcome::new(step, Duration::from_millis(7), result), Some(&listener)))
}

fn one(mut events: Vec<Written>) -> Written {
    assert_eq!(events.len(), 1, "{events:#?}");
    events.remove(0)
}

const UNIT: &str = "ssh.service";

/// Every step with everything that it can achieve. A new step or success does not compile without a place in `id`.
fn successes() -> Vec<(Step, Success)> {
    let unit = || UNIT.to_owned();
    let address = "[::]:22".parse().expect("an address");
    let terminate = || Step::terminate(&listener(60));
    vec![
        (Step::first_aid(), Success::Created),
        (terminate(), Success::Terminated),
        (terminate(), Success::Killed),
        (terminate(), Success::HadExited),
        (Step::ResetFailed { unit: unit() }, Success::Cleared),
        (Step::StopUnit { unit: unit() }, Success::Stopped),
        (Step::StopRescue { unit: unit() }, Success::Stopped),
        (Step::StartUnit { unit: unit() }, Success::Started),
        (Step::StartUnit { unit: unit() }, Success::StartedAtSecondAttempt),
        (Step::RestartUnit { unit: unit() }, Success::Restarted),
        (Step::Probe { address }, Success::Answers("SSH-2.0-OpenSSH_10.0".to_owned())),
        (Step::Probe { address }, Success::NobodyCanConnect("bound to lo".to_owned())),
        (Step::StartRescue { unit: unit(), addresses: [address].into() }, Success::RescueServes),
    ]
}

/// The MESSAGE_ID that says what was achieved; none: nothing worth a message.
const fn id(step: &Step, success: &Success) -> Option<&'static str> {
    match (step, success) {
        (Step::CreateRuntimeDirectory { .. }, _) => Some(events::FIRST_AID),
        (Step::Terminate { .. }, _) => Some(events::ENDED),
        (Step::ResetFailed { .. }, _) => None,
        (Step::StopUnit { .. } | Step::StopRescue { .. }, _) => Some(events::STOPPED),
        (Step::StartUnit { .. } | Step::RestartUnit { .. }, _) => Some(events::RESTARTED),
        (Step::StartRescue { .. }, _) => Some(events::RESCUED),
        (Step::Probe { .. }, Success::NobodyCanConnect(_)) => Some(events::NOT_PROBED),
        (Step::Probe { .. }, _) => Some(events::VERIFIED),
    }
}

/// An outcome with this verdict and exit status, and nothing else.
fn outcome(verdict: Verdict, exit_status: u8) -> Outcome {
    Outcome { verdict, exit_status, notes: Vec::new(), ..Outcome::unknown("repair", "") }
}

const VERDICTS: [Verdict; 11] = [
    Verdict::NotApplicable,
    Verdict::Healthy,
    Verdict::Repaired,
    Verdict::AtRisk,
    Verdict::Unverified,
    Verdict::Refused,
    Verdict::Stopped,
    Verdict::Broken,
    Verdict::Rescued,
    Verdict::Failed,
    Verdict::Unknown,
];

/// What is found on some machines: with a process and without one, with a unit and without one, and a refusal.
fn found() -> [Vec<Written>; 3] {
    let found = |machine: &Snapshot, invalid: bool| {
        let mut trials = ready();
        if invalid {
            trial(&mut trials, UNIT).config = Check::Failed("Bad configuration option".to_owned());
        }
        let diagnosis = diagnose(machine);
        let plan = plan(machine, &diagnosis, &trials, Trigger::Repair);
        written(|| events::found(machine, &diagnosis, &plan))
    };
    let mut locked_out = incident();
    locked_out.host.runtime_directory = false;
    let mut down = healthy();
    down.instances[0].service = service(UNIT, "failed", "failed", "enabled");
    down.processes.clear();
    [found(&incident(), true), found(&locked_out, false), found(&down, false)]
}

/// Events of every kind, with as few fields as there can be.
fn of_every_kind() -> Vec<Written> {
    let mut all = Vec::new();
    for (taken, success) in successes() {
        all.extend(step(taken.clone(), Ok(success)));
        all.extend(step(taken, Err(Failure::Systemd("the job timed out".to_owned()))));
    }
    all.extend(written(|| events::unknown_result("it ended without an outcome")));
    for verdict in VERDICTS {
        all.extend(written(|| events::concluded(&outcome(verdict, 1), Trigger::Hook)));
    }
    all.extend(found().into_iter().flatten());
    all
}

/// The MESSAGE_IDs, from the source, which lists them all.
fn ids() -> Vec<&'static str> {
    let source = include_str!("../src/report/events.rs");
    let ids = source.lines().filter(|line| line.starts_with("pub const"));
    let ids: Vec<_> = ids.map(|line| line.split('"').nth(1).expect("a MESSAGE_ID")).collect();
    assert!(ids.len() >= 12, "{ids:?}");
    assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())), "{ids:?}");
    ids
}

/// The catalog's entries, by their MESSAGE_IDs.
fn entries() -> Vec<(&'static str, &'static str)> {
    let entries = CATALOG.split("\n-- ").skip(1);
    entries.map(|entry| entry.split_once('\n').expect("an entry")).collect()
}

/// What is between two `@`.
fn substituted(entry: &str) -> BTreeSet<&str> {
    let names = entry.split('@').skip(1).step_by(2);
    names
        .inspect(|name| assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{name} in {entry}"))
        .collect()
}

#[test]
fn each_kind_of_event_has_exactly_one_entry_in_the_catalog() {
    let mut ids = ids();
    let mut explained: Vec<_> = entries().into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    explained.sort_unstable();
    assert_eq!(explained, ids);
    ids.dedup();
    assert_eq!(explained, ids, "a MESSAGE_ID is there twice");
    let happened: BTreeSet<String> = of_every_kind().iter().map(|event| event.fields["MESSAGE_ID"].clone()).collect();
    assert_eq!(happened, ids.iter().map(|&id| id.to_owned()).collect(), "this test does not cause every kind");
}

/// What happened, what it means, and what to do: three paragraphs, after a subject.
#[test]
fn each_entry_is_complete() {
    for (id, entry) in entries() {
        let (head, body) = entry.split_once("\n\n").expect("a body");
        assert!(head.starts_with("Subject: ") && head.contains("\nDefined-By: sshd-mend"), "{id}: {head}");
        assert!(body.trim().split("\n\n").count() >= 3, "{id}: {body}");
        assert!(!substituted(entry).is_empty() || id == events::FIRST_AID, "{id}: {entry}");
    }
}

#[test]
fn an_entry_names_only_fields_that_each_of_its_events_carries() {
    let entries: BTreeMap<_, _> = entries().into_iter().collect();
    for event in of_every_kind() {
        let id = event.fields["MESSAGE_ID"].as_str();
        for name in substituted(entries[id]) {
            let value = event.fields.get(name).unwrap_or_else(|| panic!("no {name} in {event:#?}"));
            assert!(!value.is_empty(), "{name} is empty in {event:#?}");
        }
        assert!(event.fields.values().all(|value| !value.is_empty()), "{event:#?}");
    }
}

#[test]
fn what_was_achieved_is_a_notice_and_what_failed_an_error() {
    for (taken, success) in successes() {
        let expected = id(&taken, &success);
        let about = format!("{taken:?} {success:?}");
        let achieved = step(taken.clone(), Ok(success));
        assert_eq!(achieved.len(), usize::from(expected.is_some()), "{about}");
        for event in achieved {
            assert_eq!(Some(event.fields["MESSAGE_ID"].as_str()), expected, "{about}");
            // A rescue is a failure to investigate, also when it serves. The journal's notice is the level Info.
            let level = if expected == Some(events::RESCUED) { Level::Error } else { Level::Info };
            assert_eq!(event.level, level, "{about}");
        }
        let failed = one(step(taken, Err(Failure::Systemd("the job timed out".to_owned()))));
        assert_eq!((failed.level, failed.fields["MESSAGE_ID"].as_str()), (Level::Error, events::FAILED), "{about}");
    }
}

#[test]
fn the_last_event_has_the_priority_of_what_is_left() {
    for (verdict, exit_status, level) in [
        (Verdict::Repaired, 0, Level::Info),
        (Verdict::Repaired, 1, Level::Info),
        (Verdict::Healthy, 0, Level::Info),
        (Verdict::AtRisk, 1, Level::Warn),
        (Verdict::Unverified, 1, Level::Warn),
        (Verdict::Unverified, 2, Level::Error),
        (Verdict::Refused, 1, Level::Warn),
        (Verdict::Refused, 2, Level::Error),
        (Verdict::Broken, 2, Level::Error),
        (Verdict::Stopped, 2, Level::Warn),
        (Verdict::Failed, 2, Level::Error),
        (Verdict::Rescued, 2, Level::Error),
        (Verdict::Unknown, 3, Level::Warn),
    ] {
        let event = one(written(|| events::concluded(&outcome(verdict, exit_status), Trigger::Repair)));
        assert_eq!(event.level, level, "{verdict:?} {exit_status}");
    }
}

#[test]
fn the_last_event_has_every_field_that_says_something() {
    let full = Outcome {
        unreachable_ms: Some(84),
        sessions: Sessions { before: 3, after: 2 },
        duration_ms: 250,
        refusal: Some(RefusalCode::UnitMasked.because("ssh.socket")),
        ..outcome(Verdict::Refused, 2)
    };
    let event = one(written(|| events::concluded(&full, Trigger::Hook)));
    let fields: BTreeMap<&str, &str> = event.fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let expected = [
        ("MESSAGE_ID", events::CONCLUDED),
        ("VERDICT", "refused"),
        ("EXIT_STATUS", "2"),
        ("UNREACHABLE_MS", "84"),
        ("SESSIONS_BEFORE", "3"),
        ("SESSIONS_AFTER", "2"),
        ("DURATION_MS", "250"),
        ("REASON", "unit-masked"),
        ("TRIGGER", "hook"),
    ];
    assert_eq!(fields, expected.into());
    let bare = one(written(|| events::concluded(&outcome(Verdict::AtRisk, 1), Trigger::Repair)));
    assert_eq!((bare.fields["VERDICT"].as_str(), bare.fields["TRIGGER"].as_str()), ("at-risk", "repair"));
    assert!(!bare.fields.contains_key("UNREACHABLE_MS") && !bare.fields.contains_key("REASON"), "{bare:#?}");
}

#[test]
fn what_is_found_is_a_warning_with_the_fields_that_it_has() {
    let [refused, _, down] = found();
    let process = &refused[0].fields;
    assert_eq!((process["REASON"].as_str(), process["OBJECT_PID"].as_str()), ("stale-orphan", "60"), "{refused:#?}");
    let no_process = &down[0].fields;
    assert_eq!((no_process["REASON"].as_str(), no_process.get("OBJECT_PID")), ("down", None), "{down:#?}");
    assert!([&refused[0], &down[0]].iter().all(|event| event.level == Level::Warn));
    let last = refused.last().expect("a refusal");
    assert_eq!((last.level, last.fields["REASON"].as_str()), (Level::Error, "config-invalid"), "{last:#?}");
}

/// Nobody has tried to log in.
#[test]
fn the_last_event_says_in_one_line_what_came_of_it() {
    for verdict in VERDICTS {
        let event = one(written(|| events::concluded(&outcome(verdict, 2), Trigger::Repair)));
        let word = event.fields["VERDICT"].replace('-', " ");
        assert!(event.message.to_lowercase().starts_with(&format!("{word}: ")), "{event:#?}");
        assert!(!event.message.contains('\n') && !event.message.contains("log in"), "{event:#?}");
    }
}
