//! Who serves an address, and who else holds one that an instance needs.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::role::{instance_of, role};
use crate::model::address::{collide, reaches};
use crate::model::diagnosis::Role;
use crate::model::process::{ListenSocket, Process};
use crate::model::refusal::{Refusal, RefusalCode};
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::unit::Unit;

/// Somebody who holds an address that an instance needs, and is not to make room.
pub(super) struct Holder<'a> {
    pub(super) address: SocketAddr,
    /// What is known about it, for a person.
    pub(super) who: String,
    /// An sshd that serves for another unit: it may be the only one.
    pub(super) serving: Option<&'a Process>,
}

/// Addresses that an interrupted repair was about to serve again, and that the instance does not serve.
pub(super) fn lost_addresses(snapshot: &Snapshot, instance: &Instance) -> BTreeSet<SocketAddr> {
    let Some(intent) = snapshot.intent_of(instance.name()) else { return BTreeSet::new() };
    unserved(&intent.addresses, &served_by(snapshot, instance))
}

pub(super) fn unserved(wanted: &BTreeSet<SocketAddr>, served: &BTreeSet<SocketAddr>) -> BTreeSet<SocketAddr> {
    let is_served = |address: SocketAddr| served.iter().any(|have| reaches(*have, address));
    wanted.iter().copied().filter(|address| !is_served(*address)).collect()
}

/// Addresses at which a listener of an instance, or systemd for it, is reached.
pub(super) fn served_by(snapshot: &Snapshot, instance: &Instance) -> BTreeSet<SocketAddr> {
    let is_own = |process: &&Process| {
        role(process, snapshot) == Role::Listener
            && instance_of(process, snapshot).is_some_and(|of| of.name() == instance.name())
    };
    let sockets = [&instance.socket, &instance.rescue].into_iter().filter(|socket| socket.is_active());
    let declared: BTreeSet<SocketAddr> = sockets.flat_map(Unit::tcp_addresses).collect();
    let held = snapshot.systemd_holds.iter().filter(|socket| declared.contains(&socket.address));
    let own = snapshot.processes.iter().filter(is_own);
    own.flat_map(Process::reached_at).chain(held.flat_map(ListenSocket::reached_at)).collect()
}

fn held_by_listeners(snapshot: &Snapshot) -> BTreeSet<SocketAddr> {
    let listeners = snapshot.processes.iter().filter(|process| role(process, snapshot) == Role::Listener);
    listeners.flat_map(Process::reached_at).collect()
}

/// Who holds addresses of `needed`, other than PID 1 and listeners that are to make room. `served` are those of the
/// listeners that make room; a child that one of them has just forked holds them for a moment, too.
pub(super) fn taken_by_others<'a>(
    snapshot: &'a Snapshot,
    needed: &BTreeSet<SocketAddr>,
    served: &BTreeSet<SocketAddr>,
) -> Vec<Holder<'a>> {
    // A needed `[::]` may be a socket unit's that is to serve IPv4 too.
    let is_needed = |held: &&ListenSocket| {
        let hinders = |address: &&SocketAddr| !(held.ipv6_only && address.is_ipv4());
        needed.iter().filter(hinders).any(|address| collide(held.address, *address))
    };
    let others = snapshot.processes.iter().filter(|p| p.surroundings.network_namespace).flat_map(|process| {
        let role = role(process, snapshot);
        let serving = Some(process).filter(|_| role == Role::Listener);
        let who = match (role, &process.unit) {
            (Role::Listener, Some(unit)) => format!("sshd {} of {unit}", process.pid),
            (Role::Listener, None) => format!("sshd {}", process.pid),
            (Role::Session, _) => format!("sshd {}, left alone: it serves a connection", process.pid),
            (Role::Excluded(why), _) => format!("sshd {}, left alone: {}", process.pid, why.reason()),
        };
        let held = process.sockets.iter().filter(|held| !served.contains(&held.address) && is_needed(held));
        held.map(|held| Holder { address: held.address, who: who.clone(), serving }).collect::<Vec<_>>()
    });
    let foreign = snapshot.foreign.iter().filter(is_needed).map(|held| Holder {
        address: held.address,
        who: snapshot.holders.get(&held.inode).cloned().unwrap_or_default(),
        serving: None,
    });
    foreign.chain(others).collect()
}

/// Sockets of programs that are no sshd of this host, at addresses that an instance wants: who holds them is to be shown.
pub fn sockets_in_the_way(snapshot: &Snapshot) -> BTreeSet<u64> {
    let wanted = snapshot.instances.iter().flat_map(|instance| &instance.wanted);
    let wanted: Vec<SocketAddr> = wanted.copied().collect();
    let collides = |held: &&ListenSocket| wanted.iter().any(|address| collide(held.address, *address));
    snapshot.foreign.iter().filter(collides).map(|held| held.inode).collect()
}

/// What others hold of the addresses where an instance wants to serve and no listener of this host does.
pub(super) fn in_the_way<'a>(snapshot: &'a Snapshot, instance: &Instance) -> Vec<Holder<'a>> {
    let held = held_by_listeners(snapshot);
    let not_served = instance.wanted.iter().filter(|address| !held.contains(address)).copied().collect();
    taken_by_others(snapshot, &not_served, &held)
}

/// As text: `0.0.0.0:22 (nginx 812), [::]:22`.
pub(super) fn named(holders: &[Holder<'_>]) -> String {
    let of = |holder: &Holder<'_>| match holder.who.is_empty() {
        true => holder.address.to_string(),
        false => format!("{} ({})", holder.address, holder.who),
    };
    holders.iter().map(of).collect::<Vec<_>>().join(", ")
}

/// An instance cannot take over as long as somebody else holds an address. UNIT stands for its service.
pub(super) fn foreign_listener(holders: &[Holder<'_>]) -> Refusal {
    let refusal = RefusalCode::ForeignListener.because(&named(holders));
    let Some(serving) = holders.iter().find_map(|holder| holder.serving) else { return refusal };
    // Who ends it first, and starts the unit then, may be left without any.
    let end = match &serving.unit {
        Some(unit) if unit.ends_with(".service") => format!("systemctl stop {unit}"),
        _ => format!("kill {}", serving.pid),
    };
    let advice = format!(
        "Keep the sshd that serves until UNIT can start. 1. See why UNIT failed: sudo journalctl -u UNIT. 2. Correct that. 3. In \
         one line: sudo sh -c '{end}; systemctl start UNIT'"
    );
    Refusal { advice, ..refusal }
}
