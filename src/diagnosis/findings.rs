//! What is wrong with a machine, each thing in one sentence for a person. Pure, as the whole diagnosis is.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{Code, Finding, Listener, Role, Severity, role};
use crate::address::collide;
use crate::observe::{RUNTIME_DIRECTORY, SERVICE};
use crate::snapshot::Snapshot;

/// Everything that is wrong, in no order.
pub(super) fn findings(snapshot: &Snapshot, listeners: &[Listener]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = listeners.iter().filter_map(finding_about).collect();
    // Then it is no wonder.
    findings.retain(|finding| finding.code != Code::ListenerDead || snapshot.host.runtime_directory);
    if !snapshot.host.runtime_directory && !listeners.is_empty() {
        findings.push(Finding {
            code: Code::RuntimeDirectoryMissing,
            severity: Severity::Critical,
            pid: None,
            message: format!(
                "{RUNTIME_DIRECTORY} is missing: sshd resets every new connection after the client's KEXINIT"
            ),
        });
    }
    if let Some(intent) = &snapshot.intent {
        findings.push(Finding {
            code: Code::Interrupted,
            severity: Severity::Critical,
            pid: None,
            message: format!("a repair was interrupted before it had started {} again", intent.units.join(" and ")),
        });
    }
    if snapshot.rescue.is_active() {
        findings.push(Finding {
            code: Code::RescueActive,
            severity: Severity::Critical,
            pid: None,
            message: format!("{} serves SSH in place of ssh.service, which could not be started", snapshot.rescue.name),
        });
    } else {
        let foreign = finding_about_others(snapshot, listeners);
        findings.extend(foreign.clone().or_else(|| finding_about_units(snapshot, listeners)));
    }
    findings
}

fn finding_about(listener: &Listener) -> Option<Finding> {
    let pid = listener.pid;
    let (code, message) = match (listener.stale, &listener.unit) {
        (true, None) => (
            Code::StaleOrphan,
            format!("sshd {pid} runs a program that was replaced on disk, and no unit owns this process"),
        ),
        (true, Some(unit)) => {
            (Code::StaleService, format!("sshd {pid} of {unit} runs a program that was replaced on disk"))
        }
        (false, None) => (
            Code::Orphan,
            format!("no unit owns sshd {pid}: the next upgrade of openssh-server may lock everybody out"),
        ),
        (false, Some(unit)) if listener.probe.is_dead() => (
            Code::ListenerDead,
            format!(
                "sshd {pid} of {unit} is what it should be, but closes every new connection. See: journalctl -u {unit}"
            ),
        ),
        (false, Some(_)) => return None,
    };
    let severity = if listener.probe.is_dead() { Severity::Critical } else { Severity::Warning };
    Some(Finding { code, severity, pid: Some(pid), message })
}

/// Addresses of `needed` that neither PID 1 holds nor a listener that is to make room, with what is known about their
/// holders. `served` are those of the listeners that make room; a child that one of them has just forked holds them for
/// a moment, too.
#[must_use]
pub fn taken_by_others(
    snapshot: &Snapshot,
    needed: &BTreeSet<SocketAddr>,
    served: &BTreeSet<SocketAddr>,
) -> Vec<String> {
    let is_needed = |held: &SocketAddr| needed.iter().any(|address| collide(*held, *address));
    let others = snapshot.processes.iter().filter(|p| p.surroundings.network_namespace).flat_map(|process| {
        let why = match role(process) {
            Role::Listener => "it is not to be ended",
            Role::Session => "it serves a connection",
            Role::LeftOut(why) => why.reason(),
        };
        let held = process.listening.iter().filter(|address| !served.contains(address) && is_needed(address));
        held.map(|address| format!("{address} (sshd {}, left alone: {why})", process.pid)).collect::<Vec<_>>()
    });
    snapshot.foreign.iter().filter(|held| is_needed(held)).map(ToString::to_string).chain(others).collect()
}

/// Another program is where the declared units want to serve and nobody of ours does.
fn finding_about_others(snapshot: &Snapshot, listeners: &[Listener]) -> Option<Finding> {
    let declared = [&snapshot.service, &snapshot.socket].iter().any(|unit| unit.is_enabled());
    if !declared || snapshot.host.not_to_be_run || snapshot.intent.is_some() {
        return None;
    }
    let taken = in_the_way(snapshot);
    let effect = match listeners.is_empty() {
        true => "nobody listens for SSH, because another program holds its address",
        false => "whoever connects to an address that another program holds does not reach sshd",
    };
    let message = format!("{effect}: {}", taken.join(", "));
    (!taken.is_empty()).then_some(Finding {
        code: Code::ForeignListener,
        severity: Severity::Critical,
        pid: None,
        message,
    })
}

/// What listeners of this host hold.
fn held(snapshot: &Snapshot) -> BTreeSet<SocketAddr> {
    snapshot.processes.iter().filter(|p| role(p) == Role::Listener).flat_map(|p| p.reached_at()).collect()
}

/// What others hold of the addresses where the declared units want to serve and no listener of this host does.
#[must_use]
pub fn in_the_way(snapshot: &Snapshot) -> Vec<String> {
    let held = held(snapshot);
    let not_served = snapshot.wanted.iter().filter(|address| !held.contains(address)).copied().collect();
    taken_by_others(snapshot, &not_served, &held)
}

fn finding_about_units(snapshot: &Snapshot, listeners: &[Listener]) -> Option<Finding> {
    let (service, socket) = (&snapshot.service, &snapshot.socket);
    let finding =
        |code, severity, message: &str| Some(Finding { code, severity, pid: None, message: message.to_owned() });
    if listeners.iter().any(|listener| listener.unit.as_deref() == Some(SERVICE))
        && socket.is_enabled()
        && !socket.is_active()
        && !service.job
        && !socket.job
    {
        return finding(
            Code::SocketDetached,
            Severity::Info,
            "ssh.socket is enabled but not active, and sshd serves by itself. To have the socket back, from a session that may end: \
             systemctl stop ssh.service; systemctl start ssh.socket",
        );
    }
    let wanted = [service, socket].map(|unit| unit.is_enabled());
    // Further instances serve addresses of their own.
    let in_its_place = listeners.iter().any(|l| l.orphan || l.unit.as_deref() == Some(SERVICE));
    let nobody = !in_its_place && !service.is_active() && !socket.is_active() && !service.job && !socket.job;
    // After a repair that was cut off, what looks stopped was not stopped by anybody.
    if !nobody || !wanted.contains(&true) || snapshot.host.not_to_be_run || snapshot.intent.is_some() {
        return None;
    }
    let failed: Vec<&str> = [service, socket].iter().filter(|u| u.has_failed()).map(|u| u.name.as_str()).collect();
    if !failed.is_empty() {
        let message = format!("nobody listens for SSH: {} has failed", failed.join(" and "));
        finding(Code::Down, Severity::Critical, &message)
    } else {
        finding(
            Code::Stopped,
            Severity::Warning,
            "nobody listens for SSH: its unit is enabled but was stopped. To start it: systemctl start ssh.service",
        )
    }
}
