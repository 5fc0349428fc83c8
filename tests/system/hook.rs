//! What happens inside a package run.

use crate::machine::Machine;

#[test]
fn the_incident_is_mended_inside_apt_get() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    let run = machine.upgrade().ok();
    assert!(!machine.is_alive(listener), "the old listener is still there\n{run:#?}");
    assert!(run.stdout.contains("REPAIRED"), "{run:#?}");
    machine.assert_login();
    let units =
        machine.sh("systemctl is-active ssh.socket ssh.service; systemctl is-enabled ssh.socket ssh.service").stdout;
    assert_eq!(units, "active\nactive\nenabled\ndisabled\n");
    assert_eq!(machine.sh("sshd-mend check").status, 0);
}

#[test]
fn needrestart_that_made_it_worse_first_is_mended() {
    let machine = Machine::with_package("trixie");
    machine.incident();
    // needrestart restarts ssh.service by itself, before our hook.
    machine.sh("echo '$nrconf{restart} = \"a\";' >/etc/needrestart/conf.d/restart.conf").ok();
    let run = machine.upgrade().ok();
    let journal = machine.sh("journalctl -o cat -u ssh.service -u ssh.socket").stdout;
    assert!(journal.contains("Address already in use"), "needrestart's restart did not fail\n{journal}\n{run:#?}");
    assert!(run.stdout.contains("REPAIRED"), "{run:#?}");
    machine.assert_login();
}

#[test]
fn the_hook_is_silent_on_a_healthy_machine() {
    let machine = Machine::with_package("trixie");
    let before = machine.sh("pidof sshd").ok().stdout;
    let run = machine.sh("sshd-mend hook").ok();
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    assert_eq!(machine.sh("pidof sshd").stdout, before);
    assert_eq!(machine.sh("journalctl -t sshd-mend -o cat --no-pager -q").stdout, "");
    assert_eq!(machine.sh("ls /run/sshd-mend").status, 2, "a healthy machine needs no record");
}

#[test]
fn a_healthy_upgrade_says_nothing_of_ours() {
    let machine = Machine::with_package("trixie");
    let run = machine.upgrade().ok();
    assert!(!run.stdout.contains("sshd-mend:"), "{run:#?}");
    machine.assert_login();
}

#[test]
fn the_hook_outlives_its_program() {
    let machine = Machine::with_package("trixie");
    machine.sh("dpkg -r sshd-mend && [ ! -e /usr/sbin/sshd-mend ] && [ -e /etc/apt/apt.conf.d/99sshd-mend ]").ok();
    machine.upgrade().ok();
    machine.assert_login();
}

#[test]
fn the_hook_never_fails_a_package_run() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.sh("echo nonsense >>/etc/ssh/sshd_config").ok();
    // A mistake in the settings means report only, and the bus may be away, and nobody may listen to what it says.
    for spoil in [
        "true",
        "echo HOOK=maybe >/etc/default/sshd-mend",
        "chmod 666 /etc/default/sshd-mend",
        "systemctl stop dbus.socket dbus.service",
    ] {
        machine.sh(spoil).ok();
        assert_eq!(machine.sh("sshd-mend hook").status, 0, "after {spoil}");
        assert_eq!(machine.sh("sshd-mend hook >&- 2>&-").status, 0, "after {spoil}");
        assert_eq!(machine.sh("sshd-mend hook >/dev/full").status, 0, "after {spoil}");
    }
    assert_eq!(machine.sh("unshare --user sshd-mend hook").status, 0);
    assert_eq!(machine.sh("setpriv --reuid=user --clear-groups sshd-mend hook").status, 0);
    assert!(machine.is_alive(listener));
}

#[test]
fn settings_switch_the_hook() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    machine.sh("echo HOOK=off >/etc/default/sshd-mend").ok();
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
    machine.sh("echo HOOK=report >/etc/default/sshd-mend").ok();
    let report = machine.sh("sshd-mend hook").ok().stdout;
    assert!(report.contains("AT RISK"), "{report}");
    assert!(machine.is_alive(listener));
    machine.sh("echo HOOK=repair >/etc/default/sshd-mend").ok();
    machine.sh("sshd-mend hook").ok();
    assert!(!machine.is_alive(listener));
    machine.assert_login();
}
