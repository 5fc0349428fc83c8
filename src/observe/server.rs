//! Would the program on disk serve connections, and on which addresses? It is tried: `sshd -t`, `sshd -T`, and `sshd -i`
//! on a socketpair. No port is needed, and no listener is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::options::options;
use crate::host::command::{self, Finished};
use crate::host::deadline::Deadline;
use crate::host::handshake::{Attempt, handshake};
use crate::model::address;
use crate::model::names::RUNTIME_DIRECTORY;
use crate::model::snapshot::Instance;
use crate::model::trial::Check;

/// Addresses of sshd's effective configuration, and whether it binds them to one network interface.
pub type Declared = BTreeMap<SocketAddr, bool>;

/// Limits one run of sshd. `sshd -t` takes 20 ms.
const SSHD_TIMEOUT: Duration = Duration::from_secs(10);
/// Some connection: with `Match LocalPort` sshd does not tell without one. Where it listens does not depend on it.
const CONNECTION: &str = "user=root,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22";

/// The addresses that an instance's service would serve without its socket. `None` if the program does not tell.
pub(super) fn own_addresses(instance: &Instance, deadline: Deadline) -> Option<BTreeSet<SocketAddr>> {
    let options = options(&instance.service);
    let program = &instance.program.path;
    let declared = effective_addresses(program, "-T", &options, deadline)
        .or_else(|| effective_addresses(program, "-G", &options, deadline));
    declared.map(|declared| declared.into_keys().collect())
}

/// Configuration, handshake, and addresses.
pub(super) fn try_program(program: &Path, options: &[String], deadline: Deadline) -> (Check, Check, Option<Declared>) {
    // `-T` tests the configuration as `-t` does, and tells the addresses at once.
    let (declared, handshake) = std::thread::scope(|scope| {
        let handshake = scope.spawn(|| check_handshake(program, options, deadline));
        (effective_addresses(program, "-T", options, deadline), handshake.join())
    });
    let handshake = handshake.unwrap_or_else(|_| Check::Failed("it could not be tried".to_owned()));
    let config = if declared.is_some() { Check::Passed } else { check_config(program, options, deadline) };
    match &config {
        Check::Passed => {
            // A unit that fails and restarts itself has removed it in between.
            if matches!(handshake, Check::Failed(_)) && !Path::new(RUNTIME_DIRECTORY).is_dir() {
                let addresses = effective_addresses(program, "-G", options, deadline);
                return (Check::NeedsRuntimeDirectory, Check::NeedsRuntimeDirectory, addresses);
            }
            (config, handshake, declared)
        }
        Check::Failed(_) => (config, Check::Failed("its configuration is not valid".to_owned()), None),
        // `-T` needs /run/sshd; `-G` does not, but came with 9.3.
        Check::NeedsRuntimeDirectory => {
            let addresses = effective_addresses(program, "-G", options, deadline);
            (config, Check::NeedsRuntimeDirectory, addresses)
        }
    }
}

fn arguments<'a>(mode: &[&'a str], options: &'a [String]) -> Vec<&'a str> {
    mode.iter().copied().chain(options.iter().map(String::as_str)).collect()
}

fn check_config(program: &Path, options: &[String], deadline: Deadline) -> Check {
    match command::run_sshd(program, &arguments(&["-t"], options), deadline.at_most(SSHD_TIMEOUT)) {
        Ok(finished) if finished.succeeded() => Check::Passed,
        // Only after configuration and host keys have passed (main, sshd.c). Warnings may precede it.
        Ok(finished)
            if finished.last_words() == format!("Missing privilege separation directory: {RUNTIME_DIRECTORY}") =>
        {
            Check::NeedsRuntimeDirectory
        }
        Ok(finished) => Check::Failed(complaint(&finished)),
        Err(error) => Check::Failed(format!("{} -t: {error}", program.display())),
    }
}

/// The line that says what is wrong. Before it there may be warnings; after it, for options, the line that only counts them
/// (process_server_config_line and load_server_config, servconf.c).
fn complaint(finished: &Finished) -> String {
    let counts = |line: &&str| line.contains(": terminating, ") && line.contains("bad configuration option");
    let is_warning = |line: &&str| {
        ["Deprecated option", "Unsupported option", "Unable to load host"].iter().any(|w| line.contains(w))
    };
    let first =
        finished.output.lines().map(str::trim).find(|line| !line.is_empty() && !is_warning(line) && !counts(line));
    match (finished.output.lines().any(|line| counts(&line)), first) {
        (true, Some(first)) => first.to_owned(),
        _ => finished.last_words(),
    }
}

/// Lets the program on disk serve one connection.
fn check_handshake(program: &Path, options: &[String], deadline: Deadline) -> Check {
    let limit = deadline.at_most(SSHD_TIMEOUT);
    let attempt = (|| -> io::Result<(Attempt, String)> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let output = OwnedFd::from(theirs.try_clone()?);
        let mut errors = command::memory_file()?;
        let mut command = command::command(program, &arguments(&["-i", "-e"], options));
        command.stdin(OwnedFd::from(theirs)).stdout(output).stderr(errors.try_clone()?);
        let child = command.spawn()?;
        drop(command); // and with it our copies of the server's end
        let attempt = handshake(&mut ours, limit);
        drop(ours);
        command::wait(child, limit)?;
        Ok((attempt, command::read_back(&mut errors)?))
    })();
    match attempt {
        Ok((Attempt::Kexinit(_), _)) => Check::Passed,
        Ok((attempt, printed)) => {
            let last = printed.lines().rev().find(|line| !line.trim().is_empty()).map(str::trim);
            Check::Failed(last.map_or_else(|| attempt.to_string(), str::to_owned))
        }
        Err(error) => Check::Failed(format!("{} -i: {error}", program.display())),
    }
}

/// Addresses from the effective configuration. `None` if the program does not tell.
fn effective_addresses(program: &Path, mode: &str, options: &[String], deadline: Deadline) -> Option<Declared> {
    let mode = [mode, "-C", CONNECTION];
    let finished = command::run_sshd(program, &arguments(&mode, options), deadline.at_most(SSHD_TIMEOUT)).ok()?;
    finished.succeeded().then(|| listen_addresses(&finished.output))
}

/// The `listenaddress` lines of `sshd -T`: `listenaddress 0.0.0.0:22`, or `listenaddress 0.0.0.0:22 rdomain vrf1`
/// (dump_config, servconf.c).
pub fn listen_addresses(effective: &str) -> Declared {
    let of_line = |line: &str| {
        let mut words = line.strip_prefix("listenaddress ")?.split(' ');
        let address = address::parse(words.next()?)?;
        Some((address, words.next() == Some("rdomain")))
    };
    effective.lines().filter_map(of_line).collect()
}

/// Those that no interface of this host has: they cannot be bound (bind(2), EADDRNOTAVAIL).
pub(super) fn unassigned(addresses: impl Iterator<Item = SocketAddr>) -> BTreeSet<SocketAddr> {
    let interfaces = std::fs::read_to_string(address::INTERFACES).unwrap_or_default();
    let is_unassigned = |address: &SocketAddr| {
        let local = SocketAddr::new(address.ip(), 0);
        // Of UDP, so that nobody can connect to it meanwhile.
        let bound = UdpSocket::bind(address::with_scope(local, &interfaces));
        bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
    };
    addresses.filter(|address| !address.ip().is_unspecified()).filter(is_unassigned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_listenaddress() {
        let text = "port 22\nlistenaddress [::]:22\nlistenaddress 0.0.0.0:2222 rdomain lo\npermitlisten any\n";
        let expected = [("[::]:22", false), ("0.0.0.0:2222", true)];
        let expected = expected.map(|(address, bound)| (address.parse().expect("an address"), bound));
        assert_eq!(listen_addresses(text), Declared::from(expected));
    }

    #[test]
    fn an_address_that_no_interface_has_is_known() {
        let addresses = ["127.0.0.1:22", "0.0.0.0:22", "[::1]:22", "192.0.2.77:22"];
        let found = unassigned(addresses.into_iter().map(|address| address.parse().expect("an address")));
        assert!(found.contains(&"192.0.2.77:22".parse().expect("an address")));
        assert!(!found.contains(&"127.0.0.1:22".parse().expect("an address")));
        assert!(!found.contains(&"0.0.0.0:22".parse().expect("an address")));
    }
}
