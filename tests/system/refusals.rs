//! Every reason not to act: the listener lives on, the sentence and the advice are said, and once the cause is gone the
//! repair works.

use crate::machine::Machine;

/// Spoils the machine, sees the refusal, heals it.
fn refused(machine: &Machine, listener: i32, code: &str, spoil: &str, heal: &str) {
    machine.sh(spoil).ok();
    for command in ["sshd-mend repair --dry-run --json", "sshd-mend repair --json"] {
        let output = machine.sh(command);
        let json = output.json();
        assert_eq!(json["refusal"]["code"], code, "{command}\n{json:#}\n{}", machine.state());
        for text in ["message", "advice"] {
            assert!(json["refusal"][text].as_str().is_some_and(|text| text.len() > 10), "{json:#}");
        }
        assert!(output.status == 1 || output.status == 2, "{output:#?}");
        assert!(!output.stdout.contains("\"terminate\""), "{output:#?}");
        assert!(machine.is_alive(listener), "{code}: the listener was ended\n{}", machine.state());
    }
    machine.sh(heal).ok();
}

fn mended(machine: &Machine, listener: i32) {
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}\n{}", machine.state());
    assert!(!machine.is_alive(listener));
    machine.assert_login();
}

#[test]
fn what_is_wrong_with_the_program() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    let cases = [
        ("config-invalid", "echo Nonsense >>/etc/ssh/sshd_config", "sed -i /Nonsense/d /etc/ssh/sshd_config"),
        ("config-invalid", "mkdir /k; mv /etc/ssh/ssh_host_* /k", "mv /k/* /etc/ssh"),
        ("binary-missing", "mv /usr/sbin/sshd /usr/sbin/sshd.away", "mv /usr/sbin/sshd.away /usr/sbin/sshd"),
        (
            "binary-unusable",
            "cd /usr/lib/openssh && mv sshd-session away && cp /bin/false sshd-session",
            "cd /usr/lib/openssh && mv away sshd-session",
        ),
        (
            "package-unconfigured",
            "dpkg --unpack /opt/lab/openssh-server-newer.deb",
            "SSHD_MEND_SUSPEND=1 DEBIAN_FRONTEND=noninteractive dpkg --configure openssh-server",
        ),
    ];
    for (code, spoil, heal) in cases {
        refused(&machine, listener, code, spoil, heal);
    }
    mended(&machine, listener);
}

#[test]
fn what_is_wrong_with_the_units() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    let slow = "printf '[Service]\\nType=oneshot\\nExecStart=/bin/sleep 3600\\n' >/run/systemd/system/slow.service
                mkdir -p /run/systemd/system/ssh.socket.d
                printf '[Unit]\\nAfter=slow.service\\n' >/run/systemd/system/ssh.socket.d/slow.conf
                systemctl daemon-reload; systemctl start --no-block slow.service ssh.socket";
    let not_slow = "systemctl cancel; systemctl kill -s KILL slow.service; rm -r /run/systemd/system/slow.service /run/systemd/system/ssh.socket.d
                    systemctl daemon-reload; until [ -z \"$(systemctl list-jobs --no-legend)\" ]; do :; done; systemctl reset-failed";
    let two_ports = "mkdir -p /etc/systemd/system/ssh.socket.d
                     printf '[Socket]\\nListenStream=2200\\n' >/etc/systemd/system/ssh.socket.d/two.conf; systemctl daemon-reload
                     python3 -c 'import socket,time; s=socket.create_server((\"::\",2200),family=socket.AF_INET6); time.sleep(3600)' >/dev/null 2>&1 & echo $! >/run/other
                     until ss -ltn | grep -q :2200; do kill -0 $(cat /run/other); done";
    let one_port = "kill $(cat /run/other); rm -r /etc/systemd/system/ssh.socket.d; systemctl daemon-reload; while ss -ltn | grep -q :2200; do :; done";
    let cases = [
        ("unit-masked", "systemctl mask ssh.socket", "systemctl unmask ssh.socket && systemctl enable ssh.socket"),
        ("unit-masked", "systemctl mask ssh.service", "systemctl unmask ssh.service"),
        (
            "unit-missing",
            // systemd would make one of the init script.
            "mv /usr/lib/systemd/system/ssh.service /etc/init.d/ssh /root/ && systemctl daemon-reload",
            "mv /root/ssh.service /usr/lib/systemd/system/ && mv /root/ssh /etc/init.d/ && systemctl daemon-reload",
        ),
        ("nothing-to-start", "systemctl disable ssh.socket", "systemctl enable ssh.socket"),
        (
            "nothing-to-start",
            "mkdir -p /run/systemd/system/ssh.socket.d && printf '[Unit]\\nRefuseManualStart=yes\\n' >/run/systemd/system/ssh.socket.d/no.conf && systemctl daemon-reload",
            "rm -r /run/systemd/system/ssh.socket.d && systemctl daemon-reload",
        ),
        (
            "addresses-not-covered",
            "mkdir -p /run/systemd/system/ssh.socket.d && printf '[Socket]\\nListenStream=\\nListenStream=127.0.0.1:22\\n' >/run/systemd/system/ssh.socket.d/less.conf && systemctl daemon-reload",
            "rm -r /run/systemd/system/ssh.socket.d && systemctl daemon-reload",
        ),
        ("job-pending", slow, not_slow),
        ("foreign-listener", two_ports, one_port),
        ("not-to-be-run", "touch /etc/ssh/sshd_not_to_be_run", "rm /etc/ssh/sshd_not_to_be_run"),
    ];
    for (code, spoil, heal) in cases {
        refused(&machine, listener, code, spoil, heal);
    }
    mended(&machine, listener);
}

#[test]
fn an_exec_start_that_is_no_sshd_is_never_run() {
    let machine = Machine::with_package("trixie");
    machine.incident();
    machine.upgrade_without_hook().ok();
    machine
        .sh("mkdir -p /etc/systemd/system/ssh.service.d
             printf '[Service]\\nExecStart=\\nExecStart=/bin/sh -c \"touch /run/was-run; exec /usr/sbin/sshd -D\"\\n' >/etc/systemd/system/ssh.service.d/wrapper.conf
             systemctl daemon-reload")
        .ok();
    machine.sh("sshd-mend repair --dry-run");
    assert_eq!(machine.sh("ls /run/was-run").status, 2);
}

#[test]
fn a_restart_that_would_end_sessions() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("echo UsePAM no >/etc/ssh/sshd_config.d/no-pam.conf; mkdir -p /etc/systemd/system/ssh.service.d
         printf '[Service]\\nKillMode=control-group\\n' >/etc/systemd/system/ssh.service.d/kill.conf
         systemctl daemon-reload; systemctl restart ssh.service")
        .ok();
    let mut client = machine.open_session("endangered");
    machine.sh("cp /usr/sbin/sshd /usr/sbin/sshd.new && mv /usr/sbin/sshd.new /usr/sbin/sshd").ok();
    let listener = machine.sh("systemctl show -P MainPID ssh.service").stdout.trim().parse().expect("a pid");
    refused(
        &machine,
        listener,
        "would-kill-sessions",
        "true",
        "rm -r /etc/systemd/system/ssh.service.d; systemctl daemon-reload",
    );
    mended(&machine, listener);
    assert!(machine.session_is_open("endangered", &mut client));
    client.kill().expect("the client is ours");
    client.wait().expect("the client ends");
}

#[test]
fn a_record_that_cannot_be_written() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    for (spoil, heal) in [
        ("rm -rf /run/sshd-mend; touch /run/sshd-mend", "rm /run/sshd-mend"),
        ("mkdir /run/sshd-mend; chmod 777 /run/sshd-mend", "rm -r /run/sshd-mend"),
        // No byte is left in /run.
        (
            "dd if=/dev/zero of=/run/fill bs=64k 2>/dev/null; dd if=/dev/zero of=/run/fill2 bs=1 2>/dev/null; true",
            "rm /run/fill /run/fill2",
        ),
    ] {
        machine.sh(spoil).ok();
        let repair = machine.sh("sshd-mend repair --json");
        assert_eq!(repair.json()["refusal"]["code"], "cannot-record", "{spoil}\n{repair:#?}");
        assert_eq!(repair.status, 1, "{repair:#?}");
        assert!(machine.is_alive(listener));
        machine.sh(heal).ok();
    }
    mended(&machine, listener);
}

#[test]
fn a_system_that_shuts_down() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    machine.sh(
        "printf '[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/true\\nExecStop=/bin/sleep 20\\n[Unit]\\nAfter=dbus.service\\n' >/run/systemd/system/lingering.service
         systemctl daemon-reload; systemctl start lingering.service; systemctl poweroff --no-block
         until [ \"$(systemctl is-system-running)\" = stopping ]; do :; done",
    )
    .ok();
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.json()["refusal"]["code"], "shutting-down", "{repair:#?}");
    assert!(machine.is_alive(listener));
    let hook = machine.sh("sshd-mend hook");
    assert_eq!((hook.status, hook.stdout.as_str()), (0, ""), "the next boot starts a fresh one");
}

#[test]
fn policy_rc_d_binds_the_hook_and_no_person() {
    let machine = Machine::with_package("trixie");
    let listener = machine.locked_out();
    machine.sh("printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d").ok();
    let hook = machine.sh("sshd-mend hook").ok();
    assert!(hook.stdout.contains("(policy-rc.d)") && hook.stdout.contains("sshd-mend repair"), "{hook:#?}");
    assert!(machine.is_alive(listener), "{hook:#?}");
    // The first aid is not a restart.
    machine.assert_login();
    let errors = machine.sh("journalctl -o cat -t sshd-mend -p err").stdout;
    assert!(errors.contains("needs a person"), "{errors}");
    mended(&machine, listener);
}

#[test]
fn a_suspended_hook_does_nothing_and_says_so() {
    let machine = Machine::with_package("trixie");
    let listener = machine.locked_out();
    let hook = machine.sh("SSHD_MEND_SUSPEND=1 sshd-mend hook").ok();
    assert!(hook.stdout.contains("(suspended)"), "{hook:#?}");
    assert_eq!(machine.sh("ls -d /run/sshd").status, 2);
    assert!(machine.is_alive(listener));
    mended(&machine, listener);
}
