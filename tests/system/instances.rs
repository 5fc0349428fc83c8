//! Instances are independent: whatever happens to one of them, the others keep their units, addresses and sessions.

use crate::machine::Machine;
use serde_json::Value;

/// What JSON says about one instance.
fn of<'a>(json: &'a Value, name: &str) -> &'a Value {
    let instances = json["instances"].as_array().expect("instances");
    instances.iter().find(|instance| instance["instance"] == name).unwrap_or_else(|| panic!("no {name} in {json:#}"))
}

/// The instance on port 2222 is stale, and its unit does not start any more.
fn fails_to_restart(machine: &Machine) -> i32 {
    machine.instance("2222", "-p 2222");
    let old = machine.main_pid("sshd-2222.service");
    machine.replace_program("/usr/sbin/sshd");
    machine.drop_in("sshd-2222.service", "[Service]\nExecStartPre=/bin/false");
    old
}

#[test]
fn a_failed_restart_of_one_leaves_a_healthy_ssh_service_alone() {
    for root in ["trixie", "bookworm"] {
        let machine = Machine::with_package(root);
        let old = fails_to_restart(&machine);
        // ssh.service is current.
        machine.sh("systemctl restart ssh.service").ok();
        let main = machine.main_pid("ssh.service");
        let mut session = machine.open_session("bystander");
        machine.sh("sshd-mend hook").ok();
        assert!(!machine.is_alive(old), "the restart was tried\n{}", machine.state());
        assert_eq!(machine.main_pid("ssh.service"), main, "{}", machine.state());
        machine.assert_login();
        session.assert_open();
        // The instance is rescued, since its own listener was terminated for it.
        machine.assert_login_at("-p 2222 root@127.0.0.1");
        let check = machine.sh("sshd-mend check --json");
        let json = check.json();
        assert_eq!((check.status, &of(&json, "sshd-2222.service")["verdict"]), (2, &"rescued".into()), "{json:#}");
        assert_eq!(of(&json, "ssh.service")["verdict"], "healthy", "{json:#}");

        machine.remove_drop_in("sshd-2222.service");
        let repair = machine.sh("sshd-mend repair --json");
        assert_eq!((repair.status, &repair.json()["verdict"]), (0, &"repaired".into()), "{repair:#?}");
        assert_eq!(machine.active("sshd-2222.service"), "active");
        assert_eq!(machine.active("sshd-mend-rescue-sshd-2222.socket"), "inactive");
        machine.assert_login_at("-p 2222 root@127.0.0.1");
        assert_eq!(machine.main_pid("ssh.service"), main);
        session.assert_open();
        machine.sh("sshd-mend check").ok();
    }
}

#[test]
fn a_waiting_ssh_socket_goes_on_waiting() {
    for root in ["trixie", "bookworm"] {
        let machine = Machine::with_package(root);
        machine
            .sh("systemctl -q disable --now ssh.service; systemctl -q enable ssh.socket; systemctl start ssh.socket")
            .ok();
        machine.instance("2222", "-p 2222");
        machine.preload_delay();
        machine.drop_in("sshd-2222.service", SLOW_TO_BIND);
        machine.sh("systemctl restart sshd-2222.service").ok();
        machine.wait_until("it listens", |machine| machine.sh("ssh -p 2222 root@127.0.0.1 true").status == 0);
        machine.replace_program("/usr/sbin/sshd");
        let since = machine.sh("systemctl show -P StateChangeTimestampMonotonic ssh.socket").ok().stdout;
        let old = machine.main_pid("sshd-2222.service");
        let repair = machine.sh("sshd-mend repair --json");
        assert_eq!(
            (repair.status, &repair.json()["verdict"]),
            (0, &"repaired".into()),
            "{repair:#?}\n{}",
            machine.state()
        );
        assert!(!machine.is_alive(old));
        assert_eq!(machine.sh("systemctl show -P StateChangeTimestampMonotonic ssh.socket").ok().stdout, since);
        machine.assert_login_at("-p 2222 root@127.0.0.1");
        machine.assert_login();
    }
}

/// systemd calls it active as soon as it is forked; a library delays it for 0.7 s before it listens.
const SLOW_TO_BIND: &str = "[Service]
Type=simple
ExecStart=
ExecStart=/usr/sbin/sshd -D -o PidFile=none -p 2222
Environment=LD_PRELOAD=/lab/delay.so";

#[test]
fn an_address_that_is_lost_stays_on_record() {
    let machine = Machine::with_package("trixie");
    let orphan = machine.incident();
    machine.instance("2222", "-p 2222");
    // A setting whose meaning depends on the unit's name keeps the instance from being rescued.
    machine.drop_in("sshd-2222.service", "[Service]\nLogExtraFields=X=%n");
    machine.sh("systemctl restart sshd-2222.service").ok();
    machine.upgrade_without_hook().ok();
    machine.drop_in("sshd-2222.service", "[Service]\nLogExtraFields=X=%n\nExecStartPre=/bin/false");
    let repair = machine.sh("sshd-mend repair --json");
    let json = repair.json();
    assert_eq!((repair.status, &json["verdict"]), (2, &"failed".into()), "{json:#}\n{}", machine.state());
    assert_eq!(of(&json, "ssh.service")["verdict"], "repaired", "{json:#}");
    assert_eq!(of(&json, "sshd-2222.service")["verdict"], "failed", "{json:#}");
    assert!(!machine.is_alive(orphan));
    machine.assert_login();
    assert_ne!(machine.sh("ssh -p 2222 root@127.0.0.1 true").status, 0, "the fault did not happen");

    let check = machine.sh("sshd-mend check --json");
    assert_eq!(check.status, 2, "{check:#?}");
    let findings = check.json()["findings"].to_string();
    assert!(findings.contains("interrupted") && findings.contains("2222"), "{findings}");
    let intent = machine.sh("cat /run/sshd-mend/intent").ok().value();
    assert_eq!(intent["instances"][0]["instance"], "sshd-2222.service", "{intent:#}");
    assert_eq!(intent["instances"].as_array().map(Vec::len), Some(1), "the other is done: {intent:#}");

    machine.remove_drop_in("sshd-2222.service");
    machine.sh("sshd-mend repair").ok();
    machine.assert_login_at("-p 2222 root@127.0.0.1");
    machine.sh("sshd-mend check && [ ! -e /run/sshd-mend/intent ]").ok();
}

/// ssh.service is an alias, and a restart of the unit behind it would end the sessions in its control group.
#[test]
fn sessions_of_an_aliased_unit_are_seen() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("sed '/^Alias/d; /^KillMode/d' /usr/lib/systemd/system/ssh.service >/etc/systemd/system/my-sshd.service
             echo 'Alias=ssh.service' >>/etc/systemd/system/my-sshd.service
             systemctl disable --now ssh.service; echo 'UsePAM no' >/etc/ssh/sshd_config.d/no-pam.conf
             systemctl daemon-reload; systemctl enable --now my-sshd.service")
        .ok();
    assert_eq!(machine.sh("systemctl show -P Id ssh.service").ok().stdout, "my-sshd.service\n");
    let mut session = machine.open_session("endangered");
    let main = machine.main_pid("my-sshd.service");
    machine.replace_program("/usr/sbin/sshd");
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.json()["refusal"]["code"], "would-kill-sessions", "{repair:#?}");
    assert_eq!((repair.status, machine.main_pid("my-sshd.service")), (1, main), "{repair:#?}");
    session.assert_open();
    machine.drop_in("my-sshd.service", "[Service]\nKillMode=process");
    machine.sh("sshd-mend repair").ok();
    assert_ne!(machine.main_pid("my-sshd.service"), main);
    session.assert_open();
}

/// Not only sessions: whatever lives in the control group would be killed.
#[test]
fn other_processes_of_the_control_group_are_seen() {
    let machine = Machine::with_package("trixie");
    machine.drop_in("ssh.service", "[Service]\nKillMode=control-group");
    machine.replace_program("/usr/sbin/sshd");
    let other = machine.number(
        "python3 -c 'import time; time.sleep(3600)' >/dev/null 2>&1 </dev/null & echo $! >/sys/fs/cgroup/system.slice/ssh.service/cgroup.procs; echo $!",
    );
    let main = machine.main_pid("ssh.service");
    let repair = machine.sh("sshd-mend repair --json");
    let refusal = &repair.json()["refusal"];
    assert_eq!(refusal["code"], "would-kill-sessions", "{repair:#?}");
    assert!(refusal["message"].as_str().is_some_and(|text| text.contains(&other.to_string())), "{refusal:#}");
    assert!(machine.is_alive(other) && machine.main_pid("ssh.service") == main);
    machine.sh(&format!("kill {other}; while [ -e /proc/{other}/exe ]; do :; done; sshd-mend repair")).ok();
    assert_ne!(machine.main_pid("ssh.service"), main);
}

#[test]
fn an_instance_in_another_network_namespace_is_named_and_left_alone() {
    let machine = Machine::with_package("trixie");
    machine.sh("ip netns add mgmt; ip -n mgmt link set lo up").ok();
    machine.drop_in("ssh.service", "[Service]\nNetworkNamespacePath=/run/netns/mgmt");
    machine.sh("systemctl restart ssh.service").ok();
    machine
        .wait_until("it serves there", |machine| machine.sh("ip netns exec mgmt ssh root@127.0.0.1 true").status == 0);
    let main = machine.main_pid("ssh.service");
    machine.replace_program("/usr/sbin/sshd");
    for command in ["sshd-mend check --json", "sshd-mend repair --json"] {
        let output = machine.sh(command);
        let json = output.json();
        assert_eq!(json["findings"][0]["code"], "not-examined", "{json:#}");
        assert!(output.status == 1 && json["verdict"] != "healthy", "{json:#}");
    }
    assert!(machine.sh("sshd-mend check || :").stdout.contains("network namespace"));
    assert_eq!(machine.main_pid("ssh.service"), main);
    assert_eq!(machine.sh("ss -Hltn 'sport = :22'").ok().stdout, "", "nothing was opened in the host's namespace");
}

/// Who waits gives up at the deadline; the unit goes on, and sends SIGKILL after no more than that.
#[test]
fn grace_may_be_longer_than_the_deadline() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh("printf 'GRACE=600\\nDEADLINE=12\\n' >/etc/default/sshd-mend").ok();
    machine.freeze(listener);
    let repair = machine.sh("sshd-mend repair");
    assert!(repair.status == 1 && repair.stdout.contains("still at work"), "{repair:#?}");
    machine.wait_until("the listener is terminated", |machine| !machine.is_alive(listener));
    machine.wait_until("all is well", |machine| machine.sh("sshd-mend check").status == 0);
    machine.sh("journalctl --sync; journalctl -q -o cat -t sshd-mend | grep 'terminated by SIGKILL'").ok();
    machine.assert_login();
}

/// Two listeners of one instance that are slow to go are waited for together.
#[test]
fn all_listeners_of_an_instance_are_signalled_before_one_is_waited_for() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.drop_in("ssh.socket", "[Socket]\nListenStream=2200");
    let second = machine.number(
        "systemd-socket-activate --listen='[::]:2200' /usr/sbin/sshd -D >/dev/null 2>&1 </dev/null & second=$!
         until ssh -p 2200 root@127.0.0.1 true 2>/dev/null; do kill -0 $second; done; echo $second",
    );
    machine.replace_program("/usr/sbin/sshd");
    machine.sh("echo GRACE=4 >/etc/default/sshd-mend").ok();
    machine.freeze(listener);
    machine.freeze(second);
    let repair = machine.sh("sshd-mend repair --json");
    let json = repair.json();
    assert_eq!((repair.status, &json["verdict"]), (0, &"repaired".into()), "{json:#}\n{}", machine.state());
    assert_eq!(repair.stdout.matches("terminated by SIGKILL").count(), 2, "{json:#}");
    let gap = json["unreachable_ms"].as_u64().expect("a gap");
    assert!((4000..7500).contains(&gap), "one grace period, not two: {json:#}");
    machine.assert_login();
    machine.assert_login_at("-p 2200 root@127.0.0.1");
}
