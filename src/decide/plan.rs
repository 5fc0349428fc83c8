//! Which steps mend the machine, or why none is taken: instance by instance, none of which prevents another's.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::findings::{in_the_way, is_disabled, lost_addresses};
use super::replacement::replacement;
use super::role::{instance_of, is_listener, owns};
use crate::model::diagnosis::{Diagnosis, FindingCode};
use crate::model::plan::{Decision, InstancePlan, Plan, Trigger};
use crate::model::process::Process;
use crate::model::refusal::RefusalCode;
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::trial::{Trial, Trials};

/// The plan for one instance may depend on what its program on disk can do: which instances that is true for.
pub fn instances_to_try(snapshot: &Snapshot, diagnosis: &Diagnosis, trigger: Trigger) -> Vec<String> {
    let to_try = |instance: &&Instance| {
        let is_needed = || needs_replacement(snapshot, diagnosis, instance, trigger);
        !instance.is_elsewhere() && (is_needed() || has_orphan(snapshot, instance, trigger))
    };
    snapshot.instances.iter().filter(to_try).map(|instance| instance.name().to_owned()).collect()
}

/// Makes the plan. An instance that was not tried although it [had to be](instances_to_try) is left alone.
pub fn plan(snapshot: &Snapshot, diagnosis: &Diagnosis, trials: &Trials, trigger: Trigger) -> Plan {
    let settled = settled(snapshot, diagnosis);
    let instances: Vec<InstancePlan> = snapshot
        .instances
        .iter()
        .map(|instance| {
            let mut skipped = Vec::new();
            let decision = decide(snapshot, diagnosis, instance, trials, trigger, &mut skipped);
            InstancePlan { instance: instance.name().to_owned(), decision, skipped }
        })
        .collect();
    let mut plan = Plan { first_aid: None, instances, settled };
    let missing = diagnosis.has(FindingCode::RuntimeDirectoryMissing);
    // It would restore the access that the administrator closed.
    let is_wanted = !is_disabled(snapshot);
    if is_wanted && missing || needed_for_trials(&plan, trials) {
        let served = diagnosis.listeners.iter().flat_map(|listener| listener.addresses.iter().copied());
        plan.first_aid = Some(if missing { served.collect() } else { BTreeSet::new() });
    }
    plan
}

/// A check of the program that is to take over can be made only once `/run/sshd` is there.
fn needed_for_trials(plan: &Plan, trials: &Trials) -> bool {
    plan.replacements().any(|(instance, replacement)| {
        let trial = trials.instances.get(instance);
        replacement.ends_something() && trial.is_some_and(Trial::needs_runtime_directory)
    })
}

fn decide(
    snapshot: &Snapshot,
    diagnosis: &Diagnosis,
    instance: &Instance,
    trials: &Trials,
    trigger: Trigger,
    skipped: &mut Vec<(i32, crate::model::refusal::Refusal)>,
) -> Decision {
    let needed = needs_replacement(snapshot, diagnosis, instance, trigger) || has_orphan(snapshot, instance, trigger);
    if !needed {
        return match diagnosis.has_for(instance.name(), FindingCode::ForeignListener) {
            true => Decision::Refuse(RefusalCode::ForeignListener.because(&in_the_way(snapshot, instance).join(", "))),
            false => Decision::Nothing,
        };
    }
    // People may be using it to repair the machine: only a person ends it.
    if instance.rescue.is_active() && trigger == Trigger::Hook {
        return Decision::Nothing;
    }
    let Some(trial) = trials.instances.get(instance.name()) else {
        return Decision::Refuse(match instance.is_elsewhere() {
            true => RefusalCode::AddressesNotCovered.because("it serves in a network namespace of its own"),
            false => RefusalCode::BinaryUnusable.because("it was not tried"),
        });
    };
    match replacement(snapshot, diagnosis, instance, trial, trials, trigger, skipped) {
        Ok(Some(replacement)) => Decision::Replace(Box::new(replacement)),
        Ok(None) => Decision::Nothing,
        Err(refusal) => Decision::Refuse(refusal),
    }
}

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

fn has_orphan(snapshot: &Snapshot, instance: &Instance, trigger: Trigger) -> bool {
    orphans(snapshot, instance, trigger).next().is_some()
}

fn needs_replacement(snapshot: &Snapshot, diagnosis: &Diagnosis, instance: &Instance, trigger: Trigger) -> bool {
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
        || (has(FindingCode::InstanceDown) && !is_active)
        // An active unit that lost an address still serves others: a package run does not restart it for that.
        || (has(FindingCode::Interrupted) && (trigger == Trigger::Repair || !serves_by_itself(snapshot, instance)))
        // A rescue is serving: a package run leaves alone what people may be using to repair the machine.
        || (has(FindingCode::RescueActive) && trigger == Trigger::Repair)
}

fn serves_by_itself(snapshot: &Snapshot, instance: &Instance) -> bool {
    let main = snapshot.processes.iter().any(|process| owns(&instance.service, process));
    instance.service.is_active() && main
}

/// Instances on record whose every address is served by what was declared, from a listener that is not dead.
fn settled(snapshot: &Snapshot, diagnosis: &Diagnosis) -> Vec<String> {
    let is_settled = |name: &str| {
        let Some(instance) = snapshot.instance(name) else { return false };
        let unfit = diagnosis.listeners_of(name).any(|listener| listener.orphan || listener.probe.is_dead());
        let active = instance.service.is_active() || instance.socket.is_active();
        active && !unfit && !instance.rescue.is_active() && lost_addresses(snapshot, instance).is_empty()
    };
    let intents = snapshot.intent.iter().flat_map(|intent| &intent.instances);
    intents.map(|intent| intent.instance.clone()).filter(|name| is_settled(name)).collect()
}

/// The addresses that an instance serves, or would serve if its repair had not been interrupted.
pub(super) fn on_record(snapshot: &Snapshot, instance: &Instance) -> BTreeSet<SocketAddr> {
    snapshot.intent_of(instance.name()).map(|intent| intent.addresses.clone()).unwrap_or_default()
}
