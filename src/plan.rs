//! Which steps mend the machine, or why none is taken. Pure: what a dry run prints is the value that a repair carries
//! out.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::address::{self, Coverage};
use crate::diagnosis::{Code, Diagnosis, Listener, Role, is_listener, role};
use crate::observe::{RUNTIME_DIRECTORY, SERVICE, SOCKET};
use crate::preflight::{Check, Package, Policy, Preflight};
use crate::refusal::{Reason, Refusal};
use crate::snapshot::{Snapshot, Unit};

/// Who asks for a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// A person, who is not bound by policy-rc.d.
    Repair,
    /// A package run.
    Hook,
}

/// The steps to take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// A fault was seen, and this is why no more is done about it.
    pub refusal: Option<Refusal>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Create sshd's privilege separation directory: first aid, which ends nothing.
    CreateRuntimeDirectory {
        /// The directory.
        path: String,
    },
    /// End a listener: SIGTERM, then SIGKILL.
    Terminate {
        /// The process.
        pid: i32,
        /// Its start in clock ticks since boot.
        started_ticks: u64,
    },
    /// Clear a unit's failed state and start counter.
    ResetFailed {
        /// The unit.
        unit: String,
    },
    /// Stop a unit.
    StopUnit {
        /// The unit.
        unit: String,
    },
    /// Start a unit.
    StartUnit {
        /// The unit.
        unit: String,
    },
    /// Restart a unit.
    RestartUnit {
        /// The unit.
        unit: String,
    },
    /// Let systemd serve SSH, one connection at a time.
    StartRescue {
        /// Where.
        addresses: BTreeSet<SocketAddr>,
    },
    /// End that again.
    StopRescue {
        /// Its socket unit.
        unit: String,
    },
    /// See whether a new connection gets through.
    Probe {
        /// Where.
        address: SocketAddr,
    },
}

impl Plan {
    /// There is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// The addresses that it probes: those that have to be served at its end.
    #[must_use]
    pub fn probed(&self) -> BTreeSet<SocketAddr> {
        let address = |action: &Action| match action {
            Action::Probe { address } => Some(*address),
            _ => None,
        };
        self.actions.iter().filter_map(address).collect()
    }

    /// Its first step is the mildest cure.
    #[must_use]
    pub fn begins_with_first_aid(&self) -> bool {
        matches!(self.actions.first(), Some(Action::CreateRuntimeDirectory { .. }))
    }

    /// It ends, starts or restarts something. First aid does not.
    #[must_use]
    pub fn replaces(&self) -> bool {
        self.actions
            .iter()
            .any(|action| !matches!(action, Action::CreateRuntimeDirectory { .. } | Action::Probe { .. }))
    }
}

/// Listeners that this trigger would end or restart.
fn to_be_replaced(diagnosis: &Diagnosis, trigger: Trigger) -> impl Iterator<Item = &Listener> {
    // An orphan that is not stale still serves: a package run only touches it once it is dead.
    diagnosis
        .listeners
        .iter()
        .filter(move |l| l.stale || (l.orphan && (trigger == Trigger::Repair || l.probe.is_dead())))
}

/// The plan may depend on what the program on disk can do.
#[must_use]
pub fn needs_preflight(snapshot: &Snapshot, diagnosis: &Diagnosis, trigger: Trigger) -> bool {
    to_be_replaced(diagnosis, trigger).next().is_some() || to_be_started(snapshot, diagnosis, trigger)
}

/// Nobody serves SSH as declared, and this trigger would change that.
fn to_be_started(snapshot: &Snapshot, diagnosis: &Diagnosis, trigger: Trigger) -> bool {
    let owned = diagnosis.listeners.iter().any(|listener| !listener.orphan);
    diagnosis.has(Code::Down)
        || (diagnosis.has(Code::Interrupted) && !owned && !snapshot.service.is_active())
        // A rescue serves: a package run does not touch what people may be using to mend the machine.
        || (diagnosis.has(Code::RescueActive) && trigger == Trigger::Repair)
}

/// Makes the plan. `preflight` may be left out if it is not [needed](needs_preflight).
#[must_use]
pub fn plan(snapshot: &Snapshot, diagnosis: &Diagnosis, preflight: Option<&Preflight>, trigger: Trigger) -> Plan {
    let first_aid = diagnosis.has(Code::RuntimeDirectoryMissing);
    let mut actions = Vec::new();
    if first_aid {
        actions.push(Action::CreateRuntimeDirectory { path: RUNTIME_DIRECTORY.to_owned() });
    }
    let mut served: BTreeSet<SocketAddr> =
        diagnosis.listeners.iter().flat_map(|l| l.addresses.iter().copied()).collect();
    served.extend(snapshot.intent.iter().flat_map(|intent| intent.addresses.iter().copied()));
    let probes = |addresses: &BTreeSet<SocketAddr>| {
        addresses.iter().map(|address| Action::Probe { address: *address }).collect::<Vec<_>>()
    };

    let Some(preflight) = preflight.filter(|_| needs_preflight(snapshot, diagnosis, trigger)) else {
        if first_aid || diagnosis.has(Code::Interrupted) {
            actions.extend(probes(&served));
        }
        return Plan { actions, refusal: None };
    };
    match replacement(snapshot, diagnosis, preflight, trigger) {
        Ok(replacement) => {
            // The last checks of the replacement can be made only where the directory is.
            if !first_aid && preflight.config == Check::NeedsRuntimeDirectory && replacement.ends_something {
                actions.push(Action::CreateRuntimeDirectory { path: RUNTIME_DIRECTORY.to_owned() });
            }
            actions.extend(replacement.actions);
            actions.extend(probes(&replacement.addresses));
            Plan { actions, refusal: None }
        }
        Err(refusal) => {
            if first_aid {
                actions.extend(probes(&served));
            }
            Plan { actions, refusal: Some(refusal) }
        }
    }
}

/// The steps that put a fresh listener in the place of an old one.
struct Replacement {
    actions: Vec<Action>,
    /// To be served afterwards.
    addresses: BTreeSet<SocketAddr>,
    /// Somebody serves now who will not when it begins.
    ends_something: bool,
}

fn replacement(
    snapshot: &Snapshot,
    diagnosis: &Diagnosis,
    preflight: &Preflight,
    trigger: Trigger,
) -> Result<Replacement, Refusal> {
    refuse_by_host(snapshot)?;
    let targets: Vec<&Listener> = to_be_replaced(diagnosis, trigger).collect();
    let (orphans, owned): (Vec<&Listener>, Vec<&Listener>) = targets.iter().partition(|listener| listener.orphan);
    let mut actions = Vec::new();
    for orphan in &orphans {
        let started_ticks = snapshot.processes.iter().find(|p| p.pid == orphan.pid).map_or(0, |p| p.started_ticks);
        actions.push(Action::Terminate { pid: orphan.pid, started_ticks });
    }
    if snapshot.rescue.is_active() && trigger == Trigger::Repair {
        actions.push(Action::StopRescue { unit: snapshot.rescue.name.clone() });
    }
    let start = if orphans.is_empty() && !owned.is_empty() { Start::default() } else { start(snapshot)? };
    actions.extend(start.actions);
    let mut units = start.units;
    for listener in &owned {
        let Some(unit) = listener.unit.as_ref().filter(|unit| !units.contains(unit)) else { continue };
        units.push(unit.clone());
        actions.push(Action::ResetFailed { unit: unit.clone() });
        actions.push(Action::RestartUnit { unit: unit.clone() });
    }

    let involved: Vec<&Unit> = units.iter().filter_map(|name| find(snapshot, name)).collect();
    refuse_by_units(snapshot, &involved)?;
    // A repair that was cut off has ended the listener already: starting can only help, whatever speaks against it.
    let must_start = snapshot.intent.is_some() && targets.is_empty() && !snapshot.service.is_active();
    if !must_start {
        refuse_by_program(snapshot, preflight)?;
    }

    // What is restarted along with them must be served afterwards too, whatever it is.
    let restarted = |pid: i32| involved.iter().any(|unit| unit.is_active() && unit.main_pid == Some(pid));
    let served: BTreeSet<SocketAddr> = snapshot
        .processes
        .iter()
        .filter(|process| targets.iter().any(|target| target.pid == process.pid) || restarted(process.pid))
        .flat_map(|process| process.listening.iter().copied())
        .chain(rescued(&snapshot.rescue))
        .collect();
    let by_socket = units.iter().any(|unit| unit == SOCKET) || snapshot.socket.is_active();
    let coverage = match (&preflight.own_addresses, by_socket) {
        (_, true) => Some(Coverage::of_socket(&snapshot.socket)),
        (Some(own), false) => Some(Coverage::of_sshd(own)),
        // Not known before /run/sshd is there again; looked at again then.
        (None, false) if must_start || preflight.config == Check::NeedsRuntimeDirectory => None,
        (None, false) => {
            return Err(Reason::AddressesNotCovered.because("sshd -T does not tell which addresses it would serve"));
        }
    };
    if let Some(coverage) = coverage.as_ref().filter(|_| !must_start) {
        let missing = coverage.missing(&served);
        if !missing.is_empty() {
            return Err(Reason::AddressesNotCovered.because(&list(&missing)));
        }
        let taken = taken_by_others(snapshot, coverage.addresses(), &served);
        if !taken.is_empty() {
            return Err(Reason::ForeignListener.because(&list(&taken)));
        }
    }
    // What was begun is finished: the policy was asked before it began.
    if let (Trigger::Hook, Policy::Denies(why), None) = (trigger, &preflight.policy, &snapshot.intent) {
        return Err(Reason::PolicyRcD.because(why));
    }
    let mut addresses = served;
    addresses.extend(snapshot.intent.iter().flat_map(|intent| intent.addresses.iter().copied()));
    if addresses.is_empty() {
        addresses = coverage.map(|coverage| coverage.addresses().clone()).unwrap_or_default();
    }
    let ends_something =
        actions.iter().any(|action| !matches!(action, Action::ResetFailed { .. } | Action::StartUnit { .. }));
    Ok(Replacement { actions, addresses, ends_something })
}

/// Addresses at which the rescue serves.
fn rescued(rescue: &Unit) -> impl Iterator<Item = SocketAddr> {
    rescue.listen.iter().filter(|_| rescue.is_active()).filter_map(|text| address::parse(text))
}

/// Starting what the administrator declared.
#[derive(Default)]
struct Start {
    actions: Vec<Action>,
    units: Vec<String>,
}

fn start(snapshot: &Snapshot) -> Result<Start, Refusal> {
    let (service, socket) = (&snapshot.service, &snapshot.socket);
    let by_socket = socket.is_enabled() || socket.is_active();
    let mut actions = Vec::new();
    let mut units = Vec::new();
    if by_socket {
        units.push(SOCKET.to_owned());
    }
    // With Accept=yes the socket starts a service of its own for each connection, and ssh.service has no part in it.
    if !(by_socket && socket.accept) {
        units.push(SERVICE.to_owned());
    }
    if !service.exists() {
        return Err(Reason::UnitMissing.because(""));
    }
    if !by_socket && !service.is_enabled() && !service.is_active() {
        let masked = [socket, service].into_iter().find(|unit| unit.masked());
        return Err(
            masked.map_or_else(|| Reason::NothingToStart.because(""), |unit| Reason::UnitMasked.because(&unit.name))
        );
    }
    actions.extend(units.iter().map(|unit| Action::ResetFailed { unit: unit.clone() }));
    let (start_unit, restart_unit) = (
        |unit: &str| Action::StartUnit { unit: unit.to_owned() },
        |unit: &str| Action::RestartUnit { unit: unit.to_owned() },
    );
    if by_socket && !socket.is_active() {
        // A socket cannot be started while its service runs ("already active, refusing").
        if service.is_active() {
            actions.push(Action::StopUnit { unit: SERVICE.to_owned() });
        }
        actions.push(start_unit(SOCKET));
        if units.iter().any(|unit| unit == SERVICE) {
            actions.push(start_unit(SERVICE));
        }
    } else if units.iter().any(|unit| unit == SERVICE) {
        actions.push(if service.is_active() { restart_unit(SERVICE) } else { start_unit(SERVICE) });
    }
    Ok(Start { actions, units })
}

fn find<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Unit> {
    [&snapshot.service, &snapshot.socket].into_iter().chain(&snapshot.other_units).find(|unit| unit.name == name)
}

fn refuse_by_host(snapshot: &Snapshot) -> Result<(), Refusal> {
    if snapshot.host.shutting_down {
        return Err(Reason::ShuttingDown.because(""));
    }
    if snapshot.host.not_to_be_run {
        return Err(Reason::NotToBeRun.because(""));
    }
    Ok(())
}

fn refuse_by_units(snapshot: &Snapshot, units: &[&Unit]) -> Result<(), Refusal> {
    for unit in units {
        if unit.masked() {
            return Err(Reason::UnitMasked.because(&unit.name));
        }
        if unit.load != "loaded" {
            return Err(Reason::UnitMissing.because(&format!("{} is \"{}\"", unit.name, unit.load)));
        }
        if !unit.can_start {
            return Err(Reason::NothingToStart
                .because(&format!("{} may not be started by hand (RefuseManualStart=)", unit.name)));
        }
        if unit.job {
            return Err(Reason::JobPending.because(&unit.name));
        }
        let sessions = snapshot
            .processes
            .iter()
            .filter(|p| role(p) == Role::Session && p.unit.as_deref() == Some(&unit.name))
            .count();
        if sessions > 0 && !matches!(unit.kill_mode.as_str(), "process" | "none") {
            return Err(Reason::WouldKillSessions.because(&format!("{} has KillMode={}", unit.name, unit.kill_mode)));
        }
    }
    Ok(())
}

fn refuse_by_program(snapshot: &Snapshot, preflight: &Preflight) -> Result<(), Refusal> {
    if snapshot.program.file.is_none() {
        return Err(Reason::BinaryMissing.because(&snapshot.program.path.to_string_lossy()));
    }
    if let Package::Unconfigured(status) = &preflight.package {
        return Err(Reason::PackageUnconfigured.because(status));
    }
    if let Check::Failed(words) = &preflight.config {
        return Err(Reason::ConfigInvalid.because(words));
    }
    if let Check::Failed(words) = &preflight.handshake {
        return Err(Reason::BinaryUnusable.because(words));
    }
    Ok(())
}

/// Addresses that a start needs and that a process holds which is neither PID 1 nor a listener of ours. A child that a
/// listener has just forked holds the listener's own addresses for a moment: those are not taken.
fn taken_by_others(
    snapshot: &Snapshot,
    needed: &BTreeSet<SocketAddr>,
    served: &BTreeSet<SocketAddr>,
) -> Vec<SocketAddr> {
    let others = snapshot
        .processes
        .iter()
        .filter(|p| p.surroundings.network_namespace && !is_listener(p))
        .flat_map(|p| p.listening.iter());
    let others = others.filter(|address| !served.contains(address));
    snapshot
        .foreign
        .iter()
        .chain(others)
        .filter(|held| needed.iter().any(|address| collide(**held, *address)))
        .copied()
        .collect()
}

/// Two sockets in LISTEN cannot have both.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let wildcard = |address: SocketAddr| address.ip().is_unspecified();
    let same_family = one.is_ipv4() == other.is_ipv4();
    // `[::]` may serve IPv4 too.
    let across = |address: SocketAddr| matches!(address.ip(), IpAddr::V6(ip) if ip.is_unspecified());
    one.port() == other.port()
        && (one.ip() == other.ip()
            || (same_family && (wildcard(one) || wildcard(other)))
            || (!same_family && (across(one) || across(other))))
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
