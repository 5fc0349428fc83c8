//! Does a new connection get through to a listener: up to the server's KEXINIT, with nothing authenticated.
//!
//! A listener counts as dead only if it closes three connections in a row before its KEXINIT without giving a reason.
//! Text in place of a banner ("Not allowed at this time", "Exceeded MaxStartups") is a busy server, not a dead one.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, connect, socket};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::deadline::Deadline;
use super::handshake::{Attempt, Timed, handshake};
use super::sock_diag;
use crate::model::address;
use crate::model::probe::{Probe, ProbeResult};

/// Time for one connection, from connect(2) to the server's KEXINIT. A healthy server takes 20 ms.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of that, for connect(2): the listener is on this host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Attempts before a listener is called dead.
const ATTEMPTS: u32 = 3;
/// Between two attempts: a restart of sshd takes about 100 ms.
const PAUSE_BETWEEN_ATTEMPTS: Duration = Duration::from_millis(300);
/// The attempt that comes from 127.0.0.1, which may be the only address that hosts.allow lets in.
const SHARED_SOURCE: u32 = 1;
const HOSTS_DENY: &str = "/etc/hosts.deny";
const HOSTS_ALLOW: &str = "/etc/hosts.allow";

/// Probes the listener at `address` from this machine.
pub fn probe(address: SocketAddr, deadline: Deadline) -> Probe {
    let is_wildcard = address.is_ipv6() && address.ip().is_unspecified();
    if is_wildcard && is_ipv6_only(address) && std::fs::read(address::INTERFACES).is_ok_and(|text| text.is_empty()) {
        return Probe::skipped("no network interface has an IPv6 address, so nobody can connect");
    }
    let mut closed = String::new();
    let mut is_denied = false;
    let mut closes = 0;
    let mut attempts = ATTEMPTS;
    let mut number = 0;
    while number < attempts {
        if number > 0 {
            std::thread::sleep(PAUSE_BETWEEN_ATTEMPTS.min(deadline.remaining()));
        }
        let limit = deadline.at_most(ATTEMPT_TIMEOUT);
        let mut stream = match connect_any(address, number, limit) {
            Ok(stream) => stream,
            // What connect(2) gives at the end of SO_SNDTIMEO.
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {
                return inconclusive(format!(
                    "no answer from {address}: a firewall may drop connections from this host"
                ));
            }
            Err(error) => return inconclusive(format!("no connection to {address}: {error}")),
        };
        match handshake(&mut stream, limit) {
            Attempt::Kexinit(banner) => return Probe::new(ProbeResult::Ok, banner),
            // PerSourcePenalties for 127.0.0.1, which everybody here comes from: it says nothing about the listener.
            Attempt::Refused(_) if number == SHARED_SOURCE && closes > 0 => attempts += 1,
            Attempt::Refused(text) => return Probe { refused: true, ..inconclusive(refused(&text)) },
            // libwrap may keep whom it denies for as long as an attempt takes.
            Attempt::Unclear(_) if number + 1 < attempts && may_be_denied() => is_denied = true,
            Attempt::Unclear(what) => return inconclusive(what),
            Attempt::Closed(Some(banner)) => {
                closes += 1;
                closed = format!("new connections are closed in the middle of the key exchange (banner {banner})");
            }
            // hosts_access(5): whom it denies is closed out at once, whatever the listener is like.
            Attempt::Closed(None) if may_be_denied() => is_denied = true,
            Attempt::Closed(None) => {
                closes += 1;
                closed = "new connections are closed before a banner".to_owned();
            }
        }
        number += 1;
    }
    if is_denied {
        return inconclusive(format!("closed before a banner, and {HOSTS_DENY} or {HOSTS_ALLOW} denies some clients"));
    }
    Probe::new(ProbeResult::Dead, closed)
}

/// hosts_access(5): hosts.deny has a rule, or hosts.allow one with an option that ends a connection (hosts_options(5)). A
/// file that cannot be read may.
fn may_be_denied() -> bool {
    let ends = ["deny", "twist"];
    let is_option = |line: &str| ends.iter().any(|option| line.to_ascii_lowercase().contains(option));
    has_rule(Path::new(HOSTS_DENY), |_| true) || has_rule(Path::new(HOSTS_ALLOW), is_option)
}

fn has_rule(path: &Path, is_it: impl Fn(&str) -> bool) -> bool {
    match std::fs::read(path) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let rules = text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
            rules.into_iter().any(is_it)
        }
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// sshd's words, and what they mean (srclimit_check_allow and drop_connection, sshd.c).
fn refused(text: &str) -> String {
    let meaning = match text {
        text if text.contains("MaxStartups") => {
            ": too many connections wait for authentication (MaxStartups in sshd_config(5))"
        }
        text if text.starts_with("Not allowed") => {
            ": sshd makes this source address wait (PerSourcePenalties in sshd_config(5))"
        }
        _ => "",
    };
    format!("it refuses with \"{text}\"{meaning}")
}

fn inconclusive(detail: String) -> Probe {
    Probe::new(ProbeResult::Inconclusive, detail)
}

/// Connects to the address that a listener is bound to; for a wildcard, over loopback.
///
/// Where `[::]` serves IPv4 too, IPv4 is tried first, for the sake of [`source`]; IPv6 may be switched off.
fn connect_any(bound: SocketAddr, number: u32, deadline: Deadline) -> io::Result<TcpStream> {
    let port = bound.port();
    let ipv4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => connect_to(ipv4, number, deadline),
        IpAddr::V6(ip) if ip.is_unspecified() && is_ipv6_only(bound) => connect_to(ipv6, number, deadline),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            connect_to(ipv4, number, deadline).or_else(|_| connect_to(ipv6, number, deadline))
        }
        _ => connect_to(target(bound), number, deadline),
    }
}

/// Where a client of this host reaches a listener that is bound to `bound`: over loopback, where it is a wildcard.
pub(super) fn target(bound: SocketAddr) -> SocketAddr {
    let interfaces = || std::fs::read_to_string(address::INTERFACES).unwrap_or_default();
    match bound.ip() {
        ip if !ip.is_unspecified() => address::with_scope(bound, &interfaces()),
        IpAddr::V6(_) if is_ipv6_only(bound) => SocketAddr::from((Ipv6Addr::LOCALHOST, bound.port())),
        _ => SocketAddr::from((Ipv4Addr::LOCALHOST, bound.port())),
    }
}

/// A socket in LISTEN keeps this wildcard to IPv6.
fn is_ipv6_only(bound: SocketAddr) -> bool {
    sock_diag::listening().is_ok_and(|sockets| {
        let mut here = sockets.iter().filter(|socket| socket.address == bound);
        here.any(|socket| socket.ipv6_only)
    })
}

fn connect_to(to: SocketAddr, number: u32, deadline: Deadline) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    match to {
        // Whom hosts.allow denies, libwrap keeps for 5 s (clean_exit.c). If the address cannot be had, the kernel's choice will
        // do.
        SocketAddr::V4(to) if *to.ip() == Ipv4Addr::LOCALHOST && number != SHARED_SOURCE => {
            let _ = bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source(number), 0)));
        }
        // From the address itself: one that has moved to another host must not be probed there.
        SocketAddr::V4(to) => {
            bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0)))?;
        }
        SocketAddr::V6(to) => {
            let from = SocketAddrV6::new(*to.ip(), 0, 0, to.scope_id());
            bind(socket.as_raw_fd(), &SockaddrIn6::from(from))?;
        }
    }
    // SO_SNDTIMEO bounds connect(2) as well (socket(7)).
    let stream = TcpStream::from(socket);
    stream.limit(deadline.at_most(CONNECT_TIMEOUT).remaining().max(Duration::from_millis(1)))?;
    match to {
        SocketAddr::V4(to) => connect(stream.as_raw_fd(), &SockaddrIn::from(to))?,
        SocketAddr::V6(to) => connect(stream.as_raw_fd(), &SockaddrIn6::from(to))?,
    }
    Ok(stream)
}

/// A loopback address of our own: `PerSourcePenalties` are counted for each source address, and a probe that leaves
/// before it authenticates must not make sshd refuse somebody else who comes from 127.0.0.1.
pub(super) fn source(number: u32) -> Ipv4Addr {
    let seed = std::process::id().wrapping_mul(2_654_435_761).wrapping_add(number.wrapping_mul(40_503));
    let [_, a, b, c] = seed.to_be_bytes();
    Ipv4Addr::new(127, a | 64, b, c.clamp(1, 254))
}
