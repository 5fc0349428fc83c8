//! Observe, decide: one examination of the machine, and the plan that it leads to.

use crate::decide::diagnosis::{diagnose, instances_in_doubt, listeners, suspects};
use crate::decide::{instances_to_try, plan};
use crate::host::deadline::Deadline;
use crate::host::systemd::Manager;
use crate::model::diagnosis::Diagnosis;
use crate::model::intent::Intent;
use crate::model::plan::{Plan, Trigger};
use crate::model::snapshot::Snapshot;
use crate::observe::trials::trials;
use crate::observe::{Unexaminable, observe, probe_listeners, wanted_addresses};
use crate::report::events;

/// Which listeners get a new connection as a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probing {
    /// All: a person asks whether a new connection gets through.
    All,
    /// Those that look wrong: the hook runs dozens of times a day, and each probe is a line in sshd's log.
    Suspects,
}

/// What is known about the machine, and what is to be done.
#[derive(Debug)]
pub struct Assessment {
    pub snapshot: Snapshot,
    pub diagnosis: Diagnosis,
    pub plan: Plan,
}

impl Assessment {
    /// Examines the machine. `intent` is that of an interrupted repair.
    ///
    /// # Errors
    /// The machine could not be examined.
    pub fn make(
        manager: &Manager,
        intent: Option<Intent>,
        trigger: Trigger,
        probing: Probing,
        deadline: Deadline,
    ) -> Result<Self, Unexaminable> {
        let mut snapshot = observe(manager, intent)?;
        for index in instances_in_doubt(&snapshot) {
            snapshot.instances[index].wanted = wanted_addresses(&snapshot.instances[index], deadline);
        }
        let to_probe = match probing {
            Probing::All => listeners(&snapshot).map(|process| process.pid).collect(),
            Probing::Suspects => suspects(&snapshot),
        };
        probe_listeners(&mut snapshot, &to_probe, deadline);
        let diagnosis = diagnose(&snapshot);
        let to_try = instances_to_try(&snapshot, &diagnosis, trigger);
        let trials = trials(&snapshot, &to_try, trigger == Trigger::Hook, deadline);
        let plan = plan(&snapshot, &diagnosis, &trials, trigger);
        Ok(Self { snapshot, diagnosis, plan })
    }

    /// Writes what was found to the log.
    pub fn report(&self) {
        events::found(&self.snapshot, &self.diagnosis, &self.plan);
    }
}
