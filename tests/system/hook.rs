//! What happens inside a package run.

use crate::machine::Machine;

#[test]
fn the_incident_is_repaired_inside_apt_get() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    let run = machine.upgrade().ok();
    assert!(run.stdout.contains("REPAIRED"), "{run:#?}");
    machine.assert_replaced(listener);
    machine.assert_declared_units_are_back();
}

#[test]
fn what_needrestart_made_worse_is_repaired() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    // needrestart restarts ssh.service by itself, before the hook.
    machine.sh("echo '$nrconf{restart} = \"a\";' >/etc/needrestart/conf.d/restart.conf").ok();
    let run = machine.upgrade().ok();
    let journal = machine.sh("journalctl -o cat -u ssh.service -u ssh.socket").ok().stdout;
    assert!(journal.contains("Address already in use"), "needrestart's restart did not fail\n{journal}\n{run:#?}");
    assert!(run.stdout.contains("REPAIRED"), "{run:#?}");
    machine.assert_replaced(listener);
}

/// A package run prints hundreds of lines: what the hook says is found by its name, down to its last line.
#[test]
fn each_line_of_the_hook_says_whose_it_is() {
    let (machine, _) = Machine::with_stale_orphan("trixie");
    for (settings, word) in [("HOOK=report", "AT RISK"), ("HOOK=repair", "REPAIRED")] {
        let hook = machine.sh(&format!("echo {settings} >/etc/default/sshd-mend; sshd-mend hook")).ok().stdout;
        assert!(hook.contains(word) && hook.lines().count() > 1, "{hook}");
        assert!(hook.lines().all(|line| line.starts_with("sshd-mend: ")), "{hook}");
    }
}

#[test]
fn the_hook_is_silent_on_a_healthy_machine() {
    let machine = Machine::with_package("trixie");
    let listener = machine.main_pid("ssh.service");
    let hook = machine.sh("sshd-mend hook").ok();
    assert_eq!((hook.stdout.as_str(), hook.stderr.as_str()), ("", ""));
    assert_eq!(machine.main_pid("ssh.service"), listener);
    machine.sh("journalctl --sync").ok();
    assert_eq!(machine.sh("journalctl -q -o cat -t sshd-mend || :").ok().stdout, "");
    // A healthy machine needs no record but that of what has passed.
    assert_eq!(machine.sh("ls -A /run/sshd-mend").ok().stdout, "passed\n");
}

#[test]
fn the_hook_is_silent_in_an_upgrade_of_a_healthy_machine() {
    let machine = Machine::with_package("trixie");
    let listener = machine.main_pid("ssh.service");
    let run = machine.upgrade().ok();
    assert_ne!(machine.main_pid("ssh.service"), listener, "the package restarts sshd by itself");
    assert!(!run.stdout.contains("sshd-mend:"), "{run:#?}");
    machine.assert_login();
    assert_eq!(machine.sh("sshd-mend check").status, 0);
}

#[test]
fn a_hook_whose_program_was_removed_does_not_fail_an_upgrade() {
    let machine = Machine::with_package("trixie");
    machine.sh("dpkg -r sshd-mend; [ ! -e /usr/sbin/sshd-mend ]; [ -e /etc/apt/apt.conf.d/99sshd-mend ]").ok();
    machine.upgrade().ok();
    machine.assert_login();
}

#[test]
fn the_hook_never_fails_a_package_run() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh("echo nonsense >>/etc/ssh/sshd_config").ok();
    // With a mistake in the settings the hook only reports. The bus may be down, and nobody may read what it prints.
    for (fault, settings_are_used) in [
        ("true", true),
        ("echo HOOK=maybe >/etc/default/sshd-mend", false),
        ("echo HOOK=repair >/etc/default/sshd-mend; chmod 666 /etc/default/sshd-mend", false),
        ("chmod 644 /etc/default/sshd-mend; systemctl stop dbus.socket dbus.service", true),
    ] {
        machine.sh(fault).ok();
        let check = machine.sh("sshd-mend check");
        assert_eq!(check.stdout.contains("/etc/default/sshd-mend"), !settings_are_used, "after {fault}: {check:#?}");
        for output in ["", ">&- 2>&-", ">/dev/full"] {
            assert_eq!(machine.sh(&format!("sshd-mend hook {output}")).status, 0, "{output} after {fault}");
        }
    }
    assert_eq!(machine.sh("unshare --user sshd-mend hook").status, 0);
    assert_eq!(machine.sh("setpriv --reuid=user --clear-groups sshd-mend hook").status, 0);
    assert!(machine.is_alive(listener));
    machine.assert_login();
}

/// Nor does the file that the settings cannot be: a person asks for it, and hears of the mistake.
#[test]
fn a_mistake_in_the_settings_keeps_no_person_from_examining_or_repairing() {
    let machine = Machine::with_package("trixie");
    for mistake in [
        "echo HOOK=maybe >/etc/default/sshd-mend",
        "printf 'HOOK=off\nDEADLINE=0\n' >/etc/default/sshd-mend",
        "echo HOOK=off >/etc/default/sshd-mend; chmod 666 /etc/default/sshd-mend",
        "rm -f /etc/default/sshd-mend; mkfifo -m 644 /etc/default/sshd-mend",
        "rm -f /etc/default/sshd-mend; mkdir /etc/default/sshd-mend",
    ] {
        machine.sh(mistake).ok();
        let listener = machine.main_pid("ssh.service");
        machine.replace_program("/usr/sbin/sshd");
        let check = machine.sh("sshd-mend check --json");
        check.assert_verdict("at-risk", 1);
        machine.sh("sshd-mend hook").ok();
        assert!(machine.is_alive(listener), "with a mistake in its settings the hook only reports: {mistake}");
        let repair = machine.sh("sshd-mend repair --json");
        repair.assert_verdict("repaired", 0);
        assert!(!machine.is_alive(listener), "{mistake}: {repair:#?}");
        for output in [check, repair] {
            assert!(output.json()["notes"].to_string().contains("/etc/default/sshd-mend"), "{mistake}: {output:#?}");
        }
    }
    machine.assert_login();
}

/// Any value suspends a package run, except those by which nobody can mean it.
#[test]
fn the_hook_is_suspended_by_any_value_but_none_and_zero() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let hook = |value: &str| {
        machine.sh(&format!("rm -f /run/sshd-mend/notice; SSHD_MEND_SUSPEND='{value}' sshd-mend hook")).ok().stdout
    };
    for value in ["1", "yes", "no", "00", " "] {
        let hook = hook(value);
        assert!(hook.contains("(suspended)") && machine.is_alive(listener), "{value}: {hook}");
    }
    machine.sh("printf 'HOOK=\"report\"\\n' >/etc/default/sshd-mend").ok();
    for value in ["", "0"] {
        let hook = hook(value);
        assert!(
            hook.contains("AT RISK") && !hook.contains("suspended") && machine.is_alive(listener),
            "{value}: {hook}"
        );
    }
    machine.sh("rm /etc/default/sshd-mend").ok();
    let hook = hook("0");
    assert!(hook.contains("REPAIRED"), "{hook}");
    machine.assert_replaced(listener);
}

#[test]
fn the_setting_hook_is_off_report_or_repair() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh("echo HOOK=off >/etc/default/sshd-mend").ok();
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
    machine.sh("echo HOOK=report >/etc/default/sshd-mend").ok();
    let report = machine.sh("sshd-mend hook").ok().stdout;
    assert!(report.contains("AT RISK"), "{report}");
    assert!(machine.is_alive(listener));
    machine.sh("echo HOOK=repair >/etc/default/sshd-mend").ok();
    let repair = machine.sh("sshd-mend hook").ok().stdout;
    assert!(repair.contains("REPAIRED"), "{repair}");
    machine.assert_replaced(listener);
}

#[test]
fn a_hook_that_is_joined_by_another_still_reports_its_repair() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let held = machine.hold_repair(listener, "sshd-mend hook");
    machine.sh("sshd-mend hook >/lab/other 2>&1 </dev/null &").ok();
    machine.wait_until("the other hook waits", |machine| machine.sh("ls /run/sshd-mend/request").status == 0);
    let hook = held.finish().ok();
    assert!(hook.stdout.contains("REPAIRED"), "{hook:#?}");
    machine.wait_until("the other hook has ended", |machine| machine.sh("pgrep -x sshd-mend").status != 0);
    machine.assert_replaced(listener);
}

/// The hook replaces a stale listener, and leaves alone a current orphan of another instance: only a person may have it
/// terminated while it answers.
#[track_caller]
fn assert_current_orphan_is_left_alone(machine: &Machine) {
    machine.instance("2222", "-p 2222");
    machine.sh("systemctl stop sshd-2222.service").ok();
    machine.replace_program("/usr/sbin/sshd");
    let stale = machine.main_pid("ssh.service");
    let orphan = machine.number("/usr/sbin/sshd -D -p 2222 -o PidFile=none >/dev/null 2>&1 </dev/null & echo $!");
    machine.wait_until("the orphan serves", |machine| machine.sh("ssh -p 2222 root@127.0.0.1 true").status == 0);
    assert_ne!(machine.sh("systemctl start sshd-2222.service").status, 0, "the orphan holds its port");
    let hook = machine.sh("sshd-mend hook").ok();
    assert!(!machine.is_alive(stale), "{hook:#?}");
    assert!(machine.is_alive(orphan), "{hook:#?}");
    assert_eq!(machine.sh("sshd-mend check").status, 1, "the orphan is reported");
}

#[test]
fn the_hook_leaves_a_current_orphan_alone() {
    let machine = Machine::with_package("trixie");
    assert_current_orphan_is_left_alone(&machine);
}

/// A person's request must not be taken for one of a later package run.
#[test]
fn the_hook_leaves_a_current_orphan_alone_after_a_repair_without_the_unit() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.drop_in("sshd-mend-repair.service", "[Service]\nBindPaths=/none");
    machine.sh("sshd-mend repair").ok();
    assert!(!machine.is_alive(listener));
    machine.remove_drop_in("sshd-mend-repair.service");
    assert_current_orphan_is_left_alone(&machine);
}

#[test]
fn the_hook_leaves_a_current_orphan_alone_after_a_repair_that_was_killed() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.hold_repair(listener, "sshd-mend repair").kill_each_attempt();
    assert!(!machine.is_alive(listener));
    machine.sh("sshd-mend repair").ok();
    assert_current_orphan_is_left_alone(&machine);
}
