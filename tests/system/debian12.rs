//! Debian 12, whose sshd 9.2 serves sessions with the listener's own program: what a process holds distinguishes a session
//! from a listener, not what it runs.

use crate::machine::Machine;
use crate::rescue::{EXEC_START_PRE_FAILED, assert_rescued};
use crate::session::Session;

/// A root session that holds a socket in LISTEN at `port`, as a listener does.
fn with_forwarding<'a>(machine: &'a Machine, name: &'static str, port: u16, to: u16) -> Session<'a> {
    let session = machine.open_session_with(name, &["-R", &format!("{port}:127.0.0.1:{to}"), "root@127.0.0.1"]);
    let sockets = machine.sh(&format!("ss -Hltnp 'sport = :{port}'")).ok().stdout;
    assert!(sockets.contains("\"sshd\""), "the session does not listen: {sockets}");
    session
}

#[test]
fn the_incident_is_repaired_inside_apt_get() {
    let machine = Machine::with_package("bookworm");
    let listener = machine.incident();
    let mut sessions = [
        with_forwarding(&machine, "forwarding", 2201, 22),
        with_forwarding(&machine, "elsewhere", 2202, 2201),
        machine.open_session("plain"),
    ];
    let run = machine.upgrade().ok();
    assert!(run.stdout.contains("REPAIRED"), "{run:#?}\n{}", machine.state());
    assert!(run.stdout.contains("3 of 3 open sessions survived"), "{run:#?}");
    machine.assert_replaced(listener);
    machine.assert_declared_units_are_back();
    sessions.iter_mut().for_each(Session::assert_open);
}

#[test]
fn a_session_whose_listener_is_gone_is_still_a_session() {
    let machine = Machine::with_package("bookworm");
    let listener = machine.incident();
    let mut session = with_forwarding(&machine, "survivor", 2201, 22);
    machine.upgrade_without_hook().ok();
    machine.sh(&format!("kill {listener}")).ok();
    machine.wait_until("the listener is gone", |machine| !machine.is_alive(listener));
    machine.sh("systemctl start ssh.socket").ok();
    let pid = machine.number("ss -Hltnp 'sport = :2201' | sed 's/.*pid=\\([0-9]*\\),.*/\\1/' | sort -u");
    let program = machine.sh(&format!("readlink /proc/{pid}/exe")).ok().stdout;
    assert_eq!(program, "/usr/sbin/sshd (deleted)\n", "the listener's program, replaced on disk");
    let check = machine.sh("sshd-mend check -v");
    let line = format!("{pid} (/usr/sbin/sshd (deleted)) serves a connection");
    assert!(check.stdout.contains(&line), "{line}\n{check:#?}");
    machine.sh("sshd-mend repair").ok();
    machine.assert_login();
    session.assert_open();
}

#[test]
fn a_lockout_is_repaired_by_hand() {
    let machine = Machine::with_package("bookworm");
    let listener = machine.locked_out();
    assert_eq!(machine.sh("sshd-mend check").status, 2);
    machine.assert_repair(listener);
    machine.assert_declared_units_are_back();
}

#[test]
fn a_service_that_cannot_start_is_rescued() {
    let (machine, listener) = Machine::with_stale_orphan("bookworm");
    assert_rescued(&machine, listener, "[Service]\nExecStartPre=/bin/false", EXEC_START_PRE_FAILED);
}

/// systemd 252 has no `RestartMode=direct`: see packaging/sshd-mend-repair.service.
#[test]
fn a_worker_that_is_killed_is_started_again_and_completes_the_repair() {
    let (machine, listener) = Machine::with_stale_orphan("bookworm");
    let held = machine.hold_repair(listener, "sshd-mend repair --json");
    machine.sh("systemctl kill -s KILL sshd-mend-repair.service").ok();
    let repair = held.wait();
    repair.assert_verdict("repaired", 0);
    repair.assert_finding("interrupted");
    machine.assert_replaced(listener);
    machine.assert_declared_units_are_back();
    let fallback = machine.sh("journalctl -q -o cat -u sshd-mend-fallback.service").ok().stdout;
    assert!(!fallback.contains("Finished"), "the fallback is for the last attempt: {fallback}");
}
