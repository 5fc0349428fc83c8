//! A unit that fails starts the hook, whoever restarted it and whatever for: no package manager has to be there.

use crate::machine::Machine;

const HOOK: &str = "sshd-mend.service";
const RUNS: &str = "journalctl -b -q -o cat -u sshd-mend.service | grep -c '^Starting' || :";

fn runs(machine: &Machine) -> i32 {
    machine.number(RUNS)
}

fn wait_for_rest(machine: &Machine) {
    machine.wait_until("the hook is at rest", |machine| {
        ["inactive", "failed"].contains(&machine.active(HOOK).as_str())
            && ["inactive", "failed"].contains(&machine.active("sshd-mend-repair.service").as_str())
    });
}

/// A stale orphan, and a person who restarts ssh.service: nobody has to come back.
#[test]
fn a_restart_by_hand_that_fails_is_repaired() {
    for suite in ["trixie", "bookworm"] {
        let machine = Machine::as_installed(suite);
        let listener = machine.incident();
        machine.upgrade_without_hook().ok();
        assert_ne!(machine.sh("systemctl restart ssh.service").status, 0, "the port is taken");
        machine.wait_until("it was repaired", |machine| !machine.is_alive(listener));
        wait_for_rest(&machine);
        machine.assert_login();
        machine.sh("sshd-mend check").ok();
        assert_eq!(machine.active("ssh.service"), "active");
    }
}

/// The failure comes in the middle of the package run: the hook at its end does the work, and what the failure starts leaves it
/// to that.
#[test]
fn needrestart_in_its_automatic_mode() {
    let machine = Machine::as_installed("trixie");
    machine.install("needrestart");
    machine
        .sh("sed -i \"s/^#\\?\\$nrconf{restart}.*/\\$nrconf{restart} = 'a';/\" /etc/needrestart/needrestart.conf")
        .ok();
    let listener = machine.incident();
    machine.upgrade().ok();
    wait_for_rest(&machine);
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    machine.sh("sshd-mend check").ok();
}

/// During a package run nothing is terminated by what a failure starts, and first aid is given.
#[test]
fn a_package_run_gets_first_aid_at_most() {
    let machine = Machine::as_installed("trixie");
    machine.drop_in("ssh.service", "[Service]\nRuntimeDirectoryPreserve=no");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    machine
        .sh("setsid python3 -c 'import fcntl, time; f = open(\"/var/lib/dpkg/lock\", \"w\"); fcntl.lockf(f, fcntl.LOCK_EX); \
             open(\"/run/locked\", \"w\"); time.sleep(3600)' >/dev/null 2>&1 </dev/null & echo $! >/run/holder; \
             until [ -e /run/locked ]; do :; done")
        .ok();
    assert_ne!(machine.sh("systemctl restart ssh.service").status, 0, "the port is taken");
    machine.wait_until("first aid was given", |machine| machine.sh("ssh root@127.0.0.1 true").status == 0);
    wait_for_rest(&machine);
    assert!(machine.is_alive(listener), "nothing is terminated");
    machine.sh("kill $(cat /run/holder)").ok();
    assert_ne!(machine.sh("systemctl restart ssh.service").status, 0, "the port is taken");
    machine.wait_until("it was repaired", |machine| !machine.is_alive(listener));
    wait_for_rest(&machine);
    machine.assert_login();
}

/// policy-rc.d is about package runs (invoke-rc.d(8)).
#[test]
fn policy_rc_d_binds_package_runs_only() {
    let machine = Machine::as_installed("trixie");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    machine.sh("printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d").ok();
    machine.sh("sshd-mend hook").ok();
    assert!(machine.is_alive(listener), "the package run's hook is denied");
    machine.sh("systemctl start sshd-mend.service").ok();
    assert!(!machine.is_alive(listener));
    machine.assert_login();
}

#[test]
fn the_settings_apply() {
    for setting in ["off", "report"] {
        let machine = Machine::as_installed("trixie");
        machine.sh(&format!("echo HOOK={setting} >/etc/default/sshd-mend")).ok();
        let listener = machine.incident();
        machine.replace_program("/usr/sbin/sshd");
        assert_ne!(machine.sh("systemctl restart ssh.service").status, 0, "the port is taken");
        machine.wait_until("the hook ran", |machine| runs(machine) > 0);
        wait_for_rest(&machine);
        assert!(machine.is_alive(listener), "nothing is done");
        let told = machine.sh("journalctl -b -q -o cat -t sshd-mend").ok().stdout.contains("replaced on disk");
        assert_eq!(told, setting == "report");
    }
}

/// Ends every process but PID 1, which starts everything anew on the same root (systemd-soft-reboot.service(8)).
fn boot_again(machine: &Machine) {
    machine.sh("systemd-run -q systemctl soft-reboot >/dev/null 2>&1 </dev/null").ok();
    // Before it kills everything systemd stops everything, and nsenter(1) stops itself along with its child, for good.
    machine.wait_until("systemd has executed itself again", |machine| machine.command_line().contains("--deserialize"));
    machine.wait_until("it has booted again", |machine| {
        machine.sh("systemctl show -P SoftRebootsCount").stdout.trim() == "1"
            && ["running", "degraded"].contains(&machine.sh("systemctl is-system-running").stdout.trim())
    });
}

/// A boot with a mistake in the configuration: nobody can log in, the journal says why, and once it is corrected the next run
/// of the hook starts what has failed.
#[test]
fn a_boot_with_a_mistake_that_is_corrected_later() {
    let machine = Machine::as_installed("trixie");
    machine.sh("echo 'NoSuchOption yes' >/etc/ssh/sshd_config.d/mistake.conf").ok();
    boot_again(&machine);
    machine.wait_until("systemd has given up", |machine| machine.active("ssh.service") == "failed");
    machine.wait_until("the journal says why", |machine| {
        let log = machine.sh("journalctl -b -q -o cat -t sshd-mend").ok().stdout;
        log.contains("Refused: the configuration of sshd is not valid") && log.contains("NoSuchOption")
    });
    wait_for_rest(&machine);
    machine.assert_no_login();
    machine.sh("rm /etc/ssh/sshd_config.d/mistake.conf; sshd-mend hook").ok();
    machine.assert_login();
    assert_eq!(machine.active("ssh.service"), "active");
}

/// However often it fails, the hook does not run for ever, and what was left out is made up for.
fn twenty_failures(suite: &str) {
    let machine = Machine::as_installed(suite);
    // As short as may be: longer than the interval of the limit.
    let retry = "[Timer]\nOnActiveSec=\nOnActiveSec=62s";
    machine.drop_in("sshd-mend-retry.timer", retry);
    machine.drop_in("ssh.service", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStartPre=/bin/false\nRestart=no");
    for _ in 0..20 {
        assert_ne!(machine.sh("systemctl restart ssh.service").status, 0);
        wait_for_rest(&machine);
    }
    let by_then = runs(&machine);
    assert!((5..=6).contains(&by_then), "{by_then} runs");
    assert_eq!(machine.active("sshd-mend-retry.timer"), "active");
    machine.remove_drop_in("ssh.service");
    machine.wait_until("what was left out is made up for", |machine| machine.active("ssh.service") == "active");
    wait_for_rest(&machine);
    machine.assert_login();
    machine.sh("sshd-mend check").ok();
}

#[test]
fn twenty_failures_a_minute_on_debian_13() {
    twenty_failures("trixie");
}

#[test]
fn twenty_failures_a_minute_on_debian_12() {
    twenty_failures("bookworm");
}

/// Since systemd 254 each crash is a failure, before `Restart=` starts the unit again.
#[test]
fn a_unit_that_is_started_again_without_end() {
    for suite in ["trixie", "bookworm"] {
        let machine = Machine::as_installed(suite);
        let settings = "ExecStartPre=/bin/false\nRestart=always\nRestartSec=300ms";
        machine.drop_in("ssh.service", &format!("[Unit]\nStartLimitIntervalSec=0\n[Service]\n{settings}"));
        assert_ne!(machine.sh("systemctl restart ssh.service").status, 0);
        if suite == "trixie" {
            machine.wait_until("the hook ran", |machine| runs(machine) > 0);
        }
        machine.sh("sshd-mend hook").ok();
        wait_for_rest(&machine);
        assert!(runs(&machine) <= 6, "{} runs", runs(&machine));
        machine.remove_drop_in("ssh.service");
        machine.sh("sshd-mend hook; sshd-mend check").ok();
        machine.assert_login();
    }
}

/// What makes the start fail may be corrected by nothing that starts the hook: a mount that arrives late, a person. It is
/// looked again and again.
#[test]
fn what_still_fails_is_looked_at_again() {
    for suite in ["trixie", "bookworm"] {
        let machine = Machine::as_installed(suite);
        machine.drop_in("sshd-mend-retry.timer", "[Timer]\nOnActiveSec=\nOnActiveSec=3s");
        machine.drop_in("ssh.service", "[Service]\nExecStartPre=/usr/bin/test -e /srv/late");
        assert_ne!(machine.sh("systemctl restart ssh.service").status, 0);
        // By the failure, and twice by the timer.
        machine.wait_until("the hook ran three times", |machine| runs(machine) >= 3);
        machine.assert_no_login();
        machine.sh("touch /srv/late").ok();
        machine.wait_until("it was started", |machine| machine.active("ssh.service") == "active");
        wait_for_rest(&machine);
        machine.assert_login();
        machine.sh("sshd-mend check").ok();
        let by_then = runs(&machine);
        machine.wait_until("the timer is at rest", |machine| machine.active("sshd-mend-retry.timer") == "inactive");
        assert!(runs(&machine) <= by_then + 1);
    }
}

/// Each of its starts could take /run/sshd from the server that people use.
#[test]
fn a_second_server_that_cannot_start_is_not_tried_again_and_again() {
    let machine = Machine::as_installed("trixie");
    machine.instance("alt", "-p 2222");
    machine.drop_in("sshd-alt.service", "[Service]\nExecStartPre=/bin/false\nRestart=no");
    assert_ne!(machine.sh("systemctl restart sshd-alt.service").status, 0);
    machine.sh("systemctl start sshd-mend.service").ok();
    assert!(runs(&machine) >= 1);
    assert_eq!(machine.active("sshd-mend-retry.timer"), "inactive", "{}", machine.state());
    machine.assert_login();
}

/// The repair's own start fails: it is not started again for that.
#[test]
fn a_repair_whose_own_start_fails_starts_nothing() {
    let machine = Machine::as_installed("trixie");
    machine.incident();
    machine.replace_program("/usr/sbin/sshd");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false\nRestart=no");
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.status, 2, "{repair:#?}");
    wait_for_rest(&machine);
    machine.assert_login();
    assert!(runs(&machine) <= 3, "{} runs", runs(&machine));
    machine.remove_drop_in("ssh.service");
    machine.sh("sshd-mend repair").ok();
    machine.assert_login();
}
