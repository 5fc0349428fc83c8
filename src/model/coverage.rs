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
    /// It serves one network interface only.
    device_bound: bool,
}

impl Coverage {
    /// Of a socket unit.
    pub fn of_socket(socket: &Unit) -> Self {
        Self { addresses: socket.tcp_addresses().collect(), dual: !socket.ipv6_only, device_bound: socket.device_bound }
    }

    /// Of sshd by itself, which binds IPv6 addresses for IPv6 only (sshd.c, `sock_set_v6only`).
    pub fn of_sshd(addresses: &BTreeSet<SocketAddr>) -> Self {
        Self { addresses: addresses.clone(), dual: false, device_bound: false }
    }

    /// Of an instance in a network namespace of its own: nothing of the host's.
    pub fn none() -> Self {
        Self { addresses: BTreeSet::new(), dual: false, device_bound: false }
    }

    /// Addresses that will be bound.
    pub fn addresses(&self) -> &BTreeSet<SocketAddr> {
        &self.addresses
    }

    /// Addresses of these sockets that nobody would reach any more.
    pub fn missing_of(&self, sockets: &[ListenSocket]) -> BTreeSet<SocketAddr> {
        let narrower = |socket: &&ListenSocket| self.device_bound && !socket.device_bound;
        let narrowed = sockets.iter().filter(narrower).flat_map(ListenSocket::reached_at);
        let mut missing: BTreeSet<SocketAddr> = narrowed.collect();
        missing.extend(self.missing(&sockets.iter().flat_map(ListenSocket::reached_at).collect()));
        missing
    }

    /// Addresses of `served` that nobody would reach any more.
    pub fn missing(&self, served: &BTreeSet<SocketAddr>) -> BTreeSet<SocketAddr> {
        served.iter().copied().filter(|address| !self.covers(*address)).collect()
    }

    fn covers(&self, wanted: SocketAddr) -> bool {
        self.addresses.iter().any(|have| {
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
        let dual = Coverage { addresses: set(&["[::]:22"]), dual: true, device_bound: false };
        let single = Coverage { addresses: set(&["[::]:22"]), dual: false, device_bound: false };
        let pair = Coverage { addresses: set(&["[::]:22", "0.0.0.0:22"]), dual: false, device_bound: false };
        let one = Coverage { addresses: set(&["192.0.2.1:22"]), dual: false, device_bound: false };
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
        let bound = Coverage { addresses: set(&["[::]:22"]), dual: true, device_bound: true };
        let socket = |device_bound| ListenSocket {
            address: parse("22").expect("an address"),
            ipv6_only: true,
            device_bound,
            inode: 1,
        };
        assert_eq!(bound.missing_of(&[socket(true)]), set(&[]));
        assert_eq!(bound.missing_of(&[socket(false)]), set(&["[::]:22"]));
    }
}
