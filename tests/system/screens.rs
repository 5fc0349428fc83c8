//! What a person sees.

use crate::machine::Machine;

/// Pids, dates and versions differ from run to run.
fn normalised(text: &str) -> String {
    let words = |line: &str| {
        let mut result = Vec::new();
        let mut previous = "";
        for word in line.split(' ') {
            let digits = word.chars().filter(char::is_ascii_digit).count();
            let word = if previous == "sshd" && digits > 0 {
                word.replace(|c: char| c.is_ascii_digit(), "").replacen("", "PID", 1)
            } else if previous == "since" {
                word.replace(|c: char| c.is_ascii_digit(), "0")
            } else if word.starts_with("(SSH-2.0-") || word.starts_with("Debian-") {
                "BANNER".to_owned()
            } else {
                word.to_owned()
            };
            previous = line.split(' ').nth(result.len()).unwrap_or_default();
            result.push(word);
        }
        result.join(" ").replace("BANNER BANNER", "(BANNER)")
    };
    text.lines().map(words).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_healthy_machine() {
    let machine = Machine::with_package("trixie");
    let check = machine.sh("sshd-mend check").ok();
    assert_eq!(
        normalised(&check.stdout),
        "ssh.service  active (running), enabled   ssh.socket  inactive (dead), disabled\n\
         0.0.0.0:22   sshd PID, running since 0000-00-00 (ssh.service)\n\
         [::]:22      a new connection gets through (BANNER)\n\
         HEALTHY  new connections get through, and nothing is wrong"
    );
    assert_eq!(
        machine.sh("sshd-mend check -q").ok().stdout,
        "HEALTHY  new connections get through, and nothing is wrong\n"
    );
}

#[test]
fn the_lock_out() {
    let machine = Machine::with_package("trixie");
    machine.locked_out();
    let check = machine.sh("sshd-mend check");
    assert_eq!(check.status, 2);
    assert_eq!(
        normalised(&check.stdout),
        "ssh.service  failed (exit-code), disabled   ssh.socket  failed (resources), enabled\n\
         [::]:22      sshd PID, running since 0000-00-00: /usr/sbin/sshd was replaced on disk, and no unit owns this process\n             \
         new connections are closed after the client's KEXINIT: /run/sshd is missing\n\
         BROKEN  nobody can log in. To mend it: sudo sshd-mend repair"
    );
}

/// Each finding, as a person sees it, and the exit status. The lock-out and the healthy machine are above.
#[test]
fn every_finding() {
    let machine = Machine::with_package("trixie");
    let shows = |bring_about: &str, status: i32, expected: &str| {
        machine.sh(bring_about).ok();
        let check = machine.sh("sshd-mend check");
        assert_eq!(normalised(&check.stdout), expected, "{bring_about}");
        assert_eq!(check.status, status, "{bring_about}");
    };
    let replace = "cp -p /usr/sbin/sshd /usr/sbin/sshd.new && mv /usr/sbin/sshd.new /usr/sbin/sshd";
    shows(
        replace,
        1,
        "ssh.service  active (running), enabled   ssh.socket  inactive (dead), disabled\n\
         0.0.0.0:22   sshd PID, running since 0000-00-00: /usr/sbin/sshd was replaced on disk; it belongs to ssh.service\n\
         [::]:22      a new connection gets through (BANNER)\n\
         AT RISK  new connections get through, but the next upgrade or restart may lock everybody out. To mend it: sudo sshd-mend repair",
    );
    shows(
        "systemctl restart ssh.service; cd /usr/lib/openssh && mv sshd-session away && cp /bin/false sshd-session",
        2,
        "ssh.service  active (running), enabled   ssh.socket  inactive (dead), disabled\n\
         0.0.0.0:22   sshd PID, running since 0000-00-00 (ssh.service)\n\
         [::]:22      new connections are closed before a banner\n             \
         sshd PID of ssh.service is what it should be, but closes every new connection. See: journalctl -u ssh.service\n\
         BROKEN  nobody can log in",
    );
    shows(
        "mv /usr/lib/openssh/away /usr/lib/openssh/sshd-session; systemctl -q enable ssh.socket",
        0,
        "ssh.service  active (running), enabled   ssh.socket  inactive (dead), enabled\n\
         0.0.0.0:22   sshd PID, running since 0000-00-00 (ssh.service)\n\
         [::]:22      a new connection gets through (BANNER)\n             \
         ssh.socket is enabled but not active, and sshd serves by itself. To have the socket back, from a session that may end: \
         systemctl stop ssh.service; systemctl start ssh.socket\n\
         HEALTHY  new connections get through, and nothing is wrong",
    );
    shows(
        "systemctl -q disable ssh.socket; systemctl stop ssh.service",
        1,
        "ssh.service  inactive (dead), enabled   ssh.socket  inactive (dead), disabled\n             \
         nobody listens for SSH: its unit is enabled but was stopped. To start it: systemctl start ssh.service\n\
         AT RISK  nobody listens for SSH right now",
    );
    shows(
        "systemctl -q disable ssh.service",
        0,
        "ssh.service  inactive (dead), disabled   ssh.socket  inactive (dead), disabled\n\
         HEALTHY  nothing is wrong",
    );
    shows(
        "systemctl -q enable ssh.service; mkdir /run/sshd; /usr/sbin/sshd; until [ -s /run/sshd.pid ]; do :; done",
        1,
        "ssh.service  inactive (dead), enabled   ssh.socket  inactive (dead), disabled\n\
         0.0.0.0:22   sshd PID, running since 0000-00-00: no unit owns this process\n\
         [::]:22      a new connection gets through (BANNER)\n\
         AT RISK  new connections get through, but the next upgrade or restart may lock everybody out. To mend it: sudo sshd-mend repair",
    );
    // A package run leaves it alone, for it serves; a person's repair puts it right.
    let orphan: i32 = machine.sh("cat /run/sshd.pid").ok().stdout.trim().parse().expect("a pid");
    assert!(machine.sh("sshd-mend hook").ok().stdout.contains("AT RISK") && machine.is_alive(orphan));
    machine.sh("sshd-mend repair && sshd-mend check").ok();
    assert!(!machine.is_alive(orphan));
    machine.assert_login();
    shows(
        "systemctl stop ssh.service
         python3 -c 'import socket
s = socket.create_server((\"::\", 22), family=socket.AF_INET6, dualstack_ipv6=True); open(\"/run/up\", \"w\").close()
while True: s.accept()' >/dev/null 2>&1 </dev/null & echo $! >/run/other; until [ -e /run/up ]; do kill -0 $!; done
         systemctl start ssh.service 2>/dev/null; true",
        2,
        "ssh.service  failed (exit-code), enabled   ssh.socket  inactive (dead), disabled\n             \
         nobody listens for SSH, because another program holds its address: [::]:22\n\
         refused      another program holds an address that ssh needs: [::]:22 (foreign-listener)\n\
         what to do   See `ss -ltnp`; end that program or move it to another port, then run: sshd-mend repair\n\
         BROKEN  nobody can log in",
    );
    let other: i32 = machine.sh("cat /run/other").ok().stdout.trim().parse().expect("a pid");
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!((repair.status, &repair.json()["refusal"]["code"]), (2, &"foreign-listener".into()), "{repair:#?}");
    assert!(machine.sh("sshd-mend hook").ok().stdout.contains("another program holds"));
    assert!(machine.is_alive(other));
    shows(
        &format!("kill {other}; while [ -e /proc/{other}/exe ]; do :; done"),
        2,
        "ssh.service  failed (exit-code), enabled   ssh.socket  inactive (dead), disabled\n             \
         nobody listens for SSH: ssh.service has failed\n\
         BROKEN  nobody can log in. To mend it: sudo sshd-mend repair",
    );
    shows(
        "systemctl reset-failed ssh.service; mkdir -p -m 700 /run/sshd-mend
         printf '{\"boot_id\":\"%s\",\"addresses\":[\"[::]:22\"],\"units\":[\"ssh.service\"]}' $(cat /proc/sys/kernel/random/boot_id) >/run/sshd-mend/intent",
        2,
        "ssh.service  inactive (dead), enabled   ssh.socket  inactive (dead), disabled\n             \
         a repair was interrupted before it had started ssh.service again\n\
         BROKEN  nobody can log in. To mend it: sudo sshd-mend repair",
    );
    machine.sh("sshd-mend repair").ok();
    shows(
        "systemctl stop ssh.service; rm /run/up
         python3 -c 'import socket
s = socket.create_server((\"0.0.0.0\", 22)); open(\"/run/up\", \"w\").close()
while True: s.accept()' >/dev/null 2>&1 </dev/null & echo $! >/run/other; until [ -e /run/up ]; do kill -0 $!; done
         systemctl start ssh.service",
        2,
        "ssh.service  active (running), enabled   ssh.socket  inactive (dead), disabled\n\
         [::]:22      sshd PID, running since 0000-00-00 (ssh.service)\n             \
         a new connection gets through (BANNER)\n             \
         whoever connects to an address that another program holds does not reach sshd: 0.0.0.0:22\n\
         refused      another program holds an address that ssh needs: 0.0.0.0:22 (foreign-listener)\n\
         what to do   See `ss -ltnp`; end that program or move it to another port, then run: sshd-mend repair\n\
         BROKEN  new connections get through, but not all is well",
    );
    // The same with an sshd of another path, which is left alone for a named reason.
    machine
        .sh("kill $(cat /run/other); systemctl stop ssh.service; mkdir -p /opt/ssh /run/sshd; cp -p /usr/sbin/sshd /opt/ssh/
             /opt/ssh/sshd -D >/dev/null 2>&1 </dev/null & echo $! >/run/other; until ssh root@127.0.0.1 true 2>/dev/null; do kill -0 $!; done
             cp -p /opt/ssh/sshd /opt/ssh/new && mv /opt/ssh/new /opt/ssh/sshd; systemctl start ssh.service 2>/dev/null; true")
        .ok();
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!((repair.status, &repair.json()["refusal"]["code"]), (2, &"foreign-listener".into()), "{repair:#?}");
    let check = machine.sh("sshd-mend -v check").stdout;
    assert!(check.contains("its program is not the one that ssh.service starts"), "{check}");
    machine.sh("kill -0 $(cat /run/other)").ok();
    machine.sh("kill $(cat /run/other); systemctl restart ssh.service; until ssh root@127.0.0.1 true 2>/dev/null; do :; done").ok();
    shows(
        &format!(
            "mkdir -p /etc/systemd/system/ssh.service.d; printf '[Service]\\nExecStartPre=/bin/false\\n' >/etc/systemd/system/ssh.service.d/x.conf
             systemctl daemon-reload; {replace}; sshd-mend repair; [ $? = 2 ] && systemctl reset-failed ssh.service"
        ),
        2,
        "ssh.service  inactive (dead), enabled   ssh.socket  inactive (dead), disabled\n             \
         sshd-mend-rescue.socket serves SSH in place of ssh.service, which could not be started\n\
         RESCUED  ssh.service could not be started; sshd-mend-rescue.socket serves SSH in its place. \
         See: systemctl status ssh.service. When its cause is removed: sudo sshd-mend repair",
    );
    machine.sh("rm -r /etc/systemd/system/ssh.service.d; systemctl daemon-reload; sshd-mend repair").ok();
    machine.assert_login();
    shows(
        "DEBIAN_FRONTEND=noninteractive apt-get purge -y openssh-server >/dev/null 2>&1",
        0,
        "NOT APPLICABLE  there is no OpenSSH server on this machine",
    );
}

#[test]
fn whoever_cannot_look_gets_status_3() {
    let machine = Machine::with_package("trixie");
    let check = machine.sh("setpriv --reuid=user --clear-groups sshd-mend check");
    assert_eq!(check.status, 3, "{check:#?}");
    assert!(check.stdout.contains("only root can see"), "{check:#?}");
    let check = machine.sh("unshare --net sshd-mend check");
    assert_eq!(check.status, 3, "{check:#?}");
    assert!(check.stdout.contains("another network namespace"), "{check:#?}");
    assert_eq!(machine.sh("sshd-mend chekc").status, 3);
    assert_eq!(machine.sh("sshd-mend check --dry-run").status, 3);
    assert_eq!(machine.sh("sshd-mend --help").status, 0);
    assert_eq!(machine.sh("sshd-mend --version").status, 0);
}

#[test]
fn json_is_the_only_thing_on_stdout() {
    let machine = Machine::with_package("trixie");
    machine.locked_out();
    let check = machine.sh("sshd-mend check --json").json();
    let keys = [
        "schema",
        "command",
        "dry_run",
        "verdict",
        "exit_status",
        "findings",
        "listeners",
        "units",
        "plan",
        "refusal",
        "sessions",
        "unreachable_ms",
        "duration_ms",
    ];
    for key in keys {
        assert!(check.get(key).is_some(), "{key} is missing in {check:#}");
    }
    let listener = &check["listeners"][0];
    for key in ["pid", "started", "exe", "stale", "orphan", "unit", "addresses", "probe", "probe_detail"] {
        assert!(listener.get(key).is_some(), "{key} is missing in {listener:#}");
    }
    assert_eq!(
        (&listener["probe"], &listener["stale"], &listener["orphan"]),
        (&"dead".into(), &true.into(), &true.into())
    );
    assert_eq!(check["units"]["ssh.socket"]["listen"], serde_json::json!(["[::]:22"]));
    assert_eq!((&check["verdict"], &check["exit_status"]), (&"broken".into(), &2.into()));
}
