//! What is wrong with a machine, each thing in one sentence for a person.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::role::serves_by_itself;
use super::served::{in_the_way, lost_addresses, named, served_by, unserved};
use crate::model::address::list;
use crate::model::diagnosis::{Finding, FindingCode, Listener, Severity};
use crate::model::names::{RECORD, RUNTIME_DIRECTORY};
use crate::model::plan::{Decision, Plan};
use crate::model::probe::ProbeResult;
use crate::model::refusal::RefusalCode;
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::trial::{Check, Trial, Trials};
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
            advice: String::new(),
        });
    }
    for instance in &snapshot.instances {
        findings.extend(about_instance(snapshot, instance, listeners));
    }
    findings
}

fn about_listener(listener: &Listener) -> Option<Finding> {
    let pid = listener.pid;
    let program = if listener.removed { "was removed from disk" } else { "was replaced on disk" };
    // Where a package run leaves it to a person.
    let mut advice =
        if listener.orphan { "sudo sshd-mend repair (open sessions survive)".to_owned() } else { String::new() };
    let (code, message) = match (listener.stale, &listener.unit) {
        (true, None) => (
            FindingCode::StaleOrphan,
            format!("sshd {pid} runs a program that {program}, and no unit owns this process"),
        ),
        (true, Some(unit)) => {
            (FindingCode::StaleService, format!("sshd {pid} of {unit} runs a program that {program}"))
        }
        (false, None) => (
            FindingCode::Orphan,
            format!("no unit owns sshd {pid}: the next upgrade of openssh-server may lock everybody out"),
        ),
        (false, Some(unit)) if listener.probe.is_dead() => {
            advice = format!("See: journalctl -u {unit}. When the cause is removed: systemctl restart {unit}");
            let libraries = match listener.stale_libraries.is_empty() {
                true => String::new(),
                false => {
                    format!("; it uses libraries that were replaced on disk ({})", listener.stale_libraries.join(", "))
                }
            };
            let code = if libraries.is_empty() { FindingCode::ListenerDead } else { FindingCode::StaleLibraries };
            if code == FindingCode::StaleLibraries {
                advice = format!("Unless it is said above that it would not start again: systemctl restart {unit}");
            }
            (
                code,
                format!("sshd {pid} of {unit} closes every new connection, although its program is current{libraries}"),
            )
        }
        (false, Some(unit)) if listener.probe.result == ProbeResult::Inconclusive => {
            advice = format!("See what keeps it busy or stopped: systemctl status {unit}; journalctl -u {unit}");
            let message = format!(
                "sshd {pid} of {unit} is current, but whether it lets anybody in is not known: {}",
                listener.probe.detail
            );
            (FindingCode::NotAnswering, message)
        }
        (false, Some(unit)) if !listener.stale_libraries.is_empty() => {
            advice = format!("At a convenient time: systemctl restart {unit}");
            let message = format!(
                "sshd {pid} of {unit} still uses libraries from before an upgrade ({}): their security fixes are not in force",
                listener.stale_libraries.join(", ")
            );
            (FindingCode::StaleLibraries, message)
        }
        (false, Some(_)) => return None,
    };
    let severity = match code {
        _ if listener.probe.is_dead() => Severity::Critical,
        FindingCode::StaleLibraries => Severity::Info,
        _ => Severity::Warning,
    };
    Some(Finding { code, severity, instance: Some(listener.instance.clone()), pid: Some(pid), message, advice })
}

/// About one instance. `about`: code, severity, message, advice.
fn finding(instance: &Instance, about: UnitFinding) -> Finding {
    let (code, severity, message, advice) = about;
    Finding { code, severity, instance: Some(instance.name().to_owned()), pid: None, message, advice }
}

/// At most one finding about the units of an instance, and one about another program at its addresses.
fn about_instance(snapshot: &Snapshot, instance: &Instance, listeners: &[Listener]) -> Vec<Finding> {
    let finding = |about| finding(instance, about);
    if instance.rescue.is_active() {
        let message =
            format!("{} serves SSH in place of {}, which could not be started", instance.rescue.name, instance.name());
        return vec![finding((FindingCode::RescueActive, Severity::Critical, message, String::new()))];
    }
    let mut findings = Vec::new();
    let lost = lost_addresses(snapshot, instance);
    if !lost.is_empty() {
        let unwanted = format!("If it is not to be served any more: rm {RECORD}/intent");
        let advice = match serves_by_itself(snapshot, instance) {
            true => format!(
                "It serves its other addresses, so it is not restarted for that. See why it does not serve this one \
                 (journalctl -u {}), then: {}. {unwanted}",
                instance.name(),
                restart(instance)
            ),
            false if instance.service.load != LoadState::Loaded => unwanted,
            false => String::new(),
        };
        let message =
            format!("a repair of {} was interrupted or failed; not served any more: {}", instance.name(), list(&lost));
        findings.push(finding((FindingCode::Interrupted, Severity::Critical, message, advice)));
    }
    if let Some(message) = other_program(snapshot, instance, listeners) {
        let advice = "See `ss -ltnp`; end that program or move it to another port".to_owned();
        findings.push(finding((FindingCode::ForeignListener, Severity::Critical, message, advice)));
    } else if lost.is_empty() {
        findings.extend(about_units(snapshot, instance, listeners).map(finding));
    }
    if instance.is_elsewhere() && (instance.service.is_active() || instance.socket.is_active()) {
        let message = format!(
            "{} serves in a network namespace of its own, which is not examined: whether a new connection to it gets through is not known",
            instance.name()
        );
        let advice = "Test it from there, with ssh".to_owned();
        findings.push(finding((FindingCode::NotExamined, Severity::Warning, message, advice)));
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
    (!taken.is_empty()).then(|| format!("{effect}: {}", named(&taken)))
}

/// What is wrong, how bad that is, a sentence about it, and what to do.
type UnitFinding = (FindingCode, Severity, String, String);

fn about_units(snapshot: &Snapshot, instance: &Instance, listeners: &[Listener]) -> Option<UnitFinding> {
    let [service, socket] = instance.units();
    let own: Vec<&Listener> = listeners.iter().filter(|listener| listener.instance == instance.name()).collect();
    let is_owned = own.iter().any(|listener| listener.unit.as_deref() == Some(instance.name()));
    // The next attempt of `Restart=` shows as a queued job, and nobody listens meanwhile.
    let at_rest = instance.units().iter().all(|unit| !unit.job || unit.restarts_itself());
    if is_owned && socket.is_enabled() && !socket.is_active() && at_rest {
        let message = format!("{} is enabled but not active, and sshd serves by itself", socket.name);
        let advice = format!(
            "Nothing has to be done. To have the socket back, in one line: systemctl stop {service}; systemctl start {socket} || systemctl start {service}",
            service = service.name,
            socket = socket.name
        );
        return Some((FindingCode::SocketDetached, Severity::Info, message, advice));
    }
    if service.is_active() || socket.is_active() {
        return if instance.is_elsewhere() { None } else { about_active_units(snapshot, instance, is_owned) };
    }
    if !own.is_empty() || !at_rest || snapshot.host.not_to_be_run {
        return None;
    }
    about_idle_units(snapshot, instance, listeners)
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
        return Some((FindingCode::SocketDeaf, Severity::Critical, message, String::new()));
    }
    if service.active == ActiveState::Active && !is_owned && !(socket.is_active() && socket.accept) {
        let message = format!(
            "{} is active, but no listener of it is seen: its program may not be the one that it starts now ({})",
            service.name,
            instance.program.path.display()
        );
        let advice = format!(
            "See: systemctl status {0}; ss -ltnp. Then, if its ExecStart= is right: systemctl restart {0}",
            service.name
        );
        return Some((FindingCode::Unseen, Severity::Warning, message, advice));
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
    let advice = format!("See why (journalctl -u {0}), then: systemctl restart {0}", service.name);
    Some((FindingCode::InstanceDown, Severity::Critical, message, advice))
}

/// Nobody serves in place of an instance.
fn about_idle_units(snapshot: &Snapshot, instance: &Instance, listeners: &[Listener]) -> Option<UnitFinding> {
    let failed = |unit: &&Unit| unit.has_failed();
    if !snapshot.is_main(instance) {
        let message = format!("nobody listens in place of {}, which has failed", instance.name());
        let has_failed = instance.units().iter().any(failed);
        return has_failed.then_some((FindingCode::InstanceDown, Severity::Critical, message, String::new()));
    }
    // A socket starts its service, so it is the one to start.
    let enabled: Vec<&Unit> = instance.units().into_iter().rev().filter(|unit| unit.is_enabled()).collect();
    let failed: Vec<&str> = enabled.iter().copied().filter(failed).map(|unit| unit.name.as_str()).collect();
    let unit = enabled.first()?;
    let others: Vec<String> = listeners.iter().map(others_serve).collect();
    let nobody = match others.is_empty() {
        true => "nobody listens for SSH".to_owned(),
        false => others.join(" and "),
    };
    if failed.is_empty() {
        let message = format!("{nobody}: {name} is enabled, but somebody stopped it", name = unit.name);
        let advice = format!("If SSH is wanted here: systemctl start {}. A repair leaves it as it is", unit.name);
        return Some((FindingCode::Stopped, Severity::Critical, message, advice));
    }
    let have = if failed.len() > 1 { "have" } else { "has" };
    let failed = failed.join(" and ");
    let message = match others.is_empty() {
        true => format!("{nobody}: {failed} {have} failed"),
        false => format!("{failed} {have} failed; {nobody}"),
    };
    Some((FindingCode::Down, Severity::Critical, message, String::new()))
}

/// Another instance's listener, which may be the only one.
fn others_serve(listener: &Listener) -> String {
    format!("sshd {} of {} serves {}", listener.pid, listener.instance, list(&listener.addresses))
}

/// Whether instances would start again whose program was tried, unless the plan says that already.
pub(super) fn about_trials(snapshot: &Snapshot, trials: &Trials, plan: &Plan) -> Vec<Finding> {
    let by_trial = [RefusalCode::ConfigInvalid, RefusalCode::BinaryMissing, RefusalCode::BinaryUnusable];
    let is_said = |instance: &&Instance| match plan.of(instance.name()).map(|plan| &plan.decision) {
        Some(Decision::Replace(_)) => true,
        Some(Decision::Refuse(refusal)) => by_trial.contains(&refusal.code),
        _ => false,
    };
    // Only what serves can stop serving with the next start.
    let serves = |instance: &&Instance| instance.service.is_active() || instance.socket.is_active();
    let tried = snapshot.instances.iter().filter(|instance| serves(instance) && !is_said(instance));
    tried.filter_map(|instance| Some(finding(instance, about_trial(instance, trials.get(instance.name())?)?))).collect()
}

fn about_trial(instance: &Instance, trial: &Trial) -> Option<UnitFinding> {
    let name = instance.name();
    let failed = [&trial.config, &trial.handshake].into_iter().find_map(|check| match check {
        Check::Failed(complaint) => Some(complaint.clone()),
        Check::Passed | Check::NeedsRuntimeDirectory => None,
    });
    // sshd binds what it can, and ends where that is nothing.
    let own = trial.own_addresses.as_ref().filter(|_| !instance.uses_socket());
    let unbound = own.filter(|own| !own.is_empty() && own.is_subset(&trial.unassigned));
    let unbound = unbound.map(|own| format!("no network interface has {}", list(own)));
    let is_masked = instance.service.load == LoadState::Masked && !instance.socket.accept;
    let masked = is_masked.then(|| format!("it is masked (systemctl unmask {name})"));
    let complaint = masked.clone().or(failed).or(unbound)?;
    let is_tried = instance.service.sshd().is_some() || instance.service.exec_start.is_none();
    if masked.is_none() && (trial.timed_out || !is_tried) {
        let message = format!("whether {name} would start again could not be tried: {complaint}");
        let advice = format!("Before you restart it, make sure that you have another way in: systemctl restart {name}");
        return Some((FindingCode::NotExamined, Severity::Warning, message, advice));
    }
    let advice = format!("Correct it, and do not restart {name} before; then: sudo sshd-mend check");
    // The next connection makes systemd start it, and the failure takes the socket down.
    let waits = instance.socket.is_active() && !instance.service.is_active();
    let (severity, message) = match waits {
        true => (Severity::Critical, format!("{name} will not start for the next connection: {complaint}")),
        false => (Severity::Warning, format!("{name} would not start again: {complaint}")),
    };
    Some((FindingCode::WouldNotRestart, severity, message, advice))
}
