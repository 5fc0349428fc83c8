//! One run, from top to bottom: assess, execute, conclude.

mod assess;
mod conclude;
mod first_aid;
pub mod notice;
pub mod notify;
pub mod repair_unit;
mod run;
mod sessions;

use std::time::Duration;

use crate::act::record::{self, Record};
use crate::act::{self, Host};
use crate::host::deadline::Deadline;
use crate::model::execution::{End, Execution, InstanceExecution};
use crate::model::plan::{Decision, Plan};
use crate::model::refusal::RefusalCode;
use crate::observe::{Unexaminable, observe};
use crate::report::Outcome;
use assess::{Assessment, Scope};
use first_aid::FirstAid;
use repair_unit::FollowError;
use sessions::PinnedSessions;

pub use run::{Run, Task};

/// A listener may change while it is examined (somebody restarts ssh.service). The machine is assessed so often at most.
const ASSESSMENTS_MAX: usize = 4;

/// How long `check` waits for a repair that is running: what it sees in the middle of one means little.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(5);

impl Run<'_> {
    /// Examines, and says what a repair would do.
    ///
    /// # Errors
    /// The machine could not be examined.
    pub fn examine(&self) -> Result<Outcome, Unexaminable> {
        let is_idle = record::wait_for_repair(self.deadline.at_most(REPAIR_TIMEOUT));
        let assessment = self.assess_by(&self.task.scope(), record::intent())?;
        let mut outcome = self.outcome(&assessment, &assessment);
        outcome.dry_run = self.task == Task::DryRun;
        if !is_idle {
            outcome.notes.push("a repair is running right now: check again in a moment".to_owned());
        }
        // A hook that only reports. A person who examines leaves no trace.
        if matches!(self.task, Task::Hook | Task::Unattended) {
            self.tell(&outcome);
        }
        Ok(outcome)
    }

    /// Examines, and has `sshd-mend-repair.service` repair what is broken. If it is running already, for whoever asked,
    /// waits for its outcome.
    ///
    /// # Errors
    /// The machine could not be examined.
    pub fn repair(&self) -> Result<Outcome, Unexaminable> {
        let mut last_outcome = repair_unit::time_of_last_outcome();
        if repair_unit::is_busy(&self.manager) {
            return self.follow();
        }
        let (first_aid, snapshot) = self.first_aid(observe(&self.manager, record::intent())?)?;
        // The hook has a reason to look at every listener then.
        let scope = if first_aid.was_given() { Scope::Listeners } else { self.task.scope() };
        let mut assessment = self.assess_snapshot(snapshot, &scope, true);
        let mut is_busy = assessment.is_remarkable() && repair_unit::is_busy(&self.manager);
        // What was seen while a repair was running means nothing.
        for _ in 1..ASSESSMENTS_MAX {
            let now = repair_unit::time_of_last_outcome();
            if is_busy || now == last_outcome {
                break;
            }
            last_outcome = now;
            assessment = self.assess(record::intent())?;
            is_busy = repair_unit::is_busy(&self.manager);
        }
        let replaces = assessment.plan.replaces();
        if assessment.plan.is_empty() && !is_busy {
            return self.conclude_without_repair(assessment, first_aid);
        }
        let supervised = is_busy || (replaces && repair_unit::is_installed(&self.manager));
        let mut outcome = if supervised { self.follow()? } else { self.repair_here()? };
        if replaces && !supervised {
            outcome.notes.push(format!("{} is not installed, so this process did the work itself", repair_unit::NAME));
        }
        first_aid.add_to(&mut outcome);
        Ok(outcome)
    }

    fn conclude_without_repair(
        &self,
        assessment: Assessment,
        mut first_aid: FirstAid,
    ) -> Result<Outcome, Unexaminable> {
        self.prove_first_aid(&mut first_aid, &assessment.snapshot);
        assessment.report();
        self.settle_if_idle(&assessment);
        // Nothing has to wait for the client any more.
        let assessment = match self.task {
            Task::Repair => self.assess_by(&Scope::Everything, record::intent())?,
            _ => assessment,
        };
        let mut outcome = self.concluded(&assessment, &assessment, &Execution::default(), None);
        first_aid.add_to(&mut outcome);
        self.tell(&outcome);
        Ok(outcome)
    }

    fn follow(&self) -> Result<Outcome, Unexaminable> {
        match repair_unit::follow(self.task.trigger(), &self.manager, self.signals, self.deadline) {
            Ok(outcome) => {
                Ok(Outcome { command: self.task.command().to_owned(), duration_ms: self.elapsed(), ..outcome })
            }
            // Whatever keeps the unit from running its program here: a person is there to see that it is done.
            Err(FollowError::NoOutcome) if self.task == Task::Repair && record::intent().is_none() => {
                // This process deals with its own request.
                let _ = Record::open_existing().map(|record| record.accept_request());
                let mut outcome = self.repair_here()?;
                outcome.notes.push(format!("{}. This process did the work itself", FollowError::NoOutcome));
                Ok(outcome)
            }
            Err(error) => {
                let assessment = self.assess_by(&Scope::Listeners, record::intent())?;
                Ok(self.unknown_result(&assessment, &error))
            }
        }
    }

    /// Examines, and says why nothing is done about what is wrong.
    ///
    /// # Errors
    /// The machine could not be examined.
    pub fn refuse(&self, code: RefusalCode) -> Result<Outcome, Unexaminable> {
        let mut assessment = self.assess_by(&self.task.scope(), record::intent())?;
        let would_act = !assessment.plan.is_empty() || assessment.plan.refusals().next().is_some();
        if would_act {
            for instance in &mut assessment.plan.instances {
                if instance.decision != Decision::Nothing {
                    instance.decision = Decision::Refuse(code.because(""));
                }
            }
            assessment.plan.first_aid = None;
            assessment.report();
        }
        let outcome = self.concluded(&assessment, &assessment, &Execution::default(), None);
        if would_act {
            self.tell(&outcome);
        }
        Ok(outcome)
    }

    /// Examines, and repairs what is broken in this process: the least invasive step first, and an examination after
    /// each.
    ///
    /// # Errors
    /// The machine could not be examined.
    pub fn repair_here(&self) -> Result<Outcome, Unexaminable> {
        let record = Record::open();
        let lock = record.as_ref().ok().map(|record| record.lock(self.deadline));
        // Of an attempt that was killed: it would keep every fallback from starting.
        if let (Ok(record), Some(Ok(_))) = (&record, &lock) {
            let unmarked = record.end_executions();
            log::debug!("fallbacks may start: {unmarked:?}");
        }
        // The lock is held, so an intent on record is that of an interrupted repair.
        let assess = || self.assess(record.as_ref().ok().and_then(Record::intent));
        let first = assess()?;
        first.report();
        let mut sessions = PinnedSessions::pin(&first.diagnosis.sessions);
        let mut execution = Execution::default();
        let mut later: Option<Assessment> = None;
        for _ in 1..ASSESSMENTS_MAX {
            let current = later.as_ref().unwrap_or(&first);
            let host = self.host(&current.snapshot, record.as_ref().ok());
            if current.plan.is_empty() {
                break;
            }
            let prepares =
                current.plan.replaces() && (current.plan.first_aid.is_some() || !current.plan.stop_first.is_empty());
            if let (Some(Err(error)), true) = (&lock, current.plan.replaces()) {
                // It terminates nothing, whoever holds the lock.
                if current.plan.first_aid.is_some() {
                    execution.first_aid.push(act::execute::first_aid(&host));
                }
                execution.add(refused(&current.plan, &error.to_string()));
                break;
            }
            if execution.steps().next().is_none() {
                sessions.forget_ended();
            }
            if prepares {
                execution.first_aid.extend(act::execute::prepare(&current.plan, &host));
            } else {
                execution.add(self.execute(current, &host, record.as_ref().ok()));
                if !execution.has_changed() || self.signals.noted() {
                    break;
                }
            }
            later = Some(assess()?);
            // /run/sshd cannot be created.
            if prepares && later.as_ref().is_some_and(|later| later.plan.first_aid.is_some()) {
                break;
            }
        }
        let acted = execution.steps().next().is_some();
        let last = || {
            let started = execution.instances.iter().map(|instance| instance.instance.clone()).collect();
            let scope = Scope::Repaired { started, proven: execution.proven() };
            self.assess_by(&scope, record.as_ref().ok().and_then(Record::intent)).ok()
        };
        // Listeners that were to be replaced were not probed.
        let decided = later.as_ref().unwrap_or(&first);
        let last = if acted || decided.plan.replaces() { last() } else { None };
        let last = last.as_ref().unwrap_or(decided);
        self.settle(last);
        drop(lock);
        let refusing = if decided.plan.refusals().next().is_some() { decided } else { &first };
        let mut outcome = self.concluded(&first, last, &execution, Some(sessions.survivors()));
        self.add_refusals(&mut outcome, refusing, &execution);
        // Before the outcome is stored: whoever waits for it finds its event.
        self.tell(&outcome);
        Ok(outcome)
    }

    fn execute(&self, assessment: &Assessment, host: &Host<'_>, record: Option<&Record>) -> Execution {
        // The fallback of an instance would start what this repair stops on purpose.
        let instances = assessment.plan.replacements().map(|(instance, _)| instance);
        let marked = record.map(|record| instances.map(|name| record.begin_execution(name)).collect::<Vec<_>>());
        log::debug!("fallbacks wait: {marked:?}");
        let execution = act::execute(&assessment.plan, host);
        let unmarked = record.map(Record::end_executions);
        log::debug!("fallbacks may start: {unmarked:?}");
        execution
    }

    /// A repair that runs at the same time changes the record, and has seen more than this process.
    fn settle_if_idle(&self, assessment: &Assessment) {
        if assessment.plan.settled.is_empty() && assessment.plan.resumed.is_empty() {
            return;
        }
        let Ok(record) = Record::open_existing() else { return };
        let lock = record.lock(Deadline::after(Duration::ZERO));
        if lock.is_ok() && record.intent() == assessment.snapshot.intent {
            self.settle(assessment);
        }
    }

    /// Takes off the record what is done: by the unit itself, by a person, by a repair that was cut off after its end.
    fn settle(&self, assessment: &Assessment) {
        let Plan { settled, resumed, .. } = &assessment.plan;
        if !settled.is_empty() || !resumed.is_empty() {
            let record = Record::open_existing().ok();
            act::execute::settle(settled, resumed, &self.host(&assessment.snapshot, record.as_ref()));
        }
    }
}

/// Nothing can be recorded, so no instance is touched.
fn refused(plan: &Plan, why: &str) -> Execution {
    let instances = plan.replacements().map(|(instance, _)| InstanceExecution {
        instance: instance.to_owned(),
        steps: Vec::new(),
        end: End::Refused(RefusalCode::CannotRecord.because(why)),
        unreachable: None,
    });
    Execution { first_aid: Vec::new(), instances: instances.collect() }
}
