//! The facts of one moment, before anybody judges them. A test can write down any machine it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use super::intent::{InstanceIntent, Intent};
use super::names;
use super::process::{Child, FileId, ListenSocket, Process};
use super::unit::{ActiveState, LoadState, Unit};

/// Everything that a diagnosis is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub host: Host,
    /// The main one first: ssh.service with ssh.socket, whether they exist or not. Then every other active or failed
    /// unit whose `ExecStart=` is an sshd, or whose main process is one.
    pub instances: Vec<Instance>,
    /// Every process of root's whose program is called sshd, sshd-session or sshd-auth, wherever it runs, except for
    /// `children`.
    pub processes: Vec<Process>,
    /// Such processes whose parent is one, too. There may be hundreds, and none of them is a listener.
    pub children: Vec<Child>,
    /// Those of `processes` and `children` that serve a connection over which nobody has authenticated yet: no session.
    pub unauthenticated: BTreeSet<i32>,
    /// Processes of such a name whose effective user is not root, with their programs. Nothing else of them is read, so no
    /// user can make an examination slow or keep it from its end.
    pub of_users: Vec<(i32, PathBuf)>,
    /// Processes of such a name whose facts could not be read, and why.
    pub unreadable: Vec<(i32, String)>,
    /// TCP sockets in LISTEN that PID 1 holds for an instance or its rescue.
    pub systemd_holds: Vec<ListenSocket>,
    /// TCP sockets in LISTEN that neither PID 1 holds for an instance nor one of `processes`.
    pub foreign: Vec<ListenSocket>,
    /// Who holds sockets of `foreign`, by inode: program and pid, to be shown. Looked up only where one is in the way.
    pub holders: BTreeMap<u64, String>,
    /// What a repair that was interrupted, or that is running, is about to do.
    pub intent: Option<Intent>,
}

/// Facts about the machine as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// `/run/sshd` is a directory. Without it sshd resets every connection after the client's KEXINIT.
    pub runtime_directory: bool,
    /// `/etc/ssh/sshd_not_to_be_run` exists: the administrator wants no sshd.
    pub not_to_be_run: bool,
    /// systemd is stopping the system.
    pub shutting_down: bool,
}

/// One declared sshd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub service: Unit,
    /// The socket that starts it; [`Unit::absent`] if it has none.
    pub socket: Unit,
    /// What a socket with `Accept=yes` starts for each connection.
    pub per_connection: Option<Unit>,
    /// The socket of this instance's rescue; [`Unit::absent`] while there is none.
    pub rescue: Unit,
    pub program: Program,
    /// A repair that is on record has to start its socket again, enabled or not.
    pub socket_on_record: bool,
    /// Where the units want to serve. Looked up only if somebody else may hold that address: while they are not active,
    /// or if another program is at a port of theirs.
    pub wanted: BTreeSet<SocketAddr>,
}

/// An OpenSSH server on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What `ExecStart=` names, with symbolic links resolved; else `/usr/sbin/sshd`.
    pub path: PathBuf,
    /// `None`: no such file.
    pub file: Option<FileId>,
}

impl Instance {
    /// Its name: that of its service.
    pub fn name(&self) -> &str {
        &self.service.name
    }

    /// Its service and its socket, in this order.
    pub fn units(&self) -> [&Unit; 2] {
        [&self.service, &self.socket]
    }

    /// What is declared starts through the socket.
    pub fn uses_socket(&self) -> bool {
        self.socket.is_enabled() || self.socket.is_active() || self.socket_on_record
    }

    /// The unit that runs sshd: with `Accept=yes` not its service.
    pub fn runs_sshd(&self) -> &Unit {
        let per_connection = self.per_connection.as_ref().filter(|_| self.uses_socket());
        per_connection.filter(|unit| unit.exists()).unwrap_or(&self.service)
    }

    /// systemd listens, and starts sshd for the next connection.
    pub fn waits(&self) -> bool {
        self.socket.is_active() && !self.service.is_active()
    }

    /// It serves in a network namespace of its own, which is not examined.
    pub fn is_elsewhere(&self) -> bool {
        self.service.own_network || (self.uses_socket() && self.socket.own_network)
    }
}

impl Snapshot {
    /// The instance of Debian's openssh-server.
    pub fn main(&self) -> Option<&Instance> {
        self.instances.first()
    }

    /// The instance of that name.
    pub fn instance(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.name() == name)
    }

    /// It is the main instance.
    pub fn is_main(&self, instance: &Instance) -> bool {
        self.main().is_some_and(|main| main.name() == instance.name())
    }

    /// What is on record about an instance.
    /// `None` also if somebody has stopped it after it was started again, or has masked its rescue to close it.
    pub fn intent_of(&self, instance: &str) -> Option<&InstanceIntent> {
        let intent = self.intent.as_ref()?.of(instance)?;
        // In the middle of a restart it is inactive, too. A socket that nobody wants may have failed long ago.
        let is_stopped = |unit: &Unit| unit.active == ActiveState::Inactive && !unit.job;
        let is_left =
            |socket: &Unit| is_stopped(socket) || (socket.active == ActiveState::Failed && !socket.is_enabled());
        let is_at_rest = |instance: &Instance| {
            is_stopped(&instance.service) && is_stopped(&instance.rescue) && is_left(&instance.socket)
        };
        let is_unwanted = |instance: &Instance| instance.units().iter().all(|unit| !unit.is_enabled());
        let is_closed = |instance: &Instance| {
            let is_stopped = intent.resumed || (intent.stopped && is_unwanted(instance));
            is_stopped && is_at_rest(instance) || instance.rescue.load == LoadState::Masked
        };
        Some(intent).filter(|_| !self.instance(&intent.instance).is_some_and(is_closed))
    }

    /// What the main instance is called where systemd knows no such unit.
    pub const MAIN: &'static str = names::SERVICE;
}
