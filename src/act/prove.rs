//! The proof that an instance serves again: a new connection to each address that was served before, from a process that
//! is not the old listener.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use super::machine::Machine;
use super::work::Work;
use crate::model::execution::{End, Failure, Success};
use crate::model::plan::Step;
use crate::model::probe::{Probe, ProbeResult};

impl<M: Machine> Work<'_, M> {
    /// Probes each address. `started`: systemd says that the instance's unit is active.
    pub(super) fn prove(&mut self, started: bool) -> End {
        if !started {
            // A probe could start a failing service through its socket again and again.
            return End::Lost(self.replacement.keep.clone());
        }
        let begun = Instant::now();
        let mut lost = BTreeSet::new();
        let mut unverified = BTreeSet::new();
        for address in &self.replacement.prove {
            let address = *address;
            if !self.machine.is_asked_to_stop() {
                // A unit without readiness notification is active before its program has bound its addresses.
                while !self.is_held(address)
                    && self.machine.is_active(&self.replacement.start.serves)
                    && self.machine.wait_for_listener(begun)
                {}
            }
            let probed = Instant::now();
            let mut result = self.probe(address);
            let held = self.is_held(address);
            if let Ok(Success::Answers(banner)) = &result {
                let since = self.unreachable_since;
                self.unreachable = self.unreachable.or(since.map(|since| since.elapsed()));
                result = achieved(self.machine.prove(address, Probe::new(ProbeResult::Ok, banner)));
            }
            match &result {
                Ok(_) => {
                    // It was another process than the instance's that answered.
                    if !held {
                        lost.insert(address);
                    }
                }
                Err(Failure::Dead(_) | Failure::OldListener(_)) => drop(lost.insert(address)),
                Err(_) if held => drop(unverified.insert(address)),
                Err(_) => drop(lost.insert(address)),
            }
            self.note(Step::Probe { address }, probed, result);
        }
        lost.extend(self.unserved());
        match (lost.is_empty(), unverified.is_empty()) {
            (true, true) => End::Served,
            (true, false) => End::Unverified(unverified),
            (false, _) => End::Lost(lost),
        }
    }

    /// A connection gets through, and not to one of the old listeners.
    pub(super) fn probe(&self, address: SocketAddr) -> Result<Success, Failure> {
        if self.machine.is_asked_to_stop() {
            return Err(Failure::AskedToStop);
        }
        if let Some(pid) = self.old_listener_at(address) {
            return Err(Failure::OldListener(pid));
        }
        achieved(self.machine.probe(address))
    }
}

/// What a probe says about the step that it is for.
pub(super) fn achieved(probe: Probe) -> Result<Success, Failure> {
    match probe.result {
        ProbeResult::Ok => Ok(match probe.authentication {
            Some(methods) => Success::Authenticates { banner: probe.detail, methods },
            None => Success::Answers(probe.detail),
        }),
        ProbeResult::Skipped => Ok(Success::NobodyCanConnect(probe.detail)),
        ProbeResult::Dead => Err(Failure::Dead(probe.detail)),
        ProbeResult::Inconclusive => Err(Failure::Unverified(probe.detail)),
    }
}
