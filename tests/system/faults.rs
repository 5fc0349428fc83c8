//! Faults of the agent, of systemd and of the machine in the middle of a repair. Whatever happens, the machine is
//! reachable afterwards, and nothing is ended that need not be.

use crate::machine::Machine;
use crate::old_cgroup::OldCgroup;
use serde_json::Value;

/// The incident after its upgrade: the listener is stale, and serves.
fn stale_orphan() -> (Machine, i32) {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    (machine, listener)
}

fn drop_in(machine: &Machine, unit: &str, text: &str) {
    machine
        .sh(&format!(
            "mkdir -p /etc/systemd/system/{unit}.d && printf '{text}' >/etc/systemd/system/{unit}.d/fault.conf && systemctl daemon-reload"
        ))
        .ok();
}

fn no_drop_in(machine: &Machine, unit: &str) {
    machine.sh(&format!("rm -r /etc/systemd/system/{unit}.d && systemctl daemon-reload")).ok();
}

fn action<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    json["done"].as_array().expect("steps").iter().find(|done| done["action"] == name)
}

/// ssh.service cannot be started, for whatever reason: the rescue serves, says so, and goes when the cause is gone.
fn rescued(machine: &Machine, listener: i32, spoil: impl Fn(&Machine), heal: impl Fn(&Machine)) {
    let mut client = machine.open_session("survivor");
    spoil(machine);
    let repair = machine.sh("sshd-mend repair --json");
    let json = repair.json();
    assert_eq!((repair.status, &json["verdict"]), (2, &"rescued".into()), "{json:#}\n{}", machine.state());
    assert!(action(&json, "start-rescue").is_some_and(|done| done["ok"] == true), "{json:#}");
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    assert!(machine.session_is_open("survivor", &mut client));

    let check = machine.sh("sshd-mend check --json");
    assert_eq!((check.status, &check.json()["findings"][0]["code"]), (2, &"rescue-active".into()), "{check:#?}");
    let seen = machine.sh("sshd-mend check").stdout;
    assert!(seen.contains("RESCUED") && !seen.contains("nobody can log in"), "{seen}");
    let hook = machine.sh("sshd-mend hook").ok();
    assert!(hook.stdout.contains("rescue"), "the hook reports it: {hook:#?}");
    machine.assert_login();

    // Still broken: the rescue is back at once.
    let mut rescued = machine.open_session("rescued");
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.status, 2, "{repair:#?}\n{}", machine.state());
    machine.assert_login();

    heal(machine);
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!((repair.status, &repair.json()["verdict"]), (0, &"repaired".into()), "{repair:#?}\n{}", machine.state());
    machine.assert_login();
    assert_eq!(machine.sh("sshd-mend check").status, 0);
    assert_eq!(machine.sh("systemctl is-active sshd-mend-rescue.socket").stdout, "inactive\n");
    for (name, client) in [("survivor", &mut client), ("rescued", &mut rescued)] {
        assert!(machine.session_is_open(name, client), "{name} is gone");
        client.kill().expect("the client is ours");
        client.wait().expect("the client ends");
    }
}

#[test]
fn a_service_that_cannot_start_is_rescued() {
    let (machine, listener) = stale_orphan();
    rescued(
        &machine,
        listener,
        |machine| drop_in(machine, "ssh.service", "[Service]\\nExecStartPre=/bin/false\\n"),
        |machine| no_drop_in(machine, "ssh.service"),
    );
}

#[test]
fn a_service_that_dies_after_its_start_is_rescued() {
    let (machine, listener) = stale_orphan();
    rescued(
        &machine,
        listener,
        |machine| {
            drop_in(
                machine,
                "ssh.service",
                "[Service]\\nType=simple\\nRestart=no\\nExecStart=\\nExecStart=/bin/sh -c \"sleep 0.1; exit 1\"\\n",
            )
        },
        |machine| no_drop_in(machine, "ssh.service"),
    );
}

#[test]
fn done_without_an_active_unit_is_no_success() {
    let (machine, listener) = stale_orphan();
    rescued(
        &machine,
        listener,
        |machine| drop_in(machine, "ssh.service", "[Unit]\\nConditionPathExists=/none\\n"),
        |machine| no_drop_in(machine, "ssh.service"),
    );
}

#[test]
fn a_start_that_hangs_is_rescued() {
    let (machine, listener) = stale_orphan();
    rescued(
        &machine,
        listener,
        |machine| {
            drop_in(machine, "ssh.service", "[Service]\\nExecStartPre=/bin/sleep 600\\nTimeoutStartSec=infinity\\n")
        },
        |machine| no_drop_in(machine, "ssh.service"),
    );
}

#[test]
fn the_service_starts_without_a_socket_that_cannot() {
    let (machine, listener) = stale_orphan();
    drop_in(&machine, "ssh.socket", "[Socket]\\nExecStartPre=/bin/false\\n");
    let repair = machine.sh("sshd-mend repair --json");
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    let json = repair.json();
    assert!(action(&json, "start-rescue").is_none(), "{json:#}");
    assert_eq!(machine.sh("systemctl is-active ssh.service").stdout, "active\n");
    assert!(json["verdict"] == "unverified", "not all came back as declared: {json:#}");
}

#[test]
fn a_start_limit_that_was_used_up_is_cleared() {
    let (machine, listener) = stale_orphan();
    machine.sh("for i in 1 2 3 4 5 6 7; do systemctl start ssh.socket; systemctl start ssh.service; done 2>/dev/null; true").ok();
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}");
    assert!(!machine.is_alive(listener));
    machine.assert_login();
}

#[test]
fn without_dbus_systemctl_does_it() {
    let (machine, listener) = stale_orphan();
    machine.sh("systemctl stop dbus.socket dbus.service; [ ! -S /run/dbus/system_bus_socket ] || rm /run/dbus/system_bus_socket").ok();
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}\n{}", machine.state());
    assert!(!machine.is_alive(listener));
    machine.assert_login();
}

#[test]
fn a_dead_bus_behind_a_living_socket_is_given_up() {
    let (machine, listener) = stale_orphan();
    // The socket file is there and nobody answers: connections are refused.
    machine.sh("systemctl stop dbus.socket dbus.service; rm -f /run/dbus/system_bus_socket; python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.bind(\"/run/dbus/system_bus_socket\")'").ok();
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}\n{}", machine.state());
    assert!(!machine.is_alive(listener));
    machine.assert_login();
}

/// Holds the repair up between the signal and the start: the listener is stopped, and GRACE passes. SIGTERM is pending
/// then: bit 14 of the mask in proc_pid_status(5).
const HELD_UP: &str = "echo GRACE=3 >/etc/default/sshd-mend; kill -STOP LISTENER
     sshd-mend repair --json >/lab/out 2>/lab/error & mend=$!
     until grep -q '^ShdPnd:.*[4-7c-f]...$' /proc/LISTENER/status; do kill -0 $mend; done";

fn while_held_up(machine: &Machine, listener: i32, fault: &str) -> (i32, String) {
    let script = format!("{HELD_UP}\n{fault}\nwait $mend; echo $?").replace("LISTENER", &listener.to_string());
    let output = machine.sh(&script);
    let status = output.stdout.lines().last().and_then(|line| line.parse().ok());
    (status.unwrap_or_else(|| panic!("{output:#?}")), machine.sh("cat /lab/out /lab/error").stdout)
}

#[test]
fn the_bus_and_systemd_may_restart_in_the_middle() {
    for fault in [
        "systemctl kill -s KILL dbus.service",
        "systemctl stop dbus.socket dbus.service 2>/dev/null",
        "systemctl daemon-reexec",
        "systemctl daemon-reload",
        "systemctl kill -s KILL systemd-journald.service",
        "systemctl kill -s STOP systemd-journald.service",
    ] {
        let (machine, listener) = stale_orphan();
        let (status, out) = while_held_up(&machine, listener, fault);
        assert!(!machine.is_alive(listener), "{fault}: {out}");
        machine.assert_login();
        assert_eq!(status, 0, "{fault}: {out}");
    }
}

#[test]
fn whoever_waits_may_be_killed() {
    let (machine, listener) = stale_orphan();
    let (status, out) = while_held_up(&machine, listener, "kill -KILL $mend");
    assert_eq!(status, 137, "{out}");
    machine.wait_until("the unit goes on", |machine| machine.login().status == 0 && !machine.is_alive(listener));
    assert_eq!(machine.sh("sshd-mend check").status, 0);
}

#[test]
fn a_session_that_drops_takes_no_repair_along() {
    let (machine, listener) = stale_orphan();
    machine.sh("echo GRACE=3 >/etc/default/sshd-mend").ok();
    let mut client = machine
        .command(&[
            "ssh",
            "-tt",
            "root@127.0.0.1",
            "touch /run/inside; while [ ! -e /run/go ]; do :; done; sshd-mend repair",
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("ssh starts");
    machine.wait_until("the session is open", |machine| machine.sh("ls /run/inside").status == 0);
    machine
        .sh(&format!(
            "kill -STOP {listener}; touch /run/go; until grep -q '^ShdPnd:.*[4-7c-f]...$' /proc/{listener}/status; do :; done
             pkill -KILL -x ssh; while pgrep -x ssh; do :; done"
        ))
        .ok();
    client.wait().expect("the client ends");
    machine.wait_until("the unit goes on", |machine| machine.login().status == 0 && !machine.is_alive(listener));
    machine.wait_until("all is well", |machine| machine.sh("sshd-mend check").status == 0);
}

#[test]
fn whoever_works_may_be_killed() {
    let (machine, listener) = stale_orphan();
    let (status, out) = while_held_up(&machine, listener, "systemctl kill -s KILL sshd-mend-repair.service");
    assert_eq!(status, 0, "{out}");
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    assert_eq!(machine.sh("ls /run/sshd-mend/intent").status, 2);
}

#[test]
fn a_worker_that_is_killed_again_and_again_leaves_a_way_in() {
    let (machine, listener) = stale_orphan();
    // The program is gone from the unit right after it has ended the listener, as if each attempt were killed. Each takes
    // a while, as on a busy machine: what gives up must be a number of attempts, not of seconds.
    let (_, out) = while_held_up(
        &machine,
        listener,
        "mkdir -p /run/systemd/system/sshd-mend-repair.service.d
         printf '[Service]\\nExecStart=\\nExecStart=/bin/sh -c \"sleep 1; kill -KILL $$$$\"\\n' >/run/systemd/system/sshd-mend-repair.service.d/x.conf
         systemctl daemon-reload; kill -KILL LISTENER; systemctl kill -s KILL sshd-mend-repair.service",
    );
    assert!(!machine.is_alive(listener), "{out}");
    machine.wait_until("the fallback serves", |machine| machine.login().status == 0);
}

#[test]
fn an_interrupted_repair_is_found_and_finished() {
    for finish in ["sshd-mend repair", "sshd-mend hook"] {
        let (machine, listener) = stale_orphan();
        machine.sh("rm /usr/lib/systemd/system/sshd-mend-repair.service && systemctl daemon-reload").ok();
        // Nobody starts this one again.
        let (status, out) = while_held_up(&machine, listener, "kill -KILL LISTENER $mend");
        assert_eq!(status, 137, "{out}");
        machine.assert_no_login();
        let check = machine.sh("sshd-mend check --json");
        assert_eq!((check.status, &check.json()["findings"][0]["code"]), (2, &"interrupted".into()), "{check:#?}");
        machine.sh(finish).ok();
        machine.assert_login();
        assert_eq!(machine.sh("sshd-mend check").status, 0);
    }
}

#[test]
fn an_interrupted_repair_is_finished_with_run_full() {
    let (machine, listener) = stale_orphan();
    machine.sh("mkdir -p /run/systemd/system/sshd-mend-repair.service.d; printf '[Service]\\nRestart=no\\n[Unit]\\nOnFailure=\\n' >/run/systemd/system/sshd-mend-repair.service.d/once.conf; systemctl daemon-reload").ok();
    let (_, out) = while_held_up(
        &machine,
        listener,
        "rm -f /usr/lib/systemd/system/sshd-mend-fallback.service
         systemctl kill -s KILL sshd-mend-repair.service; kill -KILL LISTENER",
    );
    assert!(!machine.is_alive(listener), "{out}");
    machine
        .sh("dd if=/dev/zero of=/run/fill bs=64k 2>/dev/null; dd if=/dev/zero of=/run/fill2 bs=1 2>/dev/null; true")
        .ok();
    assert_ne!(machine.sh("echo x >/run/more").status, 0, "/run is not full");
    machine.sh("sshd-mend repair");
    machine.assert_login();
}

#[test]
fn twenty_hooks_at_once_make_one_repair() {
    let (machine, listener) = stale_orphan();
    machine.sh("for i in $(seq 20); do sshd-mend hook >/lab/hook.$i & done; wait").ok();
    machine.assert_login();
    assert!(!machine.is_alive(listener));
    let ended = machine.sh("journalctl --sync; journalctl -q -o cat -t sshd-mend | grep -c 'ended by'").stdout;
    assert_eq!(ended, "1\n");
    let silent = machine.sh("cd /lab; for i in $(seq 20); do grep -qE 'REPAIRED|HEALTHY' hook.$i || [ ! -s hook.$i ] || cat hook.$i; done").stdout;
    assert_eq!(silent, "", "each reports the outcome, or finds nothing to do");
}

#[test]
fn a_supervisor_that_brings_the_listener_back_is_no_lock_out() {
    let machine = Machine::with_package("trixie");
    machine.sh(
        "systemctl disable --now ssh.service; mkdir -p /run/sshd
         printf '[Service]\\nExecStart=/bin/sh -c \"while :; do /usr/sbin/sshd -D; done\"\\n' >/run/systemd/system/other.service
         systemctl daemon-reload; systemctl enable ssh.service; systemctl start other.service
         until ssh root@127.0.0.1 true; do :; done 2>/dev/null",
    )
    .ok();
    machine.upgrade_without_hook().ok();
    let repair = machine.sh("sshd-mend repair --json");
    machine.assert_login();
    assert!(repair.status <= 2, "{repair:#?}");
    assert_ne!(repair.json()["verdict"], "healthy");
}

#[test]
fn a_full_or_read_only_disk_is_no_lock_out() {
    for spoil in ["dd if=/dev/zero of=/fill bs=1M 2>/dev/null; true", "mount -o remount,ro /"] {
        let (machine, listener) = stale_orphan();
        machine.sh(spoil);
        let repair = machine.sh("sshd-mend repair");
        assert_eq!(repair.status, 0, "{spoil}: {repair:#?}\n{}", machine.state());
        assert!(!machine.is_alive(listener));
        machine.assert_login();
    }
}

#[test]
fn a_listener_that_even_sigkill_does_not_end_is_waited_for() {
    let (machine, listener) = stale_orphan();
    machine.sh("echo GRACE=1 >/etc/default/sshd-mend").ok();
    // The old freezer keeps even SIGKILL waiting, as a disk that does not answer does.
    let frozen = OldCgroup::with("freezer", machine.pid_outside(listener));
    frozen.set("freezer.state", "FROZEN");
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 2, "{repair:#?}");
    assert!(repair.stdout.contains("uninterruptible sleep"), "{repair:#?}");
    let activity = machine.sh("systemctl is-active ssh.service").stdout;
    assert_eq!(activity, "inactive\n", "a start in vain would take /run/sshd along\n{}", machine.state());
    frozen.set("freezer.state", "THAWED");
    // No person and no later package run: the unit goes on by itself.
    machine.wait_until("it is finished", |machine| machine.login().status == 0 && !machine.is_alive(listener));
    machine.wait_until("all is well", |machine| machine.sh("sshd-mend check").status == 0);
}

#[test]
fn a_clock_that_jumps_changes_nothing() {
    for jump in ["+10y", "-10y"] {
        let (machine, listener) = stale_orphan();
        // Nobody's clock is touched: libfaketime tells the worker another time, from the middle of the repair on.
        machine
            .sh("mkdir -p /etc/systemd/system/sshd-mend-repair.service.d; echo +0 >/run/faketime
                 printf '[Service]\nEnvironment=LD_PRELOAD=%s FAKETIME_TIMESTAMP_FILE=/run/faketime FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\n' \
                     \"$(dpkg -L libfaketime | grep 'libfaketime[.]so')\" >/etc/systemd/system/sshd-mend-repair.service.d/clock.conf
                 systemctl daemon-reload")
            .ok();
        let (status, out) = while_held_up(&machine, listener, &format!("echo {jump} >/run/faketime"));
        assert_eq!(status, 0, "{out}");
        assert!(!machine.is_alive(listener));
        machine.assert_login();
    }
}

#[test]
fn a_port_that_somebody_takes_in_the_gap_is_taken_back() {
    let (machine, listener) = stale_orphan();
    machine
        .sh("cat >/run/grab.py <<'E'
import socket, time
grabbed = socket.socket(socket.AF_INET6)
grabbed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
while True:
    try:
        grabbed.bind(('::', 22)); grabbed.listen(); break
    except OSError:
        pass
open('/run/grabbed', 'w').close()
while True: time.sleep(1)
E
nice -n -20 python3 /run/grab.py >/dev/null 2>&1 & echo $! >/run/grab.pid")
        .ok();
    let (status, out) = while_held_up(&machine, listener, "true");
    if machine.sh("ls /run/grabbed").status == 0 {
        assert_eq!(status, 2, "{out}");
        machine.sh("kill $(cat /run/grab.pid)").ok();
    }
    machine.wait_until("it is finished", |machine| machine.login().status == 0);
    assert!(!machine.is_alive(listener));
}

#[test]
fn a_job_of_somebody_else_in_the_middle_is_no_lock_out() {
    let (machine, listener) = stale_orphan();
    let (_, out) = while_held_up(
        &machine,
        listener,
        "printf '[Service]\nType=oneshot\nExecStart=/bin/sleep 3600\n' >/run/systemd/system/slow.service
         mkdir -p /run/systemd/system/ssh.socket.d; printf '[Unit]\nAfter=slow.service\n' >/run/systemd/system/ssh.socket.d/slow.conf
         systemctl daemon-reload; systemctl start --no-block slow.service ssh.socket",
    );
    assert!(!machine.is_alive(listener), "{out}");
    machine.assert_login();
}

#[test]
fn a_run_that_is_read_only_ends_nothing() {
    let (machine, listener) = stale_orphan();
    // The whole of /run cannot be made read-only while others write there.
    machine
        .sh("mkdir -m 700 -p /run/sshd-mend; mount --bind /run/sshd-mend /run/sshd-mend; mount -o remount,bind,ro /run/sshd-mend")
        .ok();
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.json()["refusal"]["code"], "cannot-record", "{repair:#?}");
    assert!(machine.is_alive(listener));
    machine.assert_login();
}

/// fork(2) and threads that fail for real (EAGAIN): more and more tasks are allowed, until it works.
#[test]
fn no_processes_left() {
    let (machine, listener) = stale_orphan();
    let mut session = machine.open_session("survivor");
    let mut refused = 0;
    // Whatever systemd starts from now on counts.
    let tasks = OldCgroup::with("pids", machine.pid_outside(1));
    for more in [0, 1, 2, 3, 4, 5, 6, 8, 12, 24] {
        tasks.set("pids.max", &(tasks.get("pids.current") + more).to_string());
        let repair = machine.sh("timeout 60 sshd-mend hook; [ $? != 124 ]");
        assert_eq!(repair.status, 0, "a hang with {more} tasks: {repair:#?}");
        machine.assert_login();
        refused += usize::from(machine.is_alive(listener));
    }
    assert!(refused > 0, "no limit was tight");
    assert!(!machine.is_alive(listener), "{}", machine.state());
    assert!(machine.session_is_open("survivor", &mut session));
    session.kill().expect("the client is ours");
    session.wait().expect("the client ends");
}
