//! Machines with every kind of valid sshd_config and ssh.service: on each, the stale main process of the unit is replaced
//! by a package run, then a stale orphan by a person, with a session open throughout.

use crate::machine::Machine;

/// One machine.
struct Row<'a> {
    root: &'a str,
    /// Commands before anything else.
    setup: &'a str,
    /// Goes to sshd_config.d.
    config: &'a str,
    /// Drop-in of ssh.service.
    unit: &'a str,
}

const DEFAULT: Row<'_> = Row { root: "trixie", setup: ":", config: "", unit: "" };

/// Starts an sshd that no unit knows, in place of ssh.service.
const ORPHAN: &str = "systemctl stop ssh.service; mkdir -p /run/sshd; rm -f /run/sshd.pid; /usr/sbin/sshd
until [ -s /run/sshd.pid ]; do :; done; cat /run/sshd.pid";

fn goes_through(row: &Row<'_>) {
    let machine = Machine::with_package(row.root);
    machine.sh(row.setup).ok();
    machine
        .sh(&format!("cat >/etc/ssh/sshd_config.d/10-test.conf <<'CONFIG'\n{}\nCONFIG\n/usr/sbin/sshd -t", row.config))
        .ok();
    if !row.unit.is_empty() {
        machine.drop_in("ssh.service", row.unit);
    }
    machine.sh("systemctl restart ssh.service").ok();
    machine.wait_until("ssh.service serves", |machine| machine.login().status == 0);
    let about = format!("{} {} {}", row.setup, row.config, row.unit);
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "", "{about}");
    let healthy = machine.sh("sshd-mend check");
    assert_eq!(healthy.status, 0, "{about}: {healthy:#?}");
    let mut session = machine.open_session("bystander");

    let main = machine.main_pid("ssh.service");
    machine.replace_program("/usr/sbin/sshd");
    let hook = machine.sh("sshd-mend hook").ok();
    assert!(!machine.is_alive(main), "{about}: {hook:#?}\n{}", machine.state());
    machine.assert_replaced(main);
    session.assert_open();

    let orphan = machine.number(ORPHAN);
    machine.assert_login();
    machine.replace_program("/usr/sbin/sshd");
    machine.assert_repair(orphan);
    assert_eq!(machine.active("ssh.service"), "active", "{about}");
    session.assert_open();
}

#[test]
fn ipv4_only() {
    goes_through(&Row { config: "AddressFamily inet", ..DEFAULT });
}

#[test]
fn no_ipv6_in_the_kernel() {
    goes_through(&Row {
        setup: "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
        ..DEFAULT
    });
}

#[test]
fn one_startup_at_a_time() {
    goes_through(&Row { config: "MaxStartups 1", ..DEFAULT });
}

#[test]
fn no_pam() {
    goes_through(&Row { config: "UsePAM no", ..DEFAULT });
    goes_through(&Row { root: "bookworm", config: "UsePAM no", ..DEFAULT });
}

#[test]
fn a_start_limit_of_one() {
    let unit = "[Unit]\nStartLimitBurst=1\nStartLimitIntervalSec=1h";
    goes_through(&Row { setup: "systemctl reset-failed ssh.service", unit, ..DEFAULT });
}

#[test]
fn a_start_limit_of_one_on_debian_12() {
    let unit = "[Unit]\nStartLimitBurst=1\nStartLimitIntervalSec=1h";
    goes_through(&Row { root: "bookworm", unit, ..DEFAULT });
}

#[test]
fn restart_always() {
    for every in ["100ms", "5s"] {
        let unit = format!("[Service]\nRestart=always\nRestartSec={every}");
        goes_through(&Row { unit: &unit, ..DEFAULT });
    }
}

/// There is no `Type=forking`: a child of PID 1 does not fork (`daemonized` in sshd.c).
#[test]
fn a_unit_that_does_not_tell_when_it_is_ready() {
    goes_through(&Row { unit: "[Service]\nType=simple", ..DEFAULT });
    goes_through(&Row { root: "bookworm", unit: "[Service]\nType=exec", ..DEFAULT });
}

/// sshd does not send what `Type=notify-reload` waits for after a reload; restarts work.
#[test]
fn a_unit_that_tells_of_reloads() {
    goes_through(&Row { unit: "[Service]\nType=notify-reload\nExecReload=", ..DEFAULT });
}

/// A program that a session has left in the unit's control group, as without PAM, ends with the unit except by
/// `KillMode=process` or `none`.
#[test]
fn tmux_in_the_control_group() {
    for (kill_mode, spares) in [("process", true), ("none", true), ("control-group", false), ("mixed", false)] {
        let machine = Machine::with_package("trixie");
        machine.install("tmux");
        machine.sh("echo 'UsePAM no' >/etc/ssh/sshd_config.d/10-test.conf; systemctl restart ssh.service").ok();
        machine.drop_in("ssh.service", &format!("[Service]\nKillMode={kill_mode}"));
        machine.sh("ssh root@127.0.0.1 tmux new-session -d sleep 3600").ok();
        let tmux = machine.number("tmux display-message -p '#{pid}'");
        assert!(machine.sh(&format!("cat /proc/{tmux}/cgroup")).ok().stdout.contains("/ssh.service"));
        let main = machine.main_pid("ssh.service");
        machine.replace_program("/usr/sbin/sshd");
        let repair = machine.sh("sshd-mend repair --json");
        assert!(machine.is_alive(tmux), "KillMode={kill_mode}: {repair:#?}");
        assert_eq!(machine.is_alive(main), !spares, "KillMode={kill_mode}: {repair:#?}");
        let refusal = &repair.json()["refusal"]["code"];
        assert_eq!(refusal.as_str(), (!spares).then_some("would-kill-sessions"), "{repair:#?}");
        machine.assert_login();
    }
}
