//! Every reason not to act: nothing is terminated, a sentence and advice are printed, and once the cause is removed the
//! repair is complete.

use crate::machine::Machine;

/// A repair and its dry run are refused for this reason.
#[track_caller]
fn assert_refused(machine: &Machine, listener: i32, code: &str) {
    for command in ["sshd-mend repair --dry-run --json", "sshd-mend repair --json"] {
        let output = machine.sh(command);
        let json = output.json();
        assert_eq!(json["refusal"]["code"], code, "{command}\n{json:#}\n{}", machine.state());
        for text in ["message", "advice"] {
            assert!(json["refusal"][text].as_str().is_some_and(|text| text.len() > 10), "{json:#}");
        }
        assert!(output.status == 1 || output.status == 2, "{output:#?}");
        assert!(!output.stdout.contains("\"terminate\""), "{output:#?}");
        assert_eq!(json["done"], serde_json::json!([]), "{json:#}");
        assert!(machine.is_alive(listener), "{code}: the listener was terminated\n{}", machine.state());
    }
}

/// Each case is a reason, a command that brings it about, and one that removes it.
#[track_caller]
fn assert_each_refused(machine: &Machine, listener: i32, cases: &[(&str, &str, &str)]) {
    for (code, cause, remedy) in cases {
        machine.sh(cause).ok();
        assert_refused(machine, listener, code);
        machine.sh(remedy).ok();
    }
}

#[test]
fn what_is_wrong_with_the_program() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let cases = [
        ("config-invalid", "echo Nonsense >>/etc/ssh/sshd_config", "sed -i /Nonsense/d /etc/ssh/sshd_config"),
        ("config-invalid", "mkdir /k; mv /etc/ssh/ssh_host_* /k", "mv /k/* /etc/ssh"),
        ("binary-missing", "mv /usr/sbin/sshd /usr/sbin/sshd.away", "mv /usr/sbin/sshd.away /usr/sbin/sshd"),
        (
            "binary-unusable",
            "cd /usr/lib/openssh; mv sshd-session away; cp /bin/false sshd-session",
            "cd /usr/lib/openssh; mv away sshd-session",
        ),
        (
            "package-unconfigured",
            "dpkg --unpack /opt/lab/openssh-server-newer.deb",
            "SSHD_MEND_SUSPEND=1 DEBIAN_FRONTEND=noninteractive dpkg --configure openssh-server",
        ),
    ];
    assert_each_refused(&machine, listener, &cases);
    machine.assert_repair(listener);
}

#[test]
fn what_is_wrong_with_the_units() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let cases = [
        ("unit-masked", "systemctl mask ssh.socket", "systemctl unmask ssh.socket; systemctl enable ssh.socket"),
        ("unit-masked", "systemctl mask ssh.service", "systemctl unmask ssh.service"),
        (
            "unit-missing",
            // systemd would generate a unit from the init script.
            "mv /usr/lib/systemd/system/ssh.service /etc/init.d/ssh /root/; systemctl daemon-reload",
            "mv /root/ssh.service /usr/lib/systemd/system/; mv /root/ssh /etc/init.d/; systemctl daemon-reload",
        ),
        ("nothing-to-start", "systemctl disable ssh.socket", "systemctl enable ssh.socket"),
        ("not-to-be-run", "touch /etc/ssh/sshd_not_to_be_run", "rm /etc/ssh/sshd_not_to_be_run"),
    ];
    assert_each_refused(&machine, listener, &cases);
    let drop_ins = [
        ("nothing-to-start", "[Unit]\nRefuseManualStart=yes"),
        ("addresses-not-covered", "[Socket]\nListenStream=\nListenStream=127.0.0.1:22"),
    ];
    for (code, drop_in) in drop_ins {
        machine.drop_in("ssh.socket", drop_in);
        assert_refused(&machine, listener, code);
        machine.remove_drop_in("ssh.socket");
    }
    machine.assert_repair(listener);
}

#[test]
fn a_job_that_is_queued_for_a_unit() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.queue_start("ssh.socket");
    assert_refused(&machine, listener, "job-pending");
    machine.cancel_start("ssh.socket");
    machine.assert_repair(listener);
}

#[test]
fn another_program_at_an_address_of_the_socket() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.drop_in("ssh.socket", "[Socket]\nListenStream=2200");
    let other = machine.hold_port("::", 2200);
    assert_refused(&machine, listener, "foreign-listener");
    assert!(machine.is_alive(other));
    machine.sh(&format!("kill {other}")).ok();
    machine.wait_until("the port is free", |machine| !machine.is_alive(other));
    machine.assert_repair(listener);
    machine.assert_login_at("-p 2200 root@127.0.0.1");
}

#[test]
fn an_exec_start_that_is_not_an_sshd_is_never_run() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.drop_in(
        "ssh.service",
        "[Service]\nExecStart=\nExecStart=/bin/sh -c \"touch /run/was-run; exec /usr/sbin/sshd -D\"",
    );
    let dry = machine.sh("sshd-mend repair --dry-run --json");
    dry.assert_verdict("at-risk", 1);
    dry.assert_finding("stale-orphan");
    machine.sh("[ ! -e /run/was-run ]").ok();
    // systemd does run it. It fails, since the listener holds the port.
    machine.sh("systemctl start ssh.service || :; [ -e /run/was-run ]").ok();
    assert!(machine.is_alive(listener));
}

#[test]
fn a_restart_that_would_end_sessions() {
    let machine = Machine::with_package("trixie");
    machine.sh("echo UsePAM no >/etc/ssh/sshd_config.d/no-pam.conf").ok();
    machine.drop_in("ssh.service", "[Service]\nKillMode=control-group");
    machine.sh("systemctl restart ssh.service").ok();
    let mut session = machine.open_session("endangered");
    machine.sh("grep -q ssh.service /proc/$(pgrep -fx 'endangered 3600')/cgroup").ok();
    machine.replace_program("/usr/sbin/sshd");
    let listener = machine.main_pid("ssh.service");
    assert_refused(&machine, listener, "would-kill-sessions");
    session.assert_open();
    machine.remove_drop_in("ssh.service");
    machine.assert_repair(listener);
    session.assert_open();
}

#[test]
fn a_record_that_cannot_be_written() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let causes: [(&dyn Fn(), &str); 3] = [
        (&|| drop(machine.sh("rm -rf /run/sshd-mend; touch /run/sshd-mend").ok()), "rm /run/sshd-mend"),
        (&|| drop(machine.sh("mkdir /run/sshd-mend; chmod 777 /run/sshd-mend").ok()), "rm -r /run/sshd-mend"),
        (&|| machine.fill("/run"), "rm /run/fill.*"),
    ];
    for (cause, remedy) in causes {
        cause();
        let repair = machine.sh("sshd-mend repair --json");
        assert_eq!(repair.json()["refusal"]["code"], "cannot-record", "before {remedy}: {repair:#?}");
        assert_eq!(repair.status, 1, "{repair:#?}");
        assert!(machine.is_alive(listener));
        machine.assert_login();
        machine.sh(remedy).ok();
    }
    machine.assert_repair(listener);
}

#[test]
fn a_system_that_shuts_down() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    // The shutdown takes as long as this unit takes to stop.
    let lingering = "[Unit]\\nAfter=dbus.service\\n[Service]\\nType=oneshot\\nRemainAfterExit=yes\\n\
                     ExecStart=/bin/true\\nExecStop=/bin/sleep 20\\n";
    machine
        .sh(&format!(
            "printf '{lingering}' >/run/systemd/system/lingering.service
             systemctl daemon-reload; systemctl start lingering.service; systemctl poweroff --no-block"
        ))
        .ok();
    machine.wait_until("the system is stopping", |machine| {
        machine.sh("systemctl is-system-running").stdout == "stopping\n"
    });
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.json()["refusal"]["code"], "shutting-down", "{repair:#?}");
    assert!(machine.is_alive(listener));
    let hook = machine.sh("sshd-mend hook");
    assert_eq!((hook.status, hook.stdout.as_str()), (0, ""), "the next boot starts a fresh sshd");
    assert!(machine.is_alive(listener));
}

#[test]
fn policy_rc_d_binds_the_hook_and_not_a_person() {
    let machine = Machine::with_package("trixie");
    let listener = machine.locked_out();
    machine
        .sh("printf '#!/bin/sh\\necho \"$@\" >>/run/policy\\nexit 101\\n' >/usr/sbin/policy-rc.d
             chmod 755 /usr/sbin/policy-rc.d")
        .ok();
    let hook = machine.sh("sshd-mend hook").ok();
    assert!(hook.stdout.contains("(policy-rc.d)") && hook.stdout.contains("sshd-mend repair"), "{hook:#?}");
    let asked = machine.sh("cat /run/policy").ok().stdout;
    assert!(asked.contains("ssh.service restart"), "{asked}");
    assert!(machine.is_alive(listener), "{hook:#?}");
    // First aid is not a restart.
    machine.assert_login();
    machine.sh("journalctl --sync").ok();
    let errors = machine.sh("journalctl -q -o cat -t sshd-mend -p err").ok().stdout;
    assert!(errors.contains("policy-rc.d") && errors.contains("sshd-mend repair"), "{errors}");
    machine.assert_repair(listener);
}

#[test]
fn a_suspended_hook_does_nothing_and_says_so() {
    let machine = Machine::with_package("trixie");
    let listener = machine.locked_out();
    let hook = machine.sh("SSHD_MEND_SUSPEND=1 sshd-mend hook").ok();
    assert!(hook.stdout.contains("(suspended)"), "{hook:#?}");
    machine.sh("[ ! -e /run/sshd ]").ok();
    assert!(machine.is_alive(listener));
    machine.assert_repair(listener);
}

/// With some of these sshd would end at once, with others close every connection.
#[test]
fn a_sandbox_that_no_start_has_tried() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    for setting in [
        "RootDirectory=/srv",
        "InaccessiblePaths=/usr/lib/openssh",
        "NoExecPaths=/usr/lib/openssh",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "LimitNOFILE=5",
        "SystemCallFilter=~socket",
        "PrivateUsers=yes",
    ] {
        machine.drop_in("ssh.service", &format!("[Service]\n{setting}"));
        // As a package installs it.
        machine.sh("touch -d 2020-01-01 /etc/systemd/system/ssh.service.d/test.conf").ok();
        assert_refused(&machine, listener, "settings-untried");
        machine.assert_login();
    }
    machine.remove_drop_in("ssh.service");
    machine.sh("sshd-mend repair").ok();
    // One with which it has served is no reason.
    machine.drop_in("ssh.service", "[Service]\nProtectSystem=full");
    machine.sh("systemctl restart ssh.service").ok();
    let stale = machine.main_pid("ssh.service");
    machine.replace_program("/usr/sbin/sshd");
    machine.assert_repair(stale);
    machine.assert_login();
}
