//! TCP addresses as systemd and sshd write them, and which of them exclude or reach each other.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Reads `[::]:22`, `0.0.0.0:22`, `22`, and with an interface `[fe80::1%eth0]:22` as sshd writes it and `[fe80::1]:22%eth0`
/// as systemd does. The kernel's tables name no scope, so it is left out.
pub fn parse(text: &str) -> Option<SocketAddr> {
    if let Ok(port) = text.parse::<u16>() {
        return Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    }
    match (text.find('%'), text.find(']')) {
        (Some(scope), Some(end)) if scope < end => format!("{}{}", &text[..scope], &text[end..]).parse().ok(),
        (Some(scope), Some(_)) => text[..scope].parse().ok(),
        _ => text.parse().ok(),
    }
}

/// The same with the index of the interface that has it, without which a link-local address cannot be connected to or
/// bound. `interfaces` is the text of `/proc/net/if_inet6`.
pub fn with_scope(address: SocketAddr, interfaces: &str) -> SocketAddr {
    let SocketAddr::V6(v6) = address else { return address };
    if !v6.ip().is_unicast_link_local() || v6.scope_id() != 0 {
        return address;
    }
    let index = interfaces.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let ip = u128::from_str_radix(fields.next()?, 16).ok()?;
        let index = u32::from_str_radix(fields.next()?, 16).ok()?;
        (Ipv6Addr::from(ip) == *v6.ip()).then_some(index)
    });
    SocketAddrV6::new(*v6.ip(), v6.port(), 0, index.unwrap_or(0)).into()
}

/// See [`with_scope`]. A kernel without IPv6 has no such file.
pub const INTERFACES: &str = "/proc/net/if_inet6";

/// Two sockets in LISTEN cannot be bound to both.
pub fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let wildcard = |address: SocketAddr| address.ip().is_unspecified();
    let same_family = one.is_ipv4() == other.is_ipv4();
    // `[::]` may serve IPv4 too.
    let across = |address: SocketAddr| matches!(address.ip(), IpAddr::V6(ip) if ip.is_unspecified());
    one.port() == other.port()
        && (one.ip() == other.ip()
            || (same_family && (wildcard(one) || wildcard(other)))
            || (!same_family && (across(one) || across(other))))
}

/// Whoever connects to `wanted` reaches a socket that is bound to `have`. For `[::]` and IPv4 see
/// [`super::process::ListenSocket::reached_at`].
pub fn reaches(have: SocketAddr, wanted: SocketAddr) -> bool {
    have.port() == wanted.port()
        && (have.ip() == wanted.ip() || (have.ip().is_unspecified() && have.is_ipv4() == wanted.is_ipv4()))
}

/// Addresses for a person: `0.0.0.0:22, [::]:22`.
pub fn list<'a>(addresses: impl IntoIterator<Item = &'a SocketAddr>) -> String {
    addresses.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_systemd_and_sshd_write_them() {
        assert_eq!(parse("22"), parse("[::]:22"));
        assert_eq!(parse("[fe80::1%eth0]:22"), parse("[fe80::1]:22"));
        assert_eq!(parse("[fe80::1]:22%eth0"), parse("[fe80::1]:22"));
        for text in ["", "/run/x", "vsock::22", "[::]:", "99999", "a%b]"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_link_local_address_has_an_interface() {
        let interfaces = "00000000000000000000000000000001 01 80 10 80       lo\nfe800000000000000000000000000001 0a 40 20 80     eth0\n";
        let scoped = |text: &str| with_scope(text.parse().expect("an address"), interfaces).to_string();
        assert_eq!(scoped("[fe80::1]:22"), "[fe80::1%10]:22");
        assert_eq!(scoped("[fe80::2]:22"), "[fe80::2]:22");
        assert_eq!(scoped("[::1]:22"), "[::1]:22");
        assert_eq!(scoped("127.0.0.1:22"), "127.0.0.1:22");
    }
}
