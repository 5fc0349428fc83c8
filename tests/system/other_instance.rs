//! An orphan of ssh.service beside another instance at port 2222: each is repaired, refused or rescued by itself.

use crate::machine::Machine;

const OTHER: &str = "sshd-2222.service";
const OTHER_LOGIN: &str = "-p 2222 root@127.0.0.1";

/// The instance at port 2222 is stale as well as the orphan at port 22. Returns the orphan and the main process.
fn both_are_stale(machine: &Machine) -> (i32, i32) {
    let orphan = machine.incident();
    machine.instance("2222", "-p 2222");
    machine.upgrade_without_hook().ok();
    machine.assert_login_at(OTHER_LOGIN);
    (orphan, machine.main_pid(OTHER))
}

#[test]
fn it_is_restarted_through_its_unit() {
    let machine = Machine::with_package("trixie");
    let (orphan, main) = both_are_stale(&machine);
    let mut session = machine.open_session("bystander");
    let mut other_session = machine.open_session_with("other-bystander", &["-p", "2222", "root@127.0.0.1"]);
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(
        repair.verdicts(),
        ["ssh.service repaired", "sshd-2222.service repaired"],
        "{repair:#?}\n{}",
        machine.state()
    );
    repair.assert_verdict("repaired", 0);
    machine.assert_replaced(orphan);
    assert!(!machine.is_alive(main), "{repair:#?}");
    assert_eq!(machine.active(OTHER), "active");
    machine.assert_login_at(OTHER_LOGIN);
    session.assert_open();
    other_session.assert_open();
}

/// systemd stops it whenever it stops ssh.service: both are left to a person.
#[test]
fn an_instance_that_is_bound_to_ssh_service_is_not_stopped_with_it() {
    for dependency in ["PartOf", "Requires", "BindsTo"] {
        let machine = Machine::with_package("trixie");
        machine.instance("2222", "-p 2222");
        machine.drop_in(OTHER, &format!("[Unit]\n{dependency}=ssh.service\nAfter=ssh.service"));
        machine.replace_program("/usr/sbin/sshd");
        machine.sh(&format!("systemctl restart {OTHER}")).ok();
        machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
        let hook = machine.sh("sshd-mend hook").ok();
        assert!(hook.stdout.contains("would-kill-sessions") && hook.stdout.contains(OTHER), "{hook:#?}");
        machine.assert_login();
        machine.assert_login_at(OTHER_LOGIN);
        machine.remove_drop_in("ssh.service");
        machine.sh("systemctl restart ssh.service").ok();
        machine
            .wait_until("it was restarted, too", |machine| machine.sh(&format!("ssh {OTHER_LOGIN} true")).status == 0);
        machine.sh("sshd-mend check").ok();
    }
}

/// What speaks against its restart does not keep the orphan of ssh.service in place.
#[test]
fn its_refusal_concerns_no_other_instance() {
    let machine = Machine::with_package("trixie");
    let (orphan, main) = both_are_stale(&machine);
    let unit = "/etc/systemd/system/sshd-2222.service";
    machine.sh(&format!("sed -i 's/-p 2222/-p 2222 -o Nonsense=1/' {unit}; systemctl daemon-reload")).ok();
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(
        repair.verdicts(),
        ["ssh.service repaired", "sshd-2222.service refused"],
        "{repair:#?}\n{}",
        machine.state()
    );
    assert_eq!((repair.status, &repair.json()["refusal"]["code"]), (1, &"config-invalid".into()), "{repair:#?}");
    assert!(!machine.is_alive(orphan));
    assert_eq!(machine.main_pid(OTHER), main, "its listener lives");
    machine.assert_login();
    machine.assert_login_at(OTHER_LOGIN);

    machine.sh(&format!("sed -i 's/ -o Nonsense=1//' {unit}; systemctl daemon-reload")).ok();
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}\n{}", machine.state());
    assert_ne!(machine.main_pid(OTHER), main);
    machine.assert_login();
    machine.assert_login_at(OTHER_LOGIN);
    machine.sh("sshd-mend check").ok();
}

#[test]
fn a_restart_that_systemd_refuses_leaves_it_as_it_is() {
    let machine = Machine::with_package("trixie");
    let (orphan, main) = both_are_stale(&machine);
    machine.drop_in(OTHER, "[Unit]\nRefuseManualStop=yes");
    let repair = machine.sh("sshd-mend repair --json");
    assert_ne!(repair.status, 0, "{repair:#?}");
    assert_eq!(repair.verdicts()[0], "ssh.service repaired", "{repair:#?}\n{}", machine.state());
    assert_ne!(repair.verdicts()[1], "sshd-2222.service repaired", "{repair:#?}");
    assert!(!machine.is_alive(orphan));
    assert_eq!(machine.main_pid(OTHER), main, "its listener lives");
    assert_eq!(machine.active("ssh.service"), "active");
    assert_eq!(machine.active("sshd-mend-rescue-sshd-2222.socket"), "inactive");
    machine.assert_login();
    machine.assert_login_at(OTHER_LOGIN);
}

#[test]
fn a_rescue_of_ssh_service_does_not_concern_it() {
    let machine = Machine::with_package("trixie");
    let (orphan, main) = both_are_stale(&machine);
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(
        repair.verdicts(),
        ["ssh.service rescued", "sshd-2222.service repaired"],
        "{repair:#?}\n{}",
        machine.state()
    );
    assert_eq!(repair.status, 2, "{repair:#?}");
    assert!(!machine.is_alive(orphan));
    assert_ne!(machine.main_pid(OTHER), main, "it was restarted all the same");
    assert_eq!(machine.active("sshd-mend-rescue-ssh.socket"), "active");
    machine.assert_login();
    machine.assert_login_at(OTHER_LOGIN);
}

/// What a unit starts by a wrapper is its own, too. How it would start is not known, so it is left to a person.
#[test]
fn a_listener_that_a_wrapper_has_started_is_its_units() {
    let machine = Machine::with_package("trixie");
    let wrappers = [
        ("2222", "/usr/bin/env /usr/sbin/sshd -D -p 2222"),
        ("2223", "/bin/sh -c 'exec nice /usr/sbin/sshd -D -p 2223'"),
    ];
    for (port, command) in wrappers {
        let unit = format!(
            "[Service]\nExecStart={command}\nKillMode=process\nRuntimeDirectory=sshd\nRuntimeDirectoryPreserve=yes\n"
        );
        let file = format!("/etc/systemd/system/wrapped-{port}.service");
        machine
            .sh(&format!("printf '%s' '{}' >{file}; systemctl start wrapped-{port}", unit.replace('\'', "'\\''")))
            .ok();
        let login = format!("ssh -p {port} root@127.0.0.1 true");
        machine.wait_until("it serves", |machine| machine.sh(&login).status == 0);
    }
    let check = machine.sh("sshd-mend check");
    let texts = [
        "whether wrapped-2222.service would start again could not be tried",
        "(wrapped-2222.service)",
        "(wrapped-2223.service)",
    ];
    assert!(check.status == 1 && texts.iter().all(|text| check.stdout.contains(text)), "{check:#?}");
    let pids = machine.sh("pgrep -f 'sshd -D -p 222'").ok().stdout;
    let stale = machine.main_pid("ssh.service");
    machine.replace_program("/usr/sbin/sshd");
    let repair = machine.sh("sshd-mend repair --json");
    let expected = ["ssh.service repaired", "wrapped-2222.service refused", "wrapped-2223.service refused"];
    assert_eq!(repair.verdicts(), expected, "{repair:#?}");
    assert_eq!(repair.json()["refusal"]["code"], "binary-unusable", "{repair:#?}");
    assert!(!machine.is_alive(stale));
    assert_eq!(machine.sh("pgrep -f 'sshd -D -p 222'").ok().stdout, pids, "both are still there");
    for (port, _) in wrappers {
        machine.assert_login_at(&format!("-p {port} root@127.0.0.1"));
    }
}

/// The plan was made before ssh.service was restarted, which takes a while.
#[test]
fn a_session_that_begins_during_the_repair_of_another_instance_survives() {
    let machine = Machine::with_package("trixie");
    machine.instance("2222", "-p 2222 -o UsePAM=no");
    machine.drop_in(OTHER, "[Service]\nKillMode=control-group");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/sleep 4");
    machine.replace_program("/usr/sbin/sshd");
    machine.sh("systemd-run -q --unit=asked sh -c 'sshd-mend repair --json >/lab/outcome'").ok();
    machine.wait_until("ssh.service is restarted", |machine| machine.active("ssh.service") == "activating");
    let mut session = machine.open_session_with("late", &["-p", "2222", "root@127.0.0.1"]);
    machine.wait_until("the repair has ended", |machine| machine.active("asked.service") != "active");
    session.assert_open();
    let repair = machine.sh("cat /lab/outcome").ok();
    assert_eq!(repair.verdicts(), ["ssh.service repaired", "sshd-2222.service refused"], "{repair:#?}");
    assert_eq!(repair.json()["refusal"]["code"], "would-kill-sessions", "{repair:#?}");
}

/// It holds IPv4 there, so the unit that was started since serves IPv6 alone.
#[test]
fn an_orphan_at_the_port_of_another_instance_is_that_instances() {
    let machine = Machine::with_package("trixie");
    machine.instance("2222", "-p 2222");
    machine.sh(&format!("systemctl stop {OTHER}")).ok();
    let orphan = machine.number(
        "/usr/sbin/sshd -o PidFile=/run/other.pid -o ListenAddress=0.0.0.0 -p 2222; until [ -s /run/other.pid ]; do :; done; cat /run/other.pid",
    );
    machine.replace_program("/usr/sbin/sshd");
    machine.sh(&format!("systemctl restart ssh.service; systemctl start {OTHER}")).ok();
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(
        repair.verdicts(),
        ["ssh.service healthy", "sshd-2222.service repaired"],
        "{repair:#?}\n{}",
        machine.state()
    );
    assert!(!machine.is_alive(orphan));
    machine.assert_login();
    machine.assert_login_at(OTHER_LOGIN);
    machine.sh("sshd-mend check").ok();
}
