//! The rescue: serves one instance when its units do not start after its listener was terminated.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use super::machine::Machine;
use super::work::Work;
use crate::model::execution::{End, Failure, Success};
use crate::model::names::rescue_socket;
use crate::model::plan::{Job, RescuePlan, Step};

impl<M: Machine> Work<'_, M> {
    /// Starts the rescue that was prepared, and probes it. `lost`: addresses that nobody serves.
    pub(super) fn rescue(&mut self, lost: BTreeSet<SocketAddr>) -> End {
        let socket = match &self.replacement.rescue {
            RescuePlan::Prepare(rescue) => rescue_socket(&rescue.instance),
            RescuePlan::Prepared(socket) => socket.clone(),
            RescuePlan::None(_) => return End::Lost(lost),
        };
        // One of its addresses may be somebody else's now, or another listener of this instance may serve it: the rescue
        // is for all of them or none.
        if self.replacement.prove.iter().any(|address| self.old_listener_at(*address).is_some()) {
            return End::Lost(lost);
        }
        let begun = Instant::now();
        // A start of ours may still hang, and the rescue's would be refused while its job is queued.
        let units = self.replacement.start.units();
        for unit in &units {
            self.machine.abort(unit);
        }
        // A start counter that is used up would make a person's start of the unit fail.
        for unit in units.iter().chain([&socket]) {
            if let Err(error) = self.machine.reset_failed(unit) {
                log::debug!("{unit}: {error:?}");
            }
        }
        let started = self.machine.run(Job::Start, &socket);
        let result = started.map(|()| Success::RescueServes).map_err(Failure::from);
        let step = Step::StartRescue { unit: socket.clone(), addresses: self.replacement.prove.clone() };
        let started = self.note(step.clone(), begun, result);
        self.restore_runtime_directory();
        if !started {
            return End::Lost(lost);
        }
        let mut answers = false;
        let mut dead = BTreeSet::new();
        for address in &self.replacement.prove {
            let probed = Instant::now();
            let result = self.probe(*address);
            if matches!(result, Err(Failure::Dead(_))) {
                dead.insert(*address);
            }
            answers |= result.is_ok();
            if let (Ok(_), Some(since)) = (&result, self.unreachable_since) {
                self.unreachable = self.unreachable.or(Some(since.elapsed()));
            }
            self.note(Step::Probe { address: *address }, probed, result);
        }
        // It may be somebody else's sshd that answers.
        dead.extend(self.unserved());
        if dead.is_empty() {
            return End::Rescued;
        }
        // One that has served before is not given up: it may be full.
        if !answers && self.replacement.start.stop_rescue.is_none() {
            // It would hold the addresses against the unit that may start later.
            let stopped = self.machine.run(Job::Stop, &socket);
            log::debug!("{socket}: {stopped:?}");
            self.note(step, begun, Err(Failure::RescueDead));
            return End::Lost(self.replacement.keep.clone());
        }
        End::Lost(dead)
    }
}
