//! The upgrade that the world is making now: Debian 12's sshd 9.2 to Debian 13's 10.0, across the split of 9.8. A listener
//! of 9.2 that is left alone with the new program closes every connection: "-R not supported here".

use crate::machine::{Machine, package};

const INSTALL: &str = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold";

fn machine() -> Machine {
    let machine = Machine::with_package("bookworm-to-trixie");
    machine.sh("systemctl mask -q sshd-keygen.service").ok();
    machine
}

fn version(machine: &Machine) -> String {
    machine.sh("dpkg-query -W -f '${Version}' openssh-server").ok().stdout
}

#[test]
fn of_openssh_server_alone_with_an_orphan() {
    let machine = machine();
    let listener = machine.incident();
    let mut session = machine.open_session("survivor");
    assert!(version(&machine).starts_with("1:9.2"));
    let run = machine.sh(&format!("{INSTALL} install openssh-server 2>&1")).ok();
    assert!(version(&machine).starts_with("1:10.0"), "{run:#?}");
    assert!(run.stdout.contains("REPAIRED"), "{run:#?}\n{}", machine.state());
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    assert!(machine.session_is_open("survivor", &mut session));
    session.kill().expect("the client is ours");
    session.wait().expect("the client ends");
    assert_eq!(machine.sh("sshd-mend check").status, 0);
}

/// The restart was denied, so the old main process of an active unit is left with the new program.
#[test]
fn where_policy_rc_d_denied_the_restart() {
    let machine = machine();
    let mut session = machine.open_session("survivor");
    machine.sh("printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d").ok();
    let before = machine.sh("systemctl show -P MainPID ssh.service").stdout;
    let run = machine.sh(&format!("{INSTALL} install openssh-server 2>&1")).ok();
    assert!(version(&machine).starts_with("1:10.0"), "{run:#?}");
    assert!(run.stdout.contains("REFUSED") && run.stdout.contains("policy-rc.d"), "{run:#?}");
    assert_eq!(machine.sh("systemctl show -P MainPID ssh.service").stdout, before, "the hook obeys");
    machine.assert_no_login();
    let check = machine.sh("sshd-mend check");
    assert_eq!(check.status, 2, "{check:#?}");
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 0, "a person is not bound: {repair:#?}\n{}", machine.state());
    machine.assert_login();
    assert!(machine.session_is_open("survivor", &mut session));
    session.kill().expect("the client is ours");
    session.wait().expect("the client ends");
}

/// Everything at once: systemd, dbus and libc are replaced in the same run as openssh-server.
#[test]
fn of_the_whole_system() {
    let machine = machine();
    let listener = machine.incident();
    let mut session = machine.open_session("survivor");
    let run = machine.sh(&format!("{INSTALL} full-upgrade 2>&1"));
    assert_eq!(run.status, 0, "{run:#?}");
    let replaced = machine
        .sh("dpkg-query -W -f '${Package} ${Version}\\n' systemd libc6 dbus openssh-server sshd-mend")
        .ok()
        .stdout;
    assert!(replaced.contains("systemd 257") && replaced.contains("libc6 2.41"), "{replaced}");
    assert!(run.stdout.contains("REPAIRED"), "{run:#?}\n{}", machine.state());
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    assert!(machine.session_is_open("survivor", &mut session));
    session.kill().expect("the client is ours");
    session.wait().expect("the client ends");
    let check = machine.sh("sshd-mend check");
    assert_eq!(check.status, 0, "{check:#?}");
    machine.copy_in(&package(), "again.deb");
    machine.sh("dpkg -i /lab/again.deb").ok();
}
