//! Findings about the units of an instance: active ones that do not serve, failed and stopped ones.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::served::{served_by, unserved};
use crate::model::address::list;
use crate::model::diagnosis::{FindingCode, Listener, Severity};
use crate::model::names::SERVICE;
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::unit::{ActiveState, Unit};

/// systemd has started sshd long before that, unless something is wrong.
const START_MAX: Duration = Duration::from_secs(15);

/// What is wrong, how bad that is, a sentence about it, and what to do.
pub(super) type UnitFinding = (FindingCode, Severity, String, String);

pub(super) fn about_units(snapshot: &Snapshot, instance: &Instance, listeners: &[Listener]) -> Option<UnitFinding> {
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
    let missing = unserved(&declared, &served);
    if socket.active == ActiveState::Active && !missing.is_empty() {
        let message = format!(
            "{} does not listen at {}, which it declares, as after a reload that changed its addresses",
            socket.name,
            list(&missing)
        );
        return Some((FindingCode::InstanceDown, Severity::Warning, message, restart_all(instance)));
    }
    None
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

/// What starts all of an instance again, running or not.
fn restart_all(instance: &Instance) -> String {
    let [service, socket] = instance.units();
    match socket.accept {
        true => format!("sudo systemctl restart {}", socket.name),
        false => {
            format!(
                "sudo sh -c 'systemctl stop {0}; systemctl restart {1}; systemctl start {0}'",
                service.name, socket.name
            )
        }
    }
}

/// The command that has systemd restart an instance, and what becomes of its sessions.
pub(super) fn restart_of(instance: &Instance) -> String {
    let spares = instance.service.spares_other_processes();
    let sessions = if spares { "open sessions survive" } else { "this ends the open sessions that it serves" };
    // Its options are Debian's.
    let test = if instance.name() == SERVICE { "sudo sshd -t && " } else { "" };
    format!("{test}sudo systemctl restart {} ({sessions})", instance.name())
}
