//! How a rescue ends, and what stays on record: whoever starts the unit, nothing that was served before is forgotten, and
//! nothing that somebody stops later is started again.

use crate::machine::Machine;

/// sshd at ports 22 and 2222, replaced on disk, whose unit cannot start: a rescue serves both.
fn rescued_at_two_ports() -> Machine {
    let machine = Machine::with_package("trixie");
    machine.sh("printf 'Port 22\nPort 2222\n' >/etc/ssh/sshd_config.d/test.conf; systemctl restart ssh.service").ok();
    machine.assert_login_at("-p 2222 root@127.0.0.1");
    machine.replace_program("/usr/sbin/sshd");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
    machine.sh("sshd-mend repair --json").assert_verdict("rescued", 2);
    machine.assert_login_at("-p 2222 root@127.0.0.1");
    machine
}

/// Somebody takes port 2222 while a start of the unit ends the rescue: sshd binds what it can.
#[test]
fn an_address_that_is_taken_meanwhile_stays_critical() {
    let machine = rescued_at_two_ports();
    machine.copy_in(&crate::machine::script("scripts/hold-port.py"), "hold-port.py");
    let taker = "systemd-run --quiet --unit=taker python3 /lab/hold-port.py 0.0.0.0 2222; until ss -Hltn 'sport = :2222' | grep -q LISTEN; do :; done";
    machine.drop_in("ssh.service", &format!("[Service]\nExecStartPre=/bin/sh -c \"{taker}\""));
    machine.sh("systemctl start ssh.service").ok();
    machine.assert_login();
    machine.wait_until("the fallback has ended", |machine| {
        machine.active("sshd-mend-fallback-ssh.service") == "inactive" && machine.active("ssh.service") == "active"
    });
    let check = machine.sh("sshd-mend check --json");
    check.assert_verdict("broken", 2);
    check.assert_finding("interrupted");
    machine.sh("sshd-mend hook").ok();
    machine.sh("sshd-mend check --json").assert_verdict("broken", 2);

    // Whoever stops it now does so on purpose.
    machine.sh("systemctl stop taker.service; systemctl -q disable --now ssh.service").ok();
    machine.sh("sshd-mend hook").ok();
    assert_eq!(machine.active("ssh.service"), "inactive");
    machine.remove_drop_in("ssh.service");
    machine.sh("systemctl -q enable --now ssh.service").ok();
    machine.assert_login_at("-p 2222 root@127.0.0.1");
    machine.sh("sshd-mend hook; sshd-mend check").ok();
    machine.assert_nothing_on_record();
}

/// The rescue of a service that was restarted has stopped its socket, too. A start of the service alone is not all.
#[test]
fn a_socket_that_the_rescue_has_stopped_is_not_forgotten() {
    let machine = Machine::with_package("trixie");
    machine.drop_in("ssh.socket", "[Socket]\nListenStream=\nListenStream=2222");
    machine
        .sh("systemctl -q disable --now ssh.service; systemctl -q enable --now ssh.socket; ssh -p 2222 root@127.0.0.1 true")
        .ok();
    assert_eq!(machine.active("ssh.service"), "active");
    machine.replace_program("/usr/sbin/sshd");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
    machine.sh("sshd-mend repair --json").assert_verdict("rescued", 2);
    machine.assert_login_at("-p 2222 root@127.0.0.1");
    machine.remove_drop_in("ssh.service");
    machine.sh("systemctl start ssh.service").ok();
    machine
        .wait_until("the fallback has ended", |machine| machine.active("sshd-mend-fallback-ssh.service") == "inactive");
    let check = machine.sh("sshd-mend check");
    let advice = "systemctl stop ssh.service; systemctl start ssh.socket ssh.service";
    assert!(check.status == 2 && check.stdout.contains(advice), "{check:#?}");
    machine.sh(advice).ok();
    machine.assert_login_at("-p 2222 root@127.0.0.1");
    machine.sh("sshd-mend check").ok();
}

/// Whoever masks it wants SSH closed there.
#[test]
fn a_rescue_that_was_masked_is_not_replaced_by_the_next_package_run() {
    let machine = rescued_at_two_ports();
    machine.sh("systemctl mask --now sshd-mend-rescue-ssh.socket").ok();
    machine.assert_no_login();
    machine.remove_drop_in("ssh.service");
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
    machine.assert_no_login();
    let check = machine.sh("sshd-mend check");
    assert!(check.stdout.contains("STOPPED") && check.stdout.contains("systemctl start ssh.service"), "{check:#?}");
    machine.sh("systemctl unmask sshd-mend-rescue-ssh.socket; systemctl start ssh.service").ok();
    machine.assert_login();
    machine.sh("sshd-mend check").ok();
}

/// A socket that nothing enables was started by somebody, and has to be there again.
#[test]
fn a_socket_that_is_not_enabled_is_started_again() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("printf '[Socket]\nListenStream=2225\n' >/etc/systemd/system/sshk.socket
             printf '[Service]\nType=notify\nKillMode=process\nExecStart=/usr/sbin/sshd -D -o PidFile=none\n' >/etc/systemd/system/sshk.service
             systemctl daemon-reload; systemctl start sshk.socket; ssh -p 2225 root@127.0.0.1 true")
        .ok();
    machine.replace_program("/usr/sbin/sshd");
    machine.drop_in("sshk.service", "[Service]\nExecStartPre=/bin/false");
    machine.sh("sshd-mend hook").ok();
    machine.assert_login_at("-p 2225 root@127.0.0.1");
    assert_eq!(machine.active("sshd-mend-rescue-sshk.socket"), "active");
    machine.remove_drop_in("sshk.service");
    machine.sh("sshd-mend repair").ok();
    machine.assert_login_at("-p 2225 root@127.0.0.1");
    assert_eq!(machine.active("sshk.socket"), "active");
    machine.sh("sshd-mend check").ok();
    machine.assert_nothing_on_record();
}

/// Each attempt to start the unit stops the rescue, and each failure starts it again.
#[test]
fn attempts_to_start_the_unit_do_not_exhaust_it() {
    let machine = rescued_at_two_ports();
    machine
        .sh("for loop in 1 2 3 4; do
                 (for attempt in $(seq 25); do systemctl reset-failed ssh.service; systemctl start ssh.service || :; done) &
             done; wait")
        .ok();
    machine.wait_until("the rescue serves again", |machine| machine.login().status == 0);
    machine.assert_login_at("-p 2222 root@127.0.0.1");
    machine.remove_drop_in("ssh.service");
    machine.sh("sshd-mend repair").ok();
    machine.assert_login_at("-p 2222 root@127.0.0.1");
    machine.assert_nothing_on_record();
}

/// A unit whose name has an escape in it (systemd-escape(1)).
#[test]
fn a_unit_with_an_escaped_name() {
    let machine = Machine::with_package("trixie");
    let unit = r"sshd-vpn\x2dadmin.service";
    machine.instance(r"vpn\\x2dadmin", "-p 2222");
    assert_eq!(machine.active(&format!("'{unit}'")), "active");
    machine.replace_program("/usr/sbin/sshd");
    machine.drop_in(&format!("'{unit}'"), "[Service]\nExecStartPre=/bin/false");
    let repair = machine.sh("sshd-mend repair --json");
    repair.assert_verdict("rescued", 2);
    machine.assert_login_at("-p 2222 root@127.0.0.1");
    machine.remove_drop_in(&format!("'{unit}'"));
    machine.sh(&format!("systemctl start '{unit}'")).ok();
    machine.wait_until("the rescue has ended", |machine| {
        machine
            .sh("systemctl list-units --plain --no-legend 'sshd-mend-rescue*' 'sshd-mend-fallback*'")
            .stdout
            .is_empty()
    });
    assert_eq!(machine.active(&format!("'{unit}'")), "active");
    machine.assert_login_at("-p 2222 root@127.0.0.1");
    machine.sh("sshd-mend hook; sshd-mend check").ok();
}

/// A unit that failed over and over was stopped, and its orphan is left alone for a reason. When the orphan ends, the unit
/// is started.
#[test]
fn a_unit_that_was_stopped_first_takes_over_when_its_orphan_ends() {
    let machine = Machine::with_package("trixie");
    machine.sh("systemctl stop ssh.service; mkdir -p /run/sshd; /usr/sbin/sshd -p 22 -p 2222; until [ -s /run/sshd.pid ]; do :; done").ok();
    let orphan = machine.number("cat /run/sshd.pid");
    machine.replace_program("/usr/sbin/sshd");
    machine.drop_in(
        "ssh.service",
        "[Service]\nRestart=always\nRestartSec=1s\nRestartPreventExitStatus=\n[Unit]\nStartLimitIntervalSec=0",
    );
    assert_ne!(machine.sh("systemctl start ssh.service").status, 0, "the port is taken");
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.json()["refusal"]["code"], "addresses-not-covered", "{repair:#?}");
    assert!(machine.is_alive(orphan));
    machine.assert_login();
    machine.assert_login_at("-p 2222 root@127.0.0.1");
    machine.sh(&format!("kill {orphan}; while [ -e /proc/{orphan} ]; do :; done; sshd-mend hook")).ok();
    machine.assert_login();
    assert_eq!(machine.active("ssh.service"), "active");
}
