//! What the package adds to ssh.service keeps the incident from locking anybody out.

use crate::machine::{Machine, script};

/// HOOK=off: nothing repairs anything, and logins go on all the same.
#[test]
fn a_failed_restart_locks_nobody_out() {
    for suite in ["trixie", "bookworm"] {
        let machine = Machine::as_installed(suite);
        machine.sh("echo HOOK=off >/etc/default/sshd-mend").ok();
        let check = machine.sh("sshd-mend check").ok();
        assert!(!check.stdout.contains("RuntimeDirectoryPreserve"), "{check:#?}");
        let listener = machine.incident();
        machine.upgrade().ok();
        for _ in 0..2 {
            assert_ne!(machine.sh("systemctl restart ssh.service").status, 0, "the port is taken");
            machine.assert_login();
        }
        assert!(machine.is_alive(listener));
        let check = machine.sh("sshd-mend check --json");
        check.assert_verdict("at-risk", 1);
        check.assert_finding("stale-orphan");
    }
}

/// Nobody else can put anything into it.
#[test]
fn a_directory_that_is_kept_is_roots_alone() {
    let machine = Machine::as_installed("trixie");
    machine.sh("echo HOOK=off >/etc/default/sshd-mend").ok();
    for stop in ["systemctl stop ssh.service", "systemctl start ssh.service; systemctl restart ssh.service"] {
        machine.sh(stop).ok();
        assert_eq!(machine.sh("stat -c '%u %g %a' /run/sshd").ok().stdout, "0 0 755\n", "{stop}");
        assert_ne!(machine.sh("runuser -u user -- touch /run/sshd/x").status, 0, "{stop}");
    }
}

/// An administrator who wants neither.
#[test]
fn it_can_be_switched_off_and_is_missed() {
    let machine = Machine::as_installed("trixie");
    machine.sh("cd /etc/systemd/system; mkdir ssh.service.d; ln -s /dev/null ssh.service.d/50-sshd-mend.conf; systemctl daemon-reload").ok();
    let check = machine.sh("sshd-mend check").ok();
    assert!(check.stdout.contains("RuntimeDirectoryPreserve=yes is not in force for ssh.service"), "{check:#?}");
    machine.incident();
    machine.upgrade_without_hook().ok();
    assert_ne!(machine.sh("systemctl restart ssh.service").status, 0, "the port is taken");
    machine.assert_no_login();
    assert_eq!(machine.sh("systemctl show -P OnFailure ssh.service").ok().stdout.trim(), "");
    machine.sh("sshd-mend hook").ok();
    machine.assert_login();
}

/// Another instance that removes the directory when it stops.
#[test]
fn an_instance_without_it_is_named() {
    let machine = Machine::as_installed("trixie");
    machine.instance("2222", "-p 2222");
    assert!(!machine.sh("sshd-mend check").ok().stdout.contains("RuntimeDirectoryPreserve"));
    machine.drop_in("sshd-2222.service", "[Service]\nRuntimeDirectoryPreserve=no");
    let check = machine.sh("sshd-mend check").ok();
    assert!(check.stdout.contains("RuntimeDirectoryPreserve=yes is not in force for sshd-2222.service"), "{check:#?}");
}

/// What packaging/upstream tells Debian, line by line, without the package.
#[test]
fn the_report_for_debian_can_be_reproduced() {
    let report = std::fs::read_to_string(script("../../packaging/upstream/openssh-server.txt")).expect("the report");
    let lines = |from: &str| {
        let after = report.split(from).nth(1).expect("its heading");
        let indented =
            after.lines().skip_while(|line| !line.starts_with("    ")).take_while(|line| line.starts_with("    "));
        indented.map(|line| line.split(" # ").next().unwrap_or(line).trim().to_owned()).collect::<Vec<_>>()
    };
    let reproduce = lines("To reproduce");
    assert_eq!(reproduce.len(), 7, "{reproduce:#?}");
    for suite in ["trixie", "bookworm"] {
        let machine = Machine::boot(suite);
        let run = |expected: [i32; 4]| {
            for (line, expected) in reproduce[3..].iter().zip(expected) {
                assert_eq!((machine.sh(line).status == 0), (expected == 0), "{line} on {suite}");
            }
        };
        machine.sh(&reproduce[..3].join("\n")).ok();
        run([0, 1, 2, 255]);
        machine.sh("mkdir -p /run/sshd").ok();
        machine.sh(&lines("the same as a drop-in").join("\n")).ok();
        run([0, 1, 0, 0]);
    }
}
