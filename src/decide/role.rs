//! What a process that is called sshd is: the rule for what may ever be terminated, in here and nowhere else.

use std::path::Path;

use crate::model::diagnosis::{Exclusion, Role};
use crate::model::process::Process;
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::unit::{ActiveState, Unit};

/// Judges one process of a snapshot.
pub fn role(process: &Process, snapshot: &Snapshot) -> Role {
    role_among(process, snapshot.instances.iter().map(|instance| instance.program.path.as_path()))
}

/// Judges one process, given the programs of the declared instances. Only kernel facts decide, and every doubt is in the
/// process's favour.
pub fn role_among<'a>(process: &Process, mut programs: impl Iterator<Item = &'a Path>) -> Role {
    if !process.surroundings.is_host() {
        return Role::Excluded(Exclusion::Elsewhere);
    }
    // A root session with -R or X11 forwarding holds a socket in LISTEN and, up to 9.7, runs the listener's program.
    if process.connected || process.stdin_is_socket || process.parent_is_sshd {
        return Role::Session;
    }
    if !programs.any(|program| program == process.path) {
        return Role::Excluded(Exclusion::OtherProgram);
    }
    if process.real_uid != 0 || process.effective_uid != 0 {
        return Role::Excluded(Exclusion::NotRoot);
    }
    if process.sockets.is_empty() {
        return Role::Excluded(Exclusion::NotListening);
    }
    Role::Listener
}

/// See [`role`].
pub fn is_listener(process: &Process, snapshot: &Snapshot) -> bool {
    role(process, snapshot) == Role::Listener
}

/// The active service whose main process this is.
pub fn owner<'a>(process: &Process, snapshot: &'a Snapshot) -> Option<&'a Unit> {
    let services = snapshot.instances.iter().map(|instance| &instance.service);
    services.into_iter().find(|service| owns(service, process))
}

/// The service is active, and this is its main process; or the process by which it is being started.
pub fn owns(service: &Unit, process: &Process) -> bool {
    service.is_active() && service.main_pid == Some(process.pid) || is_starting(service, process)
}

/// systemd is starting the service, and this is what it has started so far. It may serve already.
pub(super) fn is_starting(service: &Unit, process: &Process) -> bool {
    // Between two attempts nothing of it runs.
    let attempts = service.active == ActiveState::Activating && !service.sub.starts_with("auto-restart");
    attempts && [service.main_pid, service.control_pid].contains(&Some(process.pid))
}

/// The service of an instance is active, and its main process is an sshd that was seen.
pub(super) fn serves_by_itself(snapshot: &Snapshot, instance: &Instance) -> bool {
    let main = snapshot.processes.iter().any(|process| owns(&instance.service, process));
    instance.service.is_active() && main
}

/// The main process of an instance serves at a port of this one.
fn serves_at_a_port_of(process: &Process, snapshot: &Snapshot, instance: &Instance) -> bool {
    let has_port = |port: u16| process.sockets.iter().any(|socket| socket.address.port() == port);
    let own = snapshot.processes.iter().filter(|process| owns(&instance.service, process));
    own.flat_map(|process| &process.sockets).any(|socket| has_port(socket.address.port()))
}

/// The instance to which a listener belongs: the one that owns it, in whose control group it lives, that declares an
/// address of it, that serves at the same port; else the main one.
pub fn instance_of<'a>(process: &Process, snapshot: &'a Snapshot) -> Option<&'a Instance> {
    let find = |is_it: &dyn Fn(&Instance) -> bool| snapshot.instances.iter().find(|instance| is_it(instance));
    let addresses = process.reached_at();
    find(&|instance| owns(&instance.service, process))
        .or_else(|| find(&|instance| process.unit.as_deref() == Some(instance.name())))
        .or_else(|| find(&|instance| instance.socket.tcp_addresses().any(|address| addresses.contains(&address))))
        .or_else(|| find(&|instance| !instance.wanted.is_disjoint(&addresses)))
        .or_else(|| find(&|instance| serves_at_a_port_of(process, snapshot, instance)))
        .or_else(|| snapshot.main())
}
