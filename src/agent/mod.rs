//! One run, from top to bottom: observe → diagnose → plan → carry out → report.

use std::time::Instant;

use crate::carry_out::{CarriedOut, Hands, carry_out, first_aid};
use crate::deadline::Deadline;
use crate::diagnosis::{Diagnosis, Severity, diagnose};
use crate::events;
use crate::observe::{self, Probing, Unexaminable, observe};
use crate::plan::{Plan, Trigger, needs_preflight, plan};
use crate::preflight::preflight;
use crate::record::{self, Intent, Record};
use crate::refusal::Reason;
use crate::repair_unit::{self, Lost};
use crate::report::{Outcome, Verdict};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::snapshot::Snapshot;
use crate::systemd::Manager;

mod conclude;

pub use conclude::unknown;

/// A listener may change while it is looked at (somebody restarts ssh.service). It is looked at again so many times.
const LOOKS: usize = 3;

/// What one look at the machine led to.
#[derive(Debug)]
struct Look {
    snapshot: Snapshot,
    diagnosis: Diagnosis,
    plan: Plan,
}

impl Look {
    /// Of a machine that nothing is done to.
    fn verdict(&self) -> Verdict {
        match self.diagnosis.severity() {
            _ if !self.diagnosis.applicable => Verdict::NotApplicable,
            _ if self.snapshot.rescue.is_active() => Verdict::Rescued,
            Some(Severity::Critical) => Verdict::Broken,
            Some(Severity::Warning) => Verdict::AtRisk,
            Some(Severity::Info) | None => Verdict::Healthy,
        }
    }

    fn report(&self) {
        events::found(&self.snapshot, &self.diagnosis, &self.plan);
    }
}

/// One run of the program.
pub struct Run<'a> {
    command: &'static str,
    trigger: Trigger,
    probing: Probing,
    settings: Settings,
    signals: &'a Signals,
    manager: Manager,
    deadline: Deadline,
    begun: Instant,
}

impl<'a> Run<'a> {
    /// A run for `command`, asked for by `trigger`.
    #[must_use]
    pub fn new(
        command: &'static str,
        trigger: Trigger,
        probing: Probing,
        settings: Settings,
        signals: &'a Signals,
    ) -> Self {
        let deadline = Deadline::after(settings.deadline);
        Self {
            command,
            trigger,
            probing,
            settings,
            signals,
            manager: Manager::new(deadline),
            deadline,
            begun: Instant::now(),
        }
    }

    /// Examines, and says what a repair would do.
    ///
    /// # Errors
    /// The machine could not be examined.
    pub fn examine(&self, dry_run: bool) -> Result<Outcome, Unexaminable> {
        let look = self.look(record::left_behind())?;
        let mut outcome = Outcome { dry_run, ..self.outcome(&look, &look) };
        if record::is_at_work() {
            outcome.notes.push("a repair is at work right now: look again in a moment".to_owned());
        }
        Ok(outcome)
    }

    /// Examines, and has `sshd-mend-repair.service` mend what is broken. If it is at work already, for whoever asked,
    /// waits for its outcome.
    ///
    /// # Errors
    /// The machine could not be examined.
    pub fn repair(&self) -> Result<Outcome, Unexaminable> {
        let mut last = repair_unit::last_outcome();
        if self.is_at_work() {
            return self.follow();
        }
        let mut look = self.look(record::left_behind())?;
        // What was seen while a repair was at work means nothing.
        for _ in 0..LOOKS {
            if self.is_at_work() {
                return self.follow();
            }
            let now = repair_unit::last_outcome();
            if now == last {
                break;
            }
            last = now;
            look = self.look(record::left_behind())?;
        }
        if look.plan.is_empty() {
            look.report();
            return Ok(self.concluded(&look, &look, CarriedOut::default()));
        }
        // Creating a directory ends nothing: no supervisor is needed for a plan of first aid.
        if look.plan.replaces() && repair_unit::is_installed(&self.manager) {
            return self.follow();
        }
        let unsupervised = look.plan.replaces();
        let mut outcome = self.repair_here()?;
        if unsupervised {
            outcome.notes.push(format!("{} is not installed, so this process did the work itself", repair_unit::NAME));
        }
        Ok(outcome)
    }

    fn is_at_work(&self) -> bool {
        repair_unit::is_busy(&self.manager)
    }

    fn follow(&self) -> Result<Outcome, Unexaminable> {
        let patience = Deadline::after(self.settings.deadline * 2);
        match repair_unit::follow(self.trigger, &self.manager, self.signals, patience) {
            Ok(outcome) => Ok(Outcome { command: self.command.to_owned(), duration_ms: self.elapsed(), ..outcome }),
            // Whatever keeps the unit from running its program here: a person is there to see that it is done.
            Err(Lost::NoOutcome) if self.trigger == Trigger::Repair && record::left_behind().is_none() => {
                let mut outcome = self.repair_here()?;
                outcome.notes.push(format!("{}. This process did the work itself", Lost::NoOutcome));
                Ok(outcome)
            }
            Err(lost) => Ok(self.lost(&self.look(record::left_behind())?, &lost)),
        }
    }

    /// Examines, and says why nothing is done about what is wrong.
    ///
    /// # Errors
    /// The machine could not be examined.
    pub fn refuse(&self, reason: Reason) -> Result<Outcome, Unexaminable> {
        let mut look = self.look(record::left_behind())?;
        if !look.plan.is_empty() || look.plan.refusal.is_some() {
            look.plan = Plan { refusal: Some(reason.because("")), ..Plan::default() };
            look.report();
        }
        Ok(self.concluded(&look, &look, CarriedOut::default()))
    }

    fn look(&self, intent: Option<Intent>) -> Result<Look, Unexaminable> {
        let snapshot = observe(&self.manager, self.probing, intent, self.deadline)?;
        let diagnosis = diagnose(&snapshot);
        let preflight = needs_preflight(&snapshot, &diagnosis, self.trigger)
            .then(|| preflight(&snapshot, &diagnosis, self.trigger == Trigger::Hook, self.deadline));
        let plan = plan(&snapshot, &diagnosis, preflight.as_ref(), self.trigger);
        Ok(Look { snapshot, diagnosis, plan })
    }

    /// Examines, and mends what is broken in this process: the mildest cure first, and a look after each.
    ///
    /// # Errors
    /// The machine could not be examined.
    pub fn repair_here(&self) -> Result<Outcome, Unexaminable> {
        let record = Record::open();
        let lock = record.as_ref().ok().map(|record| record.lock(self.deadline));
        // The lock is held, so an intent on record is that of a repair that was cut off.
        let look = || self.look(record.as_ref().ok().and_then(Record::intent));
        let first = look()?;
        first.report();
        let hands = Hands { manager: &self.manager, grace: self.settings.grace, signals: self.signals };
        let mut total = CarriedOut::default();
        let mut latest: Option<Look> = None;
        for _ in 0..LOOKS {
            let mut current = latest.as_ref().unwrap_or(&first);
            if current.plan.replaces() && current.plan.begins_with_first_aid() {
                total.done.push(first_aid());
                // Only now can be seen what the program on disk can do.
                current = latest.insert(look()?);
                if current.plan.begins_with_first_aid() {
                    break;
                }
            }
            if current.plan.refusal.is_some() {
                total.refusal.clone_from(&current.plan.refusal);
            }
            if current.plan.is_empty() {
                total.changed = false;
                break;
            }
            if let (Some(Err(error)), true) = (&lock, current.plan.replaces()) {
                total.refusal = Some(Reason::CannotRecord.because(&error.to_string()));
                break;
            }
            let out = carry_out(&current.plan, &current.snapshot, &current.diagnosis, record.as_ref().ok(), &hands);
            let changed = out.changed;
            total.add(out);
            if !changed || self.signals.noted() {
                break;
            }
            latest = Some(look()?);
        }
        let last = if total.done.is_empty() { None } else { look().ok() };
        let last = last.as_ref().unwrap_or(&first);
        if let (Some(refusal), Ok(record)) = (&total.refusal, &record) {
            // Somebody serves after all, or nobody is meant to: nothing is left to be finished.
            let unwanted = matches!(refusal.code, Reason::NotToBeRun | Reason::UnitMasked);
            if unwanted || !last.diagnosis.listeners.is_empty() {
                let cleared = record.clear_intent();
                log::debug!("the intent was taken off the record: {cleared:?}");
            }
        }
        drop(lock);
        Ok(self.concluded(&first, last, total))
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl CarriedOut {
    fn add(&mut self, later: Self) {
        self.done.extend(later.done);
        self.sessions_before = self.sessions_before.max(later.sessions_before);
        self.sessions_after = later.sessions_after;
        self.unreachable = later.unreachable.or(self.unreachable);
        self.refusal = later.refusal.or(self.refusal.take());
        self.changed = later.changed;
    }
}

/// The host can be examined, see [`observe::examinable`].
///
/// # Errors
/// Says what is in the way.
pub fn examinable() -> Result<(), Unexaminable> {
    observe::examinable()
}
