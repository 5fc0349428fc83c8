//! Debian 12, whose sshd 9.2 serves sessions with the listener's own program: a session is told from a listener by what
//! it holds, never by what it runs.

use crate::machine::Machine;
use std::process::{Child, Stdio};

/// A root session that holds a socket in LISTEN, as a listener does.
fn with_forwarding(machine: &Machine, name: &str, forwarding: &str) -> Child {
    let child = machine
        .command(&[
            "ssh",
            "-o",
            "ExitOnForwardFailure=yes",
            "-R",
            forwarding,
            "root@127.0.0.1",
            &format!("exec -a {name} sleep 3600"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("ssh starts");
    machine.wait_until("the session is open", |machine| machine.sh(&format!("pgrep -fx '{name} 3600'")).status == 0);
    child
}

#[test]
fn the_incident_is_mended_inside_apt_get() {
    let machine = Machine::with_package("bookworm");
    let listener = machine.incident();
    let mut clients = [
        ("forwarding", with_forwarding(&machine, "forwarding", "2201:127.0.0.1:22")),
        ("elsewhere", with_forwarding(&machine, "elsewhere", "2202:127.0.0.1:2201")),
        ("plain", machine.open_session("plain")),
    ];
    assert!(machine.sh("ss -ltnp").stdout.matches("sshd").count() >= 3, "the decoys listen");
    let run = machine.upgrade().ok();
    assert!(run.stdout.contains("REPAIRED"), "{run:#?}\n{}", machine.state());
    assert!(run.stdout.contains("3 of 3 open sessions went on"), "{run:#?}");
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    for (name, client) in &mut clients {
        assert!(machine.session_is_open(name, client), "{name} was ended");
        client.kill().expect("the client is ours");
        client.wait().expect("the client ends");
    }
    assert_eq!(machine.sh("systemctl is-active ssh.socket").stdout, "active\n");
    assert_eq!(machine.sh("sshd-mend check").status, 0);
}

#[test]
fn a_session_whose_listener_is_gone_is_still_a_session() {
    let machine = Machine::with_package("bookworm");
    let listener = machine.incident();
    let mut client = with_forwarding(&machine, "survivor", "2201:127.0.0.1:22");
    machine.upgrade_without_hook().ok();
    machine.sh(&format!("kill {listener}; while [ -e /proc/{listener} ]; do :; done; systemctl start ssh.socket")).ok();
    let check = machine.sh("sshd-mend check -v");
    assert!(check.stdout.contains("serves a connection"), "{check:#?}");
    machine.sh("sshd-mend repair").ok();
    assert!(machine.session_is_open("survivor", &mut client));
    client.kill().expect("the client is ours");
    client.wait().expect("the client ends");
}

#[test]
fn a_lock_out_is_mended_by_hand() {
    let machine = Machine::with_package("bookworm");
    let listener = machine.locked_out();
    assert_eq!(machine.sh("sshd-mend check").status, 2);
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}");
    assert!(!machine.is_alive(listener));
    machine.assert_login();
}

#[test]
fn the_rescue_works_there_too() {
    let machine = Machine::with_package("bookworm");
    machine.incident();
    machine.upgrade_without_hook().ok();
    machine
        .sh("mkdir -p /etc/systemd/system/ssh.service.d; printf '[Service]\\nExecStartPre=/bin/false\\n' >/etc/systemd/system/ssh.service.d/x.conf; systemctl daemon-reload")
        .ok();
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!((repair.status, &repair.json()["verdict"]), (2, &"rescued".into()), "{repair:#?}");
    machine.assert_login();
    machine.sh("rm -r /etc/systemd/system/ssh.service.d; systemctl daemon-reload").ok();
    assert_eq!(machine.sh("sshd-mend repair").status, 0);
    machine.assert_login();
}
