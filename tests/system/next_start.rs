//! What the next start would do differently: conditions, required units, addresses. And a start that does not end.

use crate::machine::Machine;

const WAITING: &str =
    "systemctl -q disable --now ssh.service; mkdir -p /run/sshd; systemctl -q enable --now ssh.socket";

/// systemd would not start the unit, whatever its program is like.
#[test]
fn a_unit_that_systemd_would_not_start() {
    for suite in ["trixie", "bookworm"] {
        let machine = Machine::with_package(suite);
        let settings = [
            ("ConditionPathExists=/nothing", "ConditionPathExists=/nothing does not hold"),
            ("AssertPathIsDirectory=/etc/passwd", "AssertPathIsDirectory=/etc/passwd does not hold"),
            ("Requires=nothing.service", "it requires nothing.service, which is \"not-found\""),
        ];
        for (setting, text) in settings {
            machine.drop_in("ssh.service", &format!("[Unit]\n{setting}"));
            machine.sh("sshd-mend check").warns(1, &["would not start again", text]);
            machine.sh("rm -f /run/sshd-mend/notice; sshd-mend hook").warns(0, &[text]);
            assert_ne!(machine.sh("systemctl restart ssh.service; systemctl is-active ssh.service").status, 0);
            machine.remove_drop_in("ssh.service");
            machine.sh("systemctl reset-failed ssh.service; systemctl restart ssh.service; sshd-mend check").ok();
        }
        machine.sh(WAITING).ok();
        for (setting, text) in settings {
            machine.drop_in("ssh.service", &format!("[Unit]\n{setting}"));
            machine.sh("sshd-mend check").warns(2, &["will not start for the next connection", text]);
        }
        machine.drop_in("ssh.service", "[Service]\nExecCondition=/bin/true");
        machine.sh("sshd-mend check").warns(1, &["its ExecCondition= decides that, and was not run"]);
        machine.remove_drop_in("ssh.service");
        machine.sh("sshd-mend check").ok();
        machine.assert_login();
    }
}

/// What the unit's settings name has to be there, whatever the program is like.
#[test]
fn settings_with_which_the_next_start_would_fail() {
    for suite in ["trixie", "bookworm"] {
        let machine = Machine::with_package(suite);
        let settings = [
            ("SupplementaryGroups=nosuch", "SupplementaryGroups=nosuch is no group"),
            ("Group=nosuch", "Group=nosuch is no group"),
            ("StandardOutput=append:/nonexistent/x", "StandardOutput=append:/nonexistent/x cannot be opened"),
            ("LoadCredential=x:/nonexistent", "LoadCredential=/nonexistent is missing"),
            ("Environment='SSHD_OPTS=-E /nonexistent/log'\nEnvironmentFile=", "(-E /nonexistent/log) cannot be opened"),
        ];
        for (setting, text) in settings {
            machine.drop_in("ssh.service", &format!("[Service]\n{setting}"));
            machine.sh("sshd-mend check").warns(1, &["would not start again", text]);
            machine
                .sh("systemctl restart ssh.service || :; until ! systemctl is-active -q ssh.service; do :; done")
                .ok();
            machine.assert_no_login();
            machine.remove_drop_in("ssh.service");
            machine.sh("systemctl reset-failed ssh.service; systemctl restart ssh.service; sshd-mend check").ok();
        }
    }
}

/// What looks missing, and is made or made up for by systemd.
#[test]
fn settings_with_which_the_next_start_succeeds() {
    let machine = Machine::with_package("trixie");
    for setting in [
        "SupplementaryGroups=adm \\\n  users",
        "LogsDirectory=sshd-log\nEnvironment='SSHD_OPTS=-E /var/log/sshd-log/x'\nEnvironmentFile=",
        "LoadCredential=x:/nonexistent\nSetCredential=x:none",
        "OpenFile=/nonexistent:x:graceful,read-only",
    ] {
        machine.drop_in("ssh.service", &format!("[Service]\n{setting}"));
        let check = machine.sh("sshd-mend check");
        assert_eq!(check.status, 0, "{setting}: {check:#?}");
        machine.sh("systemctl restart ssh.service").ok();
        machine.assert_login();
        machine.remove_drop_in("ssh.service");
    }
}

/// A unit that tests a configuration never was a listener.
#[test]
fn a_unit_that_tests_a_configuration_is_no_instance() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("printf '[Service]\\nType=oneshot\\nExecStart=/usr/sbin/sshd -t -f /nonexistent\\n' >/etc/systemd/system/lint.service
             systemctl daemon-reload; ! systemctl start lint.service; systemctl is-failed lint.service")
        .ok();
    machine.sh("sshd-mend check").ok();
}

/// It serves now, and nothing starts it at boot.
#[test]
fn a_server_that_is_not_enabled_is_named() {
    let machine = Machine::with_package("trixie");
    let note = "after the next boot nobody listens";
    assert!(!machine.sh("sshd-mend check").ok().stdout.contains(note));
    machine.sh("systemctl -q disable ssh.service").ok();
    assert!(machine.sh("sshd-mend check").ok().stdout.contains(note));
}

/// A stale listener is worth more than a unit that does not start.
#[test]
fn nothing_is_terminated_for_a_unit_that_systemd_would_not_start() {
    let machine = Machine::with_package("trixie");
    let listener = machine.main_pid("ssh.service");
    machine.replace_program("/usr/sbin/sshd");
    for setting in
        ["[Unit]\nConditionPathExists=/nothing", "[Unit]\nRequires=nothing.service", "[Service]\nBindPaths=/nothing"]
    {
        machine.drop_in("ssh.service", setting);
        let repair = machine.sh("sshd-mend repair --json");
        repair.assert_verdict("refused", 1);
        assert_eq!(repair.json()["refusal"]["code"], "unit-would-not-start", "{repair:#?}");
        machine.assert_login();
    }
    assert!(machine.is_alive(listener));
    machine.remove_drop_in("ssh.service");
    machine.sh("sshd-mend repair").warns(0, &["REPAIRED"]);
    machine.assert_login();
}

/// The configuration has changed under a running sshd, or somebody has taken an address that it wants.
#[test]
fn addresses_that_the_next_start_would_change() {
    let machine = Machine::with_package("trixie");
    machine.sh("echo 'Port 2222' >/etc/ssh/sshd_config.d/port.conf").ok();
    let texts = ["after its next start ssh.service would serve", "no longer 0.0.0.0:22, [::]:22"];
    machine.sh("sshd-mend check").warns(1, &texts);
    machine.sh("sshd-mend hook").warns(0, &texts);
    machine.sh("printf 'Port 22\\nPort 2222\\n' >/etc/ssh/sshd_config.d/port.conf; sshd-mend check").ok();
    machine
        .sh("setsid python3 -c 'import socket, time; s = socket.create_server((\"0.0.0.0\", 2222)); time.sleep(3600)' >/dev/null 2>&1 </dev/null &")
        .ok();
    machine.wait_until("it listens", |machine| machine.sh("ss -Hltn 'sport = :2222' | grep -q LISTEN").status == 0);
    machine.sh("sshd-mend check").warns(1, &["could not serve what another program holds: 0.0.0.0:2222"]);
    machine.assert_login();
}

/// systemd is at it, but that may be without end.
#[test]
fn a_start_that_does_not_end() {
    let machine = Machine::with_package("trixie");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/sleep 60");
    machine.sh("systemctl stop ssh.service; systemctl --no-block start ssh.service").ok();
    machine.wait_until("it is being started", |machine| machine.active("ssh.service") == "activating");
    let check = machine.sh("sshd-mend check --json");
    check.assert_verdict("at-risk", 1);
    check.assert_finding("starting");
    machine.sh("sshd-mend check").warns(1, &["and nobody listens yet"]);
    machine.wait_until("15 s have passed", |machine| machine.sh("sshd-mend check").status == 2);
    machine.sh("sshd-mend repair").warns(2, &["SSHD CRITICAL - BROKEN"]);
    assert_eq!(machine.active("ssh.service"), "activating", "it is systemd's business");
    machine.remove_drop_in("ssh.service");
    machine.sh("systemctl restart ssh.service; sshd-mend check").ok();
}

/// The key exchange works, and then the server is silent: whoever logs in waits without end.
#[test]
fn a_server_that_hangs_before_authentication() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("echo 'Banner /etc/ssh/banner' >/etc/ssh/sshd_config.d/banner.conf; mkfifo /etc/ssh/banner; systemctl restart ssh.service")
        .ok();
    let check = machine.sh("sshd-mend check");
    check.warns(1, &["SSHD WARNING - AT RISK", "does not get as far as authentication"]);
}

/// Another instance would not start again: who has one repaired is told about the other.
#[test]
fn a_repair_tells_what_is_wrong_with_another_instance() {
    for command in ["sshd-mend repair", "sshd-mend hook"] {
        let machine = Machine::with_package("trixie");
        machine.sh("cp /etc/ssh/sshd_config /etc/ssh/other").ok();
        machine.incident();
        machine.instance("2222", "-p 2222");
        let start = "/usr/sbin/sshd -D -o PidFile=none -p 2222 -f /etc/ssh/other";
        machine.drop_in("sshd-2222.service", &format!("[Service]\nExecStart=\nExecStart={start}"));
        machine.replace_program("/usr/sbin/sshd");
        machine.sh("systemctl restart sshd-2222.service; echo 'NoSuchOption yes' >>/etc/ssh/other").ok();
        let repair = machine.sh(command);
        let status = if command == "sshd-mend hook" { 0 } else { 1 };
        repair.warns(
            status,
            &["SSHD WARNING - AT RISK", "sshd-2222.service would not start again", "ssh.service  repaired"],
        );
        machine.assert_login();
        machine.assert_login_at("-p 2222 root@127.0.0.1");
    }
}
