//! A crowd at the door: what any user of the network can do to a listener makes nobody act who would not act otherwise.

use crate::machine::Machine;

/// The orphan is not stale: a package run ends it only if it is dead.
fn nothing_is_done(machine: &Machine, listener: i32, probes: &[&str]) {
    let check = machine.sh("sshd-mend check --json");
    let probe = &check.json()["listeners"][0]["probe"];
    assert!(probes.iter().any(|expected| probe == expected), "{check:#?}");
    assert_eq!(check.status, 1, "{check:#?}");
    machine.sh("sshd-mend hook").ok();
    assert!(machine.is_alive(listener));
}

#[test]
fn a_crowd_at_the_door_makes_nobody_act() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    // Nobody but the probe is let in any more; the orphan is not stale.
    machine
        .sh("python3 - <<'E' >/dev/null 2>&1 &
import socket, time
held = [socket.create_connection(('127.0.0.1', 22)) for _ in range(110)]
time.sleep(600)
E
until ss -tn state established '( dport = :22 )' | grep -c . | grep -q '^1..$'; do :; done")
        .ok();
    nothing_is_done(&machine, listener, &["inconclusive", "ok"]);
}

#[test]
fn hosts_deny_is_no_dead_listener() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.sh("echo 'sshd: ALL' >/etc/hosts.deny").ok();
    nothing_is_done(&machine, listener, &["inconclusive"]);
}

/// Who leaves before authenticating is refused for a while, and here one address counts for all: the probe's too.
#[test]
fn penalties_are_no_dead_listener() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("printf 'PerSourcePenalties noauth:20s min:15s\\nPerSourceNetBlockSize 0:0\\n' >/etc/ssh/sshd_config.d/penalties.conf
             cat >/run/leave.py <<'E'
import socket, sys
s = socket.create_connection(('127.0.0.1', 22)); s.sendall(b'SSH-2.0-x\\r\\n')
sys.exit(not s.recv(200).startswith(b'Not allowed'))
E")
        .ok();
    let listener = machine.incident();
    machine.wait_until("the penalty", |machine| machine.sh("python3 /run/leave.py").status == 0);
    nothing_is_done(&machine, listener, &["inconclusive"]);
    // What is stale is replaced all the same, and only what was seen is said.
    machine.upgrade_without_hook().ok();
    let repair = machine.sh("sshd-mend repair");
    assert!(!machine.is_alive(listener), "{repair:#?}");
    assert!(repair.status <= 1, "{repair:#?}\n{}", machine.state());
    machine.wait_until("the penalty is over", |machine| machine.login().status == 0);
}

/// Clients that send one byte at a time, garbage, or a packet that never ends.
#[test]
fn slow_and_hostile_clients_are_in_nobodys_way() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine
        .sh("cat >/run/clients.py <<'E'
import os, socket, threading, time
def client(data, pause):
    while True:
        try:
            s = socket.create_connection(('127.0.0.9', 22))
            while True:
                for byte in data: s.sendall(bytes([byte])); time.sleep(pause)
        except OSError: time.sleep(0.05)
for data, pause in [(b'SSH-2.0-x', 1), (b'\\xff' * 50, 0.001), (b'SSH-2.0-x\\r\\n\\xff\\xff\\xff\\xff', 0.01), (os.urandom(500), 0)] * 3:
    threading.Thread(target=client, args=(data, pause), daemon=True).start()
open('/run/clients', 'w').close(); time.sleep(600)
E
             python3 /run/clients.py >/dev/null 2>&1 </dev/null & until [ -e /run/clients ]; do kill -0 $!; done")
        .ok();
    nothing_is_done(&machine, listener, &["ok", "inconclusive"]);
    machine.upgrade_without_hook().ok();
    machine.sh("sshd-mend hook").ok();
    assert!(!machine.is_alive(listener), "{}", machine.state());
    machine.wait_until("a login", |machine| machine.login().status == 0);
}
