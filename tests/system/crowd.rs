//! What any user of the network can do to a listener. None of it makes the program act where it would not act otherwise.

use crate::machine::Machine;

impl Machine {
    /// A listener that is not stale is left alone by a package run unless it is dead; and it is not called dead.
    #[track_caller]
    fn leaves_alone(&self, listener: i32, probe: &str) {
        let units = "systemctl show -p ActiveState,StateChangeTimestampMonotonic ssh.service ssh.socket";
        let before = self.sh(units).ok().stdout;
        let check = self.sh("sshd-mend check --json");
        assert_eq!(check.json()["listeners"][0]["probe"], probe, "{check:#?}\n{}", self.state());
        assert_eq!((check.status, &check.json()["findings"][0]["code"]), (1, &"orphan".into()), "{check:#?}");
        self.sh("sshd-mend hook").ok();
        assert!(self.is_alive(listener));
        assert_eq!(self.sh(units).ok().stdout, before);
        assert_ne!(self.sh("[ -e /run/sshd-mend/intent ]").status, 0);
    }

    /// As many connections as MaxStartups allows: sshd drops every other one.
    fn fill_startups(&self) {
        self.background("fill-startups.py", &["100"]);
        self.wait_until("MaxStartups is reached", |machine| machine.startups_are_full());
        self.assert_no_login();
    }

    fn startups_are_full(&self) -> bool {
        self.sh("pgrep -f 'sshd: .*\\[listener\\] 100 of 10-100 startups'").status == 0
    }
}

#[test]
fn with_max_startups_reached_an_orphan_is_left_alone() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.fill_startups();
    machine.leaves_alone(listener, "inconclusive");
    assert!(machine.startups_are_full(), "the crowd was gone too early");
}

#[test]
fn with_max_startups_reached_a_healthy_service_is_left_alone() {
    let machine = Machine::with_package("trixie");
    let main = machine.main_pid("ssh.service");
    machine.fill_startups();
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
    machine.sh("sshd-mend repair || :").ok();
    assert_eq!(machine.main_pid("ssh.service"), main);
    assert!(machine.startups_are_full(), "the crowd was gone too early");
}

/// What is stale is replaced by what the kernel says, whatever the probe could not see.
#[test]
fn with_max_startups_reached_a_stale_orphan_is_replaced() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh("mkdir -p /run/sshd").ok();
    machine.fill_startups();
    let check = machine.sh("sshd-mend check --json");
    assert_eq!(check.json()["listeners"][0]["probe"], "inconclusive", "{check:#?}");
    assert_eq!((check.status, &check.json()["findings"][0]["code"]), (1, &"stale-orphan".into()), "{check:#?}");
    assert!(machine.startups_are_full(), "the crowd was gone too early");
    let hook = machine.sh("sshd-mend hook").ok();
    assert!(hook.stdout.contains("REPAIRED"), "{hook:#?}");
    machine.assert_replaced(listener);
}

#[test]
fn hosts_deny_is_no_dead_listener() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.sh("echo 'sshd: ALL' >/etc/hosts.deny").ok();
    machine.assert_no_login();
    machine.leaves_alone(listener, "inconclusive");
}

/// Who leaves before authenticating is refused for a while, and here one address counts for all: the probe's too.
#[test]
fn penalties_are_no_dead_listener() {
    let machine = Machine::with_package("trixie");
    let config = "PerSourcePenalties noauth:20s min:15s\\nPerSourceNetBlockSize 0:0\\n";
    machine.sh(&format!("printf '{config}' >/etc/ssh/sshd_config.d/penalties.conf")).ok();
    let listener = machine.incident();
    let is_penalised = "python3 -c '
import socket, sys
s = socket.create_connection((\"127.0.0.1\", 22)); s.sendall(b\"SSH-2.0-x\\r\\n\")
sys.exit(not s.recv(200).startswith(b\"Not allowed\"))'";
    machine.wait_until("the penalty", |machine| machine.sh(is_penalised).status == 0);
    machine.leaves_alone(listener, "inconclusive");
    // What is stale is replaced all the same, and only what was seen is said.
    machine.upgrade_without_hook().ok();
    machine.sh("mkdir -p /run/sshd").ok();
    assert_eq!(machine.sh(is_penalised).status, 0, "the penalty was over too early");
    let repair = machine.sh("sshd-mend repair");
    assert!(!machine.is_alive(listener), "{repair:#?}");
    assert!(repair.status <= 1, "{repair:#?}\n{}", machine.state());
    machine.wait_until("the penalty is over", |machine| machine.login().status == 0);
}

/// Clients that send one byte at a time, garbage, or a packet that never ends.
#[test]
fn slow_and_hostile_clients_are_in_nobodys_way() {
    let machine = Machine::with_package("trixie");
    // The clients of one address are never refused, so they keep the listener busy all the time.
    machine.sh("echo 'PerSourcePenalties no' >/etc/ssh/sshd_config.d/penalties.conf").ok();
    let listener = machine.incident();
    let clients = machine.background("slow-clients.py", &[]);
    for kind in ["slow", "garbage", "endless", "random"] {
        machine.wait_until(kind, |machine| machine.sh(&format!("[ -e /run/clients.{kind} ]")).status == 0);
    }
    machine.leaves_alone(listener, "ok");
    machine.upgrade_without_hook().ok();
    let hook = machine.sh("sshd-mend hook").ok();
    assert!(!machine.is_alive(listener), "{hook:#?}\n{}", machine.state());
    assert!(hook.stdout.contains("REPAIRED"), "{hook:#?}");
    assert!(machine.is_alive(clients), "the clients were gone too early");
    machine.assert_login();
}
