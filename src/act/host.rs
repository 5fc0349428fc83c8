//! The machine that this program runs on, as an execution needs it.

use rustix::fs::Mode;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::machine::{JobFailure, Machine, Target};
use super::record::Record;
use super::replace::replace;
use super::rescue_units::{self, UnitFile};
use crate::decide::role::{owns, role_among};
use crate::host::deadline::Deadline;
use crate::host::pid_ref::PidRef;
use crate::host::probe::probe;
use crate::host::proof;
use crate::host::signals::Signals;
use crate::host::sock_diag;
use crate::host::systemd::{Error, Manager};
use crate::host::watchdog::Watchdog;
use crate::model::address::INTERFACES;
use crate::model::diagnosis::Role;
use crate::model::intent::Intent;
use crate::model::names::{self, RUNTIME_DIRECTORY, RUNTIME_UNITS};
use crate::model::plan::{Job, Rescue, Start};
use crate::model::probe::Probe;
use crate::model::process::{ListenSocket, Process};
use crate::model::snapshot::Snapshot;
use crate::model::unit::{ActiveState, LoadState, Unit};
use crate::observe::processes::Proc;
use crate::observe::{control_group, process_again};

/// Limits one job of systemd. A restart of ssh.service takes 0.1 s; what takes longer than this locks people out.
const JOB_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a unit that was stopped in place of its own start may take to be at rest.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// systemd gives up on a unit after five starts within 10 s (DefaultStartLimitBurst=), if it was left at that.
const RESTARTS_TIMEOUT: Duration = Duration::from_secs(12);
const ABORT_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a fresh listener may take to bind its addresses, where its unit does not tell that it is ready.
const LISTENER_TIMEOUT: Duration = Duration::from_secs(5);
const LISTENER_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Limits the probe of one address.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// See the module.
pub struct Host<'a> {
    pub manager: &'a Manager,
    /// The facts by which the plan was made.
    pub snapshot: &'a Snapshot,
    /// `None`: nothing can be written under /run/sshd-mend.
    pub record: Option<&'a Record>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    pub signals: &'a Signals,
    pub watchdog: &'a Watchdog,
}

/// A pinned listener of this host.
pub struct HostTarget<'a> {
    pinned: PidRef,
    judged: Process,
    manager: &'a Manager,
    snapshot: &'a Snapshot,
}

impl Target for HostTarget<'_> {
    fn judged(&self) -> &Process {
        &self.judged
    }

    fn is_unchanged(&self) -> bool {
        let programs = self.snapshot.instances.iter().map(|instance| instance.program.path.as_path());
        let Ok(Some(now)) = process_again(&self.pinned) else { return false };
        let same = now.is_same_as(&self.judged) && role_among(&now, programs) == Role::Listener;
        // A package's own restart can make an orphan the main process of an active unit, or end a unit.
        let owner_is_same = || {
            self.snapshot.instances.iter().all(|instance| match self.manager.unit(instance.name()) {
                Ok(service) => owns(&service, &now) == owns(&instance.service, &now),
                Err(_) => false,
            })
        };
        same && owner_is_same()
    }

    fn has_exited(&self) -> bool {
        self.pinned.has_exited().unwrap_or(false)
    }
}

impl Host<'_> {
    fn record(&self) -> io::Result<&Record> {
        self.record.ok_or_else(|| io::Error::other("/run/sshd-mend could not be created"))
    }

    fn write_units(&self, units: &[UnitFile]) -> io::Result<()> {
        std::fs::create_dir_all(RUNTIME_UNITS)?;
        for unit in units {
            // A rescue that is active keeps its files until the new ones are whole. systemd ignores hidden files.
            replace(&Path::new(RUNTIME_UNITS).join(&unit.name), unit.text.as_bytes(), Mode::from_raw_mode(0o644))?;
        }
        // systemd reads a unit that is not loaded from its file. A reload would be a risk for other units: one that
        // changes the addresses of an active socket closes its descriptors.
        for unit in units.iter().filter(|unit| !unit.name.contains('@')) {
            let seen = self.manager.unit(&unit.name).map_err(|error| io::Error::other(error.to_string()))?;
            let current = match seen.needs_reload {
                true => self.manager.reload().and_then(|()| self.manager.unit(&unit.name)),
                false => Ok(seen),
            };
            let current = current.map_err(|error| io::Error::other(error.to_string()))?;
            match current.load {
                LoadState::Loaded => {}
                LoadState::Masked => {
                    return Err(io::Error::other(format!(
                        "{0} is masked; to allow it: systemctl unmask {0}",
                        unit.name
                    )));
                }
                _ => return Err(io::Error::other(format!("systemd does not accept {}", unit.name))),
            }
        }
        Ok(())
    }
}

impl<'a> Machine for Host<'a> {
    type Target = HostTarget<'a>;

    fn pin(&self, process: &Process) -> Option<Self::Target> {
        let pinned = PidRef::open(process.pid).ok().flatten()?;
        Some(HostTarget { pinned, judged: process.clone(), manager: self.manager, snapshot: self.snapshot })
    }

    fn terminate(&self, target: &Self::Target) -> io::Result<()> {
        target.pinned.terminate()
    }

    fn kill(&self, target: &Self::Target) -> io::Result<()> {
        target.pinned.kill()
    }

    fn wait(&self, targets: &[&Self::Target], limit: Duration) {
        let deadline = Deadline::after(limit);
        for target in targets {
            if let Err(error) = target.pinned.wait(deadline) {
                log::error!("listener {} could not be waited for: {error}", target.judged.pid);
            }
        }
        self.watchdog.progress();
    }

    fn grace(&self) -> Duration {
        self.grace
    }

    fn has_runtime_directory(&self) -> bool {
        Path::new(RUNTIME_DIRECTORY).is_dir()
    }

    fn create_runtime_directory(&self) -> io::Result<()> {
        match rustix::fs::mkdir(RUNTIME_DIRECTORY, Mode::from_raw_mode(0o755)) {
            // The umask may have taken bits away.
            Ok(()) => Ok(rustix::fs::chmod(RUNTIME_DIRECTORY, Mode::from_raw_mode(0o755))?),
            Err(rustix::io::Errno::EXIST) if self.has_runtime_directory() => Ok(()),
            Err(rustix::io::Errno::EXIST) => {
                let what = format!("something else is at its place; to have it created: rm {RUNTIME_DIRECTORY}");
                Err(io::Error::new(io::ErrorKind::AlreadyExists, what))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn intent(&self) -> Option<Intent> {
        self.record.and_then(Record::intent)
    }

    fn write_intent(&self, intent: Intent) -> io::Result<()> {
        let record = self.record()?;
        if intent.instances.is_empty() { record.clear_intent() } else { record.write_intent(&intent) }
    }

    fn write_rescue(&self, rescue: &Rescue) -> io::Result<()> {
        let interfaces = std::fs::read_to_string(INTERFACES).unwrap_or_default();
        self.write_units(&rescue_units::units(rescue, &interfaces))
    }

    fn write_fallback(&self, instance: &str, start: &Start) -> io::Result<()> {
        self.write_units(&[rescue_units::fallback(instance, start, None)])
    }

    fn remove_rescue(&self, instance: &str) {
        for name in [names::fallback(instance), names::rescue_socket(instance), names::rescue_service(instance)] {
            match std::fs::remove_file(Path::new(RUNTIME_UNITS).join(&name)) {
                Ok(()) => log::debug!("{name} was removed"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => log::debug!("{name} could not be removed: {error}"),
            }
        }
    }

    fn reset_failed(&self, unit: &str) -> Result<(), JobFailure> {
        self.manager.reset_failed(unit).map_err(JobFailure::from)
    }

    fn run(&self, job: Job, unit: &str) -> Result<(), JobFailure> {
        let result = self.manager.run(job, unit, Deadline::after(JOB_TIMEOUT)).map_err(JobFailure::from);
        self.watchdog.progress();
        result
    }

    fn abort(&self, unit: &str) {
        // A stop is propagated to other units, also that of a unit which is at rest (systemd.unit(5), PartOf=).
        if self.manager.unit(unit).is_ok_and(|unit| !unit.is_busy()) {
            return;
        }
        let aborted = self.manager.abort(unit);
        log::debug!("stop {unit}: {aborted:?}");
        let limit = Deadline::after(ABORT_TIMEOUT);
        while self.manager.unit(unit).is_ok_and(|unit| unit.is_busy()) && !limit.has_passed() {
            std::thread::sleep(ABORT_POLL_INTERVAL);
        }
    }

    fn is_active(&self, unit: &str) -> bool {
        self.manager.unit(unit).is_ok_and(|unit| unit.active == ActiveState::Active)
    }

    fn is_restarting(&self, unit: &str) -> bool {
        self.manager.unit(unit).is_ok_and(|unit| unit.restarts_itself())
    }

    fn wait_for_rest(&self, since: Instant) -> bool {
        std::thread::sleep(ABORT_POLL_INTERVAL);
        self.watchdog.progress();
        since.elapsed() < RESTARTS_TIMEOUT
    }

    fn ends_only(&self, instance: &str, processes: &BTreeSet<i32>) -> bool {
        let Ok(service) = self.manager.unit(instance) else { return false };
        let living = || control_group::processes(&service.control_group);
        service.spares_other_processes() || living().is_ok_and(|pids| pids.iter().all(|pid| processes.contains(pid)))
    }

    fn wait_for_others(&self, unit: &str) -> bool {
        let passing =
            [ActiveState::Reloading, ActiveState::Refreshing, ActiveState::Activating, ActiveState::Deactivating];
        let is_under_way = || {
            let unit = self.manager.unit(unit);
            unit.is_ok_and(|unit| !unit.restarts_itself() && (unit.job || passing.contains(&unit.active)))
        };
        if !is_under_way() {
            return false;
        }
        let limit = Deadline::after(JOB_TIMEOUT);
        while is_under_way() && !limit.has_passed() {
            std::thread::sleep(ABORT_POLL_INTERVAL);
        }
        self.watchdog.progress();
        true
    }

    fn probe(&self, address: SocketAddr) -> Probe {
        let probe = probe(address, Deadline::after(PROBE_TIMEOUT));
        self.watchdog.progress();
        probe
    }

    fn prove(&self, address: SocketAddr, probe: Probe) -> Probe {
        let probe = proof::prove(probe, address, Deadline::after(PROBE_TIMEOUT));
        self.watchdog.progress();
        probe
    }

    fn served_by(&self, instance: &str) -> BTreeSet<SocketAddr> {
        let Some(instance) = self.snapshot.instance(instance) else { return BTreeSet::new() };
        let sockets = [&instance.socket.name, &instance.rescue.name];
        let active = sockets.into_iter().filter_map(|name| self.manager.unit(name).ok()).filter(Unit::is_active);
        let of_units: BTreeSet<SocketAddr> = active.flat_map(|unit| unit.tcp_addresses().collect::<Vec<_>>()).collect();
        let held = || -> Result<(BTreeSet<u64>, BTreeSet<u64>), procfs::ProcError> {
            let proc = Proc::host()?;
            let group = self.manager.unit(instance.name()).map(|unit| unit.control_group).unwrap_or_default();
            let mut of_processes = BTreeSet::new();
            for pid in control_group::processes(&group)? {
                // One that has exited holds nothing.
                of_processes.extend(proc.sockets_of(pid).unwrap_or_default());
            }
            Ok((proc.sockets_of_init()?, of_processes))
        };
        let (Ok(sockets), Ok((of_init, of_processes))) = (sock_diag::listening(), held()) else {
            return BTreeSet::new();
        };
        let is_own = |socket: &&ListenSocket| {
            let by_systemd = of_init.contains(&socket.inode) && of_units.contains(&socket.address);
            by_systemd || of_processes.contains(&socket.inode)
        };
        sockets.iter().filter(is_own).flat_map(ListenSocket::reached_at).collect()
    }

    fn wait_for_listener(&self, since: Instant) -> bool {
        std::thread::sleep(LISTENER_POLL_INTERVAL);
        since.elapsed() < LISTENER_TIMEOUT
    }

    fn is_asked_to_stop(&self) -> bool {
        self.signals.noted()
    }
}

impl From<Error> for JobFailure {
    fn from(error: Error) -> Self {
        match error {
            Error::JobTimedOut { .. } => Self::TimedOut(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
