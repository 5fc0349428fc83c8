//! Further instances of sshd with units of their own: a stale one is restarted through its unit.
//!
//! What speaks against that keeps nobody from mending ssh.service.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::Action;
use super::replacement::{
    list, refuse_by_host, refuse_by_listener, refuse_by_policy, refuse_by_program, refuse_by_server, refuse_by_units,
};
use super::{Preflight, Trigger};
use crate::address::Coverage;
use crate::diagnosis::{Diagnosis, Listener};
use crate::observe::SERVICE;
use crate::preflight::Check;
use crate::refusal::{Reason, Refusal};
use crate::snapshot::{Process, Snapshot};

/// The restarts of further instances, and why others are not restarted.
#[derive(Default)]
pub(super) struct Instances {
    pub(super) actions: Vec<Action>,
    /// To be served afterwards.
    pub(super) addresses: BTreeSet<SocketAddr>,
    pub(super) refusals: Vec<(i32, Refusal)>,
}

/// Listeners of further instances that are stale.
pub(super) fn stale(diagnosis: &Diagnosis) -> impl Iterator<Item = (&Listener, &String)> {
    let owned = diagnosis.listeners.iter().filter(|listener| listener.stale);
    owned.filter_map(|listener| Some((listener, listener.unit.as_ref().filter(|unit| *unit != SERVICE)?)))
}

pub(super) fn restarts(
    snapshot: &Snapshot,
    diagnosis: &Diagnosis,
    preflight: &Preflight,
    trigger: Trigger,
) -> Instances {
    let mut instances = Instances::default();
    for (listener, unit) in stale(diagnosis) {
        match refuse(listener, unit, snapshot, preflight, trigger) {
            Ok(()) => {
                instances.actions.push(Action::ResetFailed { unit: unit.clone() });
                instances.actions.push(Action::RestartUnit { unit: unit.clone() });
                instances.addresses.extend(listener.addresses.iter().copied());
            }
            Err(refusal) => instances.refusals.push((listener.pid, refusal)),
        }
    }
    instances
}

fn refuse(
    listener: &Listener,
    unit: &str,
    snapshot: &Snapshot,
    preflight: &Preflight,
    trigger: Trigger,
) -> Result<(), Refusal> {
    refuse_by_host(snapshot)?;
    refuse_by_units(snapshot, &snapshot.other_units.iter().filter(|other| other.name == unit).collect::<Vec<_>>())?;
    refuse_by_program(snapshot, preflight)?;
    let Some(server) = preflight.instances.get(unit) else {
        return Err(Reason::BinaryUnusable.because(&format!("it was not tried with the options of {unit}")));
    };
    refuse_by_server(server)?;
    let process = snapshot.processes.iter().find(|process| process.pid == listener.pid);
    refuse_by_listener(process, None)?;
    let missing = match &server.own_addresses {
        Some(own) => Coverage::of_sshd(own).missing(&process.map(Process::reached_at).unwrap_or_default()),
        // Looked at again once /run/sshd is there.
        None if server.config == Check::NeedsRuntimeDirectory => Vec::new(),
        None => listener.addresses.iter().copied().collect(),
    };
    if !missing.is_empty() {
        return Err(Reason::AddressesNotCovered.because(&format!("{} ({unit})", list(&missing))));
    }
    refuse_by_policy(snapshot, preflight, trigger)
}
