//! The rescue: it serves in place of a unit that does not start after its listener was terminated, and only then.

use crate::machine::Machine;

const RESCUE: &str = "sshd-mend-rescue-ssh.socket";

/// The rescue serves while ssh.service has this drop-in, with which it does not start. It says so, and ends when the
/// cause is removed. `evidence` is in the unit's journal once the drop-in had its effect.
pub fn assert_rescued(machine: &Machine, listener: i32, drop_in: &str, evidence: &str) {
    let mut survivor = machine.open_session("survivor");
    machine.drop_in("ssh.service", drop_in);
    let cursor = machine.sh("journalctl -n 1 --show-cursor | sed -n 's/^-- cursor: //p'").ok().stdout;
    let repair = machine.sh("sshd-mend repair --json");
    repair.assert_verdict("rescued", 2);
    let json = repair.json();
    machine.sh("journalctl --sync").ok();
    let journal =
        machine.sh(&format!("journalctl -o cat -u ssh.service --after-cursor '{}'", cursor.trim())).ok().stdout;
    assert!(journal.contains(evidence), "{journal}");
    assert!(repair.step("start-rescue").is_some_and(|step| step["ok"] == true), "{json:#}");
    assert_eq!(json["instances"][0]["rescue"], RESCUE, "{json:#}");
    assert_eq!(json["sessions"]["after"], json["sessions"]["before"], "{json:#}");
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    survivor.assert_open();

    let check = machine.sh("sshd-mend check --json");
    check.assert_verdict("rescued", 2);
    check.assert_finding("rescue-active");
    let screen = machine.sh("sshd-mend check").stdout;
    assert!(screen.contains("RESCUED") && !screen.contains("nobody can log in"), "{screen}");
    assert!(screen.contains("next reboot"), "{screen}");
    let hook = machine.sh("sshd-mend hook").ok().stdout;
    assert!(hook.contains(RESCUE), "the hook reports it: {hook}");
    assert_eq!(machine.active(RESCUE), "active", "the hook leaves it alone");
    machine.assert_login();

    // The cause is still there: the rescue serves again.
    let mut rescued = machine.open_session("rescued");
    let repair = machine.sh("touch /run/flag; sshd-mend repair --json");
    repair.assert_verdict("rescued", 2);
    assert!(repair.step("stop-rescue").is_some() && repair.step("start-rescue").is_some(), "{repair:#?}");
    machine.assert_login();

    machine.remove_drop_in("ssh.service");
    machine.assert_repair(listener);
    assert_eq!(machine.active(RESCUE), "inactive");
    machine.assert_declared_units_are_back();
    survivor.assert_open();
    rescued.assert_open();
}

/// What systemd logs when `ExecStartPre=/bin/false` has failed.
pub const EXEC_START_PRE_FAILED: &str = "Control process exited, code=exited, status=1/FAILURE";

#[test]
fn a_service_that_cannot_start_is_rescued() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    assert_rescued(&machine, listener, "[Service]\nExecStartPre=/bin/false", EXEC_START_PRE_FAILED);
}

#[test]
fn a_service_that_dies_after_its_start_is_rescued() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    // With Type=simple every start succeeds, and systemd terminates the program before it accepts a connection.
    let dies = "[Service]\nType=simple\nRestart=no\nRuntimeMaxSec=1us";
    assert_rescued(&machine, listener, dies, "Service reached runtime time limit");
}

#[test]
fn a_start_that_a_condition_skips_is_rescued() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    // It holds until the repair has begun. systemd reports such a job as done.
    machine.sh("touch /run/flag").ok();
    machine.drop_in("ssh.socket", "[Socket]\nExecStartPre=/bin/rm -f /run/flag");
    assert_rescued(&machine, listener, "[Unit]\nConditionPathExists=/run/flag", "unmet condition check");
}

#[test]
fn a_start_that_hangs_is_rescued() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let hangs = "[Service]\nExecStartPre=/bin/sleep 600\nTimeoutStartSec=infinity";
    assert_rescued(&machine, listener, hangs, "Control process exited, code=killed, status=15/TERM");
}

#[test]
fn a_service_whose_socket_cannot_start_serves_without_it() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.drop_in("ssh.socket", "[Socket]\nExecStartPre=/bin/false");
    let repair = machine.sh("sshd-mend repair --json");
    // Not everything is back as declared.
    repair.assert_verdict("unverified", 1);
    let failed = repair.steps().iter().any(|step| step["unit"] == "ssh.socket" && step["ok"] == false);
    assert!(failed && repair.step("start-rescue").is_none(), "{repair:#?}");
    assert_eq!((machine.active("ssh.service"), machine.active(RESCUE)), ("active".to_owned(), "inactive".to_owned()));
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    machine.assert_nothing_on_record();
}
