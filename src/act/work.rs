//! The replacement of one instance's listeners on its way: what is pinned, what was done, and who holds an address now.
//!
//! The phases are in files of their own. Nothing in here decides what comes next.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::machine::{Machine, Target};
use crate::model::address::{collide, reaches};
use crate::model::execution::{Failure, StepOutcome, Success};
use crate::model::plan::{Replacement, Step};
use crate::report::events;

/// The replacement of one instance's listeners on its way.
pub(super) struct Work<'a, M: Machine> {
    pub(super) machine: &'a M,
    pub(super) instance: &'a str,
    pub(super) replacement: &'a Replacement,
    /// The old listeners, pinned: those to terminate, then those that systemd ends.
    pub(super) old: Vec<M::Target>,
    pub(super) steps: Vec<StepOutcome>,
    /// When the first listener was signalled, or its unit's restart requested.
    pub(super) unreachable_since: Option<Instant>,
    pub(super) unreachable: Option<Duration>,
}

impl<'a, M: Machine> Work<'a, M> {
    pub(super) fn new(machine: &'a M, instance: &'a str, replacement: &'a Replacement) -> Self {
        Self {
            machine,
            instance,
            replacement,
            old: Vec::new(),
            steps: Vec::new(),
            unreachable_since: None,
            unreachable: None,
        }
    }

    /// After a failed start: whoever still listens needs the directory that the start removed.
    pub(super) fn restore_runtime_directory(&mut self) {
        if !self.machine.has_runtime_directory() {
            let outcome = first_aid(self.machine);
            self.steps.push(outcome);
        }
    }

    /// The addresses to be served that nobody listens on, other than an old listener.
    pub(super) fn unserved(&self) -> BTreeSet<SocketAddr> {
        self.replacement.keep.iter().copied().filter(|address| !self.is_held(*address)).collect()
    }

    /// The instance's unit, or systemd, listens on the address.
    pub(super) fn is_held(&self, address: SocketAddr) -> bool {
        let held = self.machine.served_by(self.instance);
        held.iter().any(|have| reaches(*have, address)) && self.old_listener_at(address).is_none()
    }

    /// An old listener that still holds an address.
    pub(super) fn old_listener_at(&self, address: SocketAddr) -> Option<i32> {
        let serves = |target: &&M::Target| {
            let reached = target.judged().reached_at();
            reached.iter().any(|held| collide(*held, address))
        };
        let living = self.old.iter().filter(|target| !target.has_exited());
        living.into_iter().find(serves).map(|target| target.judged().pid)
    }

    /// Notes what came of a step. True: it achieved what it is for.
    pub(super) fn note(&mut self, step: Step, begun: Instant, result: Result<Success, Failure>) -> bool {
        let outcome = StepOutcome::new(step, begun.elapsed(), result);
        let exe = match &outcome.step {
            Step::Terminate { pid, .. } => self.old.iter().map(Target::judged).find(|judged| judged.pid == *pid),
            _ => None,
        };
        events::step(&outcome, exe);
        let achieved = outcome.result.is_ok();
        self.steps.push(outcome);
        achieved
    }
}

/// Creates sshd's privilege separation directory, which by itself restores logins if it is missing.
pub fn first_aid(machine: &impl Machine) -> StepOutcome {
    let begun = Instant::now();
    let created = machine.create_runtime_directory();
    let result = created.map(|()| Success::Created).map_err(|error| Failure::System(error.to_string()));
    let outcome = StepOutcome::new(Step::first_aid(), begun.elapsed(), result);
    events::step(&outcome, None);
    outcome
}
