//! One step further than KEXINIT: a real client, the one that openssh-server depends on, goes as far as authentication.
//! Key exchange, host key, sandbox and authentication methods work then. Nobody is authenticated, and nothing is offered
//! that could be: the client asks for the method "none" only.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::command::{self, Finished};
use super::deadline::Deadline;
use super::probe::{source, target};
use crate::model::printable::printable;
use crate::model::probe::{Probe, ProbeResult};

/// Of openssh-client.
const CLIENT: &str = "/usr/bin/ssh";
/// For the client. It takes 0.1 s with OpenSSH 10.0, and 0.2 s with 9.2.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Before the second attempt: with `MaxStartups 1` the connection before may still count.
const PAUSE: Duration = Duration::from_millis(500);
/// What the client says once it is authenticated (ssh_init_forwarding, ssh.c).
const FORWARDING_FAILED: &str = "Could not request local forwarding.";
/// Source addresses, beside those of the probe ([`source`]): the second attempt comes from 127.0.0.1, which may be the
/// only one that the server lets in.
const SOURCES: [Option<u32>; 2] = [Some(7), None];

/// How far the client got.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reached {
    /// The server offers these methods.
    Authentication(Vec<String>),
    /// The server closed the connection before: the client's words.
    Closed(String),
    /// Something else kept it, which says nothing about the server: the client's words.
    Unknown(String),
}

/// Adds to a probe that got through how far a client gets at `address`. One that is disconnected twice before authentication
/// is a reason to look, and no proof that everybody is: a Match block may refuse this client (RefuseConnection in
/// sshd_config(5)), and whoever fills MaxStartups can have connections dropped.
pub fn prove(probe: Probe, address: SocketAddr, deadline: Deadline) -> Probe {
    let mut closed = None;
    for number in SOURCES {
        if closed.is_some() {
            std::thread::sleep(PAUSE.min(deadline.remaining()));
        }
        match attempt(address, number, deadline.at_most(CLIENT_TIMEOUT)) {
            Reached::Authentication(methods) => return Probe { authentication: Some(methods), ..probe },
            Reached::Unknown(why) => return Probe { proof_detail: Some(why), ..probe },
            Reached::Closed(why) => closed = Some(why),
        }
    }
    match closed {
        Some(why) => {
            let detail = format!("a client is disconnected before authentication ({why}; banner {})", probe.detail);
            Probe::new(ProbeResult::Inconclusive, detail)
        }
        None => probe,
    }
}

fn attempt(address: SocketAddr, number: Option<u32>, deadline: Deadline) -> Reached {
    let target = target(address);
    let from = match (target, number) {
        (SocketAddr::V4(to), Some(number)) if *to.ip() == Ipv4Addr::LOCALHOST => source(number).to_string(),
        _ => host(target),
    };
    let (port, host) = (target.port().to_string(), host(target));
    #[rustfmt::skip]
    let arguments = [
        // No configuration, no known hosts, no keys, no agent: nothing that a user or an administrator has set up counts.
        "-F", "/dev/null", "-T", "-N", "-n", "-a", "-x", "-b", &from, "-p", &port, "-l", "root",
        "-o", "BatchMode=yes", "-o", "PreferredAuthentications=none", "-o", "IdentityFile=none", "-o", "IdentityAgent=none",
        "-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no",
        "-o", "UpdateHostKeys=no", "-o", "ConnectTimeout=4",
        // Where root needs no password, the client would stay: it cannot have this socket, and leaves.
        "-o", "ExitOnForwardFailure=yes", "-L", "/proc/sshd-mend:127.0.0.1:1", &host,
    ];
    match command::run(Path::new(CLIENT), &arguments, deadline) {
        Ok(finished) => reached(&finished),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Reached::Unknown(format!("{CLIENT} is not installed, so no client was tried"))
        }
        Err(error) => Reached::Unknown(format!("{CLIENT}: {error}")),
    }
}

/// An address as the client takes it, with its interface if it is link-local.
fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        address => address.ip().to_string(),
    }
}

/// What the client said (ssh_userauth2 and input_userauth_failure in sshconnect2.c, sshpkt_fatal in packet.c).
fn reached(finished: &Finished) -> Reached {
    let denied =
        finished.output.lines().find_map(|line| line.split_once(": Permission denied (")?.1.strip_suffix(")."));
    if denied == Some("") {
        return Reached::Closed("the server offers no method of authentication".to_owned());
    }
    if let Some(methods) = denied {
        return Reached::Authentication(methods.split(',').map(printable).collect());
    }
    if finished.output.contains(FORWARDING_FAILED) {
        return Reached::Authentication(vec!["none".to_owned()]);
    }
    let words = printable(&finished.last_words());
    // Dropped in place of a banner (MaxStartups, PerSourcePenalties): the server was busy.
    if finished.output.contains("kex_exchange_identification:") {
        return Reached::Unknown(words);
    }
    let closed = ["Connection closed by", "Connection reset by", "closed by remote host", "Broken pipe"];
    match closed.iter().any(|text| words.contains(text)) {
        true => Reached::Closed(words),
        false => Reached::Unknown(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_client() {
        let said = |status, output: &str| reached(&Finished { status: Some(status), output: output.to_owned() });
        assert_eq!(
            said(255, "root@127.0.0.1: Permission denied (publickey,password).\n"),
            Reached::Authentication(vec!["publickey".into(), "password".into()])
        );
        let nothing = said(255, "root@127.0.0.1: Permission denied ().");
        assert_eq!(nothing, Reached::Closed("the server offers no method of authentication".to_owned()));
        let none = "unix_listener: cannot bind to path /proc/x: No such file or directory\nCould not request local forwarding.\n";
        assert_eq!(said(255, none), Reached::Authentication(vec!["none".into()]));
        for words in ["Connection closed by 127.0.0.1 port 22", "Connection reset by 127.0.0.1 port 22"] {
            assert_eq!(said(255, words), Reached::Closed(words.to_owned()));
        }
        let dropped =
            "kex_exchange_identification: Connection closed by remote host\nConnection closed by 127.0.0.1 port 22";
        assert_eq!(said(255, dropped), Reached::Unknown("Connection closed by 127.0.0.1 port 22".to_owned()));
        let words = "Unable to negotiate with 127.0.0.1 port 22: no matching key exchange method found. Their offer: x";
        assert_eq!(said(255, words), Reached::Unknown(words.to_owned()));
        assert_eq!(said(255, ""), Reached::Unknown("exit status 255".to_owned()));
    }

    #[test]
    fn an_interface_follows_a_link_local_address() {
        assert_eq!(host("[fe80::7%3]:22".parse().expect("an address")), "fe80::7%3");
        assert_eq!(host("127.0.0.1:22".parse().expect("an address")), "127.0.0.1");
    }
}
