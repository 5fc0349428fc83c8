//! Package runs that upgrade openssh-server and, in the same run, upgrade, remove or purge this package.

use crate::machine::{Machine, lab, package};
use std::process::{Command, Stdio};

/// Installs the package under test as a later version of itself, with a newer openssh-server.
const UPGRADE: &str = "apt-get install -y /lab/later.deb /opt/lab/openssh-server-newer.deb";
const REMOVAL: &str = "apt-get install -y /opt/lab/openssh-server-newer.deb sshd-mend-";
const PURGE: &str = "apt-get install --purge -y /opt/lab/openssh-server-newer.deb sshd-mend-";

fn run(machine: &Machine, command: &str) -> String {
    machine.sh(&format!("DEBIAN_FRONTEND=noninteractive {command} 2>&1")).ok().stdout
}

/// Built on the machine from the package under test.
fn later_version(machine: &Machine) {
    machine.script("another_version.sh", &["/lab/sshd-mend.deb", "99.0.0", "/lab/later.deb"]).ok();
}

#[test]
fn a_healthy_machine_stays_reachable() {
    for suite in ["trixie", "bookworm"] {
        for command in [UPGRADE, REMOVAL, PURGE] {
            let machine = Machine::as_installed(suite);
            later_version(&machine);
            run(&machine, command);
            machine.assert_login();
            machine.sh("systemctl restart ssh.service").ok();
            machine.assert_login();
        }
    }
}

/// The old listener is there before the run, and not stale yet.
#[test]
fn an_upgrade_of_both_ends_the_incident() {
    for suite in ["trixie", "bookworm"] {
        let machine = Machine::as_installed(suite);
        later_version(&machine);
        let listener = machine.incident();
        run(&machine, UPGRADE);
        machine.assert_replaced(listener);
        assert!(machine.sh("dpkg -s sshd-mend").ok().stdout.contains("Version: 99.0.0"));
    }
}

/// Without this package a restart of ssh.service fails, in that run by needrestart or later by anybody, and would remove /run/sshd.
#[test]
fn a_removal_in_the_incident_locks_nobody_out() {
    for suite in ["trixie", "bookworm"] {
        for command in [REMOVAL, PURGE] {
            let machine = Machine::as_installed(suite);
            machine.sh("echo '$nrconf{restart} = \"a\";' >/etc/needrestart/conf.d/restart.conf").ok();
            let listener = machine.incident();
            let told = run(&machine, command);
            assert!(told.contains("sshd-mend: SSHD WARNING - AT RISK"), "{told}");
            machine.assert_login();
            assert_ne!(machine.sh("systemctl restart ssh.service").status, 0, "the port is taken");
            assert!(machine.is_alive(listener));
            machine.assert_login();
            // It is all that is left, and a later installation takes its place.
            let file = "/run/systemd/system/ssh.service.d/51-sshd-mend-removed.conf";
            machine.sh(&format!("[ -e {file} ]; dpkg -i /lab/sshd-mend.deb; [ ! -e {file} ]")).ok();
            assert_eq!(machine.sh("systemctl show -P OnFailure ssh.service").ok().stdout.trim(), "sshd-mend.service");
            machine.sh("sshd-mend repair").ok();
            machine.assert_replaced(listener);
        }
    }
}

/// The first version, as its users have it: see tests/system/prepare, which says so where a clone has no history to build it from.
fn with_the_first_version(suite: &str) -> Option<Machine> {
    let first = lab().join("sshd-mend-0.1.0.deb");
    if !first.exists() && !has_history() {
        eprintln!("NOT TESTED: this clone has no history to build version 0.1.0 from");
        return None;
    }
    let machine = Machine::boot(suite);
    machine.copy_in(&first, "first.deb");
    machine.copy_in(&package(), "sshd-mend.deb");
    machine.sh("dpkg -i /lab/first.deb").ok();
    Some(machine)
}

fn has_history() -> bool {
    let git = ["-c", "safe.directory=*", "cat-file", "-e", "77fecef0f70122a0e524db119ccf4eee0b4c52c7"];
    let git = Command::new("git").args(git).current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::null()).status();
    git.is_ok_and(|status| status.success())
}

#[test]
fn the_first_version_is_upgraded() {
    for suite in ["trixie", "bookworm"] {
        let Some(machine) = with_the_first_version(suite) else { return };
        machine.sh("echo GRACE=7 >/etc/default/sshd-mend; systemctl enable -q --now sshd-mend.timer").ok();
        run(&machine, "apt-get install -y -o Dpkg::Options::=--force-confold /lab/sshd-mend.deb");
        machine.assert_login();
        machine.sh("sshd-mend check").ok();
        assert_eq!(machine.sh("cat /etc/default/sshd-mend").ok().stdout, "GRACE=7\n");
        assert_eq!(machine.active("sshd-mend.timer"), "active");
        machine
            .sh("cd /usr/lib/systemd/system; ls sshd-mend.service sshd-mend-repair.service sshd-mend-retry.timer")
            .ok();
        run(&machine, "apt-get purge -y sshd-mend");
        machine.assert_login();
    }
}

#[test]
fn the_first_version_is_upgraded_in_the_incident() {
    for suite in ["trixie", "bookworm"] {
        let Some(machine) = with_the_first_version(suite) else { return };
        let listener = machine.incident();
        run(&machine, "apt-get install -y /lab/sshd-mend.deb /opt/lab/openssh-server-newer.deb");
        machine.assert_replaced(listener);
    }
}

/// 0.1.0 had nothing that prevents it.
#[test]
fn the_first_version_is_upgraded_where_nobody_can_log_in() {
    for suite in ["trixie", "bookworm"] {
        let Some(machine) = with_the_first_version(suite) else { return };
        let listener = machine.locked_out();
        run(&machine, "apt-get install -y /lab/sshd-mend.deb");
        machine.assert_replaced(listener);
    }
}

/// What 0.1.0 has on record is read, or put aside, and its rescue is ended by a repair.
#[test]
fn a_rescue_of_the_first_version_is_ended_by_this_one() {
    let Some(machine) = with_the_first_version("trixie") else { return };
    machine.incident();
    machine.upgrade_without_hook().ok();
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
    assert_eq!(machine.sh("sshd-mend repair").status, 2);
    machine.assert_login();
    run(&machine, "apt-get install -y /lab/sshd-mend.deb");
    machine.assert_login();
    machine.remove_drop_in("ssh.service");
    machine.sh("sshd-mend repair").ok();
    machine.assert_login();
    machine.assert_nothing_on_record();
    machine.sh("sshd-mend check").ok();
}
