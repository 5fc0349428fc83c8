//! A model of a machine for the executor: kernel and disk. It keeps the truth about who serves which address.
//!
//! systemd is in support/model_systemd.rs. Neither knows anything about plans, and nothing in here calls `decide` or
//! `act` except [`World::assess`] and [`World::repair`], which do what `agent` does on a real machine.

use crate::faults::{Answer, Change, Faults, Stubborn, Taker};
use crate::sockets::{is_reached, overlap, reached_at};
use crate::support::{self, listener};
use sshd_mend::act::execute::{prepare, settle};
use sshd_mend::act::{JobFailure, Machine, Target, execute};
use sshd_mend::decide::diagnosis::instances_in_doubt;
use sshd_mend::decide::{diagnose, instances_to_try, plan};
use sshd_mend::model::execution::Execution;
use sshd_mend::model::intent::Intent;
use sshd_mend::model::plan::{Job, Plan, Rescue, Trigger};
use sshd_mend::model::probe::{Probe, ProbeResult};
use sshd_mend::model::process::{ListenSocket, Process};
use sshd_mend::model::snapshot::{Host, Instance, Snapshot};
use sshd_mend::model::trial::{Check, OtherProcesses, Trial, Trials};
use sshd_mend::model::unit::{ActiveState, KillMode, LoadState, Unit};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub type Addresses = BTreeSet<SocketAddr>;

/// An instance as systemd has it, and what is on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Managed {
    pub instance: Instance,
    /// Where sshd binds without a socket unit.
    pub own: Addresses,
    pub trial: Trial,
    /// The service has `RuntimeDirectory=sshd`: each stop and failed start of it removes `/run/sshd`.
    pub has_directory: bool,
    /// A start of the service starts the socket first, and depends on it (Ubuntu).
    pub requires_socket: bool,
    /// `ExecStartPre=/bin/false`.
    pub broken: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    pub facts: Process,
    /// Whose listener or session it is.
    pub instance: usize,
    /// It ran before the plan was made.
    pub old: bool,
    /// Addresses that it will bind, and after how many looks.
    pub late: Option<(usize, Addresses)>,
}

/// What has been written for the time after a crash.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Files {
    pub rescue: Option<Rescue>,
    pub fallback: bool,
}

/// How the machine really is.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    pub instances: Vec<Managed>,
    pub processes: Vec<Running>,
    /// Sockets that PID 1 holds, with their units.
    pub by_systemd: Vec<(String, ListenSocket)>,
    pub foreign: Vec<Taker>,
    pub runtime_directory: bool,
    pub intent: Option<Intent>,
    pub files: BTreeMap<String, Files>,
    /// What each instance lost to somebody else than the executor.
    pub lost_to_others: Vec<Addresses>,
    pub next: i32,
}

/// Something that the executor caused.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Signalled(i32),
    Requested(Job, String),
    Aborted(String),
    Cleared(String),
    /// A process of this instance ended.
    Ended(usize, Process),
    /// What is on record could not be changed.
    NotWritten,
}

/// An event, with what was on record and on disk when it happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub event: Event,
    pub intent: Option<Intent>,
    pub files: BTreeMap<String, Files>,
    /// Who served what just before it, by instance.
    pub served: Vec<Addresses>,
}

#[derive(Debug)]
pub struct World {
    pub truth: RefCell<Truth>,
    pub faults: Faults,
    pub journal: RefCell<Vec<Entry>>,
    used: RefCell<BTreeMap<&'static str, usize>>,
    stubborn: RefCell<BTreeMap<i32, Stubborn>>,
    /// Who owned a process when the plan was made.
    owners: RefCell<BTreeMap<i32, Option<String>>>,
    waits: Cell<Option<(Instant, usize)>>,
    pub calls: Cell<usize>,
}

/// How often the executor may look for a listener that binds late.
const LOOKS: usize = 4;

/// The panic of [`crate::faults::Crash`].
pub struct Crashed;

impl Truth {
    fn sockets(&self) -> impl Iterator<Item = ListenSocket> + '_ {
        let foreign = self.foreign.iter().map(|taker| support::sockets(&[&taker.address.to_string()])[0]);
        let processes = self.processes.iter().flat_map(|process| process.facts.sockets.iter().copied());
        processes.chain(self.by_systemd.iter().map(|(_, socket)| *socket)).chain(foreign)
    }

    pub fn is_free(&self, socket: &ListenSocket) -> bool {
        !self.sockets().any(|held| overlap(&held, socket))
    }

    /// Where clients reach the instance: its processes, its socket, or its rescue.
    pub fn served(&self, index: usize) -> Addresses {
        self.served_by(index, |_| true)
    }

    /// The same by these processes alone, and by systemd.
    pub fn served_by(&self, index: usize, counts: impl Fn(&Running) -> bool) -> Addresses {
        let managed = &self.instances[index];
        let Instance { service, socket, rescue, .. } = &managed.instance;
        // A socket whose service has failed starts it once more, in vain.
        let is_fit = |unit: &str| {
            unit == rescue.name || (unit == socket.name && (socket.accept || service.active != ActiveState::Failed))
        };
        let processes = self.processes.iter().filter(|process| process.instance == index && counts(process));
        let of_processes = processes.flat_map(|process| &process.facts.sockets);
        let of_systemd = self.by_systemd.iter().filter(|(unit, _)| is_fit(unit)).map(|(_, socket)| socket);
        of_processes.chain(of_systemd).flat_map(reached_at).collect()
    }

    pub fn all_served(&self) -> Vec<Addresses> {
        (0..self.instances.len()).map(|index| self.served(index)).collect()
    }

    /// The instance to which a unit belongs.
    pub fn owner(&self, unit: &str) -> Option<usize> {
        self.instances.iter().position(|managed| {
            let Instance { service, socket, rescue, .. } = &managed.instance;
            [&service.name, &socket.name, &rescue.name].into_iter().any(|name| name == unit)
        })
    }

    pub fn unit(&self, name: &str) -> Option<&Unit> {
        let Instance { service, socket, rescue, .. } = &self.instances[self.owner(name)?].instance;
        [service, socket, rescue].into_iter().find(|unit| unit.name == name)
    }

    /// The active service whose main process this is.
    fn owner_of(&self, pid: i32) -> Option<String> {
        let services = self.instances.iter().map(|managed| &managed.instance.service);
        let owns = |service: &&Unit| service.active == ActiveState::Active && service.main_pid == Some(pid);
        services.into_iter().find(owns).map(|service| service.name.clone())
    }

    pub fn spawn(&mut self, index: usize, sockets: Vec<ListenSocket>) -> i32 {
        self.next += 1;
        let managed = &self.instances[index];
        let service = &managed.instance.service.name;
        let facts = Process {
            sockets,
            path: managed.instance.program.path.clone(),
            unit: Some(service.clone()),
            control_group: format!("/system.slice/{service}"),
            ..listener(self.next)
        };
        self.processes.push(Running { facts, instance: index, old: false, late: None });
        self.next
    }

    pub fn socket(&mut self, address: SocketAddr, ipv6_only: bool, device_bound: bool) -> ListenSocket {
        self.next += 1;
        ListenSocket { address, ipv6_only, device_bound, inode: u64::from(self.next.unsigned_abs()) }
    }
}

impl World {
    pub fn new(truth: Truth, faults: Faults) -> Self {
        let held = faults.taker.is_none_or(|taker| {
            let all: Vec<SocketAddr> = truth.sockets().flat_map(|socket| reached_at(&socket)).collect();
            all.iter().any(|have| is_reached(*have, taker.address))
        });
        // What was free before is nothing that ssh would lose.
        let faults = Faults { taker: faults.taker.filter(|_| held), ..faults };
        Self {
            truth: RefCell::new(truth),
            faults,
            journal: RefCell::default(),
            used: RefCell::default(),
            stubborn: RefCell::default(),
            owners: RefCell::default(),
            waits: Cell::default(),
            calls: Cell::default(),
        }
    }

    /// The next of a list of faults.
    pub fn next<T: Clone + Default>(&self, name: &'static str, list: &[T]) -> T {
        let mut used = self.used.borrow_mut();
        let count = used.entry(name).or_default();
        *count += 1;
        list.get(*count - 1).cloned().unwrap_or_default()
    }

    fn count(&self, name: &'static str) -> usize {
        self.next::<()>(name, &[]);
        self.used.borrow()[name]
    }

    pub fn log(&self, event: Event) {
        let truth = self.truth.borrow();
        let (intent, files) = (truth.intent.clone(), truth.files.clone());
        self.journal.borrow_mut().push(Entry { event, intent, files, served: truth.all_served() });
    }

    /// One call of the executor, at which it may die.
    pub fn call<T>(&self, work: impl FnOnce() -> T) -> T {
        let dies = |after| {
            let is_now = |crash: &crate::faults::Crash| crash.call == self.calls.get() && crash.after == after;
            if self.faults.crash.as_ref().is_some_and(is_now) {
                std::panic::panic_any(Crashed);
            }
        };
        self.calls.set(self.calls.get() + 1);
        dies(false);
        let result = work();
        self.take();
        dies(true);
        result
    }

    /// Another program takes the address that it waits for.
    pub(crate) fn take(&self) {
        let mut truth = self.truth.borrow_mut();
        let Some(taker) = self.faults.taker.filter(|_| truth.foreign.is_empty()) else { return };
        if truth.is_free(&support::sockets(&[&taker.address.to_string()])[0]) {
            truth.foreign.push(taker);
        }
    }

    /// Ends a process, and with it what it holds.
    pub fn end(&self, pid: i32) {
        let mut truth = self.truth.borrow_mut();
        let Some(position) = truth.processes.iter().position(|process| process.facts.pid == pid) else { return };
        let ended = truth.processes[position].clone();
        drop(truth);
        self.log(Event::Ended(ended.instance, ended.facts));
        truth = self.truth.borrow_mut();
        truth.processes.remove(position);
        for managed in &mut truth.instances {
            let service = &mut managed.instance.service;
            if service.main_pid == Some(pid) {
                // A SIGTERM by hand counts as a clean exit, and systemd does not start it again.
                service.main_pid = None;
                service.active = ActiveState::Inactive;
            }
        }
    }

    fn change(&self, change: Change, pid: i32) {
        let before = self.truth.borrow().all_served();
        let journal = self.journal.borrow().len();
        let Some(running) = self.truth.borrow().processes.iter().find(|p| p.facts.pid == pid).cloned() else { return };
        let index = running.instance;
        let owned = self.truth.borrow().owner_of(pid).is_some();
        match change {
            Change::Exits => self.end(pid),
            Change::Restarted if owned => {
                self.end(pid);
                let mut truth = self.truth.borrow_mut();
                let pid = truth.spawn(index, running.facts.sockets);
                let service = &mut truth.instances[index].instance.service;
                (service.active, service.main_pid) = (ActiveState::Active, Some(pid));
            }
            Change::Restarted => {
                let mut truth = self.truth.borrow_mut();
                let instance = &mut truth.instances[index].instance;
                let service = &mut instance.service;
                // A rescue would have been stopped by it.
                let is_idle = service.main_pid.is_none() && instance.rescue.active != ActiveState::Active;
                if is_idle && service.load == LoadState::Loaded {
                    (service.active, service.main_pid) = (ActiveState::Active, Some(pid));
                }
            }
            Change::Binds => {
                let mut truth = self.truth.borrow_mut();
                let socket = truth.socket("127.0.0.1:9".parse().expect("an address"), true, false);
                let process = truth.processes.iter_mut().find(|process| process.facts.pid == pid);
                process.expect("it is alive").facts.sockets.push(socket);
            }
        }
        let mut truth = self.truth.borrow_mut();
        let after = truth.all_served();
        for (index, before) in before.iter().enumerate() {
            truth.lost_to_others[index].extend(before.difference(&after[index]).copied());
        }
        self.journal.borrow_mut().truncate(journal);
    }

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
        let by_takers = truth.foreign.iter().filter(|taker| taker.socket_unit);
        let by_takers = by_takers.map(|taker| support::sockets(&[&taker.address.to_string()])[0]);
        Snapshot {
            host: Host { runtime_directory: truth.runtime_directory, not_to_be_run: false, shutting_down: false },
            instances: instances.collect(),
            processes,
            unreadable: Vec::new(),
            of_users: Vec::new(),
            systemd_holds: truth.by_systemd.iter().map(|(_, socket)| *socket).chain(by_takers).collect(),
            foreign: truth.foreign.iter().filter(|taker| !taker.socket_unit).map(|taker| taker.address).collect(),
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
        let plan = plan(&snapshot, &diagnosis, &Trials { instances: trials, ..Trials::default() }, trigger);
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
        settle(&last.settled, machine);
        execution
    }
}

impl World {
    /// The same machine a while later, when what hung has ended: for a run in which nothing fails.
    pub fn next_run(&self) -> Self {
        self.pass_time();
        let mut truth = self.truth.borrow().clone();
        truth.processes.iter_mut().for_each(|process| process.old = true);
        Self::new(truth, Faults::default())
    }
}

/// A pinned listener.
pub struct Pinned<'w> {
    world: &'w World,
    judged: Process,
    ticks: u64,
}

impl Pinned<'_> {
    fn now(&self) -> Option<Process> {
        let truth = self.world.truth.borrow();
        let facts = truth.processes.iter().map(|process| &process.facts);
        facts.into_iter().find(|f| f.pid == self.judged.pid && f.started_ticks == self.ticks).cloned()
    }
}

impl Target for Pinned<'_> {
    fn judged(&self) -> &Process {
        &self.judged
    }

    fn is_unchanged(&self) -> bool {
        self.world.call(|| {
            let look = self.world.count("looks");
            if let Some((_, change)) = self.world.faults.change.filter(|(nth, _)| *nth == look) {
                self.world.change(change, self.judged.pid);
            }
            let Some(now) = self.now() else { return false };
            let owner = self.world.truth.borrow().owner_of(now.pid);
            let same = now.sockets == self.judged.sockets && now.image == self.judged.image;
            same && self.ticks == self.judged.started_ticks && self.world.owners.borrow().get(&now.pid) == Some(&owner)
        })
    }

    fn has_exited(&self) -> bool {
        self.now().is_none()
    }
}

impl<'w> Machine for &'w World {
    type Target = Pinned<'w>;

    fn pin(&self, process: &Process) -> Option<Pinned<'w>> {
        let world: &'w World = self;
        self.call(|| {
            let truth = world.truth.borrow();
            let found = truth.processes.iter().find(|running| running.facts.pid == process.pid)?;
            Some(Pinned { world, judged: process.clone(), ticks: found.facts.started_ticks })
        })
    }

    fn terminate(&self, target: &Pinned<'w>) -> io::Result<()> {
        self.call(|| {
            let stubborn = self.next("signals", &self.faults.stubborn);
            self.stubborn.borrow_mut().insert(target.judged.pid, stubborn);
            self.log(Event::Signalled(target.judged.pid));
            match stubborn {
                Stubborn::No => self.end(target.judged.pid),
                Stubborn::Sigterm | Stubborn::Sigkill => {}
                Stubborn::Refuses => return Err(io::ErrorKind::PermissionDenied.into()),
            }
            Ok(())
        })
    }

    fn kill(&self, target: &Pinned<'w>) -> io::Result<()> {
        self.call(|| {
            if self.stubborn.borrow().get(&target.judged.pid) != Some(&Stubborn::Sigkill) {
                self.end(target.judged.pid);
            }
            Ok(())
        })
    }

    fn wait(&self, _: &[&Pinned<'w>], _: Duration) {
        self.call(|| ());
    }

    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    fn has_runtime_directory(&self) -> bool {
        self.call(|| self.truth.borrow().runtime_directory)
    }

    fn create_runtime_directory(&self) -> io::Result<()> {
        self.call(|| {
            if self.next("mkdirs", &self.faults.mkdirs) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.truth.borrow_mut().runtime_directory = true;
            Ok(())
        })
    }

    fn intent(&self) -> Option<Intent> {
        self.call(|| self.truth.borrow().intent.clone())
    }

    fn write_intent(&self, intent: Intent) -> io::Result<()> {
        self.call(|| {
            if self.next("intents", &self.faults.intents) {
                self.log(Event::NotWritten);
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.truth.borrow_mut().intent = (!intent.instances.is_empty()).then_some(intent);
            Ok(())
        })
    }

    fn write_rescue(&self, rescue: &Rescue) -> io::Result<()> {
        self.call(|| {
            if self.faults.files {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.write_files(rescue);
            Ok(())
        })
    }

    fn write_fallback(&self, instance: &str, _: &[String], _: &str) -> io::Result<()> {
        self.call(|| {
            if self.faults.files {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.truth.borrow_mut().files.entry(instance.to_owned()).or_default().fallback = true;
            Ok(())
        })
    }

    fn remove_rescue(&self, instance: &str) {
        self.call(|| drop(self.truth.borrow_mut().files.remove(instance)));
    }

    fn reset_failed(&self, unit: &str) -> Result<(), JobFailure> {
        self.call(|| self.reset(unit))
    }

    fn run(&self, job: Job, unit: &str) -> Result<(), JobFailure> {
        self.call(|| self.request(job, unit))
    }

    fn abort(&self, unit: &str) {
        self.call(|| self.abort_unit(unit));
    }

    fn is_active(&self, unit: &str) -> bool {
        self.call(|| self.truth.borrow().unit(unit).is_some_and(|unit| unit.active == ActiveState::Active))
    }

    fn probe(&self, address: SocketAddr) -> Probe {
        self.call(|| {
            let result = match self.next("answers", &self.faults.answers) {
                Answer::Truth => self.answer(address),
                Answer::Ok => ProbeResult::Ok,
                Answer::Dead => ProbeResult::Dead,
                Answer::Inconclusive => ProbeResult::Inconclusive,
            };
            Probe { result, detail: "seen".to_owned() }
        })
    }

    fn served_by(&self, unit: &str) -> Addresses {
        self.call(|| {
            let truth = self.truth.borrow();
            let is_of = |process: &&Running| process.facts.unit.as_deref() == Some(unit);
            let processes = truth.processes.iter().filter(is_of).flat_map(|process| &process.facts.sockets);
            let held = processes.chain(truth.by_systemd.iter().map(|(_, socket)| socket)).flat_map(reached_at);
            let takers = truth.foreign.iter().filter(|taker| taker.socket_unit).map(|taker| taker.address);
            held.chain(takers).collect()
        })
    }

    fn wait_for_listener(&self, since: Instant) -> bool {
        self.call(|| {
            let looks = self.waits.get().filter(|(begun, _)| *begun == since).map_or(1, |(_, looks)| looks + 1);
            self.waits.set(Some((since, looks)));
            self.bind_late();
            looks < LOOKS
        })
    }

    fn is_asked_to_stop(&self) -> bool {
        let question = self.count("questions");
        self.call(|| self.faults.asked_to_stop.is_some_and(|nth| question >= nth))
    }
}

impl World {
    fn bind_late(&self) {
        let mut truth = self.truth.borrow_mut();
        for position in 0..truth.processes.len() {
            let Some((looks, addresses)) = truth.processes[position].late.take() else { continue };
            if looks > 1 {
                truth.processes[position].late = Some((looks - 1, addresses));
                continue;
            }
            for address in addresses {
                let socket = truth.socket(address, true, false);
                if truth.is_free(&socket) {
                    truth.processes[position].facts.sockets.push(socket);
                }
            }
        }
    }

    /// What a new connection comes to.
    fn answer(&self, address: SocketAddr) -> ProbeResult {
        let truth = self.truth.borrow();
        let reaches = |socket: &ListenSocket| reached_at(socket).into_iter().any(|have| is_reached(have, address));
        let by_process = |ok| if ok { ProbeResult::Ok } else { ProbeResult::Dead };
        if truth.processes.iter().any(|process| process.facts.sockets.iter().any(reaches)) {
            return by_process(truth.runtime_directory);
        }
        let unit = truth.by_systemd.iter().find(|(_, socket)| reaches(socket)).map(|(unit, _)| unit);
        if let Some((unit, index)) = unit.and_then(|unit| Some((unit, truth.owner(unit)?))) {
            let Instance { service, socket, rescue, .. } = &truth.instances[index].instance;
            return match *unit == rescue.name {
                true => by_process(!self.faults.rescue_is_dead),
                // The connection waits for a service that does not start.
                false if !socket.accept && service.active != ActiveState::Active => ProbeResult::Inconclusive,
                false => by_process(truth.runtime_directory),
            };
        }
        let answers = truth.foreign.iter().any(|taker| taker.ssh && is_reached(taker.address, address));
        if answers { ProbeResult::Ok } else { ProbeResult::Inconclusive }
    }

    /// Signalled processes in uninterruptible sleep.
    pub fn unkillable(&self) -> Vec<i32> {
        let stubborn = self.stubborn.borrow();
        stubborn.iter().filter(|(_, stubborn)| **stubborn == Stubborn::Sigkill).map(|(pid, _)| *pid).collect()
    }

    /// An instance's index by its name.
    pub fn index(&self, name: &str) -> usize {
        self.truth.borrow().instances.iter().position(|m| m.instance.service.name == name).expect("an instance")
    }
}

/// A machine on which nothing runs yet.
pub fn empty() -> Truth {
    Truth {
        instances: Vec::new(),
        processes: Vec::new(),
        by_systemd: Vec::new(),
        foreign: Vec::new(),
        runtime_directory: true,
        intent: None,
        files: BTreeMap::new(),
        lost_to_others: Vec::new(),
        next: 100,
    }
}
