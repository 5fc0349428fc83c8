//! What an instance needs: listeners of it that are to be replaced, and whether it is to be started.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::role::{instance_of, is_listener, owns, serves_by_itself};
use crate::model::diagnosis::{Diagnosis, FindingCode};
use crate::model::plan::Trigger;
use crate::model::process::Process;
use crate::model::snapshot::{Instance, Snapshot};

/// Orphans of an instance that this trigger would terminate.
pub(super) fn orphans<'a>(
    snapshot: &'a Snapshot,
    instance: &'a Instance,
    trigger: Trigger,
) -> impl Iterator<Item = &'a Process> {
    let services = || snapshot.instances.iter().map(|instance| &instance.service);
    snapshot.processes.iter().filter(move |process| {
        let is_dead = process.probe.as_ref().is_some_and(|probe| probe.is_dead());
        is_listener(process, snapshot)
            && !services().any(|service| owns(service, process))
            && instance_of(process, snapshot).is_some_and(|of| of.name() == instance.name())
            // One that is not stale still serves: a package run only terminates it once it is dead.
            && (process.is_stale() || trigger == Trigger::Repair || is_dead)
    })
}

/// The stale main process of an instance's active service.
pub(super) fn stale_main<'a>(snapshot: &'a Snapshot, instance: &'a Instance) -> Option<&'a Process> {
    let listeners = snapshot.processes.iter().filter(|process| is_listener(process, snapshot));
    listeners.into_iter().find(|process| process.is_stale() && owns(&instance.service, process))
}

pub(super) fn has_orphan(snapshot: &Snapshot, instance: &Instance, trigger: Trigger) -> bool {
    orphans(snapshot, instance, trigger).next().is_some()
}

pub(super) fn needs_replacement(
    snapshot: &Snapshot,
    diagnosis: &Diagnosis,
    instance: &Instance,
    trigger: Trigger,
) -> bool {
    stale_main(snapshot, instance).is_some() || is_to_be_started(snapshot, diagnosis, instance, trigger)
}

/// An instance does not serve as declared, and this trigger would change that.
pub(super) fn is_to_be_started(
    snapshot: &Snapshot,
    diagnosis: &Diagnosis,
    instance: &Instance,
    trigger: Trigger,
) -> bool {
    let has = |code| diagnosis.has_for(instance.name(), code);
    let is_active = instance.service.is_active() || instance.socket.is_active();
    has(FindingCode::Down)
        || has(FindingCode::SocketDeaf)
        // One that is not enabled was started by hand, and is left to whoever did.
        || (has(FindingCode::InstanceDown) && !is_active && instance.units().iter().any(|unit| unit.is_enabled()))
        // An active unit that lost an address still serves others: it is not restarted for that.
        || (has(FindingCode::Interrupted) && !serves_by_itself(snapshot, instance))
        // A rescue is serving: a package run leaves alone what people may be using to repair the machine.
        || (has(FindingCode::RescueActive) && trigger == Trigger::Repair)
}

/// The addresses that an instance serves, or would serve if its repair had not been interrupted.
pub(super) fn on_record(snapshot: &Snapshot, instance: &Instance) -> BTreeSet<SocketAddr> {
    snapshot.intent_of(instance.name()).map(|intent| intent.addresses.clone()).unwrap_or_default()
}
