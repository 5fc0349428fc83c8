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

/// How often the hook printed something: lines of its own that follow each other are one report.
fn reports(printed: &str) -> usize {
    let mut own: Vec<bool> = printed.lines().map(|line| line.starts_with("sshd-mend: ")).collect();
    own.dedup();
    own.into_iter().filter(|own| *own).count()
}

/// The hook printed something `times` times, and the last time it had repaired the machine.
#[track_caller]
fn assert_repaired(machine: &Machine, listener: i32, printed: &str, times: usize) {
    // apt's passes have a terminal of their own, with its line breaks.
    assert_eq!(reports(&printed.replace('\r', "")), times, "{printed}");
    assert!(times == 0 || printed.contains("REPAIRED"), "{printed}");
    let version = machine.sh("dpkg-query -W -f '${Version}' openssh-server").ok().stdout;
    assert!(version.ends_with("+lab1"), "there was no upgrade: {version}");
    machine.assert_replaced(listener);
    assert_eq!(machine.terminations(), 1, "{printed}");
}

/// aptitude does not tell dpkg that it holds the lock, so dpkg's own hook comes first, after the last pass; apt's has
/// nothing left to do.
#[test]
fn aptitude() {
    let (machine, listener) = before_an_upgrade();
    let run = machine.sh("DEBIAN_FRONTEND=noninteractive aptitude -y safe-upgrade 2>&1").ok();
    assert_repaired(&machine, listener, &run.stdout, 1);
}

/// With minimal steps, the default, there is a run of dpkg for each step, and the hook runs after each. It reports once
/// that there is an orphan, which the next upgrade turns into the incident, and once that it repaired it.
#[test]
fn unattended_upgrades() {
    let (machine, listener) = before_an_upgrade();
    machine.script("two-packages.sh", &[]).ok();
    machine
        .sh("echo 'Unattended-Upgrade::Origins-Pattern { \"origin=lab\"; };' >/etc/apt/apt.conf.d/60lab
             mv /usr/sbin/sshd-mend /usr/sbin/sshd-mend.real
             printf '#!/bin/sh\\necho $* >>/run/hooks; exec /usr/sbin/sshd-mend.real \"$@\"\\n' >/usr/sbin/sshd-mend
             chmod 755 /usr/sbin/sshd-mend")
        .ok();
    let run = machine
        .sh("unattended-upgrade --verbose 2>&1; cat /var/log/unattended-upgrades/unattended-upgrades-dpkg.log")
        .ok();
    machine.sh("mv /usr/sbin/sshd-mend.real /usr/sbin/sshd-mend").ok();
    assert_eq!(machine.sh("dpkg-query -W -f '${Version} ' aaa zzz").stdout, "2 2 ", "{run:#?}");
    let hooks = machine.number("grep -c hook /run/hooks");
    assert!(hooks >= 3, "{hooks}: steps are minimal\n{run:#?}");
    assert_repaired(&machine, listener, &run.stdout, 2);
}

/// Its action works without apt's hook. It mails what the hook prints, and nothing if that is nothing.
#[test]
fn cron_apt() {
    let (machine, listener) = before_an_upgrade();
    machine
        .sh("rm /etc/apt/apt.conf.d/99sshd-mend
             echo 'dist-upgrade -y -o APT::Get::Show-Upgraded=true' >/etc/cron-apt/action.d/5-install
             printf '#!/bin/sh\\ncat >>/run/mail\\n' >/usr/sbin/sendmail; chmod 755 /usr/sbin/sendmail
             echo NOLOCKWARN=true >>/etc/cron-apt/config")
        .ok();
    let run = machine.sh("cron-apt -i -s 2>&1").ok();
    let mail = machine.sh("cat /run/mail").ok().stdout;
    assert!(mail.contains("CRON-APT ACTION: 9-sshd-mend"), "{mail}\n{run:#?}");
    assert_repaired(&machine, listener, &mail, 1);
    machine.sh("rm /run/mail; cron-apt -i 2>&1").ok();
    assert_ne!(machine.sh("[ -e /run/mail ]").status, 0, "nothing was wrong");
    // The program is removed, its configuration remains.
    machine.sh("dpkg -r sshd-mend; [ -e /etc/cron-apt/action.d/9-sshd-mend ]; cron-apt -i 2>&1").ok();
    assert_ne!(machine.sh("[ -e /run/mail ]").status, 0, "{}", machine.sh("cat /run/mail").stdout);
}

#[test]
fn dpkg_by_itself() {
    let (machine, listener) = before_an_upgrade();
    let dpkg = |action: &str| machine.sh(&format!("DEBIAN_FRONTEND=noninteractive dpkg {action} 2>&1")).ok();
    // Not between unpacking and configuring, nor for another root.
    machine.sh("mkdir -p /srv/other/var/lib/dpkg; touch /srv/other/var/lib/dpkg/status").ok();
    for action in ["--unpack /opt/lab/openssh-server-newer.deb", "--root=/srv/other --configure --pending"] {
        let run = dpkg(action);
        assert!(!run.stdout.contains("sshd-mend"), "{action}: {run:#?}");
        assert!(machine.is_alive(listener), "{action}: {run:#?}");
    }
    let run = dpkg("--configure --pending");
    assert_repaired(&machine, listener, &run.stdout, 1);
}

#[test]
fn dpkg_that_installs() {
    let (machine, listener) = before_an_upgrade();
    let run = machine.sh("DEBIAN_FRONTEND=noninteractive dpkg -i /opt/lab/openssh-server-newer.deb 2>&1").ok();
    assert_repaired(&machine, listener, &run.stdout, 1);
}

/// dpkg's hook runs in each of apt's passes as well, and leaves them to apt's own.
#[test]
fn dpkg_inside_apt() {
    let (machine, listener) = before_an_upgrade();
    machine.sh("rm /etc/apt/apt.conf.d/99sshd-mend").ok();
    let run = machine.sh("DEBIAN_FRONTEND=noninteractive apt-get -y dist-upgrade 2>&1").ok();
    assert!(!run.stdout.contains("sshd-mend:") && machine.is_alive(listener), "{run:#?}");
    assert!(machine.sh(&format!("readlink /proc/{listener}/exe")).ok().stdout.contains("(deleted)"), "{run:#?}");
    assert_eq!(machine.terminations(), 0);
}

#[test]
fn the_timer_runs_the_hook_where_it_is_enabled() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    assert_eq!(machine.sh("systemctl is-enabled sshd-mend.timer").stdout, "disabled\n", "as installed");
    assert_eq!(machine.active("sshd-mend.timer"), "inactive", "as installed");
    machine.sh("systemctl enable -q --now sshd-mend.timer").ok();
    let next = machine.sh("systemctl show -P NextElapseUSecMonotonic sshd-mend.timer").ok().stdout;
    assert!(!next.trim().is_empty() && next.trim() != "infinity", "{next}");
    assert_eq!(machine.sh("systemctl show -P Unit sshd-mend.timer").ok().stdout, "sshd-mend.service\n");
    machine.sh("systemctl start sshd-mend.service").ok();
    assert_repaired(&machine, listener, "", 0);
    let printed = machine.sh("journalctl --sync; journalctl -o cat -u sshd-mend.service").ok().stdout;
    assert!(printed.contains("REPAIRED"), "{printed}");
}

#[test]
fn all_triggers_at_once_make_one_repair() {
    let (machine, listener) = before_an_upgrade();
    machine.script("two-packages.sh", &[]).ok();
    machine.upgrade_without_hook().ok();
    machine.script("all-triggers.sh", &[]).ok();
    let triggers = machine.sh("sort /run/triggers; head /run/trigger.*.log").ok().stdout;
    let expected = "apt 0\ndpkg 0\nhook-1 0\nhook-2 0\nhook-3 0\nhook-4 0\nrepair 0\ntimer 0\n";
    assert!(triggers.starts_with(expected), "{triggers}");
    for unit in ["sshd-mend.service", "sshd-mend-repair.service"] {
        assert_eq!(machine.active(unit), "inactive", "{}", machine.state());
    }
    assert_repaired(&machine, listener, "", 0);
}

/// The package under test, installed by apt on a machine that needs it: apt read its configuration before the hook was
/// there, so the next package run repairs the machine.
#[test]
fn the_package_run_after_its_own_installation_repairs() {
    let machine = Machine::boot("trixie");
    machine.sh(ARCHIVE).ok();
    machine.copy_in(&package(), "sshd-mend.deb");
    let listener = machine.incident();
    machine.upgrade().ok();
    assert!(machine.is_alive(listener), "nobody has repaired it yet");
    let install = |options: &str| {
        machine.sh(&format!("DEBIAN_FRONTEND=noninteractive apt-get install -y {options} /lab/sshd-mend.deb 2>&1")).ok()
    };
    let run = install("");
    assert!(machine.is_alive(listener), "{run:#?}");
    let run = install("--reinstall");
    assert_repaired(&machine, listener, &run.stdout, 1);
}
