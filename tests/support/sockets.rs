//! Which sockets collide and who reaches them, written down apart from src/model/address.rs.
#![allow(dead_code)] // each test binary uses a part of it

use sshd_mend::model::process::ListenSocket;
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
