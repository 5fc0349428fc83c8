//! What must hold of every plan, written down once more, independently of the code that decides.
//!
//! Nothing in here calls `decide`, or a function of `model` that judges: a mistake there must not hide itself here.

use crate::facts::{
    fails_over_and_over, is_declared, is_enabled, is_here, is_reached, is_running, is_session, reached_at, tcp,
};
use sshd_mend::model::intent::InstanceIntent;
use sshd_mend::model::plan::{Decision, Job, Plan, Replacement, Rescue, RescuePlan, Trigger};
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::process::{ListenSocket, Process};
use sshd_mend::model::snapshot::{Instance, Snapshot};
use sshd_mend::model::trial::{Check, OtherProcesses, Package, Policy, Trial, Trials};
use sshd_mend::model::unit::{ActiveState, KillMode, LoadState, Unit};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Settings that say who may log in, from where, and how.
pub const RULES: &[&str] = &[
    "IPAddressDeny=any",
    "IPAddressAllow=192.0.2.0/24",
    "Environment=A=b",
    "NetworkNamespacePath=/run/netns/a",
    "Environment=NAME=%n",
    "BindToDevice=lo",
];

type Held = Result<(), String>;

fn check(holds: bool, otherwise: &str) -> Held {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

/// The facts by which one instance's replacement is judged.
struct Case<'a> {
    machine: &'a Snapshot,
    instance: &'a Instance,
    trial: &'a Trial,
    replacement: &'a Replacement,
    intent: Option<&'a InstanceIntent>,
    is_main: bool,
    trigger: Trigger,
    /// `/run/sshd` is created first, and the machine is examined again before anything else happens.
    after_aid: bool,
}

/// Says what does not hold.
pub fn holds(machine: &Snapshot, trials: &Trials, trigger: Trigger, plan: &Plan) -> Held {
    first_aid(machine, plan)?;
    settled(machine, plan)?;
    let fails = |stopped: &InstanceIntent| {
        let name = &stopped.instance;
        let services = machine.instances.iter().map(|instance| &instance.service);
        services.into_iter().any(|service| service.name == *name && service.active == ActiveState::Activating)
    };
    check(plan.stop_first.iter().all(fails), "stops a unit first that may serve")?;
    for (index, instance) in machine.instances.iter().enumerate() {
        let name = instance.service.name.as_str();
        let Some(found) = plan.instances.iter().find(|plan| plan.instance == name) else { continue };
        let Decision::Replace(replacement) = &found.decision else { continue };
        let intent = machine.intent.iter().flat_map(|intent| &intent.instances).find(|intent| intent.instance == name);
        let Some(trial) = trials.get(name) else {
            return Err(format!("{name}: acts without a trial"));
        };
        let case = Case {
            machine,
            instance,
            trial,
            replacement,
            intent,
            is_main: index == 0,
            trigger,
            after_aid: plan.first_aid.is_some(),
        };
        let denied = trigger == Trigger::Hook && trial.policy != Policy::Allows && intent.is_none();
        let skipped = |process: &Process| found.skipped.iter().any(|(pid, _)| *pid == process.pid);
        let all = || {
            check(!denied, "a hook acts against policy-rc.d")?;
            check(!replacement.end.iter().any(skipped), "ends a listener that it says it skips")?;
            check(!(machine.host.shutting_down || machine.host.not_to_be_run), "acts although sshd is not to be run")?;
            case.listeners()?;
            case.units()?;
            case.fault()?;
            check(!trial.timed_out || case.must_start(), "acts although not everything was tried")?;
            case.program()?;
            case.addresses()?;
            case.rescue()
        };
        all().map_err(|what| format!("{name}: {what}"))?;
    }
    Ok(())
}

/// I7: not where the administrator disabled SSH.
fn first_aid(machine: &Snapshot, plan: &Plan) -> Held {
    let masked = |instance: &Instance| {
        let loads = [&instance.service.load, &instance.socket.load];
        loads.contains(&&LoadState::Masked) && !loads.contains(&&LoadState::Loaded)
    };
    let disabled = machine.host.not_to_be_run || machine.instances.iter().all(masked);
    check(plan.first_aid.is_none() || !disabled, "creates /run/sshd although SSH was disabled")
}

/// I12: an address stays on record until it is served again.
fn settled(machine: &Snapshot, plan: &Plan) -> Held {
    let listeners = machine.processes.iter().filter(|process| is_here(process) && !is_session(process));
    let served: Vec<SocketAddr> =
        listeners.flat_map(|process| &process.sockets).chain(&machine.systemd_holds).flat_map(reached_at).collect();
    let intents = machine.intent.iter().flat_map(|intent| &intent.instances);
    for intent in intents.filter(|intent| plan.settled.contains(&intent.instance)) {
        let is_served = |address: &SocketAddr| served.iter().any(|have| is_reached(*have, *address));
        check(intent.addresses.iter().all(is_served), "forgets an address on record that nobody serves")?;
        let rescued =
            machine.instances.iter().any(|i| i.service.name == intent.instance && is_running(&i.rescue.active));
        check(!rescued, "forgets an instance whose rescue serves")?;
        let starting = |unit: &Unit| [ActiveState::Failed, ActiveState::Activating].contains(&unit.active);
        let unfit = machine.instances.iter().any(|i| i.service.name == intent.instance && starting(&i.service));
        check(!unfit, "forgets an instance whose service has failed or is not started yet")?;
    }
    Ok(())
}

impl Case<'_> {
    fn touches(&self, unit: &Unit) -> bool {
        self.replacement.start.jobs.iter().any(|job| job.unit == unit.name)
    }

    fn starts(&self, unit: &Unit) -> bool {
        self.replacement.start.jobs.iter().any(|job| job.unit == unit.name && job.job != Job::Stop)
    }

    /// An interrupted repair has terminated the listener already: a start can only help.
    fn must_start(&self) -> bool {
        self.intent.is_some() && self.ended().is_empty() && !is_running(&self.instance.rescue.active)
    }

    /// The main process that ends because its service is stopped or restarted.
    fn ended_by_systemd(&self) -> Vec<&Process> {
        let service = &self.instance.service;
        let jobs = &self.replacement.start.jobs;
        let stops = jobs.iter().any(|job| job.unit == service.name && job.job != Job::Start);
        let is_main = |process: &&Process| is_running(&service.active) && service.main_pid == Some(process.pid);
        self.machine.processes.iter().filter(|_| stops).filter(is_main).collect()
    }

    /// Whoever serves now and will not while the plan is carried out.
    fn ended(&self) -> Vec<&Process> {
        self.replacement.end.iter().chain(self.ended_by_systemd()).collect()
    }

    /// I2 and I3: what may be terminated.
    fn listeners(&self) -> Held {
        for process in &self.replacement.end {
            check(self.machine.processes.contains(process), "ends a process that nobody has judged")?;
            check(is_here(process), "ends a process of another namespace or root")?;
            check(!is_session(process), "ends a session")?;
            check(process.real_uid == 0 && process.effective_uid == 0, "ends a process of a user")?;
            check(process.path == self.instance.program.path, "ends another program than the instance's")?;
            check(!process.sockets.is_empty(), "ends what does not listen")?;
            check(!process.traced, "ends what a debugger is attached to")?;
            let dead = process.probe.as_ref().is_some_and(|probe| probe.result == ProbeResult::Dead);
            let stale = process.on_disk != Some(process.image);
            let by_hand = self.trigger == Trigger::Repair;
            check(stale || by_hand || dead, "a hook ends a listener that is neither stale nor dead")?;
            let services = self.machine.instances.iter().map(|instance| &instance.service);
            let is_main = |service: &Unit| is_running(&service.active) && service.main_pid == Some(process.pid);
            check(!services.into_iter().any(is_main), "ends a unit's main process by hand")?;
        }
        for process in self.ended_by_systemd() {
            check(self.replacement.restarted.contains(process), "a restart ends a listener that is not named")?;
            check(
                !(is_here(process) && is_session(process)),
                "a restart ends a main process that serves a connection",
            )?;
        }
        Ok(())
    }

    /// I4, I8 and I12: which units are stopped and started, and which are not.
    fn units(&self) -> Held {
        let Instance { service, socket, rescue, .. } = self.instance;
        let start = &self.replacement.start;
        let own = |name: &String| [&service.name, &socket.name].contains(&name);
        let named = start.jobs.iter().map(|job| &job.unit).chain(&start.reset).chain(&start.service_alone);
        check(named.chain([&start.serves]).all(own), "touches a unit of another instance")?;
        check(start.stop_rescue.iter().all(|unit| *unit == rescue.name), "stops the rescue of another instance")?;
        for unit in [service, socket].into_iter().filter(|unit| self.touches(unit)) {
            // Nobody asked for the next attempt of a unit that fails over and over.
            check(!unit.job || fails_over_and_over(unit), "requests a job for a unit that has one")?;
            let startable = unit.load == LoadState::Loaded && unit.can_start;
            check(startable || !self.starts(unit), "starts a unit that is masked, missing, or not to be started")?;
        }
        let spares = [KillMode::Process, KillMode::None].contains(&service.kill_mode);
        if self.touches(service) && !spares && !self.must_start() {
            let OtherProcesses::Known(others) = &self.trial.other_processes else {
                return Err("acts although a control group could not be read".to_owned());
            };
            let ended: Vec<i32> = self.ended().iter().map(|process| process.pid).collect();
            check(others.iter().all(|pid| ended.contains(pid)), "a restart would end sessions")?;
        }
        // With Accept=yes an active socket goes on serving by itself.
        let goes_on = socket.accept && is_running(&socket.active);
        let restores = self.starts(service) || self.starts(socket) || goes_on;
        check(restores || self.ended().is_empty(), "ends without starting")?;
        let stopped_last = start.jobs.last().is_some_and(|job| job.job == Job::Stop);
        check(!stopped_last, "stops a unit last")?;
        let declared = is_declared(service) || is_declared(socket) || self.intent.is_some();
        check(declared || !self.is_main || start.jobs.is_empty(), "starts what is disabled")
    }

    /// The table of findings: there is a fault at all, and this trigger acts on it.
    fn fault(&self) -> Held {
        let Instance { service, socket, rescue, .. } = self.instance;
        let restarted = self.ended_by_systemd();
        let stale = restarted.iter().any(|process| process.on_disk != Some(process.image) && is_here(process));
        let has_failed = |unit: &Unit| unit.active == ActiveState::Failed || fails_over_and_over(unit);
        // An enabled socket declares the service that it starts. Another instance is one because it is active or failed.
        let service_failed = (!self.is_main || is_enabled(service) || is_enabled(socket)) && has_failed(service);
        let failed = service_failed || (!self.is_main || is_enabled(socket)) && has_failed(socket);
        let is_held = |address: SocketAddr| self.machine.systemd_holds.iter().any(|have| have.address == address);
        let deaf = is_running(&socket.active) && !tcp(socket).any(is_held);
        let known = self.intent.is_some() || is_running(&rescue.active);
        let fault = !self.replacement.end.is_empty() || stale || known || failed || deaf;
        check(fault, "acts where nothing is wrong, or starts what somebody stopped")?;
        let by_hook = self.trigger == Trigger::Hook && self.replacement.start.stop_rescue.is_some();
        check(!by_hook, "a hook stops a rescue")
    }

    /// I4: nothing is terminated before its replacement is known to work.
    fn program(&self) -> Held {
        if self.must_start() {
            return Ok(());
        }
        // A start of the unit creates /run/sshd itself.
        let may_wait = self.after_aid || self.ended().is_empty();
        let waits = |check: &Check| may_wait && *check == Check::NeedsRuntimeDirectory;
        let passed = |check: &Check| *check == Check::Passed || waits(check);
        let good = passed(&self.trial.config) && passed(&self.trial.handshake) && self.trial.start_hindrance.is_none();
        check(good && self.instance.program.file.is_some(), "acts before the replacement is known good")?;
        check(self.trial.package == Package::Ready, "acts while the package is unconfigured")
    }

    /// I4 and I6: whatever is served is served afterwards, and proven.
    fn addresses(&self) -> Held {
        let serving = self.serving();
        for socket in self.ended().into_iter().flat_map(|process| &process.sockets) {
            let address = socket.address;
            check(self.replacement.prove.contains(&address), &format!("{address} is not proven"))?;
            for address in reached_at(socket) {
                let covered = match &serving {
                    Some(serving) => serving.iter().any(|have| {
                        (socket.device_bound || !have.device_bound)
                            && reached_at(have).into_iter().any(|have| is_reached(have, address))
                    }),
                    None => self.after_aid,
                };
                check(covered, &format!("{address} would not be served any more"))?;
                check(self.replacement.keep.contains(&address), &format!("{address} is not put on record"))?;
            }
        }
        let on_record = self.intent.iter().flat_map(|intent| &intent.addresses);
        let rescued = tcp(&self.instance.rescue).filter(|_| self.replacement.start.stop_rescue.is_some());
        let owed: BTreeSet<SocketAddr> = on_record.copied().chain(rescued).collect();
        check(self.replacement.prove.is_subset(&self.replacement.keep), "something is proven off the record")?;
        check(owed.is_subset(&self.replacement.prove), "an address of the record or the rescue is not proven")
    }

    /// It serves in a network namespace of its own.
    fn is_elsewhere(&self) -> bool {
        let Instance { service, socket, .. } = self.instance;
        service.own_network || (socket.own_network && (is_enabled(socket) || is_running(&socket.active)))
    }

    /// Where the units listen once they are started. `None`: not known.
    fn serving(&self) -> Option<Vec<ListenSocket>> {
        let socket = &self.instance.socket;
        if self.is_elsewhere() {
            return Some(Vec::new());
        }
        let listen =
            |address, ipv6_only, device_bound| ListenSocket { address, ipv6_only, device_bound, vrf: false, inode: 0 };
        if self.starts(socket) || is_running(&socket.active) {
            return Some(tcp(socket).map(|address| listen(address, socket.ipv6_only, socket.device_bound)).collect());
        }
        let own = self.trial.own_addresses.as_ref()?;
        Some(own.iter().map(|address| listen(*address, true, false)).collect())
    }

    /// I13: equivalent to what it replaces, or there is none.
    fn rescue(&self) -> Held {
        let stops_one = self.replacement.start.stop_rescue.is_some();
        match &self.replacement.rescue {
            RescuePlan::Prepare(rescue) => self.prepared(rescue),
            RescuePlan::Prepared(name) => {
                check(*name == self.instance.rescue.name, "the rescue of another instance")?;
                let serves = is_running(&self.instance.rescue.active);
                check(self.ended().is_empty() || serves, "the old rescue for a listener that is terminated now")?;
                let written = self.intent.is_some_and(|intent| intent.rescue) || serves;
                check(written, "a rescue although none was prepared")
            }
            // After first aid the plan is made anew.
            RescuePlan::None(_) => {
                check(!stops_one || self.after_aid, "stops a rescue that could not be started again")
            }
        }
    }

    fn prepared(&self, rescue: &Rescue) -> Held {
        let Instance { service, socket, .. } = self.instance;
        let sockets: Vec<&ListenSocket> = self.ended().into_iter().flat_map(|process| &process.sockets).collect();
        check(!self.ended().is_empty(), "a rescue although nothing is terminated")?;
        check(rescue.instance == service.name, "a rescue in another instance's name")?;
        let serving = Some(&self.instance.rescue).filter(|rescue| is_running(&rescue.active));
        let of_rescue = serving.into_iter().flat_map(|unit| tcp(unit).map(|at| (at, unit.ipv6_only)));
        let listen =
            |(address, ipv6_only)| ListenSocket { address, ipv6_only, device_bound: false, vrf: false, inode: 0 };
        let served = sockets.iter().map(|socket| (socket.address, socket.ipv6_only)).chain(of_rescue).map(listen);
        let served: BTreeSet<SocketAddr> = served.flat_map(|socket| reached_at(&socket)).collect();
        let opened = rescue.addresses.iter().map(|address| listen((*address, rescue.ipv6_only)));
        let opened: BTreeSet<SocketAddr> = opened.flat_map(|socket| reached_at(&socket)).collect();
        // An interrupted repair has terminated a listener as well.
        let on_record = self.intent.iter().flat_map(|intent| &intent.addresses).copied();
        let may_serve: BTreeSet<SocketAddr> = on_record.chain(served.iter().copied()).collect();
        check(served.is_subset(&opened), "a rescue at fewer addresses than were served")?;
        check(opened.is_subset(&may_serve), "a rescue at other addresses than were served")?;
        check(rescue.program == self.instance.program.path, "a rescue with another program")?;
        check(rescue.options == self.trial.options, "a rescue without the unit's options")?;
        let writable = |option: &String| !option.contains(['\n', '\r', '\0']);
        check(rescue.options.iter().all(writable), "a rescue whose options cannot be written")?;
        check(self.trial.handshake == Check::Passed, "a rescue that was not tried")?;
        check(!self.is_elsewhere(), "a rescue in another network than the unit's")?;
        let units = [service, socket].into_iter().filter(|unit| unit.load != LoadState::NotFound);
        check(units.into_iter().all(|unit| rescue.conflicts.contains(&unit.name)), "a rescue beside its unit")?;
        for rule in self.rules(&self.trial.service_files, "[Service]") {
            check(!rule.contains('%'), "a rescue with a setting that means something else in it")?;
            check(rescue.service_settings.contains(&rule), &format!("a rescue without {rule}"))?;
        }
        let with_socket = self.starts(socket) || is_running(&socket.active);
        let files = if with_socket { &self.trial.socket_files } else { &self.trial.service_files };
        let rules = self.rules(files, if with_socket { "[Socket]" } else { "[Service]" });
        // A filter of the service applies to a socket only if the socket has it, too.
        for rule in rules.iter().filter(|rule| with_socket || rule.starts_with("IPAddress")) {
            check(rescue.socket_settings.contains(rule), &format!("the socket of a rescue without {rule}"))?;
        }
        let bound = rescue.socket_settings.iter().any(|setting| setting.starts_with("BindToDevice="));
        check(bound || sockets.iter().all(|socket| !socket.device_bound), "a rescue for every network interface")
    }

    /// Those of [`RULES`] that the files of a unit have.
    fn rules(&self, files: &[String], section: &str) -> Vec<String> {
        let of_section = files.iter().filter(|file| file.starts_with(section));
        let lines = of_section.flat_map(|file| file.lines());
        lines.filter(|line| RULES.contains(line)).map(str::to_owned).collect()
    }
}
