//! TCP sockets in LISTEN, as the kernel tells them over netlink (sock_diag(7)).
//!
//! Unlike /proc/net/tcp it tells `IPV6_V6ONLY` and the device that a socket is bound to, and a dump of listening sockets
//! does not walk the table of connections.

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use procfs::net::{TcpNetEntry, TcpState};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::Path;

use super::interfaces;
use crate::model::process::ListenSocket;

/// include/uapi/linux/netlink.h, sock_diag.h and inet_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// `1 << TCP_LISTEN`, include/net/tcp_states.h.
const LISTEN: u32 = 1 << 10;
const IPPROTO_TCP: u8 = 6;
const HEADER: usize = 16;
/// `struct inet_diag_msg`
const MESSAGE: usize = 72;
/// The kernel answers at once.
const ANSWER_TIMEOUT_SECS: i64 = 5;
/// What the kernel fills with one answer of a dump.
const BUFFER: usize = 64 * 1024;

/// All TCP sockets in LISTEN of the caller's network namespace.
///
/// # Errors
/// The kernel did not answer. Without IPv6 there are no such sockets.
pub fn listening() -> io::Result<Vec<ListenSocket>> {
    let mut sockets = match dump(AddressFamily::Inet) {
        // Its module is not there, and may not be loaded (kernel.modules_disabled).
        Err(error) if error.kind() == io::ErrorKind::NotFound => return listed(),
        sockets => sockets?,
    };
    match dump(AddressFamily::Inet6) {
        Ok(more) => sockets.extend(more),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    sockets.sort_unstable();
    Ok(sockets)
}

/// From /proc/net/tcp and tcp6, which do not tell everything: a socket at `[::]` serves IPv4 too unless another one does
/// at its port, and none is bound to a device.
fn listed() -> io::Result<Vec<ListenSocket>> {
    let rows = |table: procfs::ProcResult<Vec<TcpNetEntry>>| table.map_err(io::Error::other);
    let mut entries = rows(procfs::net::tcp())?;
    if Path::new("/proc/net/tcp6").exists() {
        entries.extend(rows(procfs::net::tcp6())?);
    }
    entries.retain(|entry| entry.state == TcpState::Listen);
    let serves_ipv4 = |address: SocketAddr| {
        entries.iter().any(|other| other.local_address.is_ipv4() && other.local_address.port() == address.port())
    };
    let mut sockets: Vec<ListenSocket> = entries
        .iter()
        .map(|entry| ListenSocket {
            address: entry.local_address,
            ipv6_only: entry.local_address.is_ipv6() && serves_ipv4(entry.local_address),
            device_bound: false,
            vrf: false,
            inode: entry.inode,
        })
        .collect();
    sockets.sort_unstable();
    Ok(sockets)
}

fn dump(family: AddressFamily) -> io::Result<Vec<ListenSocket>> {
    // Users may bind as many sockets to an interface as they like.
    let known = RefCell::new(BTreeMap::new());
    let is_vrf = |index| {
        *known.borrow_mut().entry(index).or_insert_with(|| interfaces::is_vrf(Path::new(interfaces::CLASS), index))
    };
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    setsockopt(&netlink, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_TIMEOUT_SECS))?;
    sendto(netlink.as_raw_fd(), &request(family), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut sockets = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => length,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if !parse(&buffer[..length], is_vrf, &mut sockets)? {
            return Ok(sockets);
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(family: AddressFamily) -> Vec<u8> {
    const LENGTH: u32 = 16 + 56;
    let mut request = Vec::with_capacity(LENGTH as usize);
    request.extend(LENGTH.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]); // sequence and port
    request.extend([if family == AddressFamily::Inet { 2 } else { 10 }, IPPROTO_TCP, 0, 0]);
    request.extend(LISTEN.to_ne_bytes());
    request.resize(LENGTH as usize, 0);
    request
}

/// Adds the sockets of one answer. `is_vrf`: see [`interfaces::is_vrf`]. Returns whether more answers follow.
///
/// # Errors
/// The kernel reports an error, or the answer is not framed as netlink(7) says.
pub fn parse(mut answer: &[u8], is_vrf: impl Fn(u32) -> bool, sockets: &mut Vec<ListenSocket>) -> io::Result<bool> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a malformed answer of sock_diag");
    while answer.len() >= HEADER {
        let length = u32_at(answer, 0).ok_or_else(malformed)? as usize;
        let kind = u16_at(answer, 4).ok_or_else(malformed)?;
        let message = answer.get(HEADER..length).ok_or_else(malformed)?;
        match kind {
            // A dump that failed ends with its error (netlink_dump_done, net/netlink/af_netlink.c).
            NLMSG_DONE | NLMSG_ERROR => {
                let errno = message.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
                return match errno {
                    Some(0) | None if kind == NLMSG_DONE => Ok(false),
                    Some(errno) => Err(io::Error::from_raw_os_error(errno.wrapping_neg())),
                    None => Err(malformed()),
                };
            }
            SOCK_DIAG_BY_FAMILY => sockets.push(listen_socket(message, &is_vrf).ok_or_else(malformed)?),
            _ => {}
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// `struct inet_diag_msg` and its attributes.
fn listen_socket(message: &[u8], is_vrf: impl Fn(u32) -> bool) -> Option<ListenSocket> {
    let attributes = message.get(MESSAGE..)?;
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let source: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    let [a, b, c, d, ..] = source;
    let ip = if message.first() == Some(&2) {
        IpAddr::from(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::from(Ipv6Addr::from(source))
    };
    let device = u32_at(message, 40)?;
    // A link-local address is bound to the interface that has it.
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    Some(ListenSocket {
        address: SocketAddr::new(ip, port),
        ipv6_only: attribute(attributes, INET_DIAG_SKV6ONLY).and_then(|value| value.first()) == Some(&1),
        device_bound: device != 0 && !link_local,
        vrf: device != 0 && is_vrf(device),
        inode: u32_at(message, 68)?.into(),
    })
}

/// The value of a `struct nlattr`.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let value = attributes.get(4..usize::from(length))?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(usize::from(length).next_multiple_of(4)..)?;
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_kernel_tells_a_socket_of_ours() {
        for (bind, ipv6_only) in [("127.0.0.1:0", false), ("[::]:0", false)] {
            let listener = TcpListener::bind(bind).expect("a socket");
            let path = format!("/proc/self/fd/{}", listener.as_raw_fd());
            let inode = std::fs::metadata(path).expect("a descriptor").ino();
            let address = listener.local_addr().expect("an address");
            let sockets = listening().expect("sock_diag");
            let expected = ListenSocket { address, ipv6_only, device_bound: false, vrf: false, inode };
            assert!(sockets.contains(&expected), "{expected:?} is not in {sockets:#?}");
        }
    }

    #[test]
    fn the_tables_of_proc_tell_it_too() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address");
        let by_table = listed().expect("/proc/net/tcp");
        let by_netlink = listening().expect("sock_diag");
        let find = |sockets: &[ListenSocket]| sockets.iter().copied().find(|socket| socket.address == address);
        assert!(find(&by_table).is_some());
        assert_eq!(find(&by_table), find(&by_netlink));
    }

    #[test]
    fn an_error_of_the_kernel_is_an_error() {
        let mut answer = 36_u32.to_ne_bytes().to_vec();
        answer.extend(NLMSG_ERROR.to_ne_bytes());
        answer.extend([0; 10]);
        answer.extend((-2_i32).to_ne_bytes());
        answer.extend([0; 16]);
        let error = parse(&answer, |_| false, &mut Vec::new()).expect_err("an error");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(parse(&answer[..20], |_| false, &mut Vec::new()).is_err());
    }
}
