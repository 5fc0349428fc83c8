//! Repairs that are interrupted between the signal to the listener and the start of its units: whoever is killed, the
//! units are started.

use crate::machine::Machine;

/// Kills a process of the machine.
fn kill(machine: &Machine, pid: i32) {
    machine.sh(&format!("kill -KILL {pid}")).ok();
}

#[test]
fn killing_the_command_does_not_stop_the_repair() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let held = machine.hold_repair(listener, "sshd-mend repair --json");
    let (command, worker) = (held.caller(), held.worker());
    assert_ne!(command, worker);
    kill(&machine, command);
    machine.assert_no_login();
    assert_eq!(held.finish().status, 128 + 9, "the command was killed");
    machine.wait_for_end_of_repair();
    machine.assert_replaced(listener);
}

#[test]
fn a_session_that_drops_does_not_stop_the_repair_that_it_started() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let held = machine.hold_repair(listener, "ssh -tt root@127.0.0.1 sshd-mend repair");
    let in_session = machine.number("pgrep -fx 'sshd-mend repair'");
    assert_ne!(in_session, held.worker());
    kill(&machine, held.caller());
    machine.wait_until("the session has dropped", |machine| !machine.is_alive(in_session));
    held.finish();
    machine.wait_for_end_of_repair();
    machine.assert_replaced(listener);
}

#[test]
fn a_worker_that_is_killed_is_started_again_and_completes_the_repair() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let held = machine.hold_repair(listener, "sshd-mend repair --json");
    machine.sh("systemctl kill -s KILL sshd-mend-repair.service").ok();
    let repair = held.wait();
    repair.assert_verdict("repaired", 0);
    repair.assert_finding("interrupted");
    machine.sh("journalctl -o cat -u sshd-mend-repair.service | grep 'restart counter is at 1[.]'").ok();
    machine.assert_replaced(listener);
}

/// How many attempts there are does not depend on how long each takes: see rescue_rules.rs.
#[test]
fn a_worker_that_is_killed_in_each_attempt_is_replaced_by_the_fallback() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let held = machine.hold_repair(listener, "sshd-mend repair --json");
    machine.assert_no_login();
    held.kill_each_attempt();
    machine.assert_login();
    machine.assert_declared_units_are_back();
    // The next repair finds that nothing is left to do, and clears the record.
    machine.sh("sshd-mend repair").ok();
    machine.assert_replaced(listener);
}

fn an_interrupted_repair_is_completed_by(command: &str) {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    // Without the unit nobody starts the repair again.
    let held = machine.hold_repair_without_unit(listener);
    kill(&machine, held.worker());
    assert_eq!(held.wait().status, 128 + 9, "the repair was killed");
    machine.assert_no_login();
    let check = machine.sh("sshd-mend check --json");
    check.assert_verdict("broken", 2);
    check.assert_finding("interrupted");
    let output = machine.sh(command).ok();
    assert!(output.stdout.contains("REPAIRED"), "{output:#?}");
    machine.assert_replaced(listener);
    machine.assert_declared_units_are_back();
}

#[test]
fn an_interrupted_repair_is_completed_by_hand() {
    an_interrupted_repair_is_completed_by("sshd-mend repair");
}

#[test]
fn an_interrupted_repair_is_completed_by_the_hook() {
    an_interrupted_repair_is_completed_by("sshd-mend hook");
}

#[test]
fn an_interrupted_repair_is_completed_with_run_full() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    // Neither systemd nor the fallback completes it.
    machine.drop_in("sshd-mend-repair.service", "[Service]\nRestart=no");
    machine.sh("systemctl mask --runtime sshd-mend-fallback.service").ok();
    let held = machine.hold_repair(listener, "sshd-mend repair --json");
    machine.sh("systemctl kill -s KILL sshd-mend-repair.service").ok();
    held.wait();
    machine.assert_no_login();
    machine.fill("/run");
    let repair = machine.sh("sshd-mend repair --json");
    assert!(repair.status <= 1, "{repair:#?}\n{}", machine.state());
    machine.assert_login();
    machine.sh("rm /run/fill.*; systemctl unmask --runtime sshd-mend-fallback.service; sshd-mend repair").ok();
    machine.assert_replaced(listener);
}
