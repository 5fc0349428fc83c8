//! What is wrong with a machine, each thing in one sentence for a person.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::role::serves_by_itself;
use super::served::{in_the_way, lost_addresses, named, served_by, unserved};
use crate::model::address::list;
use crate::model::diagnosis::{Finding, FindingCode, Listener, Severity};
use crate::model::names::{RECORD, RUNTIME_DIRECTORY, SERVICE};
use crate::model::probe::ProbeResult;
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::unit::{ActiveState, LoadState, Unit};

/// systemd has started sshd long before that, unless something is wrong.
const START_MAX: Duration = Duration::from_secs(15);

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
    let again = restart_of(snapshot, listener);
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
        _ if !libraries.is_empty() => {
            let message = format!(
                "sshd {pid} of {unit} still uses libraries from before an upgrade ({libraries}): their security fixes are not in force"
            );
            (FindingCode::StaleLibraries, message, format!("At a convenient time: {again}"))
        }
        _ => return None,
    })
}

const fn gone(listener: &Listener) -> &'static str {
    if listener.removed { "was removed from disk" } else { "was replaced on disk" }
}

/// The command that has systemd restart a listener's unit, and what becomes of the sessions.
fn restart_of(snapshot: &Snapshot, listener: &Listener) -> String {
    let spares = snapshot.instance(&listener.instance).is_some_and(|i| i.service.spares_other_processes());
    let sessions = if spares { "open sessions survive" } else { "this ends the open sessions that it serves" };
    // Its options are Debian's.
    let test = if listener.instance == SERVICE { "sudo sshd -t && " } else { "" };
    format!("{test}sudo systemctl restart {} ({sessions})", listener.instance)
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

/// What is wrong, how bad that is, a sentence about it, and what to do.
pub(super) type UnitFinding = (FindingCode, Severity, String, String);

fn about_units(snapshot: &Snapshot, instance: &Instance, listeners: &[Listener]) -> Option<UnitFinding> {
    let [service, socket] = instance.units();
    let own: Vec<&Listener> = listeners.iter().filter(|listener| listener.instance == instance.name()).collect();
    let is_owned = own.iter().any(|listener| listener.unit.as_deref() == Some(instance.name()));
    // The next attempt of `Restart=` shows as a queued job, and nobody listens meanwhile.
    let at_rest = instance.units().iter().all(|unit| !unit.job || unit.restarts_itself());
    if is_owned && socket.is_enabled() && !socket.is_active() && at_rest {
        let message = format!("{} is enabled but not active, and sshd serves by itself", socket.name);
        let advice = format!(
            "Nothing has to be done. To have the socket back: sudo sh -c 'systemctl stop {service}; systemctl start {socket}; systemctl start {service}'",
            service = service.name,
            socket = socket.name
        );
        return Some((FindingCode::SocketDetached, Severity::Info, message, advice));
    }
    if service.is_active() || socket.is_active() {
        return if instance.is_elsewhere() { None } else { about_active_units(snapshot, instance, is_owned) };
    }
    if !own.is_empty() || snapshot.host.not_to_be_run {
        return None;
    }
    if at_rest { about_idle_units(snapshot, instance, listeners) } else { Some(about_queued_job(instance)) }
}

/// What systemd calls active, and does not serve.
fn about_active_units(snapshot: &Snapshot, instance: &Instance, is_owned: bool) -> Option<UnitFinding> {
    let [service, socket] = instance.units();
    let served = served_by(snapshot, instance);
    let declared: BTreeSet<SocketAddr> = socket.tcp_addresses().collect();
    if socket.active == ActiveState::Active && !declared.is_empty() && unserved(&declared, &served) == declared {
        let message = format!(
            "{} is active, but nothing listens at {}: systemd closed the socket, as it does when a reload changes its addresses",
            socket.name,
            list(&declared)
        );
        return Some((FindingCode::SocketDeaf, Severity::Critical, message, String::new()));
    }
    if service.active == ActiveState::Activating && served.is_empty() {
        let seconds = service.starting_for.unwrap_or_default().as_secs();
        let severity = if seconds < START_MAX.as_secs() { Severity::Warning } else { Severity::Critical };
        let after = if severity == Severity::Critical { " after more than 15 s" } else { "" };
        let message = format!("systemd is still starting {}{after}, and nobody listens yet", service.name);
        let advice = format!(
            "1. Look again in a moment: sudo sshd-mend check. 2. If that says the same: sudo journalctl -u {}",
            service.name
        );
        return Some((FindingCode::Starting, severity, message, advice));
    }
    if service.active == ActiveState::Active && !is_owned && !(socket.is_active() && socket.accept) {
        let message = format!(
            "{} is active, but no listener of it is seen, so whether new connections get through is not known: what runs may not be the program that it starts now ({})",
            service.name,
            instance.program.path.display()
        );
        let advice = format!(
            "1. See what listens: sudo ss -ltnp; sudo systemctl status {0}. 2. If its ExecStart= is right: sudo systemctl restart {0}",
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
    let message = format!("{} does not serve {}, which it declares", service.name, list(&missing));
    let advice = format!("1. See why: sudo journalctl -u {0}. 2. sudo systemctl restart {0}", service.name);
    Some((FindingCode::InstanceDown, Severity::Critical, message, advice))
}

/// Systemd is to start or stop one of its units, or does so now, and nobody listens meanwhile.
fn about_queued_job(instance: &Instance) -> UnitFinding {
    let queued = instance.units().into_iter().find(|unit| unit.job && !unit.restarts_itself());
    let unit = queued.unwrap_or(&instance.service);
    let message = format!("nobody listens for {} until a job for {} is done", instance.name(), unit.name);
    let advice = format!(
        "1. See what it waits for: sudo systemctl list-jobs; sudo systemctl status {}. 2. sudo sshd-mend check",
        unit.name
    );
    (FindingCode::Starting, Severity::Warning, message, advice)
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
        // It was started by hand, so it is not what a repair starts.
        let by_hand = instance.units().into_iter().find(|unit| unit.has_failed());
        let by_hand = by_hand.map(|unit| format!("; {}, which is not enabled, has failed", unit.name));
        let name = &unit.name;
        let message = format!("{nobody}: {name} is enabled, but somebody stopped it{}", by_hand.unwrap_or_default());
        let first = match unit.can_start {
            true => String::new(),
            false => format!("remove RefuseManualStart= (sudo systemctl edit {name}); then: "),
        };
        let advice = format!("If SSH is wanted here: {first}sudo systemctl start {name}. A repair leaves it as it is");
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
