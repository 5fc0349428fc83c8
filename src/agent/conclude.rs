//! What came of a run: from what was seen and done to the [`Outcome`] that is reported.

use std::collections::BTreeMap;

use super::{Look, Run};
use crate::carry_out::CarriedOut;
use crate::diagnosis::{Diagnosis, Severity};
use crate::events;
use crate::plan::Action;
use crate::printable::printable;
use crate::refusal::{Reason, Refusal};
use crate::repair_unit::Lost;
use crate::report::{Outcome, Sessions, UnitState, Verdict};
use crate::snapshot::Snapshot;

impl Run<'_> {
    pub(super) fn concluded(&self, first: &Look, last: &Look, out: CarriedOut) -> Outcome {
        let remaining = last.diagnosis.severity();
        let refusal = out.refusal.or_else(|| first.plan.refusal.clone());
        let tried = |wanted: bool| out.done.iter().filter(move |done| done.ok == wanted);
        let probed = tried(true).any(|done| matches!(done.action, Action::Probe { .. }));
        let nobody = last.diagnosis.listeners.is_empty() && !last.snapshot.socket.is_active() && !out.done.is_empty();
        let verdict = if last.snapshot.rescue.is_active() {
            Verdict::Rescued
        } else if refusal.is_some() {
            Verdict::Refused
        } else if out.done.is_empty() && !out.changed {
            last.verdict()
        } else if nobody || remaining == Some(Severity::Critical) || out.changed {
            Verdict::Failed
        } else if tried(false).next().is_none() && probed {
            Verdict::Repaired
        } else {
            Verdict::Unverified
        };
        let exit_status = verdict.exit_status(remaining);
        let before = if out.done.is_empty() { last.diagnosis.sessions.len() } else { out.sessions_before };
        let after = if out.done.is_empty() { before } else { out.sessions_after };
        Outcome {
            verdict,
            exit_status,
            refusal,
            done: out.done,
            sessions: Sessions { before, after },
            unreachable_ms: out.unreachable.map(|gap| u64::try_from(gap.as_millis()).unwrap_or(u64::MAX)),
            ..self.outcome(first, last)
        }
    }

    /// What was found, and how the machine is now.
    pub(super) fn outcome(&self, first: &Look, last: &Look) -> Outcome {
        let verdict = first.verdict();
        let sessions = first.diagnosis.sessions.len();
        Outcome {
            schema: 1,
            command: self.command.to_owned(),
            dry_run: false,
            verdict,
            exit_status: verdict.exit_status(first.diagnosis.severity()),
            findings: first.diagnosis.findings.clone(),
            listeners: last.diagnosis.listeners.clone(),
            units: [&last.snapshot.service, &last.snapshot.socket]
                .into_iter()
                .map(|unit| (unit.name.clone(), UnitState::from(unit)))
                .collect(),
            plan: first.plan.actions.clone(),
            done: Vec::new(),
            refusal: first.plan.refusal.clone(),
            sessions: Sessions { before: sessions, after: sessions },
            unreachable_ms: None,
            duration_ms: self.elapsed(),
            notes: last.plan.left_alone.iter().map(|(pid, why)| left_alone(*pid, why)).collect(),
            others: others(&first.snapshot, &first.diagnosis),
        }
    }

    /// The unit's outcome is not known: the machine's state is what can be told.
    pub(super) fn lost(&self, look: &Look, lost: &Lost) -> Outcome {
        events::lost(&lost.to_string());
        let refusal: Option<Refusal> =
            matches!(lost, Lost::CannotRecord(_)).then(|| Reason::CannotRecord.because(&lost.to_string()));
        let verdict = if refusal.is_some() { Verdict::Refused } else { Verdict::Unverified };
        let mut outcome = self.outcome(look, look);
        outcome.notes.push(lost.to_string());
        let exit_status = verdict.exit_status(look.diagnosis.severity());
        Outcome { verdict, exit_status, refusal, ..outcome }
    }
}

/// An outcome for a machine that could not be examined.
#[must_use]
pub fn unknown(command: &str, why: &str) -> Outcome {
    Outcome {
        schema: 1,
        command: command.to_owned(),
        dry_run: false,
        verdict: Verdict::Unknown,
        exit_status: 3,
        findings: Vec::new(),
        listeners: Vec::new(),
        units: BTreeMap::new(),
        plan: Vec::new(),
        done: Vec::new(),
        refusal: None,
        sessions: Sessions { before: 0, after: 0 },
        unreachable_ms: None,
        duration_ms: 0,
        notes: vec![why.to_owned()],
        others: Vec::new(),
    }
}

fn left_alone(pid: i32, why: &Refusal) -> String {
    format!("sshd {pid} is left alone: {} ({})", why.message, why.code.as_str())
}

/// Processes that are called sshd and that nothing is done to, and why.
fn others(snapshot: &Snapshot, diagnosis: &Diagnosis) -> Vec<String> {
    let named = |pid: i32| {
        let process = snapshot.processes.iter().find(|process| process.pid == pid);
        process.map(|process| printable(&process.exe.to_string_lossy())).unwrap_or_default()
    };
    let left_out = diagnosis.left_out.iter();
    let left_out = left_out.map(|(pid, why)| format!("{pid} ({}) is left alone: {}", named(*pid), why.reason()));
    let sessions = diagnosis.sessions.iter().map(|pid| format!("{pid} ({}) serves a connection", named(*pid)));
    left_out.chain(sessions).collect()
}
