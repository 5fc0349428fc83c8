//! One execution on the model, as `agent` makes it, and what a test asks about it.

use crate::outcome_rules::holds;
use crate::simulated::faults::Faults;
use crate::simulated::layout::{Layout, Shape};
use crate::simulated::truth::{Addresses, Truth};
use crate::simulated::world::{Event, World};
use sshd_mend::act::execute;
use sshd_mend::act::execute::prepare;
use sshd_mend::model::execution::{End, Execution};
use sshd_mend::model::plan::{Plan, Trigger};

/// A plan that was executed.
pub struct Done {
    /// The machine as it was when the plan was made.
    pub before: Truth,
    pub world: World,
    pub plan: Plan,
    pub execution: Execution,
}

/// Plans and executes. `None`: there is nothing to execute.
pub fn execute_once(truth: &Truth, faults: &Faults, trigger: Trigger) -> Option<Done> {
    let world = World::new(truth.clone(), faults.clone());
    let (_, mut plan) = world.assess(trigger);
    if plan.first_aid.is_some() && plan.replaces() {
        prepare(&plan, &&world);
        (_, plan) = world.assess(trigger);
    }
    // What could not be tried is not executed.
    if plan.replacements().next().is_none() || plan.first_aid.is_some() {
        return None;
    }
    let before = world.truth.borrow().clone();
    let execution = execute(&plan, &&world);
    Some(Done { before, world, plan, execution })
}

/// As [`execute_once`] for a person, of a machine with something to do.
pub fn executed(truth: &Truth, faults: &Faults) -> Done {
    execute_once(truth, faults, Trigger::Repair).expect("something to do")
}

impl Done {
    /// What must hold after any execution.
    pub fn assert_holds(&self) {
        let held = holds(&self.before, &self.world, &self.plan, &self.execution);
        assert_eq!(held, Ok(()), "{:#?}", self.execution);
    }

    pub fn end(&self, instance: &str) -> End {
        self.execution.of(instance).expect("an instance that was replaced").end.clone()
    }

    pub fn served(&self, instance: &str) -> Addresses {
        self.world.truth.borrow().served(self.world.index(instance))
    }

    /// The addresses on record.
    pub fn on_record(&self, instance: &str) -> Addresses {
        on_record(&self.world, instance)
    }

    /// Requests, and what else was done, to the units whose names begin like this.
    pub fn touched(&self, stem: &str) -> Vec<Event> {
        let journal = self.world.journal.borrow();
        let is_own = |event: &&Event| match event {
            Event::Requested(_, unit) | Event::Aborted(unit) | Event::Cleared(unit) => unit.starts_with(stem),
            _ => false,
        };
        journal.iter().map(|entry| &entry.event).filter(is_own).cloned().collect()
    }
}

/// The addresses on record.
pub fn on_record(world: &World, instance: &str) -> Addresses {
    let truth = world.truth.borrow();
    let intent = truth.intent.as_ref().and_then(|intent| intent.of(instance));
    intent.map(|intent| intent.addresses.clone()).unwrap_or_default()
}

/// A current ssh.service.
pub fn healthy() -> Layout {
    Layout { stale: false, ..Layout::default() }
}

/// A stale service on port 2222.
pub fn second() -> Layout {
    Layout { own: vec!["0.0.0.0:2222"], ..Layout::default() }
}

/// The incident: ssh.socket is enabled and has failed, and an orphan holds its socket.
pub fn incident() -> Layout {
    Layout {
        shape: Shape::Orphan,
        listen: vec!["[::]:22"],
        service_enabled: false,
        socket_enabled: true,
        ..Layout::default()
    }
}
