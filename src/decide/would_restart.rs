//! Whether what serves now would start again, and serves the same as it would then: from programs that were tried.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::findings::finding;
use super::role::{is_listener, owns};
use super::served::{named, served_by, taken_by_others, unserved};
use super::unit_findings::{UnitFinding, restart_of};
use crate::model::address::{collide, list};
use crate::model::coverage::Coverage;
use crate::model::diagnosis::{Finding, FindingCode, Severity};
use crate::model::plan::{Decision, Plan};
use crate::model::process::{ListenSocket, Process};
use crate::model::refusal::RefusalCode;
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::trial::{Check, Trial, Trials};
use crate::model::unit::{ActiveState, LoadState};

/// Whether instances would start again whose program was tried, unless the plan says that already.
pub(super) fn about_trials(snapshot: &Snapshot, trials: &Trials, plan: &Plan) -> Vec<Finding> {
    let by_trial = [
        RefusalCode::ConfigInvalid,
        RefusalCode::BinaryMissing,
        RefusalCode::BinaryUnusable,
        RefusalCode::UnitWouldNotStart,
    ];
    let is_said = |instance: &&Instance| match plan.of(instance.name()).map(|plan| &plan.decision) {
        Some(Decision::Replace(_)) => true,
        Some(Decision::Refuse(refusal)) => by_trial.contains(&refusal.code),
        _ => false,
    };
    // Only what serves can stop serving with the next start.
    let serves = |instance: &&Instance| instance.service.is_active() || instance.socket.is_active();
    let tried = snapshot.instances.iter().filter(|instance| serves(instance) && !is_said(instance));
    tried
        .filter_map(|instance| {
            Some(finding(instance, about_trial(snapshot, instance, trials.get(instance.name())?, plan)?))
        })
        .collect()
}

fn about_trial(snapshot: &Snapshot, instance: &Instance, trial: &Trial, plan: &Plan) -> Option<UnitFinding> {
    let name = instance.name();
    // The next connection makes systemd start it, and a failure takes the socket down.
    let waits = instance.waits();
    let Some(complaint) = complaint(instance, trial) else {
        return match waits {
            true => untried_condition(instance, trial),
            // A refusal may be about the same.
            false if plan.refusals().any(|(refused, _)| refused == name) => None,
            false => about_addresses(snapshot, instance, trial).or_else(|| about_unserved(snapshot, instance, trial)),
        };
    };
    let is_masked = instance.service.load == LoadState::Masked;
    let is_tried = instance.service.sshd().is_some() || instance.service.exec_start.is_none();
    if !is_masked && (trial.timed_out || !is_tried) {
        let message = format!("whether {name} would start again could not be tried: {complaint}");
        let advice =
            format!("Before you restart it, make sure that you have another way in: sudo systemctl restart {name}");
        return Some((FindingCode::NotExamined, Severity::Warning, message, advice));
    }
    let advice =
        format!("Do not reboot or restart {name} before. 1. Correct what is named above. 2. sudo sshd-mend check");
    let (severity, message) = match waits {
        true => (Severity::Critical, format!("{name} will not start for the next connection: {complaint}")),
        false => (Severity::Warning, format!("{name} would not start again: {complaint}")),
    };
    Some((FindingCode::WouldNotRestart, severity, message, advice))
}

/// Why the next start would fail.
fn complaint(instance: &Instance, trial: &Trial) -> Option<String> {
    let is_masked = instance.service.load == LoadState::Masked && !instance.socket.accept;
    if is_masked {
        return Some(format!("it is masked (sudo systemctl unmask {})", instance.name()));
    }
    let failed = |check: &Check| match check {
        Check::Failed(complaint) => Some(complaint.clone()),
        Check::Passed | Check::NeedsRuntimeDirectory => None,
    };
    // sshd binds what it can, and ends where that is nothing.
    let own = trial.own_addresses.as_ref().filter(|_| !instance.uses_socket());
    let unbound = own.filter(|own| !own.is_empty() && own.is_subset(&trial.unassigned));
    let unbound = || unbound.map(|own| format!("no network interface has {}", list(own)));
    let first = trial.start_hindrance.clone().or_else(|| failed(&trial.config)).or_else(|| failed(&trial.handshake));
    first.or_else(unbound)
}

/// What systemd starts for the next connection depends on a command that was not run.
fn untried_condition(instance: &Instance, trial: &Trial) -> Option<UnitFinding> {
    let name = instance.name();
    let message = format!(
        "whether {name} starts for the next connection is not known: its ExecCondition= decides that, and was not run"
    );
    let advice = format!("Test it with a login from another machine, then: sudo journalctl -u {name}");
    trial.exec_condition.then_some((FindingCode::NotExamined, Severity::Warning, message, advice))
}

/// Addresses that an instance binds by itself. Options that are not known may name others.
fn own_addresses<'a>(instance: &Instance, trial: &'a Trial) -> Option<&'a BTreeSet<SocketAddr>> {
    let are_known = !trial.service_files.is_empty();
    trial.own_addresses.as_ref().filter(|own| are_known && !own.is_empty() && !instance.uses_socket())
}

/// sshd goes on with the addresses that it can bind (server_listen in sshd.c), and never tries the others again: one that no
/// interface had when it was started, or that another program held.
fn about_unserved(snapshot: &Snapshot, instance: &Instance, trial: &Trial) -> Option<UnitFinding> {
    let name = instance.name();
    let own = own_addresses(instance, trial).filter(|_| !trial.changed)?;
    let is_own = |process: &&Process| is_listener(process, snapshot) && owns(&instance.service, process);
    let sockets: Vec<&ListenSocket> = snapshot.processes.iter().filter(is_own).flat_map(|own| &own.sockets).collect();
    // While it is being started it has not tried yet.
    if instance.service.active != ActiveState::Active || sockets.is_empty() {
        return None;
    }
    let held: BTreeSet<SocketAddr> = sockets.iter().map(|socket| socket.address).collect();
    let mut missing = unserved(own, &served_by(snapshot, instance));
    let all = snapshot.processes.iter().flat_map(|process| &process.sockets);
    let has_ipv6 = all.chain(&snapshot.foreign).any(|socket| socket.address.is_ipv6());
    // Of an address that others hold, their holder is what is to be told.
    let is_taken = |address| {
        let by_systemd = snapshot.systemd_holds.iter().any(|held| collide(held.address, address));
        by_systemd || !taken_by_others(snapshot, &BTreeSet::from([address]), &held).is_empty()
    };
    let is_free = |address: &SocketAddr| !trial.unassigned.contains(address) && (address.is_ipv4() || has_ipv6);
    missing.retain(|address| is_free(address) && !is_taken(*address));
    if missing.is_empty() {
        return None;
    }
    let message =
        format!("{name} does not serve {}, which it declares: it could not when it was started", list(&missing));
    Some((FindingCode::InstanceDown, Severity::Critical, message, restart_of(instance)))
}

/// The configuration has changed since the listener was started, or another program has taken an address.
fn about_addresses(snapshot: &Snapshot, instance: &Instance, trial: &Trial) -> Option<UnitFinding> {
    let name = instance.name();
    let own = own_addresses(instance, trial)?;
    let of_instance = |process: &&Process| is_listener(process, snapshot) && owns(&instance.service, process);
    let sockets: Vec<ListenSocket> =
        snapshot.processes.iter().filter(of_instance).flat_map(|process| process.sockets.iter().copied()).collect();
    let held = sockets.iter().map(|socket| socket.address).collect();
    let missing = Coverage::of_sshd(own, &trial.own_device_bound).missing_of(&sockets);
    let taken = taken_by_others(snapshot, own, &held);
    let (message, advice) = if !missing.is_empty() {
        let message = format!(
            "after its next start {name} would serve {}, and no longer {}: its configuration was changed",
            list(own),
            list(&missing)
        );
        let advice = format!(
            "Do not reboot or restart {name} before this is decided. 1. If it is not intended, correct Port and ListenAddress; then: \
             sudo sshd-mend check. 2. If it is, open the new port in every firewall; then, from a session that you keep \
             open: sudo systemctl restart {name}; and test a login at the new port"
        );
        (message, advice)
    } else if !taken.is_empty() {
        let message =
            format!("after its next start {name} could not serve what another program holds: {}", named(&taken));
        (message, "1. See what it is: sudo ss -ltnp. 2. Unless you are logged in through it, end that program or move it. 3. sudo sshd-mend check".to_owned())
    } else {
        return None;
    };
    Some((FindingCode::WouldNotRestart, Severity::Warning, message, advice))
}
