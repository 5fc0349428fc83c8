//! What a local user, or whoever calls apt, could try. None of it decides anything.

use crate::machine::Machine;

fn stale_orphan() -> (Machine, i32) {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    (machine, listener)
}

/// Programs of the attacker's, under every name that is run, and variables that lead to them.
const EVIL: &str = "
mkdir -p /tmp/evil; cd /tmp/evil
for name in sshd systemctl dpkg-query policy-rc.d sh sshd-mend; do printf '#!/bin/sh\\ntouch /tmp/owned\\n' >$name; chmod 755 $name; done
python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind(\"/tmp/evil/bus\"); s.listen()'
";
const ENVIRONMENT: &str = "PATH=/tmp/evil LD_LIBRARY_PATH=/tmp/evil LD_BIND_NOW=1 HOME=/tmp/evil TMPDIR=/tmp/evil \
    DBUS_SYSTEM_BUS_ADDRESS=unix:path=/tmp/evil/bus DBUS_STARTER_ADDRESS=unix:path=/tmp/evil/bus \
    RUST_LOG=trace RUST_BACKTRACE=full LANG=tlh_QQ LC_ALL=tlh_QQ SYSTEMD_LOG_LEVEL=debug SYSTEMD_PAGER=/tmp/evil/sh \
    SYSTEMD_BYPASS_DEBUG_LOGGING=1 SYSTEMD_UNIT_PATH=/tmp/evil NOTIFY_SOCKET=/tmp/evil/bus LISTEN_FDS=1 SSHD_OPTS=-p2 \
    DPKG_ROOT=/tmp/evil DPKG_ADMINDIR=/tmp/evil";

#[test]
fn the_environment_decides_nothing() {
    let (machine, listener) = stale_orphan();
    machine.sh(EVIL).ok();
    let plain = machine.sh("sshd-mend repair --dry-run");
    let evil = machine.sh(&format!(
        "/usr/bin/env {ENVIRONMENT} /usr/bin/strace -f -v -s 500 -e trace=execve -o /lab/trace /usr/sbin/sshd-mend repair --dry-run"
    ));
    assert_eq!((evil.status, &evil.stdout), (plain.status, &plain.stdout), "{evil:#?}");
    assert_eq!(evil.stderr, plain.stderr);
    let trace = machine.sh("cat /lab/trace").stdout;
    let started: Vec<&str> = trace.lines().filter(|line| line.contains("execve(")).skip(1).collect();
    assert!(started.len() >= 4, "{trace}");
    for line in started {
        let clean = line.contains(r#"["LC_ALL=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]"#);
        assert!(clean && line.contains("execve(\"/usr/"), "{line}");
    }
    machine.sh(&format!("/usr/bin/env {ENVIRONMENT} /usr/sbin/sshd-mend hook")).ok();
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    assert_eq!(machine.sh("ls /tmp/owned").status, 2, "a program of the attacker's was run");
}

#[test]
fn capabilities_are_dropped_before_anything_is_read() {
    let machine = Machine::with_package("trixie");
    machine.sh("strace -o /lab/trace sshd-mend check").ok();
    let trace = machine.sh("cat /lab/trace").stdout;
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
        assert!(score <= 2.5, "{root}: {score}");
    }
}

/// Another address than loopback, and an sshd in another path: the confinement is in nobody's way.
#[test]
fn confined_as_it_is_the_unit_reaches_other_addresses_and_paths() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("ip addr add 192.0.2.7/32 dev lo
             mkdir -p /opt/ssh && cp -p /usr/sbin/sshd /opt/ssh/sshd
             mkdir -p /etc/systemd/system/ssh.service.d
             printf '[Service]\\nExecStartPre=\\nExecStart=\\nExecStart=/opt/ssh/sshd -D $SSHD_OPTS\\n' >/etc/systemd/system/ssh.service.d/path.conf
             echo 'ListenAddress 192.0.2.7' >/etc/ssh/sshd_config.d/address.conf
             systemctl daemon-reload; systemctl restart ssh.service
             ssh root@192.0.2.7 true")
        .ok();
    machine.sh("cp -p /opt/ssh/sshd /opt/ssh/new && mv /opt/ssh/new /opt/ssh/sshd").ok();
    let before = machine.sh("systemctl show -P MainPID ssh.service").stdout;
    let repair = machine.sh("sshd-mend repair --json");
    let json = repair.json();
    assert_eq!((repair.status, &json["verdict"]), (0, &"repaired".into()), "{json:#}\n{}", machine.state());
    assert_eq!(json["listeners"][0]["addresses"][0], "192.0.2.7:22", "{json:#}");
    assert_ne!(machine.sh("systemctl show -P MainPID ssh.service").stdout, before);
    machine.sh("ssh root@192.0.2.7 true").ok();
}

/// Names that a user gives: escapes, newlines, bytes that are no text, 4 KiB of path; and a crowd that comes and goes.
const CROWD: &str = "
import os
base = b'/home/user/names'
names = [b'\\x1b[2J\\x1b]0;owned\\x07', b'line\\nbreak', b'\\xff\\xfe', b'\\xe2\\x80\\xae', b' (deleted)']
paths = [os.path.join(base, name) for name in names]
deep = base
while len(deep) < 3800: deep = os.path.join(deep, b'x' * 200)
for path in paths + [deep]:
    os.makedirs(path)
    program = os.path.join(path, b'sshd'); open(program, 'wb').write(open('/bin/sleep', 'rb').read()); os.chmod(program, 0o755)
    if os.fork() == 0:
        os.execv(program, [b'sshd: /usr/sbin/sshd -D [listener]', b'3600'])
for number in range(8):
    if os.fork() == 0:
        while True:
            if os.fork() == 0: os.execv(program, [b'sshd', b'0.0%d' % number])
            os.wait()
";

#[test]
fn a_crowd_of_hostile_names_changes_nothing() {
    let (machine, listener) = stale_orphan();
    machine
        .sh(&format!(
            "cat >/run/crowd.py <<'E'\n{CROWD}\nE
             setpriv --reuid=user --regid=user --clear-groups python3 /run/crowd.py >/dev/null 2>&1 </dev/null"
        ))
        .ok();
    machine.wait_until("the crowd is there", |machine| {
        machine
            .sh("[ $(find /proc -maxdepth 2 -name exe -lname '/home/user/names/*' 2>/dev/null | wc -l) -gt 5 ]")
            .status
            == 0
    });
    for command in ["sshd-mend -v check", "sshd-mend -v repair"] {
        let output = machine.sh(command);
        let printed = format!("{}{}", output.stdout, output.stderr);
        assert!(printed.chars().all(|c| matches!(c, ' '..='~' | '\n')), "{printed:?}");
        assert_eq!(output.status, if command.ends_with("check") { 1 } else { 0 }, "{output:#?}");
    }
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    let check = machine.sh("sshd-mend -v check").stdout;
    assert!(check.contains("\\u{1b}[2J") && check.contains("line\\nbreak"), "{check}");
}

#[test]
fn a_listener_that_was_replaced_in_between_is_looked_at_again() {
    let (machine, listener) = stale_orphan();
    // The worker is held up right after it has put its intent on record.
    machine
        .sh("mkdir -p /run/systemd/system/sshd-mend-repair.service.d
             printf '[Service]\\nSystemCallFilter=ptrace\\nExecStart=\\nExecStart=/usr/bin/strace -qq -o /dev/null -e trace=/^renameat -e inject=/^renameat:delay_exit=5000000:when=1 /usr/sbin/sshd-mend carry-out\\n' >/run/systemd/system/sshd-mend-repair.service.d/x.conf
             systemctl daemon-reload")
        .ok();
    let replaced = machine.sh(&format!(
        "sshd-mend repair --json >/lab/out & mend=$!
         until [ -e /run/sshd-mend/intent ]; do kill -0 $mend; done
         kill {listener}; while [ -e /proc/{listener} ]; do :; done
         systemctl reset-failed ssh.socket ssh.service; systemctl start ssh.socket ssh.service; systemctl show -P MainPID ssh.service
         wait $mend"
    ));
    let fresh: i32 = replaced.stdout.trim().parse().unwrap_or_else(|_| panic!("{replaced:#?}"));
    let out = machine.sh("cat /lab/out").json();
    assert!(machine.is_alive(fresh), "the fresh listener was ended\n{out:#}");
    assert!(
        out["done"].as_array().is_some_and(|done| done.iter().all(|done| done["action"] != "terminate")),
        "{out:#}"
    );
    assert_eq!(machine.sh("sshd-mend check").status, 0);
    machine.assert_login();
    assert_eq!(machine.sh("ls /run/sshd-mend/intent").status, 2, "nothing is left to be finished");
}
