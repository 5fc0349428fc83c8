//! Every reason not to replace a listener.

use std::collections::BTreeSet;

use super::role::{is_listener, is_starting};
use crate::model::address::list;
use crate::model::coverage::Coverage;
use crate::model::intent::InstanceIntent;
use crate::model::plan::Trigger;
use crate::model::process::Process;
use crate::model::refusal::{Refusal, RefusalCode};
use crate::model::snapshot::{Host, Instance, Snapshot};
use crate::model::trial::{Check, OtherProcesses, Package, Policy, Trial};
use crate::model::unit::{LoadState, Unit};

pub(super) fn by_host(host: &Host) -> Result<(), Refusal> {
    if host.shutting_down {
        return Err(RefusalCode::ShuttingDown.because(""));
    }
    if host.not_to_be_run {
        return Err(RefusalCode::NotToBeRun.because(""));
    }
    Ok(())
}

/// systemd is starting the instance, and what it has started listens already.
pub(super) fn by_start(snapshot: &Snapshot, instance: &Instance) -> Result<(), Refusal> {
    let listens = |process: &Process| is_listener(process, snapshot) && is_starting(&instance.service, process);
    match snapshot.processes.iter().any(listens) {
        true => Err(RefusalCode::JobPending.because(instance.name())),
        false => Ok(()),
    }
}

/// A stop or a failed start of the instance would stop another one that serves.
pub(super) fn by_dependents(snapshot: &Snapshot, instance: &Instance) -> Result<(), Refusal> {
    let stopped: Vec<&String> = instance.units().into_iter().flat_map(|unit| &unit.stopped_along).collect();
    let others = snapshot.instances.iter().filter(|other| other.name() != instance.name());
    let mut units = others.flat_map(Instance::units).filter(|unit| unit.is_active() && stopped.contains(&&unit.name));
    let Some(dependent) = units.next() else { return Ok(()) };
    let what = format!("systemd stops {} whenever it stops {}", dependent.name, instance.name());
    let advice = format!(
        "Remove PartOf=, Requires= or BindsTo={0} (sudo systemctl edit {1}), or restart both by hand: sudo systemctl restart {0}",
        instance.name(),
        dependent.name
    );
    Err(Refusal { advice, ..RefusalCode::WouldKillSessions.because(&what) })
}

/// What speaks against ending one listener.
pub(super) fn by_listener(process: &Process, coverage: Option<&Coverage>) -> Result<(), Refusal> {
    if process.traced {
        return Err(RefusalCode::BeingDebugged.because(&format!("sshd {}", process.pid)));
    }
    if process.sockets.iter().any(|socket| socket.vrf) {
        let what = format!("sshd {} serves a VRF, where no probe reaches it", process.pid);
        let advice =
            "From a session in that VRF that you keep open: restart the unit that serves there, and test a login"
                .to_owned();
        return Err(Refusal { advice, ..RefusalCode::AddressesNotCovered.because(&what) });
    }
    let missing = coverage.map(|coverage| coverage.missing_of(&process.sockets)).unwrap_or_default();
    if missing.is_empty() { Ok(()) } else { Err(RefusalCode::AddressesNotCovered.because(&list(&missing))) }
}

/// What the instance starts is another program than the one that the listener runs.
pub(super) fn by_own_program(process: &Process, instance: &Instance) -> Result<(), Refusal> {
    if process.path == instance.program.path {
        return Ok(());
    }
    let what = format!("{} starts {}, and not its program", instance.name(), instance.program.path.display());
    Err(RefusalCode::UnitMissing.because(&what))
}

/// What speaks against starting or restarting these units.
pub(super) fn by_units(units: &[&Unit]) -> Result<(), Refusal> {
    for unit in units {
        if unit.load == LoadState::Masked {
            return Err(RefusalCode::UnitMasked.because(&unit.name).about(&unit.name));
        }
        if unit.load != LoadState::Loaded {
            return Err(RefusalCode::UnitMissing.because(&format!("{} is \"{}\"", unit.name, unit.load.as_str())));
        }
        if !unit.can_start {
            let what = format!("{} may not be started by hand (RefuseManualStart=)", unit.name);
            let advice = format!("1. Remove that setting: sudo systemctl edit {}. 2. sudo sshd-mend repair", unit.name);
            return Err(Refusal { advice, ..RefusalCode::NothingToStart.because(&what) });
        }
        // The job of a unit that systemd is about to start again is nobody's request.
        if unit.job && !unit.restarts_itself() {
            return Err(RefusalCode::JobPending.because(&unit.name));
        }
    }
    Ok(())
}

/// With `Accept=yes`, what the socket starts for each connection has to exist.
pub(super) fn by_per_connection(instance: &Instance) -> Result<(), Refusal> {
    match instance.per_connection.as_ref().filter(|service| service.load != LoadState::Loaded) {
        Some(service) => {
            let what = format!(
                "{}, which {} starts for each connection, is \"{}\"",
                service.name,
                instance.socket.name,
                service.load.as_str()
            );
            Err(RefusalCode::UnitMissing.because(&what))
        }
        None => Ok(()),
    }
}

/// What a stop or a failed start of the service would end besides the listeners that are replaced.
pub(super) fn by_control_group(instance: &Instance, trial: &Trial, replaced: &BTreeSet<i32>) -> Result<(), Refusal> {
    let service = &instance.service;
    if service.spares_other_processes() {
        return Ok(());
    }
    let refuse = |what: String| {
        let seen = format!("{} has KillMode={}, and {what}", service.name, service.kill_mode.as_str());
        Err(RefusalCode::WouldKillSessions.because(&seen))
    };
    match &trial.other_processes {
        OtherProcesses::Unknown(why) => refuse(format!("its control group could not be read: {why}")),
        OtherProcesses::Known(pids) => {
            let others: Vec<String> = pids.iter().filter(|pid| !replaced.contains(pid)).map(i32::to_string).collect();
            if others.is_empty() { Ok(()) } else { refuse(format!("these processes run in it: {}", others.join(" "))) }
        }
    }
}

/// Not everything was tried.
pub(super) fn by_deadline(trial: &Trial) -> Result<(), Refusal> {
    if trial.timed_out { Err(RefusalCode::TimedOut.because("")) } else { Ok(()) }
}

/// Nobody knows yet whether what would be started can serve.
pub(super) fn by_sandbox(trial: &Trial) -> Result<(), Refusal> {
    trial.untried.as_ref().map_or(Ok(()), |setting| Err(RefusalCode::SettingsUntried.because(setting)))
}

/// What speaks against the program on disk.
pub(super) fn by_program(instance: &Instance, trial: &Trial) -> Result<(), Refusal> {
    if instance.program.file.is_none() {
        return Err(RefusalCode::BinaryMissing.because(&instance.program.path.to_string_lossy()));
    }
    if let Package::Unconfigured(status) = &trial.package {
        return Err(RefusalCode::PackageUnconfigured.because(status));
    }
    if let Check::Failed(words) = &trial.config {
        return Err(RefusalCode::ConfigInvalid.because(words));
    }
    if let Some(why) = &trial.start_hindrance {
        return Err(RefusalCode::UnitWouldNotStart.because(why));
    }
    if let Check::Failed(words) = &trial.handshake {
        let refusal = RefusalCode::BinaryUnusable.because(words);
        let is_wrapped = instance.service.exec_start.is_some() && instance.service.sshd().is_none();
        let by_hand = "From a session that you keep open: sudo systemctl restart UNIT; then test a login".to_owned();
        return Err(if is_wrapped { Refusal { message: words.clone(), advice: by_hand, ..refusal } } else { refusal });
    }
    Ok(())
}

/// policy-rc.d's answer binds package runs (invoke-rc.d(8)). What was begun is finished: the policy was asked before it began.
pub(super) fn by_policy(
    policy: &Policy,
    trigger: Trigger,
    interrupted: Option<&InstanceIntent>,
) -> Result<(), Refusal> {
    match (trigger, policy, interrupted) {
        (Trigger::Hook, Policy::Denies(why), None) => Err(RefusalCode::PolicyRcD.because(why)),
        _ => Ok(()),
    }
}
