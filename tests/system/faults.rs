//! Faults of systemd and of the machine during a repair. The machine is reachable afterwards, and nothing is terminated
//! that need not be.

use crate::machine::Machine;
use crate::old_cgroup::OldCgroup;

#[test]
fn a_start_limit_that_is_used_up_is_cleared() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    for unit in ["ssh.socket", "ssh.service"] {
        // However long the starts take.
        machine.drop_in(unit, "[Unit]\nStartLimitIntervalSec=1h");
        machine.sh(&format!("for i in 1 2 3 4 5; do systemctl start {unit} || :; done")).ok();
    }
    for unit in ["ssh.socket", "ssh.service"] {
        let start = machine.sh(&format!("systemctl start {unit} || :; journalctl -q -o cat -n 4 -u {unit}")).ok();
        assert!(start.stdout.contains("Start request repeated too quickly"), "{start:#?}");
    }
    machine.assert_repair(listener);
    machine.assert_declared_units_are_back();
}

#[test]
fn without_dbus_the_repair_uses_systemctl() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh("systemctl stop dbus.socket dbus.service; rm -f /run/dbus/system_bus_socket").ok();
    machine.assert_repair(listener);
    machine.sh("[ ! -e /run/dbus/system_bus_socket ]").ok();
}

#[test]
fn a_bus_that_refuses_connections_is_given_up() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    // The socket is in the file system, and nobody listens on it.
    machine
        .sh("systemctl stop dbus.socket dbus.service; rm -f /run/dbus/system_bus_socket
             python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/run/dbus/system_bus_socket\")'
             [ -S /run/dbus/system_bus_socket ]")
        .ok();
    machine.assert_repair(listener);
    machine.sh("[ -S /run/dbus/system_bus_socket ]; ! systemctl --quiet is-active dbus.service").ok();
}

/// The fault happens between the signal and the start. `evidence` is a command whose output it changes.
fn is_repaired_despite(fault: &str, evidence: &str) {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let held = machine.hold_repair(listener, "sshd-mend repair --json");
    let evidence = || machine.sh(&format!("{evidence} || :")).ok().stdout;
    let before = evidence();
    machine.sh(fault).ok();
    machine.wait_until("the fault is there", |_| evidence() != before);
    held.finish().assert_verdict("repaired", 0);
    machine.sh("systemctl kill -s CONT systemd-journald.service").ok();
    machine.assert_replaced(listener);
}

#[test]
fn the_bus_may_be_killed_in_the_middle() {
    is_repaired_despite("systemctl kill -s KILL dbus.service", "systemctl show -P MainPID dbus.service");
}

#[test]
fn the_bus_may_be_stopped_in_the_middle() {
    is_repaired_despite("systemctl stop dbus.socket dbus.service", "systemctl is-active dbus.socket dbus.service");
}

#[test]
fn systemd_may_execute_itself_again_in_the_middle() {
    is_repaired_despite("systemctl daemon-reexec", "journalctl -q -o cat _PID=1 | grep -c Reexecuting");
}

#[test]
fn systemd_may_reload_its_units_in_the_middle() {
    is_repaired_despite("systemctl daemon-reload", "journalctl -q -o cat _PID=1 | grep -c 'Reloading finished'");
}

#[test]
fn journald_may_be_killed_in_the_middle() {
    let main_pid = "systemctl show -P MainPID systemd-journald.service";
    is_repaired_despite("systemctl kill -s KILL systemd-journald.service", main_pid);
}

#[test]
fn journald_may_be_stopped_in_the_middle() {
    let is_stopped = "grep '^State:.*stopped' /proc/$(systemctl show -P MainPID systemd-journald.service)/status";
    is_repaired_despite("systemctl kill -s STOP systemd-journald.service", is_stopped);
}

#[test]
fn twenty_hooks_at_once_make_one_repair() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh("for i in $(seq 20); do sshd-mend hook >/lab/hook.$i & done; wait").ok();
    machine.assert_replaced(listener);
    assert_eq!(machine.terminations(), 1, "{}", machine.state());
    // Each reports the outcome, or finds nothing to do.
    let report = |number: i32| machine.sh(&format!("cat /lab/hook.{number}")).ok().stdout;
    let reports: Vec<String> = (1..=20).map(report).filter(|report| !report.is_empty()).collect();
    assert!(!reports.is_empty(), "nobody reported the repair");
    for report in reports {
        assert!(report.contains("SSHD OK - REPAIRED: "), "{report}");
    }
}

#[test]
fn a_supervisor_that_starts_the_listener_again_does_not_lock_anybody_out() {
    let machine = Machine::with_package("trixie");
    machine.sh(
        "systemctl disable --now ssh.service; mkdir -p /run/sshd
         printf '[Service]\\nExecStart=/bin/sh -c \"while :; do /usr/sbin/sshd -D; done\"\\n' >/run/systemd/system/other.service
         systemctl daemon-reload; systemctl enable ssh.service; systemctl start other.service",
    )
    .ok();
    machine.wait_until("the supervisor's sshd serves", |machine| machine.login().status == 0);
    let of_supervisor = "pgrep -xP $(systemctl show -P MainPID other.service) sshd";
    let listener = machine.number(of_supervisor);
    machine.upgrade_without_hook().ok();
    let repair = machine.sh("sshd-mend repair --json");
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    machine.wait_for_end_of_repair();
    machine.assert_login();
    // What the supervisor has started is current, and serves every address: it is not terminated in its turn.
    assert!(machine.number(of_supervisor) > 0);
    assert_eq!(machine.terminations(), 1, "{}", machine.state());
    assert_eq!(repair.status, 1, "no unit serves, but somebody can log in: {repair:#?}");
}

#[test]
fn a_full_disk_does_not_prevent_the_repair() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.fill("/");
    machine.assert_repair(listener);
}

#[test]
fn a_read_only_disk_does_not_prevent_the_repair() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    // Nobody may have a file open for writing meanwhile.
    machine
        .sh("journalctl --relinquish-var; systemctl stop unattended-upgrades.service; mount -o remount,bind,ro /")
        .ok();
    let write = machine.sh("touch /file");
    assert!(write.status != 0 && write.stderr.contains("Read-only file system"), "{write:#?}");
    machine.assert_repair(listener);
}

#[test]
fn a_record_that_is_read_only_is_a_refusal() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    // The whole of /run cannot be made read-only while others write there.
    machine
        .sh("mkdir -m 700 -p /run/sshd-mend; mount --bind /run/sshd-mend /run/sshd-mend; mount -o remount,bind,ro /run/sshd-mend")
        .ok();
    let write = machine.sh("touch /run/sshd-mend/file");
    assert!(write.status != 0 && write.stderr.contains("Read-only file system"), "{write:#?}");
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.json()["refusal"]["code"], "cannot-record", "{repair:#?}");
    assert!(machine.is_alive(listener));
    machine.assert_login();
}

#[test]
fn a_listener_that_even_sigkill_does_not_end_is_waited_for() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh("echo GRACE=1 >/etc/default/sshd-mend").ok();
    // The old freezer delays even SIGKILL, as a disk that does not answer does.
    let frozen = OldCgroup::with("freezer", machine.pid_outside(listener));
    frozen.set("freezer.state", "FROZEN");
    let repair = machine.sh("sshd-mend repair --json");
    repair.assert_verdict("failed", 2);
    let terminate = repair.step("terminate").expect("the step");
    assert!(terminate["result"].as_str().is_some_and(|text| text.contains("uninterruptible sleep")), "{terminate:#}");
    assert!(repair.step("start-unit").is_none(), "a start in vain would remove /run/sshd: {repair:#?}");
    assert_eq!(machine.active("ssh.service"), "inactive");
    assert!(machine.is_alive(listener));
    frozen.set("freezer.state", "THAWED");
    // Nobody starts a repair again, and no package run follows: the unit completes it.
    machine.wait_until("the listener is gone", |machine| !machine.is_alive(listener));
    machine.wait_for_end_of_repair();
    machine.assert_replaced(listener);
}

fn is_repaired_although_the_clock_jumps(jump: &str) {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    // The machine's clock stays as it is: libfaketime tells the worker another time, from the middle of the repair on.
    let library = machine.sh("dpkg -L libfaketime | grep 'libfaketime[.]so'").ok().stdout;
    let environment = format!(
        "LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE=/run/faketime FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1",
        library.trim()
    );
    machine.sh("echo +0 >/run/faketime").ok();
    machine.drop_in("sshd-mend-repair.service", &format!("[Service]\nEnvironment={environment}"));
    let held = machine.hold_repair(listener, "sshd-mend repair --json");
    machine.sh(&format!("grep -q libfaketime /proc/{}/maps", held.worker())).ok();
    let year = format!("date +%Y; env {environment} date +%Y");
    let years =
        || machine.sh(&year).ok().stdout.lines().map(|year| year.parse().expect("a year")).collect::<Vec<i32>>();
    assert_eq!(years()[0], years()[1]);
    machine.sh(&format!("echo {jump} >/run/faketime")).ok();
    assert_eq!((years()[0] - years()[1]).abs(), 10, "the clock did not jump");
    held.finish().assert_verdict("repaired", 0);
    machine.assert_replaced(listener);
}

#[test]
fn a_clock_that_jumps_forward_changes_nothing() {
    is_repaired_although_the_clock_jumps("+10y");
}

#[test]
fn a_clock_that_jumps_back_changes_nothing() {
    is_repaired_although_the_clock_jumps("-10y");
}

#[test]
fn a_port_that_is_taken_between_signal_and_start_is_served_once_it_is_free() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let mut session = machine.open_session("survivor");
    // Time to remove the cause before the next attempt.
    machine.drop_in("sshd-mend-repair.service", "[Service]\nRestartSec=5s");
    let held = machine.hold_repair(listener, "sshd-mend repair --json");
    let other = machine.hold_port("::", 22);
    let repair = held.finish();
    repair.assert_verdict("failed", 2);
    assert!(machine.is_alive(other), "another program was terminated");
    machine.assert_no_login();
    session.assert_open();
    machine.sh(&format!("kill {other}")).ok();
    // Nobody starts a repair again: the unit completes it.
    machine.wait_until("the port is served", |machine| machine.login().status == 0);
    machine.wait_for_end_of_repair();
    machine.assert_replaced(listener);
    machine.assert_declared_units_are_back();
    session.assert_open();
}

#[test]
fn a_job_of_somebody_else_between_signal_and_start_does_not_lock_anybody_out() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let held = machine.hold_repair(listener, "sshd-mend repair --json");
    machine.queue_start("ssh.socket");
    let repair = held.finish();
    // The socket cannot be started, so not everything is back as declared.
    repair.assert_verdict("unverified", 1);
    assert!(!machine.is_alive(listener));
    assert_eq!(machine.active("ssh.service"), "active");
    machine.assert_login();
}

/// fork(2) and threads fail for real (EAGAIN): more and more tasks are allowed, until it works.
#[test]
fn without_processes_the_hook_terminates_nothing_in_vain() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let mut session = machine.open_session("survivor");
    let mut refused = 0;
    // Whatever systemd starts from now on counts.
    let tasks = OldCgroup::with("pids", machine.pid_outside(1));
    for more in [0, 1, 2, 3, 4, 5, 6, 8, 12, 24] {
        tasks.set("pids.max", &(tasks.get("pids.current") + more).to_string());
        let hook = machine.sh("timeout 60 sshd-mend hook");
        assert_eq!(hook.status, 0, "a hang or an error with {more} tasks: {hook:#?}");
        machine.assert_login();
        refused += usize::from(machine.is_alive(listener));
    }
    assert!(refused > 0, "no limit was tight");
    machine.assert_replaced(listener);
    session.assert_open();
}
