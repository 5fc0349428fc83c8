//! What facts mean, written down apart from src/model: a mistake there must not hide itself in the tests.
#![allow(dead_code)] // each test binary uses a part of it

use sshd_mend::model::process::{ListenSocket, Process};
use sshd_mend::model::unit::{ActiveState, Enablement, Listen, LoadState, Unit};
use std::net::{Ipv4Addr, SocketAddr};

/// Where clients reach a socket.
pub fn reached_at(socket: &ListenSocket) -> Vec<SocketAddr> {
    let dual = socket.address.is_ipv6() && socket.address.ip().is_unspecified() && !socket.ipv6_only;
    let ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, socket.address.port()));
    if dual { vec![socket.address, ipv4] } else { vec![socket.address] }
}

/// Whoever connects to `wanted` reaches `have`.
pub fn is_reached(have: SocketAddr, wanted: SocketAddr) -> bool {
    let wildcard = have.ip().is_unspecified() && have.is_ipv4() == wanted.is_ipv4();
    have.port() == wanted.port() && (wildcard || have.ip() == wanted.ip())
}

/// They cannot both be in LISTEN.
pub fn overlap(one: &ListenSocket, other: &ListenSocket) -> bool {
    let either = |one: SocketAddr, other: SocketAddr| is_reached(one, other) || is_reached(other, one);
    one.inode != other.inode
        && reached_at(one).into_iter().any(|one| reached_at(other).into_iter().any(|other| either(one, other)))
}

pub fn is_here(process: &Process) -> bool {
    let here = process.surroundings;
    here.pid_namespace && here.network_namespace && here.user_namespace && here.root_directory
}

pub fn is_session(process: &Process) -> bool {
    process.connected || process.stdin_is_socket || process.parent_is_sshd
}

pub fn is_running(state: &ActiveState) -> bool {
    [ActiveState::Active, ActiveState::Activating, ActiveState::Reloading, ActiveState::Refreshing].contains(state)
}

pub fn fails_over_and_over(unit: &Unit) -> bool {
    unit.sub.starts_with("auto-restart") || (unit.active == ActiveState::Activating && unit.restarts > 0)
}

pub fn is_enabled(unit: &Unit) -> bool {
    let declared = [Enablement::Enabled, Enablement::EnabledRuntime, Enablement::Generated, Enablement::Alias];
    unit.load == LoadState::Loaded && declared.contains(&unit.enablement)
}

pub fn is_declared(unit: &Unit) -> bool {
    is_enabled(unit) || is_running(&unit.active)
}

pub fn tcp(unit: &Unit) -> impl Iterator<Item = SocketAddr> + '_ {
    unit.listen.iter().filter_map(|listen| match listen {
        Listen::Tcp(address) => Some(*address),
        Listen::Other(_) => None,
    })
}
