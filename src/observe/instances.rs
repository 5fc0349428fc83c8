//! Instances: the main one, and every other active or failed unit whose `ExecStart=` is an sshd, or a wrapper that has become
//! one (`ip vrf exec`, `nice`, a script that ends with exec). One that a supervisor has started, it starts again itself.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::server;
use crate::host::deadline::Deadline;
use crate::host::systemd::{Error, Manager};
use crate::model::intent::Intent;
use crate::model::names::{self, DEFAULT_PROGRAM, RUNTIME_UNITS, SERVICE, SOCKET};
use crate::model::process::{FileId, Process};
use crate::model::snapshot::{Instance, Program};
use crate::model::unit::Unit;

/// An instance of what a socket with `Accept=yes` starts for each connection: as good as any, and never started.
const PER_CONNECTION: &str = "sshd-mend";

/// All instances, the main one first.
pub(super) fn observe(
    manager: &Manager,
    processes: &[Process],
    intent: Option<&Intent>,
) -> Result<Vec<Instance>, Error> {
    let service = manager.unit(SERVICE)?;
    let socket = manager.unit(SOCKET)?;
    let mut instances = vec![instance(manager, service, socket)?];

    let mut names: BTreeSet<String> = manager.failed_services()?.into_iter().collect();
    let serving = processes.iter().filter(|process| !process.sockets.is_empty());
    names.extend(serving.clone().filter_map(|process| process.unit.clone()));
    // What a repair has announced is an instance as long as it is on record, whatever has become of its unit.
    let on_record: BTreeSet<&str> =
        intent.iter().flat_map(|intent| &intent.instances).map(|intent| intent.instance.as_str()).collect();
    names.extend(on_record.iter().map(|name| (*name).to_owned()));
    for name in names.iter().filter(|name| name.ends_with(".service")) {
        if instances.iter().any(|instance| instance.name() == name) {
            continue;
        }
        let service = manager.unit(name)?;
        // Asked for by an alias.
        let known = instances.iter().any(|instance| instance.name() == service.name);
        let is_sshd = service.sshd().is_some() && listens(&service);
        let runs_one =
            || service.is_active() && serving.clone().any(|it| may_be_listener(it) && service.main_pid == Some(it.pid));
        if known || !(is_sshd || on_record.contains(name.as_str()) || runs_one()) {
            continue;
        }
        let socket = match service.triggered_by.iter().find(|unit| unit.ends_with(".socket")) {
            Some(socket) => manager.unit(socket)?,
            None => Unit::absent(&format!("{}.socket", names::stem(&service.name))),
        };
        instances.push(instance(manager, service, socket)?);
    }
    for instance in &mut instances {
        let announced = intent.and_then(|intent| intent.of(instance.name()));
        instance.socket_on_record = announced.is_some_and(|intent| intent.units.contains(&instance.socket.name));
    }
    Ok(instances)
}

/// Not `sshd -i` of a socket with `Accept=yes`, which serves one connection, and no test of a configuration (sshd(8)).
fn listens(service: &Unit) -> bool {
    let others = ["-i", "-t", "-T", "-G"];
    service.sshd().is_some_and(|exec| !exec.arguments.iter().any(|argument| others.contains(&argument.as_str())))
}

/// Not one of a container, which its service has started as well, and no session, which may listen for its user (`-R`).
fn may_be_listener(process: &Process) -> bool {
    process.surroundings.is_host() && !process.connected && !process.stdin_is_socket && !process.parent_is_sshd
}

fn instance(manager: &Manager, service: Unit, socket: Unit) -> Result<Instance, Error> {
    let per_connection = match socket.accept {
        true => Some(manager.unit(&format!("{}@{PER_CONNECTION}.service", names::stem(&socket.name)))?),
        false => None,
    };
    let rescue = names::rescue_socket(&service.name);
    // A rescue has a file there as long as it may serve: no question to systemd where there is none.
    let rescue = match Path::new(RUNTIME_UNITS).join(&rescue).exists() {
        true => manager.unit(&rescue)?,
        false => Unit::absent(&rescue),
    };
    let program = program(service.sshd().map(|exec| exec.path.as_path()));
    Ok(Instance { service, socket, per_connection, rescue, program, socket_on_record: false, wanted: BTreeSet::new() })
}

/// Where an instance's units would serve.
pub fn wanted_addresses(instance: &Instance, deadline: Deadline) -> BTreeSet<SocketAddr> {
    let (service, socket) = (&instance.service, &instance.socket);
    if socket.is_active() || (socket.is_enabled() && !service.is_active()) {
        return socket.tcp_addresses().collect();
    }
    if !service.is_enabled() && !service.is_active() && !service.has_failed() {
        return BTreeSet::new();
    }
    // Without /run/sshd the sshd of Debian 12 does not tell: then what it serves by default.
    server::own_addresses(instance, deadline)
        .unwrap_or_else(|| [SocketAddr::from(([0, 0, 0, 0], 22)), SocketAddr::from(([0_u16; 8], 22))].into())
}

fn program(exec_start: Option<&Path>) -> Program {
    let named = exec_start.unwrap_or(Path::new(DEFAULT_PROGRAM));
    let path = named.canonicalize().unwrap_or_else(|_| canonical_parent(named));
    let file = rustix::fs::stat(&path).ok().map(|stat| FileId { device: stat.st_dev, inode: stat.st_ino });
    Program { path, file }
}

/// The kernel names a process's program with the links of its directory resolved (`/sbin` is `/usr/sbin`), also when
/// the file is gone.
fn canonical_parent(path: &Path) -> PathBuf {
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}
