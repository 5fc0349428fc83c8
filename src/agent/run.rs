//! One run of the program: what it was started for, its limits, and what it uses.

use std::time::{Duration, Instant};

use super::assess::{Assessment, Probing};
use crate::act::Host;
use crate::act::record::Record;
use crate::host::deadline::Deadline;
use crate::host::signals::Signals;
use crate::host::systemd::Manager;
use crate::host::watchdog::Watchdog;
use crate::model::intent::Intent;
use crate::model::plan::Trigger;
use crate::observe::Unexaminable;
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
    /// What the repair unit does, for whoever asked.
    CarryOut(Trigger),
}

impl Task {
    /// check, repair or hook.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::DryRun | Self::Repair | Self::CarryOut(_) => "repair",
            Self::Hook => "hook",
        }
    }

    pub(super) const fn trigger(self) -> Trigger {
        match self {
            Self::Hook => Trigger::Hook,
            Self::CarryOut(trigger) => trigger,
            Self::Check | Self::DryRun | Self::Repair => Trigger::Repair,
        }
    }

    /// The hook runs dozens of times a day, and each probe is a line in sshd's log.
    const fn probing(self) -> Probing {
        match self {
            Self::Hook => Probing::Suspects,
            _ => Probing::All,
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

impl<'a> Run<'a> {
    /// A run that begins now.
    pub fn new(task: Task, settings: Settings, signals: &'a Signals, watchdog: &'a Watchdog) -> Self {
        let (manager, begun) = (Manager::new(), Instant::now());
        Self { task, settings, signals, watchdog, manager, begun, deadline: Deadline::after(settings.deadline) }
    }

    pub(super) fn assess(&self, intent: Option<Intent>) -> Result<Assessment, Unexaminable> {
        let deadline = match self.task {
            Task::CarryOut(_) => Deadline::after(EXAMINATION_TIMEOUT),
            _ => self.deadline,
        };
        let assessment = Assessment::make(&self.manager, intent, self.task.trigger(), self.task.probing(), deadline);
        self.watchdog.progress();
        assessment
    }

    pub(super) fn host<'b>(&'b self, assessment: &'b Assessment, record: Option<&'b Record>) -> Host<'b> {
        Host {
            manager: &self.manager,
            snapshot: &assessment.snapshot,
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
