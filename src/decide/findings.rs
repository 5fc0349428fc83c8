//! What is wrong with a machine, each thing in one sentence for a person.

use super::role::serves_by_itself;
use super::served::{in_the_way, lost_addresses, named};
use super::unit_findings::{UnitFinding, about_units, restart_of};
use crate::model::address::list;
use crate::model::diagnosis::{Finding, FindingCode, Listener, Severity};
use crate::model::names::{RECORD, RUNTIME_DIRECTORY};
use crate::model::probe::ProbeResult;
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::unit::LoadState;

/// Everything that is wrong, in no order.
pub(super) fn findings(snapshot: &Snapshot, listeners: &[Listener]) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        listeners.iter().filter_map(|listener| about_listener(snapshot, listener)).collect();
    let needs_it = |instance: &Instance| instance.waits() && instance.runs_sshd().needs_runtime_directory;
    let is_needed = !listeners.is_empty() || snapshot.instances.iter().any(needs_it);
    if !snapshot.host.runtime_directory && is_needed {
        // It explains why every connection is closed.
        findings.retain(|finding| finding.code != FindingCode::ListenerDead);
        findings.push(Finding {
            code: FindingCode::RuntimeDirectoryMissing,
            severity: Severity::Critical,
            instance: None,
            pid: None,
            message: format!(
                "{RUNTIME_DIRECTORY} is missing, so sshd closes every new connection in the middle of the key exchange{}",
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

fn about_listener(snapshot: &Snapshot, listener: &Listener) -> Option<Finding> {
    let (code, message, advice) = match &listener.unit {
        None => about_orphan(listener),
        Some(unit) => about_owned(snapshot, listener, unit)?,
    };
    let severity = match code {
        _ if listener.probe.is_dead() => Severity::Critical,
        FindingCode::StaleLibraries => Severity::Info,
        _ => Severity::Warning,
    };
    let (instance, pid) = (Some(listener.instance.clone()), Some(listener.pid));
    Some(Finding { code, severity, instance, pid, message, advice })
}

fn about_orphan(listener: &Listener) -> (FindingCode, String, String) {
    let pid = listener.pid;
    // Where a package run leaves it to a person.
    let advice = "sudo sshd-mend repair (open sessions survive)".to_owned();
    match listener.stale {
        true => {
            let message = format!("sshd {pid} runs a program that {}, and no unit owns this process", gone(listener));
            (FindingCode::StaleOrphan, message, advice)
        }
        false => {
            let message = format!("no unit owns sshd {pid}: the next upgrade of openssh-server may lock everybody out");
            (FindingCode::Orphan, message, advice)
        }
    }
}

fn about_owned(snapshot: &Snapshot, listener: &Listener, unit: &str) -> Option<(FindingCode, String, String)> {
    let pid = listener.pid;
    let libraries = listener.stale_libraries.join(", ");
    let again = snapshot.instance(&listener.instance).map(restart_of).unwrap_or_default();
    Some(match listener.probe.result {
        _ if listener.stale => {
            let message = format!("sshd {pid} of {unit} runs a program that {}", gone(listener));
            (FindingCode::StaleService, message, String::new())
        }
        ProbeResult::Dead if libraries.is_empty() => {
            let message =
                format!("sshd {pid} of {unit} closes every new connection, although its program is up to date");
            let advice = format!("1. See why: sudo journalctl -u {unit}. 2. Remove the cause. 3. {again}");
            (FindingCode::ListenerDead, message, advice)
        }
        ProbeResult::Dead => {
            let message = format!(
                "sshd {pid} of {unit} closes every new connection; it uses libraries that were replaced on disk ({libraries})"
            );
            (FindingCode::StaleLibraries, message, again)
        }
        ProbeResult::Inconclusive => {
            let message =
                format!("whether sshd {pid} of {unit} lets anybody in is not known: {}", listener.probe.detail);
            let advice = format!(
                "1. See what keeps it busy or stopped: sudo systemctl status {unit}; sudo journalctl -u {unit}; who connects: sudo ss -tn. 2. sudo sshd-mend check"
            );
            (FindingCode::NotAnswering, message, advice)
        }
        _ if serves_vrf(snapshot, pid) => {
            let message = format!("sshd {pid} of {unit} serves a VRF, where no probe reaches it");
            let advice = "Nothing is known to be wrong with it. To be sure, log in to it from that VRF".to_owned();
            (FindingCode::NotExamined, message, advice)
        }
        _ if !libraries.is_empty() => {
            let message = format!(
                "sshd {pid} of {unit} still uses libraries from before an upgrade ({libraries}): their security fixes are not in force"
            );
            (FindingCode::StaleLibraries, message, format!("At a convenient time: {again}"))
        }
        _ => return None,
    })
}

fn serves_vrf(snapshot: &Snapshot, pid: i32) -> bool {
    let process = snapshot.processes.iter().find(|process| process.pid == pid);
    process.is_some_and(|process| process.sockets.iter().any(|socket| socket.vrf))
}

const fn gone(listener: &Listener) -> &'static str {
    if listener.removed { "was removed from disk" } else { "was replaced on disk" }
}

/// About one instance. `about`: code, severity, message, advice.
pub(super) fn finding(instance: &Instance, about: UnitFinding) -> Finding {
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
        let unwanted = format!("If it is not to be served any more: sudo rm {RECORD}/intent");
        let advice = match serves_by_itself(snapshot, instance) {
            true => format!(
                "It serves its other addresses, so it is not restarted for that. 1. See why it does not serve this one: \
                 sudo journalctl -u {}. 2. {}. {unwanted}",
                instance.name(),
                restart(instance)
            ),
            false if instance.service.load != LoadState::Loaded => unwanted,
            false => String::new(),
        };
        let message = format!(
            "a repair of {} was interrupted or failed, and {} is not served any more",
            instance.name(),
            list(&lost)
        );
        findings.push(finding((FindingCode::Interrupted, Severity::Critical, message, advice)));
    }
    if let Some(message) = other_program(snapshot, instance, listeners) {
        let advice = "1. See what it is: sudo ss -ltnp. 2. Unless you are logged in through it, end that program or move it to another port. 3. sudo sshd-mend check".to_owned();
        findings.push(finding((FindingCode::ForeignListener, Severity::Critical, message, advice)));
    } else if lost.is_empty() {
        findings.extend(about_units(snapshot, instance, listeners).map(finding));
    }
    if instance.is_elsewhere() && (instance.service.is_active() || instance.socket.is_active()) {
        let message = format!("{} serves in a network namespace of its own, which is not examined", instance.name());
        let advice =
            "Nothing is known to be wrong with it. To be sure, log in to that instance as its users do".to_owned();
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
        true => format!("sudo sh -c 'systemctl stop {0}; systemctl start {1} {0}'", service.name, socket.name),
        false => format!("sudo systemctl restart {}", service.name),
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
        false => "another program holds an address of sshd, which cannot be reached there",
    };
    (!taken.is_empty()).then(|| format!("{effect}: {}", named(&taken)))
}
