//! How a fresh listener takes the place of an instance's old one.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::needs::{is_to_be_started, on_record, orphans, stale_main};
use super::refusals::{
    by_control_group, by_deadline, by_dependents, by_host, by_listener, by_own_program, by_per_connection, by_policy,
    by_program, by_sandbox, by_start, by_units,
};
use super::rescue::{has_filters, rescue};
use super::role::{is_listener, owns};
use super::served::{foreign_listener, taken_by_others};
use crate::model::address::{list, reaches};
use crate::model::coverage::Coverage;
use crate::model::diagnosis::{Diagnosis, FindingCode};
use crate::model::plan::{Job, Replacement, RescuePlan, Start, Trigger, UnitJob};
use crate::model::process::{ListenSocket, Process};
use crate::model::refusal::{Refusal, RefusalCode};
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::trial::Trial;
use crate::model::unit::{KillMode, LoadState, Unit};

/// The replacement of an instance's listeners. `None`: every one of them is skipped, which `skipped` explains.
pub(super) fn replacement(
    snapshot: &Snapshot,
    diagnosis: &Diagnosis,
    instance: &Instance,
    trial: &Trial,
    trigger: Trigger,
    skipped: &mut Vec<(i32, Refusal)>,
) -> Result<Option<Replacement>, Refusal> {
    by_host(&snapshot.host)?;
    by_start(snapshot, instance)?;
    let is_to_be_started = is_to_be_started(snapshot, diagnosis, instance, trigger);
    let covered = coverage(instance, trial, instance.uses_socket());
    let mut end: Vec<&Process> = Vec::new();
    for orphan in orphans(snapshot, instance, trigger) {
        // One that somebody started by hand at a port of its own does not prevent the repair of the others.
        let judged = by_listener(orphan, covered.as_ref()).and_then(|()| by_own_program(orphan, instance));
        match judged {
            Ok(()) => end.push(orphan),
            Err(refusal) => skipped.push((orphan.pid, refusal.about_process(orphan.pid))),
        }
    }
    let stale = stale_main(snapshot, instance);
    stale.map_or(Ok(()), |process| by_listener(process, None).map_err(|refusal| refusal.about_process(process.pid)))?;
    if end.is_empty() && stale.is_none() && !is_to_be_started {
        return skipped.first().map_or(Ok(None), |(_, refusal)| Err(refusal.clone()));
    }

    let start = match end.is_empty() && stale.is_some() {
        true => restart(instance),
        false => {
            let deaf = diagnosis.has_for(instance.name(), FindingCode::SocketDeaf);
            start(snapshot, instance, deaf).map_err(|refusal| with_way_out(refusal, instance, &end))?
        }
    };
    let is_involved =
        |unit: &&Unit| start.reset.contains(&unit.name) || start.jobs.iter().any(|job| job.unit == unit.name);
    let units: Vec<&Unit> = instance.units().into_iter().filter(is_involved).collect();
    if start.reset.contains(&instance.socket.name) {
        by_per_connection(instance)?;
    }
    by_units(&units)?;

    // What is restarted along with them must be served afterwards too.
    let service_stops = start.jobs.iter().any(|job| job.unit == instance.name() && job.job != Job::Start);
    let mut restarted: Vec<&Process> =
        snapshot.processes.iter().filter(|process| service_stops && owns(&instance.service, process)).collect();
    if let Some(session) = restarted.iter().find(|process| !is_listener(process, snapshot)) {
        let what = format!("its main process {} is not a listener", session.pid);
        return Err(RefusalCode::WouldKillSessions.because(&what));
    }
    let replaced: Vec<&Process> = end.iter().chain(&restarted).copied().collect();
    // An interrupted repair has terminated the listener already: a start can only help, whatever speaks against it.
    let on_record_already = snapshot.intent_of(instance.name());
    let was_terminated = on_record_already.is_some_and(|intent| !intent.stopped);
    let must_start = was_terminated && replaced.is_empty() && !instance.rescue.is_active();
    let (mut prove, reached_at) = served(instance, &replaced);
    if !must_start {
        by_dependents(snapshot, instance)?;
    }
    by_policy(&trial.policy, trigger, on_record_already.filter(|_| replaced.is_empty()))?;
    if !must_start {
        by_control_group(instance, trial, &replaced.iter().map(|process| process.pid).collect())?;
        by_deadline(trial)?;
        by_program(instance, trial)?;
        // Where nobody serves, a start can lose nothing.
        if let Some(first) = replaced.first() {
            by_sandbox(trial).map_err(|refusal| refusal.about_process(first.pid))?;
        }
        let with_socket = start.reset.contains(&instance.socket.name);
        let started = coverage(instance, trial, with_socket);
        by_coverage(snapshot, trial, started.as_ref(), with_socket, &replaced, &reached_at, &prove)?;
        if prove.is_empty() {
            prove = started.map(|coverage| coverage.addresses().clone()).unwrap_or_default();
        }
    }
    prove.extend(on_record(snapshot, instance));
    let keep: BTreeSet<SocketAddr> = reached_at.union(&prove).copied().collect();
    let mut start = start;
    if !is_equivalent_alone(instance, trial, &keep) {
        start.service_alone = None;
    }
    let rescue = rescue(snapshot, instance, trial, &replaced, &start);
    if let (true, RescuePlan::None(why)) = (instance.rescue.is_active(), &rescue) {
        let what = format!("the rescue that serves now could not be started again ({why})");
        let advice = "1. See why UNIT did not start: sudo journalctl -u UNIT. 2. Remove the cause. 3. From a session that you keep \
                      open: sudo systemctl start UNIT"
            .to_owned();
        return Err(Refusal { advice, ..RefusalCode::AddressesNotCovered.because(&what) });
    }
    // With KillMode=none a restart ends nothing, and what it starts would find the old listener at its port.
    if instance.service.kill_mode == KillMode::None {
        if let Some(current) = restarted.iter().find(|process| !process.is_stale()) {
            let what = format!("{} has KillMode=none, and {} serves for it", instance.name(), current.pid);
            return Err(RefusalCode::NothingToStart.because(&what));
        }
        end.append(&mut restarted);
    }
    let owned = |processes: Vec<&Process>| processes.into_iter().cloned().collect();
    Ok(Some(Replacement { end: owned(end), restarted: owned(restarted), start, prove, keep, rescue }))
}

/// Where openssh-server was removed, its listener may be what nobody wants any more.
fn with_way_out(refusal: Refusal, instance: &Instance, orphans: &[&Process]) -> Refusal {
    if instance.service.exists() || instance.program.file.is_some() || orphans.is_empty() {
        return refusal;
    }
    let pids = orphans.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(" ");
    let advice = format!(
        "If openssh-server was removed on purpose, end what it left behind: sudo kill {pids} (open sessions survive). \
         Otherwise: sudo apt-get install openssh-server"
    );
    Refusal { advice, ..refusal }
}

/// Where the replaced listeners, or the rescue, are bound; and where clients reach them.
fn served(instance: &Instance, replaced: &[&Process]) -> (BTreeSet<SocketAddr>, BTreeSet<SocketAddr>) {
    let rescue = Some(&instance.rescue).filter(|rescue| rescue.is_active());
    let bound = replaced.iter().flat_map(|process| process.addresses());
    let reached = replaced.iter().flat_map(|process| process.reached_at());
    (
        bound.chain(rescue.into_iter().flat_map(Unit::tcp_addresses)).collect(),
        reached.chain(rescue.into_iter().flat_map(Unit::reached_at)).collect(),
    )
}

fn by_coverage(
    snapshot: &Snapshot,
    trial: &Trial,
    coverage: Option<&Coverage>,
    with_socket: bool,
    replaced: &[&Process],
    reached_at: &BTreeSet<SocketAddr>,
    bound: &BTreeSet<SocketAddr>,
) -> Result<(), Refusal> {
    let Some(coverage) = coverage else {
        // Examined again once /run/sshd is there. Where nobody serves, a start can lose nothing.
        if trial.needs_runtime_directory() || reached_at.is_empty() {
            return Ok(());
        }
        let refusal =
            RefusalCode::AddressesNotCovered.because("`sshd -T` does not tell which addresses it would serve");
        let advice =
            "1. See why: sudo sshd -T (with the options of UNIT, if it has any). 2. sudo sshd-mend repair".to_owned();
        return Err(Refusal { advice, ..refusal });
    };
    let sockets: Vec<ListenSocket> = replaced.iter().flat_map(|process| process.sockets.iter().copied()).collect();
    let mut missing = coverage.missing(reached_at);
    missing.extend(coverage.missing_of(&sockets));
    if !missing.is_empty() {
        let refusal = RefusalCode::AddressesNotCovered.because(&list(&missing));
        return Err(match replaced.first() {
            Some(process) => refusal.about_process(process.pid),
            None => refusal,
        });
    }
    // sshd binds what it can; a socket unit fails as a whole.
    let unassigned: BTreeSet<SocketAddr> = coverage.addresses().intersection(&trial.unassigned).copied().collect();
    let fails = if with_socket { !unassigned.is_empty() } else { unassigned == *coverage.addresses() };
    if fails && !coverage.addresses().is_empty() {
        let what = format!("no network interface has {}, so the start would fail", list(&unassigned));
        let advice = "1. Bring that address up, or correct ListenAddress (or ListenStream= of the socket unit). 2. sudo sshd-mend \
                      repair"
            .to_owned();
        return Err(Refusal { advice, ..RefusalCode::AddressesNotCovered.because(&what) });
    }
    // It starts beside whatever others hold of the rest, which is nobody's loss.
    let takes_over = |address: &&SocketAddr| reached_at.iter().any(|served| reaches(**address, *served));
    let needs = |address: &&SocketAddr| with_socket || reached_at.is_empty() || takes_over(address);
    let needed = coverage.addresses().iter().filter(needs).copied().collect();
    let taken = taken_by_others(snapshot, &needed, bound);
    if taken.is_empty() { Ok(()) } else { Err(foreign_listener(&taken)) }
}

/// Where the units serve once they are started, with the socket or without. `None`: sshd does not tell, at least not
/// before `/run/sshd` is there.
fn coverage(instance: &Instance, trial: &Trial, with_socket: bool) -> Option<Coverage> {
    if instance.is_elsewhere() {
        return Some(Coverage::none());
    }
    if with_socket || instance.socket.is_active() {
        return Some(Coverage::of_socket(&instance.socket));
    }
    trial.own_addresses.as_ref().map(|own| Coverage::of_sshd(own, &trial.own_device_bound))
}

/// The service without its socket would serve nothing that is not served or declared, and the socket has no rule that it
/// would be without.
fn is_equivalent_alone(instance: &Instance, trial: &Trial, keep: &BTreeSet<SocketAddr>) -> bool {
    let socket = &instance.socket;
    let allowed: BTreeSet<SocketAddr> = keep.iter().copied().chain(socket.reached_at()).collect();
    let is_allowed = |address: &SocketAddr| allowed.iter().any(|have| reaches(*have, *address));
    let own = trial.own_addresses.as_ref();
    own.is_some_and(|own| own.iter().all(is_allowed)) && !socket.device_bound && !has_filters(&trial.socket_files)
}

/// The restart of an active service: systemd ends its stale main process itself. A SIGTERM by hand would count as a clean
/// exit, and systemd would not start it again.
fn restart(instance: &Instance) -> Start {
    let service = instance.name();
    // A service that serves without its socket is all that served before, enabled though the socket may be.
    let socket = Some(&instance.socket.name).filter(|_| instance.uses_socket() && instance.socket.is_active());
    Start {
        reset: vec![service.to_owned()],
        declared: socket.into_iter().chain([&instance.service.name]).cloned().collect(),
        jobs: vec![UnitJob::new(Job::Restart, service)],
        serves: service.to_owned(),
        ..Start::default()
    }
}

/// The start of what was declared. `deaf`: its socket is active, and holds no address any more.
fn start(snapshot: &Snapshot, instance: &Instance, deaf: bool) -> Result<Start, Refusal> {
    let [service, socket] = instance.units();
    let with_socket = instance.uses_socket();
    // With Accept=yes the socket starts a service of its own for each connection, and the service has no part in it.
    let with_service = !(with_socket && socket.accept);
    if !service.exists() {
        return Err(RefusalCode::UnitMissing.because(&service.name));
    }
    // What an interrupted repair has stopped is started again, enabled or not.
    let was_begun = snapshot.intent_of(instance.name()).is_some_and(|intent| !intent.stopped);
    let declared =
        with_socket || service.is_enabled() || service.is_active() || was_begun || !snapshot.is_main(instance);
    if !declared {
        let masked = [socket, service].into_iter().find(|unit| unit.load == LoadState::Masked);
        return Err(masked.map_or_else(
            || RefusalCode::NothingToStart.because(""),
            |unit| RefusalCode::UnitMasked.because(&unit.name).about(&unit.name),
        ));
    }
    let mut jobs = Vec::new();
    if with_socket && (deaf || !socket.is_active()) {
        // A socket cannot be started while its service runs ("already active, refusing").
        if service.is_active() {
            jobs.push(UnitJob::new(Job::Stop, &service.name));
        }
        jobs.push(UnitJob::new(if deaf { Job::Restart } else { Job::Start }, &socket.name));
        if with_service {
            jobs.push(UnitJob::new(Job::Start, &service.name));
        }
    } else if with_service {
        jobs.push(UnitJob::new(if service.is_active() { Job::Restart } else { Job::Start }, &service.name));
    }
    let involved = [(with_socket, socket), (with_service, service)];
    let declared: Vec<String> = involved.into_iter().filter(|(is, _)| *is).map(|(_, unit)| unit.name.clone()).collect();
    Ok(Start {
        stop_rescue: instance.rescue.is_active().then(|| instance.rescue.name.clone()),
        reset: declared.clone(),
        jobs,
        declared,
        service_alone: (with_socket && with_service).then(|| service.name.clone()),
        serves: if with_service { service.name.clone() } else { socket.name.clone() },
    })
}
