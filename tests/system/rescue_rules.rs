//! What a rescue may do: serve what its unit served, by the same rules, or not exist. And the fallback, which comes when
//! the repair itself is killed again and again.

use crate::machine::Machine;

/// The worker is held up after its SIGTERM, then replaced by one that dies after `pause` each time; and the listener goes.
fn killed_again_and_again(machine: &Machine, listener: i32, pause: &str) {
    machine.freeze(listener);
    machine
        .sh(&format!(
            "echo GRACE=60 >/etc/default/sshd-mend
             sshd-mend repair >/lab/out 2>&1 & waiting=$!
             until grep -q '^ShdPnd:.*[4-7c-f]...$' /proc/{listener}/status; do kill -0 $waiting; done
             mkdir -p /run/systemd/system/sshd-mend-repair.service.d
             printf '[Service]\\nExecStart=\\nExecStart=/bin/sh -c \"sleep {pause}; kill -KILL $$$$\"\\n' \\
                 >/run/systemd/system/sshd-mend-repair.service.d/dies.conf
             systemctl daemon-reload
             systemctl kill -s KILL sshd-mend-repair.service
             kill -KILL {listener}; while [ -e /proc/{listener} ]; do :; done"
        ))
        .ok();
}

/// Every attempt to complete the repair dies after `pause`: since systemd 254 each of them triggers `OnFailure=`.
fn the_fallback_serves(root: &str, pause: &str) {
    let (machine, listener) = Machine::with_stale_orphan(root);
    let mut session = machine.open_session("bystander");
    killed_again_and_again(&machine, listener, pause);
    machine.wait_until("the fallback serves", |machine| machine.login().status == 0);
    machine.wait_until("the repair is given up", |machine| {
        machine.sh("systemctl is-failed -q sshd-mend-repair.service").status == 0
    });
    assert_eq!(machine.sh("systemctl is-active ssh.socket ssh.service").ok().stdout, "active\nactive\n");
    session.assert_open();
    machine
        .sh("rm -r /run/systemd/system/sshd-mend-repair.service.d; systemctl daemon-reload; sshd-mend repair; sshd-mend check")
        .ok();
}

#[test]
fn the_fallback_serves_when_every_attempt_is_killed_at_once() {
    the_fallback_serves("trixie", "0");
}

#[test]
fn the_fallback_serves_when_every_attempt_is_killed_after_a_third_of_a_second() {
    the_fallback_serves("trixie", "0.3");
}

#[test]
fn the_fallback_serves_when_every_attempt_is_killed_after_a_second() {
    the_fallback_serves("trixie", "1");
}

#[test]
fn the_fallback_serves_on_debian_12_when_every_attempt_is_killed_at_once() {
    the_fallback_serves("bookworm", "0");
}

#[test]
fn the_fallback_serves_on_debian_12_when_every_attempt_is_killed_after_a_third_of_a_second() {
    the_fallback_serves("bookworm", "0.3");
}

#[test]
fn the_fallback_serves_on_debian_12_when_every_attempt_is_killed_after_a_second() {
    the_fallback_serves("bookworm", "1");
}

/// The unit does not start either: its rescue serves, by way of the fallback alone.
#[test]
fn the_fallback_starts_the_rescue_of_a_unit_that_does_not_start() {
    for root in ["trixie", "bookworm"] {
        let (machine, listener) = Machine::with_stale_orphan(root);
        machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
        killed_again_and_again(&machine, listener, "0");
        machine.wait_until("the rescue serves", |machine| machine.login().status == 0);
        machine.wait_until("it is the rescue", |machine| machine.active("sshd-mend-rescue-ssh.socket") == "active");
        let check = machine.sh("sshd-mend check");
        assert!(check.status == 2 && check.stdout.contains("RESCUED"), "{check:#?}");
        // A person who removes the cause and starts the unit needs nothing else.
        machine.remove_drop_in("ssh.service");
        machine.sh("systemctl start ssh.service").ok();
        assert_eq!(machine.active("sshd-mend-rescue-ssh.socket"), "inactive");
        machine.assert_login();
        machine.sh("sshd-mend check").ok();
    }
}

#[test]
fn no_port_is_opened_that_was_not_served() {
    for root in ["trixie", "bookworm"] {
        let machine = Machine::with_package(root);
        machine
            .sh("echo 'Port 2200' >/etc/ssh/sshd_config.d/port.conf; systemctl stop ssh.service; mkdir -p /run/sshd; /usr/sbin/sshd
                 until [ -s /run/sshd.pid ]; do :; done")
            .ok();
        let listener = machine.number("cat /run/sshd.pid");
        machine.replace_program("/usr/sbin/sshd");
        killed_again_and_again(&machine, listener, "0");
        machine.wait_until("the fallback serves", |machine| machine.sh("ssh -p 2200 root@127.0.0.1 true").status == 0);
        machine.wait_until("nothing is left to be done", |machine| {
            machine.sh("systemctl is-failed -q sshd-mend-repair.service").status == 0
        });
        assert_eq!(machine.active("ssh.service"), "active");
        assert_eq!(machine.sh("ss -Hltn 'sport = :22'").ok().stdout, "");
        assert_eq!(machine.active("sshd-mend-rescue-ssh.socket"), "inactive");
        // A manual restart is not hindered by anything.
        machine.sh("systemctl restart ssh.service").ok();
        machine.assert_login_at("-p 2200 root@127.0.0.1");
    }
}

const HARDENED: &str = "
printf 'Port 22\\nPermitRootLogin no\\nPasswordAuthentication no\\nUsePAM yes\\nAllowUsers user\\n' >/etc/ssh/hardened_config
install -d -o user -m 700 /home/user/.ssh; install -o user -m 600 /root/.ssh/authorized_keys /home/user/.ssh/
mkdir -p /etc/systemd/system/ssh.service.d
printf '[Service]\\nExecStart=\\nExecStart=/usr/sbin/sshd -D -f /etc/ssh/hardened_config -o LogLevel=VERBOSE\\n' \\
    >/etc/systemd/system/ssh.service.d/hardened.conf
systemctl daemon-reload; systemctl restart ssh.service
ssh user@127.0.0.1 true";

#[test]
fn a_unit_that_failed_by_itself_gets_no_rescue() {
    let machine = Machine::with_package("trixie");
    machine.sh(HARDENED).ok();
    assert_ne!(machine.login().status, 0, "root is not let in");
    machine.sh("printf '[Service]\\nExecStartPre=/bin/false\\n' >/etc/systemd/system/ssh.service.d/fails.conf; systemctl daemon-reload").ok();
    assert_ne!(machine.sh("systemctl restart ssh.service").status, 0);
    machine.sh("sshd-mend hook").ok();
    assert_eq!(machine.sh("ss -Hltn 'sport = :22'").ok().stdout, "", "nothing was terminated, so nothing is rescued");
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!((repair.status, &repair.json()["verdict"]), (2, &"failed".into()), "{repair:#?}");
    assert_eq!(machine.sh("ss -Hltn 'sport = :22'").ok().stdout, "");
    assert_eq!(
        machine.sh("ls /run/sshd-mend/intent").status,
        2,
        "nothing was served, so there is nothing to be restored"
    );
    machine.sh("rm /etc/systemd/system/ssh.service.d/fails.conf; systemctl daemon-reload; sshd-mend repair").ok();
    machine.assert_login_at("user@127.0.0.1");
}

#[test]
fn a_rescue_serves_by_the_rules_of_its_unit() {
    for root in ["trixie", "bookworm"] {
        let machine = Machine::with_package(root);
        machine.sh(HARDENED).ok();
        machine.replace_program("/usr/sbin/sshd");
        machine.sh("printf '[Service]\\nExecStartPre=/bin/false\\n' >/etc/systemd/system/ssh.service.d/fails.conf; systemctl daemon-reload").ok();
        let repair = machine.sh("sshd-mend repair --json");
        assert_eq!(
            (repair.status, &repair.json()["verdict"]),
            (2, &"rescued".into()),
            "{repair:#?}\n{}",
            machine.state()
        );
        machine.assert_login_at("user@127.0.0.1");
        let root_login = machine.login();
        assert!(root_login.stderr.contains("Permission denied"), "{root_login:#?}");
        let asked = machine.sh("ssh -o PreferredAuthentications=none user@127.0.0.1 || :");
        assert!(!asked.stderr.contains("password"), "{asked:#?}");
    }
}

#[test]
fn a_rescue_keeps_to_the_network_interface_of_its_socket() {
    let machine = Machine::with_package("trixie");
    machine.sh("systemctl -q disable --now ssh.service; systemctl -q enable ssh.socket").ok();
    machine.drop_in("ssh.socket", "[Socket]\nBindToDevice=lo");
    machine.sh("systemctl start ssh.socket; ssh root@127.0.0.1 true").ok();
    assert!(machine.sh("ss -Hltn 'sport = :22'").ok().stdout.contains("%lo:22"));
    let main = machine.main_pid("ssh.service");
    machine.replace_program("/usr/sbin/sshd");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!((repair.status, &repair.json()["verdict"]), (2, &"rescued".into()), "{repair:#?}\n{}", machine.state());
    assert!(!machine.is_alive(main));
    machine.assert_login();
    let listening = machine.sh("ss -Hltn 'sport = :22'").ok().stdout;
    assert!(listening.lines().all(|line| line.contains("%lo:22")) && !listening.is_empty(), "{listening}");
}

#[test]
fn a_rescue_runs_the_program_of_its_unit() {
    let machine = Machine::with_package("trixie");
    machine.sh("mkdir -p /opt/ssh; mv /usr/sbin/sshd /opt/ssh/sshd").ok();
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=\nExecStart=\nExecStart=/opt/ssh/sshd -D");
    machine.sh("systemctl restart ssh.service; ssh root@127.0.0.1 true").ok();
    machine.replace_program("/opt/ssh/sshd");
    machine.drop_in(
        "ssh.service",
        "[Service]\nExecStartPre=\nExecStartPre=/bin/false\nExecStart=\nExecStart=/opt/ssh/sshd -D",
    );
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!((repair.status, &repair.json()["verdict"]), (2, &"rescued".into()), "{repair:#?}\n{}", machine.state());
    machine.assert_login();
}

/// Whatever the rescue starts closes every connection: that is a failure, and what was served stays on record.
#[test]
fn a_rescue_that_closes_every_connection_is_no_rescue() {
    let machine = Machine::with_package("trixie");
    machine.replace_program("/usr/sbin/sshd");
    // The unit removes what sshd needs for each connection, and fails.
    machine.drop_in(
        "ssh.service",
        "[Service]\nExecStartPre=/bin/mv /usr/lib/openssh/sshd-session /usr/lib/openssh/away\nExecStartPre=/bin/false",
    );
    let repair = machine.sh("sshd-mend repair --json");
    let json = repair.json();
    assert_eq!((repair.status, &json["verdict"]), (2, &"failed".into()), "{json:#}\n{}", machine.state());
    assert!(!repair.stdout.contains("\"rescued\""), "{json:#}");
    let check = machine.sh("sshd-mend check --json");
    assert_eq!((check.status, &check.json()["findings"][0]["code"]), (2, &"interrupted".into()), "{check:#?}");
    machine.sh("mv /usr/lib/openssh/away /usr/lib/openssh/sshd-session").ok();
    machine.remove_drop_in("ssh.service");
    machine.sh("sshd-mend repair").ok();
    machine.assert_login();
    machine.sh("sshd-mend check && [ ! -e /run/sshd-mend/intent ]").ok();
}

/// A start by hand ends the rescue and what is on record: a stop after it is the administrator's.
#[test]
fn what_is_stopped_after_a_start_by_hand_stays_stopped() {
    let machine = Machine::with_package("trixie");
    machine.replace_program("/usr/sbin/sshd");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
    assert_eq!(machine.sh("sshd-mend repair").status, 2, "it is rescued");
    machine.assert_login();
    machine.remove_drop_in("ssh.service");
    machine.sh("systemctl start ssh.service").ok();
    machine.wait_until("the fallback has ended", |machine| {
        machine.active("sshd-mend-fallback-ssh.service") == "inactive" && machine.active("ssh.service") == "active"
    });
    machine.sh("systemctl stop ssh.service; sshd-mend hook").ok();
    assert_eq!(machine.sh("ss -Hltn 'sport = :22'").ok().stdout, "", "the hook opened what was closed");
    let check = machine.sh("sshd-mend check --json");
    assert_eq!((check.status, &check.json()["verdict"]), (2, &"stopped".into()), "{check:#?}");
}

#[test]
fn an_administrator_can_close_a_rescue() {
    for close in [
        "systemctl mask --now sshd-mend-rescue-ssh.socket",
        "touch /etc/ssh/sshd_not_to_be_run; systemctl stop sshd-mend-rescue-ssh.socket",
    ] {
        let machine = Machine::with_package("trixie");
        machine.replace_program("/usr/sbin/sshd");
        machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
        assert_eq!(machine.sh("sshd-mend repair").status, 2, "it is rescued");
        machine.assert_login();
        machine.sh(close).ok();
        machine.wait_until("the fallback has ended", |machine| {
            machine.sh("systemctl list-jobs --no-legend 'sshd-mend-*'").stdout.is_empty()
                && machine.active("sshd-mend-fallback-ssh.service") != "activating"
        });
        machine.sh("sshd-mend hook").ok();
        assert_eq!(
            machine.sh("ss -Hltn 'sport = :22'").ok().stdout,
            "",
            "{close}: it is open again\n{}",
            machine.state()
        );
    }
}
