//! What may be the matter with a machine besides its sshd: clients that are let in from one address only, addresses that
//! have moved away, full disks, records of another boot, packages that come and go in the same run.

use crate::machine::Machine;

/// A caller waits for `DEADLINE=` seconds and no longer; the repair goes on.
#[test]
fn a_package_run_waits_no_longer_than_deadline() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh("echo DEADLINE=2 >/etc/default/sshd-mend").ok();
    let held = machine.hold_repair(listener, "sshd-mend hook");
    let caller = held.caller();
    machine.wait_until("the hook has returned", |machine| !machine.is_alive(caller));
    assert!(machine.is_alive(held.worker()), "it is still at work");
    let hook = held.finish().ok();
    assert!(hook.stdout.contains("sshd-mend-repair.service is still at work"), "{hook:#?}");
    machine.wait_for_end_of_repair();
    machine.assert_replaced(listener);
}

/// One attempt of a probe comes from 127.0.0.1, the only address that gets in.
#[test]
fn clients_from_one_address_only() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.sh("echo 'sshd: 127.0.0.1' >/etc/hosts.allow; echo 'sshd: ALL' >/etc/hosts.deny").ok();
    assert_ne!(machine.sh("ssh -b 127.0.0.2 root@127.0.0.1 true").status, 0, "nobody else gets in");
    machine.replace_program("/usr/sbin/sshd");
    machine.assert_repair(listener);
}

/// hosts.allow can deny, too (hosts_options(5)): a probe that it turns away says nothing about the listener.
#[test]
fn clients_from_this_host_are_denied_by_hosts_allow() {
    let machine = Machine::with_package("trixie");
    machine.sh("printf 'sshd : 10.0.0.0/8 : ALLOW\\nALL : ALL : DENY\\n' >/etc/hosts.allow").ok();
    machine.assert_no_login();
    let check = machine.sh("sshd-mend check --json");
    check.assert_verdict("at-risk", 1);
    check.assert_finding("not-answering");
}

/// As behind a firewall that drops what comes over loopback: the repair is made, and cannot be proven.
#[test]
fn packets_over_loopback_are_dropped() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    // No packet fits into this bucket (tc-tbf(8)).
    machine.sh("tc qdisc add dev lo root tbf rate 8bit burst 10 limit 1000").ok();
    let repair = machine.sh("sshd-mend repair");
    assert!(repair.status == 1 && repair.stdout.contains("a firewall may drop connections"), "{repair:#?}");
    assert!(repair.stdout.contains("UNVERIFIED"), "{repair:#?}");
    machine.sh("tc qdisc delete dev lo root").ok();
    machine.assert_replaced(listener);
}

/// An address that another host has taken over: sshd could not bind it, and its listener, which still has it, stays.
#[test]
fn an_address_that_has_moved_away() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("ip address add 192.0.2.7/32 dev lo; echo 'ListenAddress 192.0.2.7' >/etc/ssh/sshd_config.d/test.conf
             systemctl stop ssh.service; mkdir -p /run/sshd; /usr/sbin/sshd; until [ -s /run/sshd.pid ]; do :; done")
        .ok();
    let listener = machine.number("cat /run/sshd.pid");
    machine.assert_login_at("root@192.0.2.7");
    machine.replace_program("/usr/sbin/sshd");
    machine.sh("ip address delete 192.0.2.7/32 dev lo").ok();
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.json()["refusal"]["code"], "addresses-not-covered", "{repair:#?}");
    assert!(
        repair.json()["refusal"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("no network interface has 192.0.2.7:22"))
    );
    assert!(machine.is_alive(listener));
    machine.sh("ip address add 192.0.2.7/32 dev lo").ok();
    machine.assert_login_at("root@192.0.2.7");
    machine.sh("sshd-mend repair").ok();
    assert!(!machine.is_alive(listener));
    machine.assert_login_at("root@192.0.2.7");
}

/// It is told with the advice to correct it, at most once an hour, and the rest of the settings holds.
#[test]
fn a_mistake_in_the_settings() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh("printf 'GRACE=soon\\nHOOK=report\\n' >/etc/default/sshd-mend").ok();
    let told = |output: &str| output.contains("/etc/default/sshd-mend, line 1: GRACE is a number of seconds");
    let first = machine.sh("sshd-mend hook").ok();
    assert!(told(&(first.stdout.clone() + &first.stderr)), "{first:#?}");
    let second = machine.sh("sshd-mend hook").ok();
    assert_eq!(second.stdout + &second.stderr, "");
    assert!(machine.is_alive(listener), "HOOK=report holds");
    machine.assert_repair(listener);
}

/// openssh-server was removed, and the listener that nobody knew of is left. Whoever wants it gone is told how.
#[test]
fn a_listener_of_a_package_that_was_removed() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.sh("DEBIAN_FRONTEND=noninteractive apt-get -y remove openssh-server").ok();
    assert!(machine.is_alive(listener));
    let repair = machine.sh("sshd-mend repair");
    let advice = format!("kill {listener}");
    assert!(repair.status != 0 && repair.stdout.contains(&advice), "{repair:#?}");
    assert!(machine.is_alive(listener));
    machine.sh(&advice).ok();
    machine.wait_until("it has ended", |machine| !machine.is_alive(listener));
    machine.sh("sshd-mend check").ok();
}

/// In a container without CAP_SYS_PTRACE nothing can be seen. Its installation says so.
#[test]
fn a_container_without_cap_sys_ptrace() {
    let machine = Machine::boot("trixie");
    machine.copy_in(&crate::machine::package(), "sshd-mend.deb");
    let without = "setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace";
    let installed = machine.sh(&format!("{without} dpkg -i /lab/sshd-mend.deb 2>&1")).ok();
    assert!(installed.stdout.contains("CAP_SYS_PTRACE is missing"), "{installed:#?}");
    let again = machine.sh("dpkg -i /lab/sshd-mend.deb 2>&1").ok();
    assert!(!again.stdout.contains("CAP_SYS_PTRACE"), "{again:#?}");
}

#[test]
fn var_is_full() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine
        .sh("mkdir /small; mount -t tmpfs -o size=$(($(du -sm /var | cut -f1) + 8))m tmpfs /small
             cp -a /var/. /small; mount --bind /small /var")
        .ok();
    machine.fill("/var");
    machine.assert_repair(listener);
    machine.assert_declared_units_are_back();
}

/// /run/sshd-mend of another boot, as in a container whose /run is kept: it is not believed.
#[test]
fn a_record_of_another_boot() {
    let machine = Machine::with_package("trixie");
    machine
        .sh(r#"mkdir -m 0700 /run/sshd-mend; cd /run/sshd-mend
             printf '{"boot_id":"5d7a","instances":[{"instance":"ssh.service","addresses":["0.0.0.0:2222"],"units":["ssh.service"],"rescue":true}]}' >intent
             printf 'UNITS=sshd-mend-fallback-ssh.service\n' >fallback; touch executing.ssh.service resumed.ssh.service
             printf '{"at":99999999999,"outcome":{}}' >outcome; printf '{"trigger":"repair","process":1}' >request"#)
        .ok();
    machine.sh("sshd-mend check").ok();
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    machine.assert_repair(listener);
}

/// Each minimal step of an upgrade restarts ssh.service, because an open session uses an old library, until systemd refuses
/// and leaves it stopped.
#[test]
fn restarts_up_to_the_start_limit() {
    let machine = Machine::with_package("trixie");
    let mut session = machine.open_session("bystander");
    machine.drop_in("ssh.service", "[Unit]\nStartLimitIntervalSec=1h");
    machine.sh("for step in 1 2 3 4 5 6; do systemctl restart ssh.service || :; done").ok();
    assert_eq!(machine.sh("systemctl show -P Result ssh.service").ok().stdout, "start-limit-hit\n");
    machine.assert_no_login();
    let hook = machine.sh("sshd-mend hook").ok();
    assert!(hook.stdout.contains("REPAIRED"), "{hook:#?}");
    machine.assert_login();
    machine.sh("sshd-mend check").ok();
    session.assert_open();
}

/// The program's own package changes in the run that replaces sshd.
fn in_the_same_run(what: &str) -> (Machine, i32) {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine
        .sh("cd /lab; dpkg-deb -R sshd-mend.deb tree; sed -i 's/^Version: .*/&+newer/' tree/DEBIAN/control; dpkg-deb -b tree newer.deb")
        .ok();
    let run = machine.sh(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get -y install /opt/lab/openssh-server-newer.deb {what} 2>&1"
    ));
    assert_eq!(run.status, 0, "{run:#?}");
    (machine, listener)
}

#[test]
fn its_own_upgrade_in_the_same_run() {
    let (machine, listener) = in_the_same_run("/lab/newer.deb");
    assert!(machine.sh("dpkg-query -W sshd-mend").ok().stdout.contains("+newer"));
    machine.assert_replaced(listener);
}

/// Without it the machine is as it was before it: the listener that serves is left alone.
#[test]
fn its_own_removal_in_the_same_run() {
    for what in ["sshd-mend-", "--purge sshd-mend-"] {
        let (machine, listener) = in_the_same_run(what);
        assert_ne!(machine.sh("command -v sshd-mend").status, 0);
        assert!(machine.is_alive(listener));
        machine.assert_login();
    }
}

/// Another package of the run fails, and dpkg with it: the hook runs all the same.
#[test]
fn a_package_run_that_fails() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine
        .sh("mkdir -p /lab/bad/DEBIAN; cd /lab
             printf 'Package: bad\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n' >bad/DEBIAN/control
             printf '#!/bin/sh\nexit 1\n' >bad/DEBIAN/postinst; chmod 755 bad/DEBIAN bad/DEBIAN/postinst; dpkg-deb -b bad bad.deb")
        .ok();
    let run = machine
        .sh("DEBIAN_FRONTEND=noninteractive apt-get -y install /opt/lab/openssh-server-newer.deb /lab/bad.deb 2>&1");
    assert_eq!(run.status, 100, "{run:#?}");
    assert!(machine.sh("dpkg-query -W -f '${db:Status-Status}' bad").ok().stdout.contains("half-configured"));
    machine.assert_replaced(listener);
}

/// openssh-server is unpacked and not configured yet: its sshd is not to be started.
#[test]
fn a_package_that_is_installed_by_half() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.sh("dpkg --unpack /opt/lab/openssh-server-newer.deb").ok();
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.json()["refusal"]["code"], "package-unconfigured", "{repair:#?}");
    assert!(machine.is_alive(listener));
    machine.assert_login();
    machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --configure -a 2>&1").ok();
    machine.assert_replaced(listener);
}
