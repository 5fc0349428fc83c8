//! The upgrade from Debian 12's sshd 9.2 to Debian 13's 10.0, across the split of 9.8. A listener of 9.2 that is left with
//! the new program closes every connection: "-R not supported here".

use crate::machine::{Machine, package};

const INSTALL: &str = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold";

fn before_the_upgrade() -> Machine {
    let machine = Machine::with_package("bookworm-to-trixie");
    machine.sh("systemctl mask -q sshd-keygen.service").ok();
    assert!(version(&machine).starts_with("1:9.2"), "{}", version(&machine));
    machine
}

fn version(machine: &Machine) -> String {
    machine.sh("dpkg-query -W -f '${Version}' openssh-server").ok().stdout
}

#[test]
fn of_openssh_server_alone_replaces_an_orphan() {
    let machine = before_the_upgrade();
    let listener = machine.incident();
    let mut session = machine.open_session("bystander");
    let run = machine.sh(&format!("{INSTALL} install openssh-server 2>&1")).ok();
    assert!(version(&machine).starts_with("1:10.0"), "{run:#?}");
    assert!(run.stdout.contains("REPAIRED"), "{run:#?}\n{}", machine.state());
    machine.assert_replaced(listener);
    session.assert_open();
}

/// The old main process of an active unit is left with the new program.
#[test]
fn where_policy_rc_d_denies_the_restart_is_left_to_a_person() {
    let machine = before_the_upgrade();
    let mut session = machine.open_session("bystander");
    machine.sh("printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d").ok();
    let before = machine.main_pid("ssh.service");
    let run = machine.sh(&format!("{INSTALL} install openssh-server 2>&1")).ok();
    assert!(version(&machine).starts_with("1:10.0"), "{run:#?}");
    assert!(run.stdout.contains("REFUSED") && run.stdout.contains("(policy-rc.d)"), "{run:#?}");
    assert_eq!(machine.main_pid("ssh.service"), before, "the hook obeys");
    machine.assert_no_login();
    let check = machine.sh("sshd-mend check --json");
    let json = check.json();
    assert_eq!(
        (&json["findings"][0]["code"], &json["listeners"][0]["probe"]),
        (&"stale-service".into(), &"dead".into())
    );
    assert_eq!(check.status, 2, "{json:#}");
    let repair = machine.sh("sshd-mend repair --json");
    repair.assert_verdict("repaired", 0);
    assert_ne!(machine.main_pid("ssh.service"), before, "a person is not bound by it");
    machine.assert_login();
    session.assert_open();
}

/// systemd, dbus and libc are replaced in the same run as openssh-server.
#[test]
fn of_the_whole_system_replaces_an_orphan() {
    let machine = before_the_upgrade();
    let listener = machine.incident();
    let mut session = machine.open_session("bystander");
    let run = machine.sh(&format!("{INSTALL} full-upgrade 2>&1")).ok();
    let replaced = machine.sh("dpkg-query -W -f '${Package} ${Version}\\n' systemd libc6 openssh-server").ok().stdout;
    for package in ["systemd 257", "libc6 2.41", "openssh-server 1:10.0"] {
        assert!(replaced.contains(package), "{package}: {replaced}");
    }
    assert!(run.stdout.contains("REPAIRED"), "{run:#?}\n{}", machine.state());
    machine.assert_replaced(listener);
    session.assert_open();
    // The new dpkg takes the package as the old one did.
    machine.copy_in(&package(), "again.deb");
    machine.sh("dpkg -i /lab/again.deb").ok();
}
