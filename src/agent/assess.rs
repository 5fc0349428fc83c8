//! Observe, decide: one examination of the machine, and the plan that it leads to.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::decide::diagnosis::{decisive, diagnose, instances_in_doubt, listeners, suspects};
use crate::decide::served::sockets_in_the_way;
use crate::decide::{instances_in_service, instances_to_try, judge_trials, plan};
use crate::host::deadline::Deadline;
use crate::model::diagnosis::Diagnosis;
use crate::model::plan::{Plan, Trigger};
use crate::model::probe::Probe;
use crate::model::snapshot::Snapshot;
use crate::model::trial::Trials;
use crate::observe::basis::{Bases, basis};
use crate::observe::holders::holders;
use crate::observe::trials::trials as try_all;
use crate::observe::{Depth, probe_listeners, wanted_addresses};
use crate::report::events;

/// How much is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything, and a client that goes as far as authentication: a person or a monitoring system asks.
    Everything,
    /// Everything but the client: before a repair, and the timer, four times a day.
    Listeners,
    /// What a repair needs to know.
    Repair,
    /// The state after a repair, which has just started these instances anew, and has had a client at these addresses.
    Repaired { started: Vec<String>, proven: BTreeMap<SocketAddr, Probe> },
    /// What there is a reason to try: the hook runs dozens of times a day, and each probe is a line in sshd's log. `passed`:
    /// of what the programs were made that passed the last time.
    Changed { passed: Bases },
}

/// What is known about the machine, and what is to be done.
#[derive(Debug)]
pub struct Assessment {
    pub snapshot: Snapshot,
    pub diagnosis: Diagnosis,
    /// Programs that were tried.
    pub trials: Trials,
    /// Of what those were made that passed, with what is known of earlier runs.
    pub passed: Bases,
    pub plan: Plan,
}

impl Assessment {
    /// Looks closer at what was observed. `acts`: the plan is carried out, so what cannot change it is not looked at.
    pub fn make(mut snapshot: Snapshot, trigger: Trigger, scope: &Scope, acts: bool, deadline: Deadline) -> Self {
        for index in instances_in_doubt(&snapshot) {
            snapshot.instances[index].wanted = wanted_addresses(&snapshot.instances[index], deadline);
        }
        let in_the_way = sockets_in_the_way(&snapshot);
        if !in_the_way.is_empty() {
            snapshot.holders = holders(&in_the_way, deadline);
        }
        let (to_probe, depth) = match scope {
            Scope::Everything => (listeners(&snapshot).map(|process| process.pid).collect(), Depth::Proof),
            Scope::Listeners | Scope::Repair | Scope::Repaired { .. } => {
                (listeners(&snapshot).map(|process| process.pid).collect(), Depth::OneAddress)
            }
            Scope::Changed { .. } => (suspects(&snapshot), Depth::OneAddress),
        };
        let to_probe = match scope {
            Scope::Repaired { proven, .. } => unproven(&mut snapshot, to_probe, proven),
            _ => to_probe,
        };
        // A dead listener takes a second.
        let (now, later): (Vec<i32>, Vec<i32>) = match acts {
            true => {
                let decisive = decisive(&snapshot, trigger);
                to_probe.iter().partition(|pid| decisive.contains(pid))
            }
            false => (to_probe.clone(), Vec::new()),
        };
        probe_listeners(&mut snapshot, &now, depth, deadline);
        let mut diagnosis = diagnose(&snapshot);
        let needed = instances_to_try(&snapshot, &diagnosis, trigger);
        let mut trials = try_all(&snapshot, &needed, trigger == Trigger::Hook, deadline);
        let mut passed = Bases::new();
        if *scope != Scope::Repair {
            let in_service = instances_in_service(&snapshot, &needed).into_iter();
            let is_proven = |name: &String| matches!(scope, Scope::Repaired { started, .. } if started.contains(name));
            let based = in_service
                .filter(|name| !is_proven(name))
                .filter_map(|name| Some((basis(snapshot.instance(&name)?), name)));
            let (unchanged, changed): (Vec<_>, Vec<_>) = based.partition(|(basis, name)| match scope {
                Scope::Changed { passed } => passed.get(name) == Some(basis),
                _ => false,
            });
            let names: Vec<String> = changed.iter().map(|(_, name)| name.clone()).collect();
            let tried = try_all(&snapshot, &names, false, deadline);
            let has_passed = |name: &str| {
                tried.get(name).is_some_and(|trial| trial.has_passed() && !trial.needs_runtime_directory())
            };
            let changed = changed.into_iter().filter(|(_, name)| has_passed(name));
            passed = unchanged.into_iter().chain(changed).map(|(basis, name)| (name, basis)).collect();
            // Each connection runs the program on disk.
            let failed = |name: &str| tried.get(name).is_some_and(|trial| !trial.has_passed());
            let of_failed = diagnosis.listeners.iter().filter(|listener| failed(&listener.instance));
            let unprobed: Vec<i32> = of_failed.map(|l| l.pid).filter(|pid| !to_probe.contains(pid)).collect();
            if !unprobed.is_empty() {
                probe_listeners(&mut snapshot, &unprobed, depth, deadline);
                diagnosis = diagnose(&snapshot);
            }
            trials.extend(tried);
        }
        let plan = plan(&snapshot, &diagnosis, &trials, trigger);
        let replaced = plan.replaced();
        let later: Vec<i32> = later.into_iter().filter(|pid| !replaced.contains(pid)).collect();
        if !later.is_empty() {
            probe_listeners(&mut snapshot, &later, depth, deadline);
            diagnosis = diagnose(&snapshot);
        }
        judge_trials(&mut diagnosis, &snapshot, &trials, &plan);
        Self { snapshot, diagnosis, trials, passed, plan }
    }

    /// Anything was found, or would be done.
    pub fn is_remarkable(&self) -> bool {
        !self.diagnosis.findings.is_empty() || !self.plan.is_empty()
    }

    /// Writes what was found to the log.
    pub fn report(&self) {
        events::found(&self.snapshot, &self.diagnosis, &self.plan);
    }
}

/// Of these listeners, those that hold no address at which a client has just been. The others are given its result.
fn unproven(snapshot: &mut Snapshot, listeners: Vec<i32>, proven: &BTreeMap<SocketAddr, Probe>) -> Vec<i32> {
    let mut remaining = listeners;
    for process in snapshot.processes.iter_mut().filter(|process| !process.addresses().is_empty()) {
        let result = process.addresses().iter().find_map(|address| proven.get(address)).cloned();
        if let Some(result) = result.filter(|_| remaining.contains(&process.pid)) {
            remaining.retain(|pid| *pid != process.pid);
            process.probe = Some(result);
        }
    }
    remaining
}
