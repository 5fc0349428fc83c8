//! The simulated machine as the executor sees it: every call may have the fault that waits for it.

use super::faults::{Answer, Stubborn};
use super::truth::{Addresses, Running};
use super::world::{Event, World};
use crate::facts::{is_reached, reached_at};
use sshd_mend::act::{JobFailure, Machine, Target};
use sshd_mend::model::intent::Intent;
use sshd_mend::model::plan::{Job, Rescue, Start};
use sshd_mend::model::probe::{Probe, ProbeResult};
use sshd_mend::model::process::{ListenSocket, Process};
use sshd_mend::model::snapshot::Instance;
use sshd_mend::model::unit::ActiveState;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How often the executor may look for a listener that binds late.
const LOOKS: usize = 4;

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
            self.world.pause(Some(self.judged.pid));
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
            world.pinned.set(Some(process.pid));
            let found = truth.processes.iter().find(|running| running.facts.pid == process.pid)?;
            Some(Pinned { world, judged: process.clone(), ticks: found.facts.started_ticks })
        })
    }

    fn terminate(&self, target: &Pinned<'w>) -> io::Result<()> {
        self.call(|| {
            let stubborn = self.next("signals", &self.faults.stubborn);
            self.stubborn.borrow_mut().insert(target.judged.pid, stubborn);
            let owner = self.truth.borrow().owner_of(target.judged.pid);
            self.log(Event::Signalled(target.judged.pid, owner));
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
        self.call(|| {
            self.pause(None);
            self.truth.borrow().intent.clone()
        })
    }

    fn write_intent(&self, intent: Intent) -> io::Result<()> {
        self.call(|| {
            self.pause(None);
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

    fn write_fallback(&self, instance: &str, _: &Start) -> io::Result<()> {
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

    fn is_restarting(&self, unit: &str) -> bool {
        self.call(|| self.truth.borrow().unit(unit).is_some_and(|unit| unit.restarts_itself()))
    }

    fn wait_for_rest(&self, _since: std::time::Instant) -> bool {
        self.call(|| false)
    }

    fn ends_only(&self, _instance: &str, _processes: &BTreeSet<i32>) -> bool {
        true
    }

    fn wait_for_others(&self, _unit: &str) -> bool {
        false
    }

    fn probe(&self, address: SocketAddr) -> Probe {
        self.call(|| {
            let result = match self.next("answers", &self.faults.answers) {
                Answer::Truth => self.answer(address),
                Answer::Ok => ProbeResult::Ok,
                Answer::Dead => ProbeResult::Dead,
                Answer::Inconclusive => ProbeResult::Inconclusive,
            };
            Probe::new(result, "seen")
        })
    }

    fn prove(&self, _address: SocketAddr, probe: Probe) -> Probe {
        probe
    }

    fn served_by(&self, instance: &str) -> Addresses {
        self.call(|| {
            let truth = self.truth.borrow();
            let own = &truth.instances[self.index(instance)].instance;
            let is_of = |process: &&Running| process.facts.unit.as_deref() == Some(instance);
            let processes = truth.processes.iter().filter(is_of).flat_map(|process| &process.facts.sockets);
            let is_own = |unit: &str| [&own.socket.name, &own.rescue.name].into_iter().any(|name| name == unit);
            let by_systemd = truth.by_systemd.iter().filter(|(unit, _)| is_own(unit)).map(|(_, socket)| socket);
            processes.chain(by_systemd).flat_map(reached_at).collect()
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
        self.call(|| {
            self.pause(None);
            self.faults.asked_to_stop.is_some_and(|nth| question >= nth)
        })
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
}
