//! From what was found and done to the [`Outcome`] that is reported: a verdict for each instance, and for the machine.

use super::assess::Assessment;
use super::repair_unit::FollowError;
use super::run::Run;
use crate::model::diagnosis::{Diagnosis, Exclusion, Finding, FindingCode, Severity};
use crate::model::execution::{End, Execution, Failure};
use crate::model::names::RUNTIME_DIRECTORY;
use crate::model::plan::Decision;
use crate::model::printable::printable;
use crate::model::refusal::{Refusal, RefusalCode};
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::unit::Enablement;
use crate::observe::Unexaminable;
use crate::report::outcome::SCHEMA;
use crate::report::{Done, InstanceOutcome, Origin, Outcome, Sessions, Tried, UnitState, Verdict, events};

impl Run<'_> {
    /// What came of a run. `sessions`: how many were open before, and how many of them still are.
    pub(super) fn concluded(
        &self,
        first: &Assessment,
        last: &Assessment,
        execution: &Execution,
        sessions: Option<(usize, usize)>,
    ) -> Outcome {
        let acted = execution.steps().next().is_some();
        let mut outcome = self.outcome(first, last);
        outcome.done = execution.steps().map(Done::from).collect();
        outcome.findings.extend(found_later(first, last));
        if let (Some((before, after)), true) = (sessions, acted) {
            outcome.sessions = Sessions { before, after };
        }
        let lost_session = outcome.sessions.after < outcome.sessions.before;
        for instance in &mut outcome.instances {
            let by_plan = first.plan.of(&instance.instance).map(|plan| &plan.decision);
            let by_plan = by_plan.and_then(|decision| match decision {
                Decision::Refuse(refusal) => Some(refusal.clone()),
                _ => None,
            });
            let end = execution.of(&instance.instance).map(|execution| &execution.end);
            instance.refusal = match end {
                Some(End::Refused(refusal)) => Some(refusal.clone()),
                Some(_) => None,
                None => by_plan,
            };
            instance.verdict = verdict(instance, last, execution, lost_session);
        }
        let unreachable = execution.instances.iter().filter_map(|instance| instance.unreachable).max();
        outcome.unreachable_ms = unreachable.map(|gap| u64::try_from(gap.as_millis()).unwrap_or(u64::MAX));
        finish(&mut outcome, last, acted);
        outcome
    }

    /// Refusals of the assessment that decided in the end, for instances to which nothing was done.
    pub(super) fn add_refusals(&self, outcome: &mut Outcome, decided: &Assessment, execution: &Execution) {
        for (name, refusal) in decided.plan.refusals() {
            let untouched = execution.of(name).is_none_or(|done| done.end == End::Changed);
            for instance in outcome.instances.iter_mut().filter(|instance| instance.instance == name && untouched) {
                instance.refusal = Some(refusal.clone());
                if instance.rescue.is_none() {
                    instance.verdict = Verdict::Refused;
                }
            }
        }
        let remaining = outcome.instances.iter().any(|instance| instance.refusal.is_some());
        if remaining {
            outcome.refusal = outcome.instances.iter().find_map(|instance| instance.refusal.clone());
            let worst = outcome.instances.iter().map(|instance| instance.verdict).max();
            outcome.verdict = worst.unwrap_or(outcome.verdict);
            outcome.exit_status = outcome.exit_status.max(1);
        }
    }

    /// What was found, and how the machine is now.
    pub(super) fn outcome(&self, first: &Assessment, last: &Assessment) -> Outcome {
        let sessions = first.diagnosis.sessions.len();
        let severity = first.diagnosis.severity();
        let rescued = first.snapshot.instances.iter().any(|instance| instance.rescue.is_active());
        let verdict = match () {
            () if !first.diagnosis.applicable => Verdict::NotApplicable,
            () if rescued => Verdict::Rescued,
            () => Verdict::of(first.diagnosis.findings.iter()),
        };
        let refusals = first.plan.refusals().map(|(_, refusal)| refusal.clone()).next();
        let mut units = std::collections::BTreeMap::new();
        if let Some(main) = last.snapshot.main() {
            units.insert(crate::model::names::SERVICE.to_owned(), UnitState::from(&main.service));
            units.insert(crate::model::names::SOCKET.to_owned(), UnitState::from(&main.socket));
        }
        Outcome {
            schema: SCHEMA,
            origin: Origin::now(),
            command: self.task.command().to_owned(),
            dry_run: false,
            verdict,
            exit_status: verdict.exit_status(severity),
            findings: first.diagnosis.findings.clone(),
            listeners: last.diagnosis.listeners.clone(),
            units,
            instances: last.snapshot.instances.iter().map(|instance| state(instance, last)).collect(),
            plan: first.plan.steps(),
            done: Vec::new(),
            refusal: refusals,
            sessions: Sessions { before: sessions, after: sessions },
            unreachable_ms: None,
            duration_ms: self.elapsed(),
            notes: notes(last),
            others: others(&first.snapshot, &first.diagnosis),
        }
    }

    /// The unit's outcome is not known: the machine's state is what can be told.
    pub(super) fn unknown_result(&self, assessment: &Assessment, error: &FollowError) -> Outcome {
        events::unknown_result(&error.to_string());
        let refusal: Option<Refusal> = matches!(error, FollowError::CannotRecord(_))
            .then(|| RefusalCode::CannotRecord.because(&error.to_string()));
        let verdict = if refusal.is_some() { Verdict::Refused } else { Verdict::Unverified };
        let mut outcome = self.outcome(assessment, assessment);
        outcome.notes.push(error.to_string());
        let exit_status = verdict.exit_status(assessment.diagnosis.severity());
        let outcome = Outcome { verdict, exit_status, refusal, ..outcome };
        // A unit that is still at work writes its last event itself.
        if !matches!(error, FollowError::StillRunning | FollowError::AskedToStop) {
            events::concluded(&outcome, self.task.trigger());
            self.notify(&outcome);
        }
        outcome
    }

    /// Of a repair for which the machine could not be examined.
    pub fn unexaminable(&self, error: &Unexaminable) -> Outcome {
        let unknown = Outcome::unknown(self.task.command(), &error.to_string());
        let outcome = Outcome { duration_ms: self.elapsed(), ..unknown };
        events::concluded(&outcome, self.task.trigger());
        outcome
    }

    /// Writes the last event of a run, if it did, refused or found anything. A run that finds nothing leaves no trace.
    pub(super) fn tell(&self, outcome: &Outcome) {
        let found = outcome.findings.iter().any(|finding| finding.severity > Severity::Info);
        if found || !outcome.done.is_empty() || outcome.refusal.is_some() {
            events::concluded(outcome, self.task.trigger());
        }
        self.notify(outcome);
    }
}

/// What was tried only after a repair, since it had to wait for that.
fn found_later(first: &Assessment, last: &Assessment) -> Vec<Finding> {
    let by_trial = [FindingCode::WouldNotRestart, FindingCode::NotExamined, FindingCode::InstanceDown];
    let is_new = |finding: &&Finding| {
        let known = &first.diagnosis.findings;
        !known.iter().any(|known| known.code == finding.code && known.instance == finding.instance)
    };
    let later = last.diagnosis.findings.iter().filter(|finding| by_trial.contains(&finding.code));
    later.filter(is_new).cloned().collect()
}

/// The verdict about one instance at the end of a repair.
fn verdict(instance: &InstanceOutcome, last: &Assessment, execution: &Execution, lost_session: bool) -> Verdict {
    let remaining = last.diagnosis.of(&instance.instance).map(|finding| finding.severity).max();
    let done = execution.of(&instance.instance);
    if instance.rescue.is_some() {
        return Verdict::Rescued;
    }
    if instance.refusal.is_some() {
        return Verdict::Refused;
    }
    let Some(done) = done else {
        // First aid is for every instance.
        let aided = !execution.first_aid.is_empty() && !instance.addresses.is_empty();
        let failed = execution.first_aid.iter().any(|step| step.result.is_err());
        return match Verdict::of(last.diagnosis.of(&instance.instance)) {
            Verdict::Healthy if aided && failed => Verdict::Unverified,
            Verdict::Healthy if aided => Verdict::Repaired,
            Verdict::Broken if aided => Verdict::Failed,
            state => state,
        };
    };
    let remains = done.steps.iter().any(|step| step.result == Err(Failure::StillRunning));
    let all_achieved = done.steps.iter().all(|step| step.result.is_ok());
    match &done.end {
        // Its units do not serve, but somebody's sshd does, and a new connection to it gets through.
        End::Lost(_) if remaining != Some(Severity::Critical) && !remains => Verdict::Unverified,
        End::Lost(_) | End::Changed => Verdict::Failed,
        _ if remaining == Some(Severity::Critical) => Verdict::Failed,
        End::Served if all_achieved && !lost_session => Verdict::Repaired,
        _ => Verdict::Unverified,
    }
}

/// The machine's verdict is that of the instance that is worst off.
fn finish(outcome: &mut Outcome, last: &Assessment, acted: bool) {
    let remaining = last.diagnosis.severity();
    let worst = outcome.instances.iter().map(|instance| instance.verdict).max();
    if last.diagnosis.applicable && acted || outcome.instances.iter().any(|instance| instance.refusal.is_some()) {
        outcome.verdict = worst.unwrap_or(outcome.verdict);
        // A finding about the machine as a whole.
        if remaining == Some(Severity::Critical) && outcome.verdict < Verdict::Refused {
            outcome.verdict = Verdict::Failed;
        }
    }
    outcome.refusal = outcome.instances.iter().find_map(|instance| instance.refusal.clone());
    outcome.exit_status = outcome.verdict.exit_status(remaining);
}

/// An instance that nothing is done to.
fn state(instance: &Instance, assessment: &Assessment) -> InstanceOutcome {
    let name = instance.name();
    let rescued = instance.rescue.is_active();
    let listeners = assessment.diagnosis.listeners_of(name).flat_map(|listener| listener.addresses.iter().copied());
    let by_systemd = [&instance.socket, &instance.rescue].into_iter().filter(|socket| socket.is_active());
    let held: Vec<_> = assessment.snapshot.systemd_holds.iter().map(|socket| socket.address).collect();
    let by_systemd = by_systemd.flat_map(|socket| socket.tcp_addresses().filter(|address| held.contains(address)));
    let installed = instance.program.file.is_some() || instance.service.exists();
    InstanceOutcome {
        instance: name.to_owned(),
        verdict: match () {
            () if rescued => Verdict::Rescued,
            () if !installed => Verdict::NotApplicable,
            () => Verdict::of(assessment.diagnosis.of(name)),
        },
        addresses: listeners.chain(by_systemd).collect(),
        refusal: assessment.plan.of(name).and_then(|plan| match &plan.decision {
            Decision::Refuse(refusal) => Some(refusal.clone()),
            _ => None,
        }),
        rescue: rescued.then(|| instance.rescue.name.clone()),
        tried: assessment.trials.get(name).map(Tried::from),
    }
}

/// What a person should know besides findings and refusals.
fn notes(assessment: &Assessment) -> Vec<String> {
    let skipped = assessment.plan.instances.iter().flat_map(|plan| &plan.skipped);
    let skipped =
        skipped.map(|(pid, why)| format!("sshd {pid} is left alone: {} ({})", why.message, why.code.as_str()));
    let unreadable = assessment.snapshot.unreadable.iter();
    let unreadable =
        unreadable.map(|(pid, why)| format!("process {pid} could not be examined and is left alone: {why}"));
    let elsewhere = assessment.snapshot.instances.iter().filter(|instance| instance.is_elsewhere());
    let elsewhere = elsewhere.map(|instance| {
        format!("{} is declared in a network namespace of its own: it is not examined, and left alone", instance.name())
    });
    let unprotected =
        assessment.snapshot.instances.iter().filter(|instance| instance.service.removes_runtime_directory);
    let unprotected = unprotected.map(|instance| {
        format!(
            "RuntimeDirectoryPreserve=yes is not in force for {}: a stop, or a start that fails, removes {RUNTIME_DIRECTORY}, and every \
             other sshd that serves then closes new connections",
            instance.name()
        )
    });
    let instances = assessment.snapshot.instances.iter();
    let unwanted = instances.filter(|instance| instance.service.is_active() && is_disabled(instance)).map(|instance| {
        format!(
            "neither {} nor its socket is enabled: after the next boot nobody listens in its place",
            instance.name()
        )
    });
    skipped.chain(unreadable).chain(elsewhere).chain(unprotected).chain(unwanted).collect()
}

/// Nothing starts it at boot.
fn is_disabled(instance: &Instance) -> bool {
    instance.service.enablement == Enablement::Disabled && !instance.socket.is_enabled()
}

/// Processes that are called sshd and are left alone, and why.
fn others(snapshot: &Snapshot, diagnosis: &Diagnosis) -> Vec<String> {
    let named = |pid: i32| {
        let processes = snapshot.processes.iter().map(|process| (process.pid, &process.exe));
        let children = snapshot.children.iter().map(|child| (child.pid, &child.exe));
        let exe = processes.chain(children).find(|(other, _)| *other == pid);
        exe.map(|(_, exe)| printable(&exe.to_string_lossy())).unwrap_or_default()
    };
    let excluded = diagnosis.excluded.iter();
    let excluded = excluded.map(|(pid, why)| format!("{pid} ({}) is left alone: {}", named(*pid), why.reason()));
    let sessions = diagnosis.sessions.iter().map(|pid| format!("{pid} ({}) serves a connection", named(*pid)));
    let of_users = snapshot.of_users.iter();
    let of_users = of_users.map(|(pid, exe)| {
        let exe = printable(&exe.to_string_lossy());
        format!("{pid} ({exe}) is left alone: {}", Exclusion::NotRoot.reason())
    });
    excluded.chain(sessions).chain(of_users).collect()
}
