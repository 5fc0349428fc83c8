//! One run of the program: what it was started for, its limits, and what it uses.

use std::time::{Duration, Instant};

use super::assess::{Assessment, Scope};
use crate::act::Host;
use crate::act::record::{Record, Remembered};
use crate::host::deadline::Deadline;
use crate::host::signals::Signals;
use crate::host::systemd::Manager;
use crate::host::watchdog::Watchdog;
use crate::model::intent::Intent;
use crate::model::plan::Trigger;
use crate::model::snapshot::Snapshot;
use crate::observe::basis::Bases;
use crate::observe::{Unexaminable, observe};
use crate::settings::Settings;

/// Limits each examination of the repair unit. `DEADLINE=` is for those who wait for it.
const EXAMINATION_TIMEOUT: Duration = Duration::from_secs(60);

/// What the program was started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Check,
    DryRun,
    Repair,
    Hook,
    /// As the hook, outside of package runs, by a timer or since a unit has failed: whatever has changed or not.
    Unattended,
    /// What the repair unit does, for whoever asked.
    CarryOut(Trigger),
}

impl Task {
    /// check, repair or hook.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::DryRun | Self::Repair | Self::CarryOut(_) => "repair",
            Self::Hook | Self::Unattended => "hook",
        }
    }

    pub(super) const fn trigger(self) -> Trigger {
        match self {
            Self::Hook => Trigger::Hook,
            Self::Unattended => Trigger::Unattended,
            Self::CarryOut(trigger) => trigger,
            Self::Check | Self::DryRun | Self::Repair => Trigger::Repair,
        }
    }

    pub(super) fn scope(self) -> Scope {
        let passed = || Record::open_existing().ok()?.remembered(Remembered::Passed);
        match self {
            Self::Check | Self::DryRun => Scope::Everything,
            Self::Hook => Scope::Changed { passed: passed().unwrap_or_default() },
            // A repair has a client go so far in the end, and it must not wait for that before.
            Self::Repair | Self::Unattended => Scope::Listeners,
            Self::CarryOut(_) => Scope::Repair,
        }
    }
}

/// One run of the program.
pub struct Run<'a> {
    pub(super) task: Task,
    pub(super) settings: Settings,
    pub(super) signals: &'a Signals,
    pub(super) watchdog: &'a Watchdog,
    pub(super) manager: Manager,
    begun: Instant,
    /// Of the whole run, `DEADLINE=`.
    pub(super) deadline: Deadline,
}

/// What has passed need not be tried again before it changes.
fn remember(assessment: &Assessment) {
    let known: Option<Bases> = Record::open_existing().ok().and_then(|record| record.remembered(Remembered::Passed));
    if known.unwrap_or_default() != assessment.passed {
        let remembered = Record::open().and_then(|record| record.remember(Remembered::Passed, &assessment.passed));
        log::debug!("what has passed is on record: {remembered:?}");
    }
}

impl<'a> Run<'a> {
    /// A run that begins now.
    pub fn new(task: Task, settings: Settings, signals: &'a Signals, watchdog: &'a Watchdog) -> Self {
        let (manager, begun, deadline) = (Manager::new(), Instant::now(), Deadline::after(settings.deadline));
        Self { task, settings, signals, watchdog, manager, begun, deadline }
    }

    /// For a plan that is carried out.
    pub(super) fn assess(&self, intent: Option<Intent>) -> Result<Assessment, Unexaminable> {
        Ok(self.assess_snapshot(observe(&self.manager, intent)?, &self.task.scope(), true))
    }

    /// For what is only told.
    pub(super) fn assess_by(&self, scope: &Scope, intent: Option<Intent>) -> Result<Assessment, Unexaminable> {
        Ok(self.assess_snapshot(observe(&self.manager, intent)?, scope, false))
    }

    pub(super) fn assess_snapshot(&self, snapshot: Snapshot, scope: &Scope, acts: bool) -> Assessment {
        let deadline = match self.task {
            Task::CarryOut(_) => Deadline::after(EXAMINATION_TIMEOUT),
            _ => self.deadline,
        };
        let assessment = Assessment::make(snapshot, self.task.trigger(), scope, acts, deadline);
        self.watchdog.progress();
        if matches!(self.task, Task::Hook | Task::Unattended) {
            remember(&assessment);
        }
        assessment
    }

    pub(super) fn host<'b>(&'b self, snapshot: &'b Snapshot, record: Option<&'b Record>) -> Host<'b> {
        Host {
            manager: &self.manager,
            snapshot,
            record,
            grace: self.settings.grace.min(self.settings.deadline),
            signals: self.signals,
            watchdog: self.watchdog,
        }
    }

    pub(super) fn elapsed(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
