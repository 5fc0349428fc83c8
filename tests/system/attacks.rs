//! What a local user, or whoever calls apt, could try. None of it decides anything.

use crate::machine::Machine;

/// Programs of the attacker's, under every name that is run.
const EVIL: &str = "
mkdir -p /tmp/evil; cd /tmp/evil
for name in sshd ssh systemctl dpkg-query policy-rc.d sh sshd-mend; do printf '#!/bin/sh\\n: >/tmp/owned\\n' >$name; chmod 755 $name; done
python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind(\"/tmp/evil/bus\"); s.listen()'
";

/// Variables that lead to them.
const ENVIRONMENT: &str = "PATH=/tmp/evil LD_LIBRARY_PATH=/tmp/evil LD_BIND_NOW=1 HOME=/tmp/evil TMPDIR=/tmp/evil \
    DBUS_SYSTEM_BUS_ADDRESS=unix:path=/tmp/evil/bus DBUS_STARTER_ADDRESS=unix:path=/tmp/evil/bus \
    RUST_LOG=trace RUST_BACKTRACE=full LANG=tlh_QQ LC_ALL=tlh_QQ SYSTEMD_LOG_LEVEL=debug SYSTEMD_PAGER=/tmp/evil/sh \
    SYSTEMD_BYPASS_DEBUG_LOGGING=1 SYSTEMD_UNIT_PATH=/tmp/evil NOTIFY_SOCKET=/tmp/evil/bus LISTEN_FDS=1 SSHD_OPTS=-p2 \
    DPKG_ROOT=/tmp/evil DPKG_ADMINDIR=/tmp/evil";

#[test]
fn the_environment_decides_nothing() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh(EVIL).ok();
    let owned = "[ -e /tmp/owned ]";
    assert_eq!(machine.sh(&format!("PATH=/tmp/evil; systemctl; PATH=/usr/bin; {owned}")).status, 0, "the trap works");
    machine.sh("rm /tmp/owned").ok();
    let plain = machine.sh("sshd-mend repair --dry-run");
    let evil = machine.sh(&format!(
        "/usr/bin/env {ENVIRONMENT} /usr/bin/strace -f -v -s 500 -e trace=execve -o /lab/trace /usr/sbin/sshd-mend repair --dry-run"
    ));
    assert_eq!((evil.status, &evil.stdout), (plain.status, &plain.stdout), "{evil:#?}");
    assert_eq!(evil.stderr, plain.stderr);
    let trace = machine.sh("cat /lab/trace").ok().stdout;
    let started: Vec<&str> = trace.lines().filter(|line| line.contains("execve(")).skip(1).collect();
    assert!(started.len() >= 4, "{trace}");
    for line in started {
        let clean = line.contains(r#"["LC_ALL=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]"#);
        assert!(clean && line.contains("execve(\"/usr/"), "{line}");
    }
    machine.sh(&format!("/usr/bin/env {ENVIRONMENT} /usr/sbin/sshd-mend hook")).ok();
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    assert_ne!(machine.sh(owned).status, 0, "a program of the attacker's was run");
}

#[test]
fn capabilities_are_dropped_before_anything_is_read() {
    let machine = Machine::with_package("trixie");
    machine.sh("strace -o /lab/trace sshd-mend check").ok();
    let trace = machine.sh("cat /lab/trace").ok().stdout;
    let first = |what: &str| trace.lines().position(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what}"));
    assert!(first("capset(") < first("/proc/1"), "{trace}");
    assert!(first("capset(") < first("clone3("), "threads have capabilities of their own");
    let dropped = trace.lines().find(|line| line.contains("capset(")).expect("the call");
    assert!(dropped.contains("effective=1<<CAP_SYS_PTRACE,"), "{dropped}");
}

#[test]
fn the_unit_is_confined() {
    for root in ["trixie", "bookworm"] {
        let machine = Machine::with_package(root);
        let score = machine.sh("systemd-analyze security --no-pager sshd-mend-repair.service | tail -n 1").ok().stdout;
        let score: f32 = score.split(": ").nth(1).and_then(|s| s.split(' ').next()?.parse().ok()).expect("a score");
        assert!(score <= 2.9, "{root}: {score}");
    }
}

/// The confinement is in nobody's way: sshd in another path, at an address that is not loopback.
#[test]
fn the_confined_unit_reaches_other_addresses_and_paths() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("ip addr add 192.0.2.7/32 dev lo; mkdir -p /opt/ssh; cp -p /usr/sbin/sshd /opt/ssh/sshd
             echo 'ListenAddress 192.0.2.7' >/etc/ssh/sshd_config.d/address.conf")
        .ok();
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=\nExecStart=\nExecStart=/opt/ssh/sshd -D $SSHD_OPTS");
    machine.sh("systemctl restart ssh.service").ok();
    machine.assert_login_at("root@192.0.2.7");
    machine.replace_program("/opt/ssh/sshd");
    let before = machine.main_pid("ssh.service");
    let repair = machine.sh("sshd-mend repair --json");
    let json = repair.json();
    repair.assert_verdict("repaired", 0);
    assert_eq!(json["listeners"][0]["addresses"], serde_json::json!(["192.0.2.7:22"]), "{json:#}");
    assert!(!json["notes"].to_string().contains("did the work itself"), "the unit did the work: {json:#}");
    assert_ne!(machine.main_pid("ssh.service"), before);
    machine.assert_login_at("root@192.0.2.7");
}

#[test]
fn hostile_names_change_nothing_and_are_printed_as_plain_text() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh("mkdir -p /run/sshd").ok();
    machine.copy_script("hostile-names.py");
    machine
        .sh("setpriv --reuid=user --regid=user --clear-groups python3 /lab/hostile-names.py /home/user/names >/dev/null 2>&1 </dev/null")
        .ok();
    let is_there = |machine: &Machine| {
        let running = "find /proc -maxdepth 2 -name exe -lname '/home/user/names/*' 2>/dev/null | wc -l";
        machine.number(&format!("{running} || :")) > 8
    };
    machine.wait_until("they are there", is_there);
    for (command, status) in [("sshd-mend -v check", 1), ("sshd-mend -v repair", 0)] {
        let output = machine.sh(command);
        let printed = format!("{}{}", output.stdout, output.stderr);
        assert!(printed.chars().all(|c| matches!(c, ' '..='~' | '\n')), "{printed:?}");
        assert_eq!(output.status, status, "{output:#?}");
    }
    machine.wait_until("they are still there", is_there);
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    let check = machine.sh("sshd-mend -v check").ok().stdout;
    for name in ["\\u{1b}[2J", "line\\nbreak", "\\u{202e}", " (deleted)/sshd", "xxxxxxxx/sshd"] {
        assert!(check.contains(name), "{name}\n{check}");
    }
}

/// Everybody may send a signal to one connection of the system bus.
#[test]
fn the_result_of_a_job_comes_from_systemd_alone() {
    let machine = Machine::with_package("trixie");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/sleep 3");
    let before = machine.main_pid("ssh.service");
    machine.replace_program("/usr/sbin/sshd");
    machine
        .sh("cat >/lab/forge <<'E'
while :; do
    for name in $(busctl list --unique --no-legend | cut -d' ' -f1); do
        busctl emit --destination=$name /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager JobRemoved \
            uoss 1 /org/freedesktop/systemd1/job/1 ssh.service failed && : >/home/user/sent
    done
done
E
setpriv --reuid=user --regid=user --clear-groups sh /lab/forge >/dev/null 2>&1 </dev/null &")
        .ok();
    machine.wait_until("signals are sent", |machine| machine.sh("[ -e /home/user/sent ]").status == 0);
    let repair = machine.sh("sshd-mend repair --json");
    repair.assert_verdict("repaired", 0);
    let restart = repair.step("restart-unit").expect("the restart");
    assert_eq!((&restart["ok"], &restart["result"]), (&true.into(), &"restarted".into()), "{restart:#}");
    assert_ne!(machine.main_pid("ssh.service"), before);
    machine.assert_login();
}

#[test]
fn a_listener_that_is_replaced_just_before_the_signal_is_not_terminated() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    // The worker is held up each time it has put something on record; the intent is what comes before the signal.
    machine.drop_in(
        "sshd-mend-repair.service",
        "[Service]\nSystemCallFilter=ptrace\nExecStart=\nExecStart=/usr/bin/strace -qq -o /dev/null -e trace=/^renameat \
         -e inject=/^renameat:delay_exit=2000000 /usr/sbin/sshd-mend carry-out",
    );
    let repair = machine.number("sshd-mend repair --json >/lab/out 2>/dev/null </dev/null & echo $!");
    machine.wait_until("the intent is on record", |machine| machine.sh("[ -e /run/sshd-mend/intent ]").status == 0);
    let worker = machine.number(&format!("pgrep -P {}", machine.main_pid("sshd-mend-repair.service")));
    machine.sh(&format!("kill -STOP {worker}")).ok();
    assert!(machine.is_alive(listener), "the worker was not held up");
    machine.sh(&format!("kill {listener}")).ok();
    machine.wait_until("the old listener is gone", |machine| !machine.is_alive(listener));
    machine.sh("systemctl reset-failed ssh.socket ssh.service; systemctl start ssh.socket ssh.service").ok();
    let fresh = machine.main_pid("ssh.service");
    machine.sh(&format!("kill -CONT {worker}")).ok();
    machine.wait_until("the repair has ended", |machine| !machine.is_alive(repair));
    let out = machine.sh("cat /lab/out").ok();
    assert!(machine.is_alive(fresh), "the fresh listener was terminated\n{out:#?}");
    assert_eq!(machine.main_pid("ssh.service"), fresh, "{out:#?}");
    assert_eq!((out.step("terminate"), out.step("restart-unit")), (None, None), "{out:#?}");
    machine.assert_replaced(listener);
}
