//! Addresses at which units would serve once they are started, and which of those served now would be missing.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::process::ListenSocket;
use super::unit::Unit;

/// Addresses at which a start of the units would serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    addresses: BTreeSet<SocketAddr>,
    /// `[::]` serves IPv4 as well.
    dual: bool,
    /// Those that serve one network interface only.
    device_bound: BTreeSet<SocketAddr>,
}

impl Coverage {
    /// Of a socket unit.
    pub fn of_socket(socket: &Unit) -> Self {
        let addresses: BTreeSet<SocketAddr> = socket.tcp_addresses().collect();
        let device_bound = if socket.device_bound { addresses.clone() } else { BTreeSet::new() };
        Self { addresses, dual: !socket.ipv6_only, device_bound }
    }

    /// Of sshd by itself, which binds IPv6 addresses for IPv6 only (sshd.c, `sock_set_v6only`).
    pub fn of_sshd(addresses: &BTreeSet<SocketAddr>, device_bound: &BTreeSet<SocketAddr>) -> Self {
        Self { addresses: addresses.clone(), dual: false, device_bound: device_bound.clone() }
    }

    /// Of an instance in a network namespace of its own: nothing of the host's.
    pub fn none() -> Self {
        Self { addresses: BTreeSet::new(), dual: false, device_bound: BTreeSet::new() }
    }

    /// Addresses that will be bound.
    pub fn addresses(&self) -> &BTreeSet<SocketAddr> {
        &self.addresses
    }

    /// Addresses of these sockets that nobody would reach any more.
    pub fn missing_of(&self, sockets: &[ListenSocket]) -> BTreeSet<SocketAddr> {
        let of = |socket: &ListenSocket| {
            let device_bound = socket.device_bound;
            socket.reached_at().filter(|address| !self.covers(*address, device_bound)).collect::<Vec<_>>()
        };
        sockets.iter().flat_map(of).collect()
    }

    /// Addresses of `served` that nobody would reach any more, whatever the interface.
    pub fn missing(&self, served: &BTreeSet<SocketAddr>) -> BTreeSet<SocketAddr> {
        served.iter().copied().filter(|address| !self.covers(*address, true)).collect()
    }

    /// `on_device`: it is enough if one interface is served.
    fn covers(&self, wanted: SocketAddr, on_device: bool) -> bool {
        self.addresses.iter().filter(|have| on_device || !self.device_bound.contains(have)).any(|have| {
            have.port() == wanted.port()
                && (have.ip() == wanted.ip()
                    || (have.ip().is_unspecified()
                        && (have.is_ipv4() == wanted.is_ipv4() || (have.is_ipv6() && self.dual))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::parse;

    fn set(addresses: &[&str]) -> BTreeSet<SocketAddr> {
        addresses.iter().map(|text| parse(text).expect("an address")).collect()
    }

    #[test]
    fn coverage() {
        let dual = Coverage { addresses: set(&["[::]:22"]), dual: true, device_bound: set(&[]) };
        let single = Coverage { addresses: set(&["[::]:22"]), dual: false, device_bound: set(&[]) };
        let pair = Coverage { addresses: set(&["[::]:22", "0.0.0.0:22"]), dual: false, device_bound: set(&[]) };
        let one = Coverage { addresses: set(&["192.0.2.1:22"]), dual: false, device_bound: set(&[]) };
        for (coverage, served, missing) in [
            (&dual, &["[::]:22"][..], &[][..]),
            (&dual, &["0.0.0.0:22", "[::1]:22"], &[]),
            (&single, &["[::]:22"], &[]),
            (&single, &["[::]:22", "0.0.0.0:22"], &["0.0.0.0:22"]),
            (&pair, &["[::]:22"], &[]),
            (&pair, &["127.0.0.1:22", "127.0.0.1:2222"], &["127.0.0.1:2222"]),
            (&one, &["192.0.2.1:22"], &[]),
            (&one, &["0.0.0.0:22"], &["0.0.0.0:22"]),
        ] {
            assert_eq!(coverage.missing(&set(served)), set(missing), "{coverage:?} for {served:?}");
        }
    }

    #[test]
    fn a_socket_bound_to_a_device_covers_nobody_who_served_all() {
        let bound = Coverage { addresses: set(&["[::]:22"]), dual: true, device_bound: set(&["[::]:22"]) };
        let socket = |device_bound| ListenSocket {
            address: parse("22").expect("an address"),
            ipv6_only: true,
            device_bound,
            vrf: false,
            inode: 1,
        };
        assert_eq!(bound.missing_of(&[socket(true)]), set(&[]));
        assert_eq!(bound.missing_of(&[socket(false)]), set(&["[::]:22"]));
    }
}
