//! What is wrong with a machine, each thing in one sentence for a person.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::role::{instance_of, role, serves_by_itself};
use crate::model::address::{collide, list, reaches};
use crate::model::diagnosis::{Finding, FindingCode, Listener, Role, Severity};
use crate::model::names::{RECORD, RUNTIME_DIRECTORY};
use crate::model::probe::ProbeResult;
use crate::model::process::{ListenSocket, Process};
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::unit::{ActiveState, LoadState, Unit};

/// Everything that is wrong, in no order.
pub(super) fn findings(snapshot: &Snapshot, listeners: &[Listener]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = listeners.iter().filter_map(about_listener).collect();
    if !snapshot.host.runtime_directory && !listeners.is_empty() {
        // It explains why every connection is closed.
        findings.retain(|finding| finding.code != FindingCode::ListenerDead);
        findings.push(Finding {
            code: FindingCode::RuntimeDirectoryMissing,
            severity: Severity::Critical,
            instance: None,
            pid: None,
            message: format!(
                "{RUNTIME_DIRECTORY} is missing: sshd resets every new connection after the client's KEXINIT{}",
                if is_disabled(snapshot) {
                    ". It is not created, since the administrator disabled SSH here"
                } else {
                    ""
                }
            ),
        });
    }
    for instance in &snapshot.instances {
        findings.extend(about_instance(snapshot, instance, listeners));
    }
    findings
}

fn about_listener(listener: &Listener) -> Option<Finding> {
    let pid = listener.pid;
    let (code, message) = match (listener.stale, &listener.unit) {
        (true, None) => (
            FindingCode::StaleOrphan,
            format!("sshd {pid} runs a program that was replaced on disk, and no unit owns this process"),
        ),
        (true, Some(unit)) => {
            (FindingCode::StaleService, format!("sshd {pid} of {unit} runs a program that was replaced on disk"))
        }
        (false, None) => (
            FindingCode::Orphan,
            format!("no unit owns sshd {pid}: the next upgrade of openssh-server may lock everybody out"),
        ),
        (false, Some(unit)) if listener.probe.is_dead() => (
            FindingCode::ListenerDead,
            format!(
                "sshd {pid} of {unit} is current, but closes every new connection. See: journalctl -u {unit}; when the cause is removed: systemctl restart {unit}"
            ),
        ),
        (false, Some(unit)) if listener.probe.result == ProbeResult::Inconclusive => (
            FindingCode::NotAnswering,
            format!(
                "sshd {pid} of {unit} is current, but whether it lets anybody in is not known: {}. See: journalctl -u {unit}",
                listener.probe.detail
            ),
        ),
        (false, Some(_)) => return None,
    };
    let severity = if listener.probe.is_dead() { Severity::Critical } else { Severity::Warning };
    Some(Finding { code, severity, instance: Some(listener.instance.clone()), pid: Some(pid), message })
}

/// At most one finding about the units of an instance, and one about another program at its addresses.
fn about_instance(snapshot: &Snapshot, instance: &Instance, listeners: &[Listener]) -> Vec<Finding> {
    let finding = |code, severity, message: String| Finding {
        code,
        severity,
        instance: Some(instance.name().to_owned()),
        pid: None,
        message,
    };
    if instance.rescue.is_active() {
        let message =
            format!("{} serves SSH in place of {}, which could not be started", instance.rescue.name, instance.name());
        return vec![finding(FindingCode::RescueActive, Severity::Critical, message)];
    }
    let mut findings = Vec::new();
    let lost = lost_addresses(snapshot, instance);
    if !lost.is_empty() {
        let unwanted = format!("If it is not to be served any more: rm {RECORD}/intent");
        let by_hand = match serves_by_itself(snapshot, instance) {
            true => format!(
                ". It serves its other addresses, so it is not restarted for that. See why it does not serve this one \
                 (journalctl -u {}), then: {}. {unwanted}",
                instance.name(),
                restart(instance)
            ),
            false if instance.service.load != LoadState::Loaded => format!(". {unwanted}"),
            false => String::new(),
        };
        let message = format!(
            "a repair of {} was interrupted or failed; not served any more: {}{by_hand}",
            instance.name(),
            list(&lost)
        );
        findings.push(finding(FindingCode::Interrupted, Severity::Critical, message));
    }
    if let Some(message) = other_program(snapshot, instance, listeners) {
        findings.push(finding(FindingCode::ForeignListener, Severity::Critical, message));
    } else if lost.is_empty() {
        findings.extend(
            about_units(snapshot, instance, listeners)
                .map(|(code, severity, message)| finding(code, severity, message)),
        );
    }
    if instance.is_elsewhere() && (instance.service.is_active() || instance.socket.is_active()) {
        let message = format!(
            "{} serves in a network namespace of its own, which is not examined: whether a new connection to it gets through is not known",
            instance.name()
        );
        findings.push(finding(FindingCode::NotExamined, Severity::Warning, message));
    }
    findings
}

/// The administrator wants no sshd: the file that keeps it from running is there, or every unit is masked.
pub(super) fn is_disabled(snapshot: &Snapshot) -> bool {
    let is_masked = |instance: &Instance| {
        let mut units = instance.units().into_iter().filter(|unit| unit.exists()).peekable();
        units.peek().is_some() && units.all(|unit| unit.load == LoadState::Masked)
    };
    snapshot.host.not_to_be_run || snapshot.instances.iter().all(is_masked)
}

/// What starts all of an instance again. A socket cannot be started while its service runs.
fn restart(instance: &Instance) -> String {
    let [service, socket] = instance.units();
    match instance.uses_socket() && !socket.is_active() {
        true => format!("systemctl stop {0}; systemctl start {1} {0}", service.name, socket.name),
        false => format!("systemctl restart {}", service.name),
    }
}

/// Addresses that an interrupted repair was about to serve again, and that the instance does not serve.
pub(super) fn lost_addresses(snapshot: &Snapshot, instance: &Instance) -> BTreeSet<SocketAddr> {
    let Some(intent) = snapshot.intent_of(instance.name()) else { return BTreeSet::new() };
    unserved(&intent.addresses, &served_by(snapshot, instance))
}

fn unserved(wanted: &BTreeSet<SocketAddr>, served: &BTreeSet<SocketAddr>) -> BTreeSet<SocketAddr> {
    let is_served = |address: SocketAddr| served.iter().any(|have| reaches(*have, address));
    wanted.iter().copied().filter(|address| !is_served(*address)).collect()
}

/// Addresses at which a listener of an instance, or systemd for it, is reached.
fn served_by(snapshot: &Snapshot, instance: &Instance) -> BTreeSet<SocketAddr> {
    let is_own = |process: &&Process| {
        role(process, snapshot) == Role::Listener
            && instance_of(process, snapshot).is_some_and(|of| of.name() == instance.name())
    };
    let sockets = [&instance.socket, &instance.rescue].into_iter().filter(|socket| socket.is_active());
    let declared: BTreeSet<SocketAddr> = sockets.flat_map(Unit::tcp_addresses).collect();
    let held = snapshot.systemd_holds.iter().filter(|socket| declared.contains(&socket.address));
    let own = snapshot.processes.iter().filter(is_own);
    own.flat_map(Process::reached_at).chain(held.flat_map(ListenSocket::reached_at)).collect()
}

fn held_by_listeners(snapshot: &Snapshot) -> BTreeSet<SocketAddr> {
    let listeners = snapshot.processes.iter().filter(|process| role(process, snapshot) == Role::Listener);
    listeners.flat_map(Process::reached_at).collect()
}

/// Addresses of `needed` that neither PID 1 holds nor a listener that is to make room, with what is known about their
/// holders. `served` are those of the listeners that make room; a child that one of them has just forked holds them for
/// a moment, too.
pub(super) fn taken_by_others(
    snapshot: &Snapshot,
    needed: &BTreeSet<SocketAddr>,
    served: &BTreeSet<SocketAddr>,
) -> Vec<String> {
    // A needed `[::]` may be a socket unit's that is to serve IPv4 too.
    let is_needed = |held: &&ListenSocket| {
        let hinders = |address: &&SocketAddr| !(held.ipv6_only && address.is_ipv4());
        needed.iter().filter(hinders).any(|address| collide(held.address, *address))
    };
    let others = snapshot.processes.iter().filter(|p| p.surroundings.network_namespace).flat_map(|process| {
        let why = match role(process, snapshot) {
            Role::Listener => "it is not to be terminated",
            Role::Session => "it serves a connection",
            Role::Excluded(why) => why.reason(),
        };
        let held = process.sockets.iter().filter(|held| !served.contains(&held.address) && is_needed(held));
        held.map(|held| format!("{} (sshd {}, left alone: {why})", held.address, process.pid)).collect::<Vec<_>>()
    });
    snapshot.foreign.iter().filter(is_needed).map(|held| held.address.to_string()).chain(others).collect()
}

/// What others hold of the addresses where an instance wants to serve and no listener of this host does.
pub(super) fn in_the_way(snapshot: &Snapshot, instance: &Instance) -> Vec<String> {
    let held = held_by_listeners(snapshot);
    let not_served = instance.wanted.iter().filter(|address| !held.contains(address)).copied().collect();
    taken_by_others(snapshot, &not_served, &held)
}

/// Another program is where the declared units want to serve and nobody of ours does.
fn other_program(snapshot: &Snapshot, instance: &Instance, listeners: &[Listener]) -> Option<String> {
    let declared = instance.units().iter().any(|unit| unit.is_enabled()) || !snapshot.is_main(instance);
    let on_record = snapshot.intent_of(instance.name()).is_some();
    if !declared || snapshot.host.not_to_be_run || on_record || instance.is_elsewhere() {
        return None;
    }
    let taken = in_the_way(snapshot, instance);
    let effect = match listeners.is_empty() {
        true => "nobody listens for SSH, because another program holds its address",
        false => "whoever connects to an address that another program holds does not reach sshd",
    };
    (!taken.is_empty()).then(|| format!("{effect}: {}", taken.join(", ")))
}

type UnitFinding = (FindingCode, Severity, String);

fn about_units(snapshot: &Snapshot, instance: &Instance, listeners: &[Listener]) -> Option<UnitFinding> {
    let [service, socket] = instance.units();
    let own: Vec<&Listener> = listeners.iter().filter(|listener| listener.instance == instance.name()).collect();
    let is_owned = own.iter().any(|listener| listener.unit.as_deref() == Some(instance.name()));
    // The next attempt of `Restart=` shows as a queued job, and nobody listens meanwhile.
    let at_rest = instance.units().iter().all(|unit| !unit.job || unit.restarts_itself());
    if is_owned && socket.is_enabled() && !socket.is_active() && at_rest {
        let message = format!(
            "{socket} is enabled but not active, and sshd serves by itself. To have the socket back, from a session that may end: \
             systemctl stop {service}; systemctl start {socket}",
            socket = socket.name,
            service = service.name
        );
        return Some((FindingCode::SocketDetached, Severity::Info, message));
    }
    if service.is_active() || socket.is_active() {
        return if instance.is_elsewhere() { None } else { about_active_units(snapshot, instance, is_owned) };
    }
    if !own.is_empty() || !at_rest || snapshot.host.not_to_be_run {
        return None;
    }
    about_idle_units(snapshot, instance)
}

/// What systemd calls active, and does not serve.
fn about_active_units(snapshot: &Snapshot, instance: &Instance, is_owned: bool) -> Option<UnitFinding> {
    let [service, socket] = instance.units();
    let served = served_by(snapshot, instance);
    let declared: BTreeSet<SocketAddr> = socket.tcp_addresses().collect();
    if socket.active == ActiveState::Active && !declared.is_empty() && unserved(&declared, &served) == declared {
        let message = format!(
            "{} is active, but nothing listens at its addresses ({}): a reload that changes them closes them",
            socket.name,
            list(&declared)
        );
        return Some((FindingCode::SocketDeaf, Severity::Critical, message));
    }
    if service.active == ActiveState::Active && !is_owned && !(socket.is_active() && socket.accept) {
        let message = format!(
            "{} is active, but no listener of it is seen: its program may not be the one that it starts now ({})",
            service.name,
            instance.program.path.display()
        );
        return Some((FindingCode::Unseen, Severity::Warning, message));
    }
    // Where IPv6 is switched off, sshd serves its other wildcard alone.
    let is_served_otherwise =
        |address: &SocketAddr| address.ip().is_unspecified() && served.iter().any(|have| have.port() == address.port());
    let mut missing = unserved(&instance.wanted, &served);
    missing.retain(|address| !is_served_otherwise(address));
    if missing.is_empty() || snapshot.is_main(instance) {
        return None;
    }
    let message = format!("{} does not serve everything that it declares: {} is missing", service.name, list(&missing));
    Some((FindingCode::InstanceDown, Severity::Critical, message))
}

/// Nobody serves in place of an instance.
fn about_idle_units(snapshot: &Snapshot, instance: &Instance) -> Option<UnitFinding> {
    let failed = |unit: &&Unit| unit.has_failed();
    if !snapshot.is_main(instance) {
        let message = format!("nobody listens in place of {}, which has failed", instance.name());
        let has_failed = instance.units().iter().any(failed);
        return has_failed.then_some((FindingCode::InstanceDown, Severity::Critical, message));
    }
    // A socket starts its service, so it is the one to start.
    let enabled: Vec<&Unit> = instance.units().into_iter().rev().filter(|unit| unit.is_enabled()).collect();
    let failed: Vec<&str> = enabled.iter().copied().filter(failed).map(|unit| unit.name.as_str()).collect();
    let unit = enabled.first()?;
    if failed.is_empty() {
        let message = format!(
            "nobody listens for SSH: {name} is enabled, but somebody stopped it. To start it: systemctl start {name}",
            name = unit.name
        );
        return Some((FindingCode::Stopped, Severity::Critical, message));
    }
    let have = if failed.len() > 1 { "have" } else { "has" };
    let message = format!("nobody listens for SSH: {} {have} failed", failed.join(" and "));
    Some((FindingCode::Down, Severity::Critical, message))
}
