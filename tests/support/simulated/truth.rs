//! How the simulated machine really is: units, processes, sockets, files, and who serves which address.

use super::faults::Taker;
use crate::facts::{overlap, reached_at};
use crate::support::{self, listener};
use sshd_mend::model::intent::Intent;
use sshd_mend::model::plan::Rescue;
use sshd_mend::model::process::{ListenSocket, Process};
use sshd_mend::model::snapshot::Instance;
use sshd_mend::model::trial::Trial;
use sshd_mend::model::unit::{ActiveState, Unit};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

pub type Addresses = BTreeSet<SocketAddr>;

/// An instance as systemd has it, and what is on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Managed {
    pub instance: Instance,
    /// Where sshd binds without a socket unit.
    pub own: Addresses,
    pub trial: Trial,
    /// The service has `RuntimeDirectory=sshd`: each stop and failed start of it removes `/run/sshd`.
    pub has_directory: bool,
    /// A start of the service starts the socket first, and depends on it (Ubuntu).
    pub requires_socket: bool,
    /// `ExecStartPre=/bin/false`.
    pub broken: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    pub facts: Process,
    /// Whose listener or session it is.
    pub instance: usize,
    /// The executor did not start it.
    pub old: bool,
    /// Addresses that it will bind, and after how many looks.
    pub late: Option<(usize, Addresses)>,
}

/// What has been written for the time after a crash.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Files {
    pub rescue: Option<Rescue>,
    pub fallback: bool,
}

/// How the machine really is.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    pub instances: Vec<Managed>,
    pub processes: Vec<Running>,
    /// Sockets that PID 1 holds, with their units.
    pub by_systemd: Vec<(String, ListenSocket)>,
    pub foreign: Vec<Taker>,
    pub runtime_directory: bool,
    pub intent: Option<Intent>,
    pub files: BTreeMap<String, Files>,
    /// What each instance lost to somebody else than the executor.
    pub lost_to_others: Vec<Addresses>,
    pub next: i32,
}

impl Truth {
    pub fn sockets(&self) -> impl Iterator<Item = ListenSocket> + '_ {
        let foreign = self.foreign.iter().map(|taker| support::sockets(&[&taker.address.to_string()])[0]);
        let processes = self.processes.iter().flat_map(|process| process.facts.sockets.iter().copied());
        processes.chain(self.by_systemd.iter().map(|(_, socket)| *socket)).chain(foreign)
    }

    pub fn is_free(&self, socket: &ListenSocket) -> bool {
        !self.sockets().any(|held| overlap(&held, socket))
    }

    /// Where clients reach the instance: its processes, its socket, or its rescue.
    pub fn served(&self, index: usize) -> Addresses {
        self.served_by(index, |_| true)
    }

    /// The same by these processes alone, and by systemd.
    pub fn served_by(&self, index: usize, counts: impl Fn(&Running) -> bool) -> Addresses {
        let managed = &self.instances[index];
        let Instance { service, socket, rescue, .. } = &managed.instance;
        // A socket whose service has failed starts it once more, in vain.
        let is_fit = |unit: &str| {
            unit == rescue.name || (unit == socket.name && (socket.accept || service.active != ActiveState::Failed))
        };
        let processes = self.processes.iter().filter(|process| process.instance == index && counts(process));
        let of_processes = processes.flat_map(|process| &process.facts.sockets);
        let of_systemd = self.by_systemd.iter().filter(|(unit, _)| is_fit(unit)).map(|(_, socket)| socket);
        of_processes.chain(of_systemd).flat_map(reached_at).collect()
    }

    pub fn all_served(&self) -> Vec<Addresses> {
        (0..self.instances.len()).map(|index| self.served(index)).collect()
    }

    /// The instance to which a unit belongs.
    pub fn owner(&self, unit: &str) -> Option<usize> {
        self.instances.iter().position(|managed| {
            let Instance { service, socket, rescue, .. } = &managed.instance;
            [&service.name, &socket.name, &rescue.name].into_iter().any(|name| name == unit)
        })
    }

    pub fn unit(&self, name: &str) -> Option<&Unit> {
        let Instance { service, socket, rescue, .. } = &self.instances[self.owner(name)?].instance;
        [service, socket, rescue].into_iter().find(|unit| unit.name == name)
    }

    /// The active service whose main process this is.
    pub fn owner_of(&self, pid: i32) -> Option<String> {
        let services = self.instances.iter().map(|managed| &managed.instance.service);
        let owns = |service: &&Unit| service.active == ActiveState::Active && service.main_pid == Some(pid);
        services.into_iter().find(owns).map(|service| service.name.clone())
    }

    pub fn spawn(&mut self, index: usize, sockets: Vec<ListenSocket>) -> i32 {
        self.next += 1;
        let managed = &self.instances[index];
        let service = &managed.instance.service.name;
        let facts = Process {
            sockets,
            path: managed.instance.program.path.clone(),
            unit: Some(service.clone()),
            control_group: format!("/system.slice/{service}"),
            ..listener(self.next)
        };
        self.processes.push(Running { facts, instance: index, old: false, late: None });
        self.next
    }

    pub fn socket(&mut self, address: SocketAddr, ipv6_only: bool, device_bound: bool) -> ListenSocket {
        self.next += 1;
        ListenSocket { address, ipv6_only, device_bound, vrf: false, inode: u64::from(self.next.unsigned_abs()) }
    }
}

/// A machine on which nothing runs yet.
pub fn empty() -> Truth {
    Truth {
        instances: Vec::new(),
        processes: Vec::new(),
        by_systemd: Vec::new(),
        foreign: Vec::new(),
        runtime_directory: true,
        intent: None,
        files: BTreeMap::new(),
        lost_to_others: Vec::new(),
        next: 100,
    }
}
