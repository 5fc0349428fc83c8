//! The steps that put a fresh listener in the place of an old one, and every reason not to take them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{Action, Trigger, to_be_replaced, to_be_started};
use crate::address::{self, Coverage};
use crate::diagnosis::{Diagnosis, Listener, Role, role, taken_by_others};
use crate::observe::{SERVICE, SOCKET};
use crate::preflight::{Check, Package, Policy, Preflight, Server};
use crate::refusal::{Reason, Refusal};
use crate::snapshot::{Process, Snapshot, Unit};

/// The steps that put a fresh listener in the place of an old one.
#[derive(Default)]
pub(super) struct Replacement {
    /// In this order.
    pub(super) actions: Vec<Action>,
    /// To be served afterwards.
    pub(super) addresses: BTreeSet<SocketAddr>,
    /// Somebody serves now who will not when it begins.
    pub(super) ends_something: bool,
    /// See [`super::Plan::left_alone`].
    pub(super) left_alone: Vec<(i32, Refusal)>,
}

pub(super) fn replacement(
    snapshot: &Snapshot,
    diagnosis: &Diagnosis,
    preflight: &Preflight,
    trigger: Trigger,
) -> Result<Replacement, Refusal> {
    refuse_by_host(snapshot)?;
    let (orphans, owned): (Vec<&Listener>, Vec<&Listener>) =
        to_be_replaced(diagnosis, trigger).partition(|listener| listener.orphan);
    let started = coverage(snapshot, preflight, snapshot.socket.is_enabled());
    let mut unfit = Vec::new();
    // One that somebody started by hand at a port of its own keeps nobody from being mended.
    let orphans: Vec<&Listener> = orphans
        .into_iter()
        .filter(|orphan| match refuse_by_listener(process(snapshot, orphan), started.as_ref()) {
            Ok(()) => true,
            Err(refusal) => {
                unfit.push((orphan.pid, refusal));
                false
            }
        })
        .collect();
    for listener in &owned {
        refuse_by_listener(process(snapshot, listener), None)?;
    }
    if orphans.is_empty() && owned.is_empty() && !to_be_started(snapshot, diagnosis, trigger) {
        return unfit.into_iter().next().map_or_else(|| Ok(Replacement::default()), |(_, refusal)| Err(refusal));
    }
    let targets: Vec<&Listener> = orphans.iter().chain(&owned).copied().collect();
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

    if let Some(service) = snapshot.per_connection.as_ref().filter(|_| units.iter().any(|unit| unit == SOCKET)) {
        if service.load != "loaded" {
            let seen = format!("ssh@.service, which ssh.socket starts for each connection, is \"{}\"", service.load);
            return Err(Reason::UnitMissing.because(&seen));
        }
    }
    let involved: Vec<&Unit> = units.iter().filter_map(|name| find(snapshot, name)).collect();
    refuse_by_units(snapshot, &involved)?;
    // A repair that was cut off has ended the listener already: starting can only help, whatever speaks against it.
    let must_start = snapshot.intent.is_some() && targets.is_empty() && !snapshot.service.is_active();
    if !must_start {
        refuse_by_program(snapshot, preflight)?;
        refuse_by_server(&preflight.server)?;
    }

    // What is restarted along with them must be served afterwards too, whatever it is.
    let restarted = |pid: i32| involved.iter().any(|unit| unit.is_active() && unit.main_pid == Some(pid));
    let replaced: Vec<&Process> = snapshot
        .processes
        .iter()
        .filter(|process| targets.iter().any(|target| target.pid == process.pid) || restarted(process.pid))
        .collect();
    let rescued = rescued(&snapshot.rescue);
    let served = replaced.iter().flat_map(|process| process.listening.iter()).chain(&rescued).copied().collect();
    let reached_at: BTreeSet<SocketAddr> =
        replaced.iter().flat_map(|process| process.reached_at()).chain(rescued.iter().copied()).collect();
    let coverage = coverage(snapshot, preflight, units.iter().any(|unit| unit == SOCKET));
    if coverage.is_none() && !must_start && !preflight.needs_runtime_directory() {
        return Err(Reason::AddressesNotCovered.because("sshd -T does not tell which addresses it would serve"));
    }
    if let Some(coverage) = coverage.as_ref().filter(|_| !must_start) {
        let missing = coverage.missing(&reached_at);
        if !missing.is_empty() {
            return Err(Reason::AddressesNotCovered.because(&list(&missing)));
        }
        let taken = taken_by_others(snapshot, coverage.addresses(), &served);
        if !taken.is_empty() {
            return Err(Reason::ForeignListener.because(&taken.join(", ")));
        }
    }
    refuse_by_policy(snapshot, preflight, trigger)?;
    let mut addresses = served;
    addresses.extend(snapshot.intent.iter().flat_map(|intent| intent.addresses.iter().copied()));
    if addresses.is_empty() {
        addresses = coverage.map(|coverage| coverage.addresses().clone()).unwrap_or_default();
    }
    let ends_something =
        actions.iter().any(|action| !matches!(action, Action::ResetFailed { .. } | Action::StartUnit { .. }));
    Ok(Replacement { actions, addresses, ends_something, left_alone: unfit })
}

fn process<'a>(snapshot: &'a Snapshot, listener: &Listener) -> Option<&'a Process> {
    snapshot.processes.iter().find(|process| process.pid == listener.pid)
}

/// Where the units serve once they are started, with ssh.socket or without. `None`: sshd does not tell, at least not
/// before /run/sshd is there again.
fn coverage(snapshot: &Snapshot, preflight: &Preflight, starts_socket: bool) -> Option<Coverage> {
    if starts_socket || snapshot.socket.is_active() {
        return Some(Coverage::of_socket(&snapshot.socket));
    }
    preflight.server.own_addresses.as_ref().map(|own| Coverage::of_sshd(own))
}

/// What speaks against ending one listener.
pub(super) fn refuse_by_listener(process: Option<&Process>, coverage: Option<&Coverage>) -> Result<(), Refusal> {
    let Some(process) = process else { return Ok(()) };
    if process.traced {
        return Err(Reason::BeingDebugged.because(&format!("sshd {}", process.pid)));
    }
    let missing = coverage.map(|coverage| coverage.missing(&process.reached_at())).unwrap_or_default();
    if missing.is_empty() { Ok(()) } else { Err(Reason::AddressesNotCovered.because(&list(&missing))) }
}

/// Addresses at which the rescue serves.
fn rescued(rescue: &Unit) -> BTreeSet<SocketAddr> {
    rescue.listen.iter().filter(|_| rescue.is_active()).filter_map(|text| address::parse(text)).collect()
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
    [&snapshot.service, &snapshot.socket].into_iter().find(|unit| unit.name == name)
}

pub(super) fn refuse_by_host(snapshot: &Snapshot) -> Result<(), Refusal> {
    if snapshot.host.shutting_down {
        return Err(Reason::ShuttingDown.because(""));
    }
    if snapshot.host.not_to_be_run {
        return Err(Reason::NotToBeRun.because(""));
    }
    Ok(())
}

pub(super) fn refuse_by_units(snapshot: &Snapshot, units: &[&Unit]) -> Result<(), Refusal> {
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

pub(super) fn refuse_by_program(snapshot: &Snapshot, preflight: &Preflight) -> Result<(), Refusal> {
    if snapshot.program.file.is_none() {
        return Err(Reason::BinaryMissing.because(&snapshot.program.path.to_string_lossy()));
    }
    if let Package::Unconfigured(status) = &preflight.package {
        return Err(Reason::PackageUnconfigured.because(status));
    }
    Ok(())
}

pub(super) fn refuse_by_policy(snapshot: &Snapshot, preflight: &Preflight, trigger: Trigger) -> Result<(), Refusal> {
    match (trigger, &preflight.policy, &snapshot.intent) {
        // What was begun is finished: the policy was asked before it began.
        (Trigger::Hook, Policy::Denies(why), None) => Err(Reason::PolicyRcD.because(why)),
        _ => Ok(()),
    }
}

pub(super) fn refuse_by_server(server: &Server) -> Result<(), Refusal> {
    if let Check::Failed(words) = &server.config {
        return Err(Reason::ConfigInvalid.because(words));
    }
    if let Check::Failed(words) = &server.handshake {
        return Err(Reason::BinaryUnusable.because(words));
    }
    Ok(())
}

pub(super) fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
