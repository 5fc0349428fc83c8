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
    /// Not that far: the client's words.
    NotSoFar(String),
    /// No client was tried: why.
    NotTried(String),
}

/// Adds to a probe that got through how far a client gets at `address`. One that twice gets no further than the key exchange is
/// a reason to look, and no proof that everybody is kept out: a Match block may refuse this client (RefuseConnection in
/// sshd_config(5)), its algorithms may not suit the server, and whoever fills MaxStartups can have connections dropped.
pub fn prove(probe: Probe, address: SocketAddr, deadline: Deadline) -> Probe {
    let mut words = String::new();
    for (attempt_before, number) in SOURCES.into_iter().enumerate() {
        if attempt_before > 0 {
            std::thread::sleep(PAUSE.min(deadline.remaining()));
        }
        match attempt(address, number, deadline.at_most(CLIENT_TIMEOUT)) {
            Reached::Authentication(methods) => return Probe { authentication: Some(methods), ..probe },
            Reached::NotTried(why) => return Probe { proof_detail: Some(why), ..probe },
            Reached::NotSoFar(why) => words = why,
        }
    }
    let detail = format!("a client does not get as far as authentication ({words}; banner {})", probe.detail);
    Probe::new(ProbeResult::Inconclusive, detail)
}

fn attempt(address: SocketAddr, number: Option<u32>, deadline: Deadline) -> Reached {
    let has_time = deadline.remaining() >= CLIENT_TIMEOUT / 2;
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
            Reached::NotTried(format!("{CLIENT} is not installed, so no client was tried"))
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut && has_time => {
            Reached::NotSoFar(format!("it got no further within {} s", CLIENT_TIMEOUT.as_secs()))
        }
        Err(error) => Reached::NotTried(format!("{CLIENT}: {error}")),
    }
}

/// An address as the client takes it, with its interface if it is link-local.
fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        address => address.ip().to_string(),
    }
}

/// What the client said (input_userauth_failure in sshconnect2.c).
fn reached(finished: &Finished) -> Reached {
    let denied =
        finished.output.lines().find_map(|line| line.split_once(": Permission denied (")?.1.strip_suffix(")."));
    if denied == Some("") {
        return Reached::NotSoFar("the server offers no method of authentication".to_owned());
    }
    if let Some(methods) = denied {
        return Reached::Authentication(methods.split(',').map(printable).collect());
    }
    if finished.output.contains(FORWARDING_FAILED) {
        return Reached::Authentication(vec!["none".to_owned()]);
    }
    Reached::NotSoFar(printable(&finished.last_words()))
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
        assert_eq!(nothing, Reached::NotSoFar("the server offers no method of authentication".to_owned()));
        let none = "unix_listener: cannot bind to path /proc/x: No such file or directory\nCould not request local forwarding.\n";
        assert_eq!(said(255, none), Reached::Authentication(vec!["none".into()]));
        let words = "Unable to negotiate with 127.0.0.1 port 22: no matching key exchange method found. Their offer: x";
        for words in ["Connection closed by 127.0.0.1 port 22", "Connection reset by 127.0.0.1 port 22", words] {
            assert_eq!(said(255, words), Reached::NotSoFar(words.to_owned()));
        }
        assert_eq!(said(255, ""), Reached::NotSoFar("exit status 255".to_owned()));
    }

    #[test]
    fn an_interface_follows_a_link_local_address() {
        assert_eq!(host("[fe80::7%3]:22".parse().expect("an address")), "fe80::7%3");
        assert_eq!(host("127.0.0.1:22".parse().expect("an address")), "127.0.0.1");
    }
}
