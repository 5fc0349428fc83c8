//! What the facts mean.

use super::findings::findings;
use super::role::{instance_of, is_listener, owner, role};
use crate::model::diagnosis::{Diagnosis, Listener, Role};
use crate::model::plan::Trigger;
use crate::model::printable::printable;
use crate::model::probe::Probe;
use crate::model::process::Process;
use crate::model::snapshot::{Instance, Snapshot};

/// Says what the facts mean.
pub fn diagnose(snapshot: &Snapshot) -> Diagnosis {
    let listeners: Vec<Listener> =
        snapshot.processes.iter().filter(|p| is_listener(p, snapshot)).map(|p| listener(p, snapshot)).collect();
    let own = snapshot.processes.iter().filter(|process| role(process, snapshot) == Role::Session);
    let own = own.map(|process| (process.pid, process.parent));
    let children = snapshot.children.iter().map(|child| (child.pid, child.parent));
    let sessions = own.chain(children.filter(|(_, parent)| !is_elsewhere(*parent, snapshot)));
    let sessions = sessions.filter(|(_, parent)| !serves_a_connection(*parent, snapshot)).map(|(pid, _)| pid);
    let mut sessions: Vec<i32> = sessions.filter(|pid| !snapshot.unauthenticated.contains(pid)).collect();
    sessions.sort_unstable();
    let excluded = snapshot.processes.iter().filter_map(|p| match role(p, snapshot) {
        Role::Excluded(reason) => Some((p.pid, reason)),
        _ => None,
    });
    let installed = |instance: &Instance| instance.program.file.is_some() || instance.service.exists();
    let applicable = snapshot.instances.iter().any(installed) || !listeners.is_empty();

    let mut findings = findings(snapshot, &listeners);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Diagnosis { findings, sessions, excluded: excluded.collect(), applicable, listeners }
}

/// Listeners about which something looks wrong: only these are worth a probe in a package run, where each probe is a
/// line in sshd's log.
pub fn suspects(snapshot: &Snapshot) -> Vec<i32> {
    let suspicious = |process: &&Process| {
        process.is_stale()
            || !snapshot.host.runtime_directory
            || snapshot.intent.is_some()
            || !process.stale_libraries.is_empty()
            || owner(process, snapshot).is_none()
    };
    listeners(snapshot).filter(suspicious).map(|process| process.pid).collect()
}

/// Listeners whose probe can change what is done: a stale one is replaced whether it answers or not.
pub fn decisive(snapshot: &Snapshot, trigger: Trigger) -> Vec<i32> {
    let is_decisive = |process: &&Process| {
        let is_orphan = owner(process, snapshot).is_none();
        snapshot.intent.is_some() || (trigger != Trigger::Repair && is_orphan && !process.is_stale())
    };
    listeners(snapshot).filter(is_decisive).map(|process| process.pid).collect()
}

/// All listeners of this host.
pub fn listeners(snapshot: &Snapshot) -> impl Iterator<Item = &Process> {
    snapshot.processes.iter().filter(|process| is_listener(process, snapshot))
}

/// Instances whose wanted addresses may be in somebody else's hands: their units are not active, or another program is
/// at a port where an sshd listens.
pub fn instances_in_doubt(snapshot: &Snapshot) -> Vec<usize> {
    let ports: Vec<u16> = snapshot.processes.iter().flat_map(Process::addresses).map(|a| a.port()).collect();
    let taken = snapshot.foreign.iter().any(|socket| ports.contains(&socket.address.port()));
    let idle = |instance: &Instance| !instance.service.is_active() && !instance.socket.is_active();
    let instances = snapshot.instances.iter().enumerate();
    instances.filter(|(_, instance)| taken || idle(instance)).map(|(index, _)| index).collect()
}

fn listener(process: &Process, snapshot: &Snapshot) -> Listener {
    let unit = owner(process, snapshot);
    Listener {
        pid: process.pid,
        started: process.started,
        exe: printable(&process.exe.to_string_lossy()),
        stale: process.is_stale(),
        removed: process.on_disk.is_none(),
        stale_libraries: process.stale_libraries.clone(),
        orphan: unit.is_none(),
        unit: unit.map(|unit| unit.name.clone()),
        instance: instance_of(process, snapshot).map_or(Snapshot::MAIN, Instance::name).to_owned(),
        addresses: process.addresses(),
        probe: process.probe.clone().unwrap_or_else(|| Probe::skipped("nothing about it looks wrong")),
    }
}

/// A connection is served by two processes, the monitor and its child. The monitor counts.
fn serves_a_connection(parent: i32, snapshot: &Snapshot) -> bool {
    let of_role = |process: &Process| process.pid == parent && role(process, snapshot) == Role::Session;
    snapshot.children.iter().any(|child| child.pid == parent) || snapshot.processes.iter().any(of_role)
}

/// A child is where its parent is.
fn is_elsewhere(parent: i32, snapshot: &Snapshot) -> bool {
    snapshot.processes.iter().any(|process| process.pid == parent && !process.surroundings.is_host())
}
