//! Which steps mend the machine, or why none is taken: instance by instance, none of which prevents another's.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::diagnosis::diagnose;
use super::findings::is_disabled;
use super::needs::{has_orphan, needs_replacement, orphans};
use super::refusals::{by_dependents, by_host, by_policy, by_units};
use super::replacement::replacement;
use super::role::{is_listener, owns};
use super::served::{foreign_listener, in_the_way, lost_addresses};
use super::would_restart::about_trials;
use crate::model::address::collide;
use crate::model::diagnosis::{Diagnosis, FindingCode};
use crate::model::intent::InstanceIntent;
use crate::model::plan::{Decision, InstancePlan, Plan, Trigger};
use crate::model::process::Process;
use crate::model::refusal::RefusalCode;
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::trial::{Trial, Trials};
use crate::model::unit::{ActiveState, Unit};

/// The plan for one instance may depend on what its program on disk can do: which instances that is true for.
pub fn instances_to_try(snapshot: &Snapshot, diagnosis: &Diagnosis, trigger: Trigger) -> Vec<String> {
    let to_try = |instance: &&Instance| {
        let is_needed = || needs_replacement(snapshot, diagnosis, instance, trigger);
        !instance.is_elsewhere() && (is_needed() || has_orphan(snapshot, instance, trigger))
    };
    snapshot.instances.iter().filter(to_try).map(|instance| instance.name().to_owned()).collect()
}

/// Instances that serve, and that nothing is wrong with so far: it can be tried whether they would start again.
pub fn instances_in_service(snapshot: &Snapshot, needed: &[String]) -> Vec<String> {
    let is_one = |instance: &&Instance| {
        let serves = instance.service.is_active() || instance.socket.is_active();
        serves && !instance.is_elsewhere() && !needed.iter().any(|name| name == instance.name())
    };
    // The real start does not take place while the administrator does not want it.
    let all = snapshot.instances.iter().filter(|_| !is_disabled(snapshot));
    all.filter(is_one).map(|instance| instance.name().to_owned()).collect()
}

/// Adds what was learned from programs that were tried, where the plan does not say it.
pub fn judge_trials(diagnosis: &mut Diagnosis, snapshot: &Snapshot, trials: &Trials, plan: &Plan) {
    diagnosis.add(about_trials(snapshot, trials, plan));
}

/// Makes the plan. An instance that was not tried although it [had to be](instances_to_try) is left alone.
pub fn plan(snapshot: &Snapshot, diagnosis: &Diagnosis, trials: &Trials, trigger: Trigger) -> Plan {
    let settled = settled(snapshot, diagnosis);
    let resumed = resumed(snapshot);
    let instances: Vec<InstancePlan> = snapshot
        .instances
        .iter()
        .map(|instance| {
            let mut skipped = Vec::new();
            let decision = match decide(snapshot, diagnosis, instance, trials, trigger, &mut skipped) {
                Decision::Refuse(refusal) => Decision::Refuse(refusal.about(instance.name())),
                decision => decision,
            };
            InstancePlan { instance: instance.name().to_owned(), decision, skipped }
        })
        .collect();
    let stop_first = snapshot.instances.iter().filter(|instance| {
        let decision = instances.iter().find(|plan| plan.instance == instance.name()).map(|plan| &plan.decision);
        let trial = trials.get(instance.name());
        decision
            .zip(trial)
            .is_some_and(|(decision, trial)| is_stopped_first(snapshot, instance, trial, trigger, decision))
    });
    let stop_first = stop_first
        .map(|instance| InstanceIntent {
            instance: instance.name().to_owned(),
            addresses: orphans(snapshot, instance, trigger).flat_map(Process::reached_at).collect(),
            units: vec![instance.name().to_owned()],
            rescue: false,
            resumed: false,
            stopped: true,
        })
        .collect();
    let mut plan = Plan { stop_first, first_aid: None, instances, settled, resumed };
    let missing = diagnosis.has(FindingCode::RuntimeDirectoryMissing);
    // It would restore the access that the administrator closed.
    let is_wanted = !is_disabled(snapshot);
    if is_wanted && missing || needed_for_trials(&plan, trials) {
        let served = diagnosis.listeners.iter().flat_map(|listener| listener.addresses.iter().copied());
        plan.first_aid = Some(if missing { served.collect() } else { BTreeSet::new() });
    }
    plan
}

/// `/run/sshd` is missing under a listener. Not where the administrator disabled SSH: it would restore the access that they
/// closed.
pub fn needs_first_aid(snapshot: &Snapshot) -> Option<Diagnosis> {
    if snapshot.host.runtime_directory || is_disabled(snapshot) {
        return None;
    }
    Some(diagnose(snapshot)).filter(|diagnosis| diagnosis.has(FindingCode::RuntimeDirectoryMissing))
}

/// The instance's service fails over and over while an orphan serves in its place, and each failure takes `/run/sshd` from
/// the orphan. What is tried meanwhile may fail for want of it alone; if the refusal stands, the unit stays stopped as
/// long as the orphan serves.
fn is_stopped_first(
    snapshot: &Snapshot,
    instance: &Instance,
    trial: &Trial,
    trigger: Trigger,
    decision: &Decision,
) -> bool {
    let tried = [
        RefusalCode::ConfigInvalid,
        RefusalCode::BinaryUnusable,
        RefusalCode::UnitWouldNotStart,
        RefusalCode::AddressesNotCovered,
    ];
    let is_due = match decision {
        Decision::Nothing => false,
        Decision::Refuse(refusal) => tried.contains(&refusal.code),
        Decision::Replace(_) => true,
    };
    // One that is somewhere else is not why the service fails.
    let declared: BTreeSet<SocketAddr> =
        instance.socket.tcp_addresses().chain(instance.wanted.iter().copied()).collect();
    let hinders = |orphan: &Process| {
        orphan.addresses().iter().any(|held| declared.iter().any(|address| collide(*held, *address)))
    };
    // Once it is stopped, only an orphan in its control group tells that another unit than the main one is an instance.
    let stays_known = |orphan: &Process| snapshot.is_main(instance) || orphan.unit.as_deref() == Some(instance.name());
    let mut orphans = orphans(snapshot, instance, trigger);
    let allowed = || {
        by_host(&snapshot.host)?;
        by_dependents(snapshot, instance)?;
        by_units(&[&instance.service])?;
        // The record of one that nobody wants would not last.
        if !instance.units().iter().any(|unit| unit.is_enabled()) {
            return Err(RefusalCode::NothingToStart.because(instance.name()));
        }
        by_policy(&trial.policy, trigger, None)
    };
    is_due
        && instance.service.restarts_itself()
        && orphans.any(|it| hinders(it) && stays_known(it))
        && allowed().is_ok()
}

/// A check of the program that is to take over can be made only once `/run/sshd` is there.
fn needed_for_trials(plan: &Plan, trials: &Trials) -> bool {
    plan.replacements().any(|(instance, replacement)| {
        let trial = trials.get(instance);
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
            true => Decision::Refuse(foreign_listener(&in_the_way(snapshot, instance))),
            false => Decision::Nothing,
        };
    }
    // People may be using it to repair the machine: only a person ends it.
    if instance.rescue.is_active() && trigger != Trigger::Repair {
        return Decision::Nothing;
    }
    let Some(trial) = trials.get(instance.name()) else {
        return Decision::Refuse(match instance.is_elsewhere() {
            true => {
                let refusal = RefusalCode::AddressesNotCovered.because("it serves in a network namespace of its own");
                let advice =
                    "From a session that you keep open: sudo systemctl restart UNIT; then test a login".to_owned();
                crate::model::refusal::Refusal { advice, ..refusal }
            }
            false => RefusalCode::BinaryUnusable.because("it was not tried"),
        });
    };
    match replacement(snapshot, diagnosis, instance, trial, trigger, skipped) {
        Ok(Some(replacement)) => Decision::Replace(Box::new(replacement)),
        Ok(None) => Decision::Nothing,
        Err(refusal) => Decision::Refuse(refusal),
    }
}

/// Instances on record that serve again by what was declared. While systemd is starting one, that may fail yet.
fn resumed(snapshot: &Snapshot) -> Vec<String> {
    let has_listener = |service: &Unit| {
        let own = snapshot.processes.iter().filter(|process| owns(service, process));
        own.into_iter().any(|process| is_listener(process, snapshot))
    };
    let serves =
        |instance: &&Instance| instance.service.active == ActiveState::Active && has_listener(&instance.service);
    let serving = snapshot.instances.iter().filter(serves);
    let is_new = |name: &&str| snapshot.intent_of(name).is_some_and(|intent| !intent.resumed);
    serving.map(Instance::name).filter(is_new).map(str::to_owned).collect()
}

/// Instances on record whose every address is served by what was declared, from a listener that is not dead.
fn settled(snapshot: &Snapshot, diagnosis: &Diagnosis) -> Vec<String> {
    let is_settled = |name: &str| {
        let Some(instance) = snapshot.instance(name) else { return false };
        if snapshot.intent_of(name).is_none() {
            return true;
        }
        let unfit = diagnosis.listeners_of(name).any(|listener| listener.orphan || listener.probe.is_dead());
        // A socket listens, but what it starts may have failed.
        let starts = instance.service.has_failed() || instance.service.active == ActiveState::Activating;
        let active = instance.service.is_active() || instance.socket.is_active();
        active && !starts && !unfit && !instance.rescue.is_active() && lost_addresses(snapshot, instance).is_empty()
    };
    let intents = snapshot.intent.iter().flat_map(|intent| &intent.instances);
    intents.map(|intent| intent.instance.clone()).filter(|name| is_settled(name)).collect()
}
