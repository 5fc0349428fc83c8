//! systemd, as far as an execution sees it: services, sockets, rescues, and `/run/sshd`, which it removes on every stop
//! and failed start.

use super::faults::Fate;
use super::truth::Addresses;
use super::world::{Event, World};
use crate::support;
use sshd_mend::act::JobFailure;
use sshd_mend::model::plan::{Job, Rescue};
use sshd_mend::model::process::ListenSocket;
use sshd_mend::model::unit::{ActiveState, KillMode, Listen, Unit};

type Answer = Result<(), JobFailure>;

fn failed(why: &str) -> Answer {
    Err(JobFailure::Failed(why.to_owned()))
}

impl World {
    /// One request.
    pub(crate) fn request(&self, job: Job, unit: &str) -> Answer {
        self.log(Event::Requested(job, unit.to_owned()));
        let fate = self.next("jobs", &self.faults.jobs);
        let Some(index) = self.truth.borrow().owner(unit) else { return failed("not-found") };
        if fate == Fate::Refused {
            return failed("refused");
        }
        let kind = unit.rsplit_once('.').map(|(_, kind)| kind);
        let answer = match (job, kind) {
            (Job::Stop, Some("service")) => self.stop_service(index, fate),
            (Job::Stop, _) => {
                self.close(unit);
                Ok(())
            }
            (Job::Start, Some("service")) => self.start_service(index, fate),
            (Job::Restart, Some("service")) => self.stop_service(index, fate).and_then(|()| {
                self.take();
                self.start_service(index, fate)
            }),
            (Job::Restart, _) => {
                self.close(unit);
                self.take();
                self.open(index, unit, fate)
            }
            (Job::Start, _) => self.open(index, unit, fate),
        };
        match (answer, fate) {
            (Ok(()), Fate::Slow) => Err(JobFailure::TimedOut("timeout".to_owned())),
            (Ok(()), Fate::ReplyLost) => failed("no reply"),
            (answer, _) => answer,
        }
    }

    pub(crate) fn reset(&self, unit: &str) -> Answer {
        self.log(Event::Cleared(unit.to_owned()));
        if self.next("resets", &self.faults.resets) {
            return failed("refused");
        }
        if self.state(unit) == ActiveState::Failed {
            self.set(unit, ActiveState::Inactive, "dead");
        }
        Ok(())
    }

    pub(crate) fn abort_unit(&self, unit: &str) {
        self.log(Event::Aborted(unit.to_owned()));
        let Some(index) = self.truth.borrow().owner(unit) else { return };
        if !self.next("aborts", &self.faults.aborts) {
            self.stop(index, unit);
        }
    }

    fn state(&self, unit: &str) -> ActiveState {
        self.truth.borrow().unit(unit).map_or(ActiveState::Inactive, |unit| unit.active.clone())
    }

    fn set(&self, name: &str, active: ActiveState, sub: &str) {
        let mut truth = self.truth.borrow_mut();
        let Some(index) = truth.owner(name) else { return };
        let instance = &mut truth.instances[index].instance;
        let units = [&mut instance.service, &mut instance.socket, &mut instance.rescue];
        for unit in units.into_iter().filter(|unit| unit.name == name) {
            unit.job = [ActiveState::Activating, ActiveState::Deactivating].contains(&active);
            (unit.active, unit.sub) = (active.clone(), sub.to_owned());
        }
    }

    fn stop(&self, index: usize, unit: &str) {
        if unit.ends_with(".service") {
            let _ = self.stop_service(index, Fate::Works);
        } else {
            self.close(unit);
        }
    }

    fn stop_service(&self, index: usize, fate: Fate) -> Answer {
        let service = self.truth.borrow().instances[index].instance.service.clone();
        if [ActiveState::Inactive, ActiveState::Failed].contains(&service.active) {
            return Ok(());
        }
        if fate == Fate::HangsStopping {
            self.set(&service.name, ActiveState::Deactivating, "stop-sigterm");
            return Err(JobFailure::TimedOut("timeout".to_owned()));
        }
        self.leave(index, &service, ActiveState::Inactive);
        Ok(())
    }

    /// The service stops or fails: what is left of it ends, and its runtime directory is removed.
    fn leave(&self, index: usize, service: &Unit, state: ActiveState) {
        let spares = [KillMode::Process, KillMode::None].contains(&service.kill_mode);
        let truth = self.truth.borrow();
        let (main, has_directory) =
            (truth.instances[index].instance.service.main_pid, truth.instances[index].has_directory);
        let of_group = truth.processes.iter().filter(|process| process.facts.unit.as_deref() == Some(&service.name));
        let ended: Vec<i32> = of_group.map(|p| p.facts.pid).filter(|pid| !spares || Some(*pid) == main).collect();
        drop(truth);
        for pid in main.into_iter().chain(ended) {
            self.end(pid);
        }
        self.truth.borrow_mut().runtime_directory &= !has_directory;
        let sub = if state == ActiveState::Failed { "failed" } else { "dead" };
        self.set(&service.name, state, sub);
        self.truth.borrow_mut().instances[index].instance.service.main_pid = None;
    }

    fn start_service(&self, index: usize, fate: Fate) -> Answer {
        let managed = self.truth.borrow().instances[index].clone();
        let (service, socket) = (managed.instance.service, managed.instance.socket);
        match service.active {
            ActiveState::Active => return Ok(()),
            ActiveState::Deactivating => self.leave(index, &service, ActiveState::Inactive),
            _ => {}
        }
        if !service.exists() {
            return failed("not-found");
        }
        self.stop_conflicting(index, &service.name);
        if managed.requires_socket && self.state(&socket.name) != ActiveState::Active {
            self.open(index, &socket.name, Fate::Works).or_else(|_| failed("dependency"))?;
        }
        let has_runtime_directory = {
            let mut truth = self.truth.borrow_mut();
            truth.runtime_directory |= managed.has_directory;
            truth.runtime_directory
        };
        if fate == Fate::Hangs {
            self.set(&service.name, ActiveState::Activating, "start-pre");
            return Err(JobFailure::TimedOut("timeout".to_owned()));
        }
        if managed.broken || fate == Fate::Fails || !has_runtime_directory {
            self.leave(index, &service, ActiveState::Failed);
            return failed("exit-code");
        }
        let passed: Vec<ListenSocket> = match self.state(&socket.name) == ActiveState::Active && !socket.accept {
            true => self.held(&socket.name),
            false => Vec::new(),
        };
        let binds_itself = passed.is_empty();
        let later = matches!(fate, Fate::NeverBinds | Fate::BindsLate(_)) && binds_itself;
        let sockets = match binds_itself {
            true if later => Vec::new(),
            true => self.bind(&managed.own, fate),
            false => passed,
        };
        if sockets.is_empty() && !later {
            // "Cannot bind any address", status 255.
            self.leave(index, &service, ActiveState::Failed);
            return failed("exit-code");
        }
        let mut truth = self.truth.borrow_mut();
        let pid = truth.spawn(index, sockets);
        if let (Fate::BindsLate(looks), true) = (fate, later) {
            truth.processes.last_mut().expect("the new one").late = Some((looks, managed.own));
        }
        truth.instances[index].instance.service.main_pid = Some(pid);
        drop(truth);
        self.set(&service.name, ActiveState::Active, "running");
        if fate == Fate::Dies {
            self.leave(index, &service, ActiveState::Failed);
        }
        Ok(())
    }

    /// Those that are free: sshd serves what it can bind.
    fn bind(&self, addresses: &Addresses, fate: Fate) -> Vec<ListenSocket> {
        let mut truth = self.truth.borrow_mut();
        let wanted: Vec<ListenSocket> = addresses.iter().map(|address| truth.socket(*address, true, false)).collect();
        let free: Vec<ListenSocket> = wanted.into_iter().filter(|socket| truth.is_free(socket)).collect();
        let count = if fate == Fate::BindsOne { 1 } else { free.len() };
        free.into_iter().take(count).collect()
    }

    fn held(&self, unit: &str) -> Vec<ListenSocket> {
        let truth = self.truth.borrow();
        truth.by_systemd.iter().filter(|(holder, _)| holder == unit).map(|(_, socket)| *socket).collect()
    }

    /// Starts a socket unit: the instance's own, or its rescue.
    fn open(&self, index: usize, name: &str, fate: Fate) -> Answer {
        let managed = self.truth.borrow().instances[index].clone();
        let instance = managed.instance;
        if self.state(name) == ActiveState::Active {
            return Ok(());
        }
        let is_rescue = name == instance.rescue.name;
        let file = self.truth.borrow().files.get(&instance.service.name).and_then(|files| files.rescue.clone());
        let sockets: Vec<ListenSocket> = if is_rescue {
            let Some(rescue) = file else { return failed("not-found") };
            rescue.conflicts.iter().for_each(|unit| self.stop(index, unit));
            let bound = rescue.socket_settings.iter().any(|setting| setting.starts_with("BindToDevice="));
            let mut truth = self.truth.borrow_mut();
            rescue.addresses.iter().map(|address| truth.socket(*address, rescue.ipv6_only, bound)).collect()
        } else {
            if self.state(&instance.service.name) == ActiveState::Active {
                return failed("already active, refusing");
            }
            self.stop_conflicting(index, name);
            let mut truth = self.truth.borrow_mut();
            let socket = &instance.socket;
            socket.tcp_addresses().map(|at| truth.socket(at, socket.ipv6_only, socket.device_bound)).collect()
        };
        let is_free = sockets.iter().all(|socket| self.truth.borrow().is_free(socket));
        if fate == Fate::Fails || fate == Fate::Hangs || !is_free {
            self.set(name, ActiveState::Failed, "failed");
            return failed("resources");
        }
        if fate == Fate::Dies {
            self.set(name, ActiveState::Failed, "failed");
            return Ok(());
        }
        self.truth.borrow_mut().by_systemd.extend(sockets.into_iter().map(|socket| (name.to_owned(), socket)));
        self.set(name, ActiveState::Active, "listening");
        Ok(())
    }

    fn close(&self, name: &str) {
        self.truth.borrow_mut().by_systemd.retain(|(unit, _)| unit != name);
        if self.state(name) != ActiveState::Failed {
            self.set(name, ActiveState::Inactive, "dead");
        }
    }

    /// What hangs ends at last.
    pub(crate) fn pass_time(&self) {
        let truth = self.truth.borrow();
        let services: Vec<Unit> = truth.instances.iter().map(|managed| managed.instance.service.clone()).collect();
        drop(truth);
        for (index, service) in services.iter().enumerate() {
            match service.active {
                ActiveState::Activating => self.leave(index, service, ActiveState::Failed),
                ActiveState::Deactivating => self.leave(index, service, ActiveState::Inactive),
                _ => {}
            }
        }
    }

    /// `Conflicts=` of the rescue, as it was written.
    fn stop_conflicting(&self, index: usize, unit: &str) {
        let (name, rescue) = {
            let truth = self.truth.borrow();
            let instance = &truth.instances[index].instance;
            let files = truth.files.get(&instance.service.name);
            (instance.rescue.name.clone(), files.and_then(|files| files.rescue.clone()))
        };
        if rescue.is_some_and(|rescue| rescue.conflicts.iter().any(|conflict| conflict == unit)) {
            self.close(&name);
        }
    }

    /// Writes the units of a rescue. systemd reads them again, and closes what an active socket no longer declares.
    pub(crate) fn write_files(&self, rescue: &Rescue) {
        let mut truth = self.truth.borrow_mut();
        let files = truth.files.entry(rescue.instance.clone()).or_default();
        files.rescue = Some(rescue.clone());
        files.fallback = true;
        let name = format!("sshd-mend-rescue-{}.socket", rescue.instance.trim_end_matches(".service"));
        truth.by_systemd.retain(|(unit, socket)| *unit != name || rescue.addresses.contains(&socket.address));
        let index = truth.owner(&rescue.instance).expect("an instance");
        let unit = &mut truth.instances[index].instance.rescue;
        let listen = rescue.addresses.iter().copied().map(Listen::Tcp).collect();
        let written = support::unit(&name, unit.active.as_str(), &unit.sub.clone(), "static");
        *unit = Unit { listen, ipv6_only: rescue.ipv6_only, ..written };
    }
}
