//! What `agent` does on a real machine, on the simulated one: observes, probes, tries, plans, executes.

use super::faults::{Faults, Taker};
use super::truth::{Addresses, Managed};
use super::world::World;
use crate::support;
use sshd_mend::act::execute;
use sshd_mend::act::execute::{prepare, settle};
use sshd_mend::decide::diagnosis::instances_in_doubt;
use sshd_mend::decide::{diagnose, instances_to_try, plan};
use sshd_mend::model::execution::Execution;
use sshd_mend::model::plan::{Plan, Trigger};
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::process::Process;
use sshd_mend::model::snapshot::{Host, Instance, Snapshot};
use sshd_mend::model::trial::{Check, OtherProcesses, Trial};
use sshd_mend::model::unit::{ActiveState, KillMode, Unit};

impl World {
    /// The facts, as `observe` collects them.
    pub fn observe(&self) -> Snapshot {
        let truth = self.truth.borrow();
        let on_record = |name: &str| truth.intent.as_ref().is_some_and(|intent| intent.of(name).is_some());
        let serves = |name: &str| {
            let mut facts = truth.processes.iter().map(|process| &process.facts);
            facts.any(|facts| !facts.sockets.is_empty() && facts.unit.as_deref() == Some(name))
        };
        let seen = |(index, managed): &(usize, &Managed)| {
            let name = &managed.instance.service.name;
            *index == 0 || managed.instance.service.active == ActiveState::Failed || serves(name) || on_record(name)
        };
        let instances = truth.instances.iter().enumerate().filter(seen).map(|(_, managed)| {
            let mut instance = managed.instance.clone();
            let name = instance.rescue.name.clone();
            if truth.files.get(&instance.service.name).is_none_or(|files| files.rescue.is_none()) {
                instance.rescue = Unit::absent(&name);
            }
            instance
        });
        let processes: Vec<Process> = truth.processes.iter().map(|process| process.facts.clone()).collect();
        *self.owners.borrow_mut() =
            processes.iter().map(|process| (process.pid, truth.owner_of(process.pid))).collect();
        let taken = |taker: &Taker| support::sockets(&[&taker.address.to_string()])[0];
        Snapshot {
            host: Host { runtime_directory: truth.runtime_directory, not_to_be_run: false, shutting_down: false },
            instances: instances.collect(),
            processes,
            unreadable: Vec::new(),
            children: Vec::new(),
            holders: std::collections::BTreeMap::new(),
            unauthenticated: std::collections::BTreeSet::new(),
            of_users: Vec::new(),
            systemd_holds: truth.by_systemd.iter().map(|(_, socket)| *socket).collect(),
            foreign: truth.foreign.iter().map(taken).collect(),
            intent: truth.intent.clone(),
        }
    }

    /// What `agent` does: observes, probes, tries, and plans.
    pub fn assess(&self, trigger: Trigger) -> (Snapshot, Plan) {
        let mut snapshot = self.observe();
        for index in instances_in_doubt(&snapshot) {
            snapshot.instances[index].wanted = self.wanted(&snapshot.instances[index]);
        }
        for process in &mut snapshot.processes {
            let answers = snapshot.host.runtime_directory;
            process.probe = support::probe(if answers { ProbeResult::Ok } else { ProbeResult::Dead });
        }
        let diagnosis = diagnose(&snapshot);
        let tried = instances_to_try(&snapshot, &diagnosis, trigger);
        let trials = tried.into_iter().map(|name| (name.clone(), self.trial(&name))).collect();
        let plan = plan(&snapshot, &diagnosis, &trials, trigger);
        (snapshot, plan)
    }

    fn managed(&self, name: &str) -> Managed {
        let truth = self.truth.borrow();
        truth.instances.iter().find(|managed| managed.instance.service.name == name).expect("an instance").clone()
    }

    /// As `wanted_addresses` of src/observe/instances.rs.
    fn wanted(&self, instance: &Instance) -> Addresses {
        let (service, socket) = (&instance.service, &instance.socket);
        if socket.is_enabled() && service.active != ActiveState::Active {
            return socket.tcp_addresses().collect();
        }
        let idle = service.active == ActiveState::Inactive && !service.is_enabled();
        if idle { Addresses::new() } else { self.managed(&service.name).own }
    }

    fn trial(&self, name: &str) -> Trial {
        let managed = self.managed(name);
        let mut trial = managed.trial;
        let truth = self.truth.borrow();
        if !truth.runtime_directory && trial.config == Check::Passed {
            trial.config = Check::NeedsRuntimeDirectory;
            trial.handshake = Check::NeedsRuntimeDirectory;
            trial.own_addresses = None;
        }
        let service = &managed.instance.service;
        let spares = [KillMode::Process, KillMode::None].contains(&service.kill_mode);
        let others = truth
            .processes
            .iter()
            .map(|process| &process.facts)
            .filter(|facts| !spares && facts.unit.as_deref() == Some(name) && service.main_pid != Some(facts.pid));
        trial.other_processes = OtherProcesses::Known(others.map(|facts| facts.pid).collect());
        trial
    }

    /// What `agent` does in `repair_here`.
    pub fn repair(&self, trigger: Trigger) -> Execution {
        let machine = &self;
        let mut execution = Execution::default();
        let (_, mut plan) = self.assess(trigger);
        for _ in 1..4 {
            if plan.is_empty() {
                break;
            }
            let prepares = plan.replaces() && (plan.first_aid.is_some() || !plan.stop_first.is_empty());
            if prepares {
                execution.first_aid.extend(prepare(&plan, machine));
            } else {
                execution.add(execute(&plan, machine));
                if !execution.has_changed() {
                    break;
                }
            }
            (_, plan) = self.assess(trigger);
            if prepares && plan.first_aid.is_some() {
                break;
            }
        }
        let (_, last) = self.assess(trigger);
        settle(&last.settled, &last.resumed, machine);
        execution
    }

    /// The same machine a while later, when what hung has ended: for a run in which nothing fails.
    pub fn next_run(&self) -> Self {
        self.pass_time();
        let mut truth = self.truth.borrow().clone();
        truth.processes.iter_mut().for_each(|process| process.old = true);
        Self::new(truth, Faults::default())
    }
}
