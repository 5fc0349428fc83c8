//! The rescue: `sshd-mend-rescue.socket`, which serves SSH when ssh.service cannot be started after its old listener was
//! ended.
//!
//! systemd holds the port and starts one `sshd -i` for each connection, so nothing can go stale, and each connection
//! makes /run/sshd afresh. It is a failure to look at, not a success: every output is critical until it is gone, and
//! only a repair by hand ends it.

use rustix::fs::Mode;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::address;
use crate::deadline::Deadline;
use crate::observe;
use crate::systemd::{Error, Job, Manager};

/// The socket unit.
pub const SOCKET: &str = "sshd-mend-rescue.socket";
/// Where its addresses go: gone after a reboot, as the rescue is.
const DROP_IN: &str = "/run/systemd/system/sshd-mend-rescue.socket.d";
const FILE: &str = "/run/systemd/system/sshd-mend-rescue.socket.d/addresses.conf";

/// Serves SSH at `addresses`, in place of ssh.service and ssh.socket.
///
/// # Errors
/// systemd did not start it. Nobody serves SSH then.
pub fn start(addresses: &BTreeSet<SocketAddr>, manager: &Manager, deadline: Deadline) -> Result<(), Error> {
    // With /run full, the addresses of the packaged unit have to do: port 22 everywhere.
    match write_drop_in(addresses) {
        Ok(()) => log::debug!("{FILE} was written: {:?}", manager.reload()),
        Err(error) => log::error!("{FILE} could not be written ({error}): the rescue serves port 22"),
    }
    for unit in [observe::SOCKET, observe::SERVICE] {
        // Perhaps a start of ours still hangs. What is not loaded cannot be stopped, and need not be.
        let aborted = manager.abort(unit);
        log::debug!("stop {unit}: {aborted:?}");
        let patience = deadline.at_most(std::time::Duration::from_secs(5));
        while manager.unit(unit)?.is_busy() && !patience.has_passed() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    manager.reset_failed(SOCKET)?;
    manager.run(Job::Start, SOCKET, deadline)
}

/// Ends the rescue. Connections that it serves go on.
///
/// # Errors
/// systemd did not stop it.
pub fn stop(manager: &Manager, deadline: Deadline) -> Result<(), Error> {
    manager.run(Job::Stop, SOCKET, deadline)
}

/// Removes what a rescue that is over has left.
pub fn tidy(manager: &Manager) {
    if std::fs::remove_dir_all(DROP_IN).is_ok() {
        log::debug!("{DROP_IN} was removed: {:?}", manager.reload());
    }
}

fn write_drop_in(addresses: &BTreeSet<SocketAddr>) -> io::Result<()> {
    std::fs::create_dir_all(DROP_IN)?;
    let interfaces = std::fs::read_to_string(address::INTERFACES).unwrap_or_default();
    let text = drop_in(&addresses.iter().map(|a| address::with_scope(*a, &interfaces)).collect());
    let written = std::fs::write(FILE, text).and_then(|()| Ok(rustix::fs::chmod(FILE, Mode::from_raw_mode(0o644))?));
    if written.is_err() {
        // Half a drop-in could leave the unit without any address.
        let _ = std::fs::remove_file(Path::new(FILE));
    }
    written
}

fn drop_in(addresses: &BTreeSet<SocketAddr>) -> String {
    let both = addresses.iter().any(|address| {
        let ipv4 = SocketAddr::from((IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()));
        address.is_ipv6() && address.ip().is_unspecified() && addresses.contains(&ipv4)
    });
    let listen: String = addresses.iter().map(|address| format!("ListenStream={address}\n")).collect();
    // Two sockets for one port can be had only if the IPv6 one keeps to IPv6.
    let only = if both { "BindIPv6Only=ipv6-only\n" } else { "" };
    format!("# Written by sshd-mend.\n[Socket]\nListenStream=\n{listen}{only}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rescue_serves_what_was_served() {
        let text = |addresses: &[&str]| drop_in(&addresses.iter().map(|a| a.parse().expect("an address")).collect());
        assert!(text(&["[::]:22"]).ends_with("ListenStream=\nListenStream=[::]:22\n"));
        assert!(text(&["[::]:22", "0.0.0.0:22"]).ends_with("ListenStream=[::]:22\nBindIPv6Only=ipv6-only\n"));
        assert!(text(&["[::]:2222", "0.0.0.0:22"]).ends_with("ListenStream=[::]:2222\n"));
    }
}
