//! Every way in which packages change: each starts the hook once, at the right moment, and it is silent at all others.

use crate::machine::{Machine, package};

/// openssh-server as a newer version in an archive that the machine's apt knows.
const ARCHIVE: &str = "
rm -f /etc/apt/sources.list; echo 'deb [trusted=yes] file:/opt/lab ./' >/etc/apt/sources.list.d/lab.list
apt-get -q update 2>&1";

/// An orphan, and a newer openssh-server to be had.
fn before_an_upgrade() -> (Machine, i32) {
    let machine = Machine::with_package("trixie");
    machine.sh(ARCHIVE).ok();
    let listener = machine.incident();
    (machine, listener)
}

/// A hook of ours spoke `times` times, and the last time it had mended the machine.
fn assert_mended(machine: &Machine, listener: i32, said: &str, times: usize) {
    assert!(!machine.is_alive(listener), "{said}\n{}", machine.state());
    // apt's passes have a terminal of their own, with its line breaks.
    assert_eq!(said.replace('\r', "").matches("sshd-mend:\n").count(), times, "{said}");
    assert!(times == 0 || said.contains("REPAIRED"), "{said}");
    machine.assert_login();
    assert_eq!(machine.sh("sshd-mend check").status, 0);
    let ended = machine.sh("journalctl --sync; journalctl -o cat MESSAGE_ID=c41e9b7d8a5f4e22b1d0f6a7c8394e24").stdout;
    assert_eq!(ended.lines().count(), 1, "{ended}");
}

/// It gives dpkg no word of its lock, so dpkg's own hook comes first, after the last pass; apt's has nothing left to do.
#[test]
fn aptitude() {
    let (machine, listener) = before_an_upgrade();
    let run = machine.sh("DEBIAN_FRONTEND=noninteractive aptitude -y safe-upgrade 2>&1").ok();
    assert_mended(&machine, listener, &run.stdout, 1);
}

/// With minimal steps, the default, there is a run of dpkg for each step: the hook runs many times. It says once that
/// there is an orphan, which the next upgrade turns into the incident, and once that it mended it.
#[test]
fn unattended_upgrades() {
    let (machine, listener) = before_an_upgrade();
    // Two more packages to be upgraded, before and after.
    machine
        .sh("cd /opt/lab && for name in aaa zzz; do for version in 1 2; do
                 mkdir -p build/DEBIAN && printf 'Package: %s\\nVersion: %s\\nArchitecture: all\\nMaintainer: x <x@example.org>\\nDescription: x\\n' $name $version >build/DEBIAN/control
                 dpkg-deb -b build $name-$version.deb; done; dpkg -i $name-1.deb; rm $name-1.deb; done
             apt-ftparchive packages . >Packages; apt-ftparchive -o APT::FTPArchive::Release::Origin=lab release . >Release; apt-get -q update
             echo 'Unattended-Upgrade::Origins-Pattern { \"origin=lab\"; };' >/etc/apt/apt.conf.d/60lab
             printf '#!/bin/sh\\necho $* >>/run/hooks; exec /usr/sbin/sshd-mend.real \"$@\"\\n' >/run/counting; chmod 755 /run/counting
             mv /usr/sbin/sshd-mend /usr/sbin/sshd-mend.real; cp /run/counting /usr/sbin/sshd-mend")
        .ok();
    let run = machine
        .sh("unattended-upgrade --verbose 2>&1; cat /var/log/unattended-upgrades/unattended-upgrades-dpkg.log")
        .ok();
    machine.sh("mv /usr/sbin/sshd-mend.real /usr/sbin/sshd-mend").ok();
    assert_eq!(machine.sh("dpkg-query -W -f '${Version} ' aaa zzz").stdout, "2 2 ", "{run:#?}");
    let hooks = machine.sh("grep -c hook /run/hooks").stdout;
    assert!(hooks.trim().parse::<usize>().is_ok_and(|hooks| hooks >= 3), "{hooks}: steps are minimal\n{run:#?}");
    assert_mended(&machine, listener, &run.stdout, 2);
}

/// Its action works with apt's hook taken away. It mails what the hook says, and nothing if that is nothing.
#[test]
fn cron_apt() {
    let (machine, listener) = before_an_upgrade();
    machine
        .sh("rm /etc/apt/apt.conf.d/99sshd-mend
             echo 'dist-upgrade -y -o APT::Get::Show-Upgraded=true' >/etc/cron-apt/action.d/5-install
             printf '#!/bin/sh\\ncat >>/run/mail\\n' >/usr/sbin/sendmail; chmod 755 /usr/sbin/sendmail; echo NOLOCKWARN=true >>/etc/cron-apt/config")
        .ok();
    let run = machine.sh("cron-apt -i -s 2>&1").ok();
    let mail = machine.sh("cat /run/mail").ok().stdout;
    assert!(mail.contains("CRON-APT ACTION: 9-sshd-mend"), "{mail}\n{run:#?}");
    assert_mended(&machine, listener, &mail, 1);
    machine.sh("rm /run/mail; cron-apt -i 2>&1").ok();
    assert_eq!(machine.sh("cat /run/mail").stdout, "", "nothing was wrong");
    // Its program gone, its files still there.
    machine.sh("dpkg -r sshd-mend; cron-apt -i 2>&1").ok();
    assert_eq!(machine.sh("cat /run/mail").stdout, "");
}

#[test]
fn dpkg_by_itself() {
    let (machine, listener) = before_an_upgrade();
    let dpkg = |action: &str| {
        let run = machine.sh(&format!("DEBIAN_FRONTEND=noninteractive dpkg {action} 2>&1")).ok();
        assert!(!run.stdout.contains("sshd-mend"), "{action}: {run:#?}");
        assert!(machine.is_alive(listener));
    };
    // Between unpacking and configuring, and for another root: not its time.
    dpkg("--unpack /opt/lab/openssh-server-newer.deb");
    machine.sh("mkdir -p /srv/other/var/lib/dpkg && touch /srv/other/var/lib/dpkg/status").ok();
    dpkg("--root=/srv/other --configure --pending");
    let run = machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --configure --pending 2>&1").ok();
    assert_mended(&machine, listener, &run.stdout, 1);
}

#[test]
fn dpkg_that_installs() {
    let (machine, listener) = before_an_upgrade();
    let run = machine.sh("DEBIAN_FRONTEND=noninteractive dpkg -i /opt/lab/openssh-server-newer.deb 2>&1").ok();
    assert_mended(&machine, listener, &run.stdout, 1);
}

/// dpkg's hook runs in each of apt's passes as well, and leaves them to apt's own.
#[test]
fn dpkg_inside_apt() {
    let (machine, listener) = before_an_upgrade();
    machine.sh("rm /etc/apt/apt.conf.d/99sshd-mend").ok();
    let run = machine.sh("DEBIAN_FRONTEND=noninteractive apt-get -y dist-upgrade 2>&1").ok();
    assert!(!run.stdout.contains("sshd-mend:") && machine.is_alive(listener), "{run:#?}");
}

#[test]
fn the_timer_is_there_for_who_wants_it() {
    let machine = Machine::with_package("trixie");
    assert_eq!(machine.sh("systemctl is-enabled sshd-mend.timer").stdout, "disabled\n");
    assert_eq!(machine.sh("systemctl is-active sshd-mend.timer").stdout, "inactive\n");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    machine.sh("systemctl enable -q --now sshd-mend.timer").ok();
    let next = machine.sh("systemctl show -P NextElapseUSecMonotonic sshd-mend.timer").ok().stdout;
    assert!(!next.trim().is_empty() && next.trim() != "infinity", "{next}");
    // What it starts, when its time has come.
    machine.sh("systemctl start sshd-mend.service").ok();
    assert_mended(&machine, listener, "", 0);
    let said = machine.sh("journalctl -o cat -u sshd-mend.service").stdout;
    assert!(said.contains("REPAIRED"), "{said}");
}

#[test]
fn all_at_once_make_one_repair() {
    let (machine, listener) = before_an_upgrade();
    machine.upgrade_without_hook().ok();
    machine
        .sh("for i in 1 2 3 4; do sshd-mend hook & done; systemctl start --no-block sshd-mend.service
             dpkg --configure --pending & (set -- hook; DEBIAN_FRONTEND=noninteractive apt-get -y install --reinstall aptitude || :) & sshd-mend repair & wait")
        .ok();
    machine.wait_until("the timer's service has ended", |machine| {
        machine.sh("systemctl is-active sshd-mend.service sshd-mend-repair.service").stdout == "inactive\ninactive\n"
    });
    assert_mended(&machine, listener, "", 0);
}

/// The package under test, installed by apt on a machine that needs it at once: its own hook mends it.
#[test]
fn its_own_installation() {
    let machine = Machine::boot("trixie");
    machine.copy_in(&package(), "sshd-mend.deb");
    let listener = machine.incident();
    machine.sh("DEBIAN_FRONTEND=noninteractive apt-get install -y /opt/lab/openssh-server-newer.deb").ok();
    assert!(machine.is_alive(listener));
    let run = machine.sh("DEBIAN_FRONTEND=noninteractive apt-get install -y /lab/sshd-mend.deb 2>&1").ok();
    // apt read its configuration before the package was there.
    assert!(machine.is_alive(listener) || run.stdout.contains("REPAIRED"), "{run:#?}");
    let check =
        machine.sh("DEBIAN_FRONTEND=noninteractive apt-get install -y --reinstall /lab/sshd-mend.deb 2>&1").ok();
    assert!(!machine.is_alive(listener), "{check:#?}");
    machine.assert_login();
}
