//! Processes that look like the listener to be terminated, all at once on one machine with the real one. Each of them
//! lives on, and `check -v` names the reason.

use crate::machine::Machine;
use crate::session::Session;
use std::process::{Child, Stdio};

/// A process that scripts/decoys.sh starts.
struct Decoy {
    name: &'static str,
    /// It is what it is meant to be: a condition of the shell, with its pid as `$1`.
    fact: &'static str,
    /// Why it is left alone. Empty: it is not even looked at.
    reason: &'static str,
}

const OTHER_PROGRAM: &str = "no unit starts its program as an OpenSSH server";
const NOT_ROOT: &str = "it does not run as root";
const ELSEWHERE: &str = "it runs in another namespace or root directory";

const DECOYS: &[Decoy] = &[
    Decoy {
        name: "users",
        fact: "stale $1 && [ $(ps -o ruser= -p $1) = user ] && [ $(readlink /proc/$1/exe | cut -d' ' -f1) = /usr/sbin/sshd ]",
        reason: NOT_ROOT,
    },
    Decoy { name: "opt", fact: "stale $1 && readlink /proc/$1/exe | grep -q ^/opt", reason: OTHER_PROGRAM },
    Decoy { name: "named", fact: "stale $1 && [ -e \"$(readlink /proc/$1/exe)\" ]", reason: OTHER_PROGRAM },
    Decoy { name: "jail", fact: "stale $1 && [ $(readlink /proc/$1/root) = /srv/jail ]", reason: ELSEWHERE },
    Decoy { name: "network", fact: "stale $1 && other net $1", reason: ELSEWHERE },
    Decoy { name: "pod", fact: "stale $1 && other pid $1", reason: ELSEWHERE },
    Decoy { name: "users-root", fact: "stale $1 && other user $1", reason: NOT_ROOT },
    Decoy {
        name: "traced",
        fact: "stale $1 && grep -q '^TracerPid:.[1-9]' /proc/$1/status",
        reason: "a debugger is attached",
    },
    Decoy {
        name: "forked",
        fact: "stale $1 && [ $(ps -o comm= -p $(ps -o ppid= -p $1)) = sshd ] && ss -Hltnp 'sport = :2211' | grep -q pid=$1,",
        reason: "serves a connection",
    },
    Decoy { name: "program", fact: "stale $1 && readlink /proc/$1/exe | grep -q /sshd", reason: NOT_ROOT },
    Decoy {
        name: "titled",
        fact: "[ $(ps -o comm= -p $1) = sshd ] && tr '\\0' ' ' </proc/$1/cmdline | grep -q '^sshd: .*listener'",
        reason: "",
    },
];

/// For [`Decoy::fact`].
const CONDITIONS: &str = "
stale() { readlink /proc/$1/exe | grep -q ' (deleted)$'; }
other() { [ $(readlink /proc/$2/ns/$1) != $(readlink /proc/1/ns/$1) ]; }
";

const SETTINGS: &str = "
cat >>/etc/ssh/sshd_config <<'E'
X11Forwarding yes
GatewayPorts clientspecified
LoginGraceTime 0
Match User user
    ChrootDirectory /srv/sftp
    ForceCommand internal-sftp
E
mkdir -p /srv/sftp; install -d -o user /home/user/.ssh; install -o user /root/.ssh/authorized_keys /home/user/.ssh/
printf '#!/bin/sh\\nexit 0\\n' >/usr/bin/xauth; chmod 755 /usr/bin/xauth
head -c 3000000 /dev/zero >/root/big
";

/// A listener that will go away under its session, and one connection of `sshd -i`.
const OTHER_LISTENERS: &str = "
/usr/sbin/sshd -o PidFile=none -p 2299
systemd-socket-activate --accept --inetd --listen=/run/inetd.sock /usr/sbin/sshd -i >/dev/null 2>&1 </dev/null &
";

/// Of the machine's own port: all but those over the port that is gone, and over the UNIX socket.
const CONNECTIONS: i32 = 8;

fn connections(machine: &Machine) -> i32 {
    machine.number("ss -Htn state established 'sport = :22' | wc -l")
}

/// A client that is in the middle of something: its standard input is a pipe that nobody writes to. It ends with the
/// value.
struct Client(Child);

impl Client {
    fn of(machine: &Machine, command: &[&str]) -> Self {
        let mut command = machine.command(command);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a command"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every kind of session.
fn sessions(machine: &Machine) -> Vec<Session<'_>> {
    machine.copy_script("unix-pipe.py");
    machine.sh(OTHER_LISTENERS).ok();
    machine.wait_until("they listen", |machine| {
        machine.sh("ssh -p 2299 root@127.0.0.1 true; [ -S /run/inetd.sock ]").status == 0
    });
    let host = "root@127.0.0.1";
    let sessions = vec![
        machine.open_session_by("x11", &["env", "DISPLAY=:0", "ssh"], &["-Y", host]),
        machine.open_session_with("forwarding", &["-R", "2201:127.0.0.1:22", host]),
        machine.open_session_with("port-22", &["-R", "127.0.0.9:22:127.0.0.1:2201", host]),
        machine.open_session_with("listener-gone", &["-p", "2299", host]),
        machine.open_session_with("inetd", &["-o", "ProxyCommand=python3 /lab/unix-pipe.py", host]),
        machine.open_session_with("master", &["-M", "-S", "/run/mux", host]),
        machine.open_session_with("second", &["-S", "/run/mux", host]),
    ];
    // Each of the first three has made a session hold a socket in LISTEN.
    for address in ["127.0.0.1:6010", "127.0.0.1:2201", "127.0.0.9:22"] {
        assert!(machine.listening().iter().any(|held| held == address), "{address}: {:?}", machine.listening());
    }
    machine.sh("kill $(ss -Hltnp 'sport = :2299' | sed -n 's/.*pid=\\([0-9]*\\).*/\\1/p' | sort -u)").ok();
    machine.wait_until("the listener is gone", |machine| machine.sh("ss -Hltn 'sport = :2299'").ok().stdout.is_empty());
    sessions
}

/// Logins and transfers that are under way.
fn clients(machine: &Machine) -> Vec<Client> {
    machine.copy_script("half-way.py");
    let clients = vec![
        Client::of(machine, &["python3", "/lab/half-way.py"]),
        Client::of(machine, &["scp", "-l", "8", "/root/big", "root@127.0.0.1:/dev/null"]),
        Client::of(machine, &["sftp", "-q", "root@127.0.0.1"]),
        Client::of(machine, &["sftp", "-q", "user@127.0.0.1"]),
    ];
    machine.wait_until("a client is half way", |machine| machine.sh("[ -e /run/half-way ]").status == 0);
    machine.wait_until("the transfers are under way", |machine| {
        connections(machine) == CONNECTIONS && machine.number("pgrep -cf 'sftp-server|internal-sftp' || :") >= 2
    });
    clients
}

/// Pid and start of each decoy: together they name one process.
fn identities(machine: &Machine) -> String {
    machine.sh("cd /run; for file in decoy.*[!g]; do pid=$(cat $file); echo $file $pid $(sed 's/.*) //' /proc/$pid/stat | cut -d' ' -f20); done").ok().stdout
}

fn only_the_listener_is_terminated(root: &str) {
    let machine = Machine::with_package(root);
    machine.drop_in("ssh.socket", "[Socket]\nListenStream=\nListenStream=127.0.0.1:22");
    machine.sh(SETTINGS).ok();
    let orphan = machine.incident_at("127.0.0.1:22");
    let mut sessions = sessions(&machine);
    let mut clients = clients(&machine);
    machine.script("decoys.sh", &[]).ok();
    machine.upgrade_without_hook().ok();
    machine.sh("mkdir -p /run/sshd").ok();

    let check = machine.sh("sshd-mend -v check").stdout;
    for Decoy { name, fact, reason } in DECOYS {
        let pid = machine.number(&format!("cat /run/decoy.{name}"));
        let is_it = machine.sh(&format!("{CONDITIONS}\nset -- {pid}\n{fact}"));
        assert_eq!(is_it.status, 0, "{name} is not what it should be: {}", machine.sh("head /run/decoy.*.log").stdout);
        let shown = check.lines().any(|line| line.contains(&format!(" {pid} ")) && line.contains(reason));
        assert_eq!(shown, !reason.is_empty(), "{name} {pid}: {reason}\n{check}");
    }
    assert!(check.matches("serves a connection").count() > CONNECTIONS as usize, "{check}");

    let before = identities(&machine);
    assert_eq!(before.lines().count(), DECOYS.len(), "{before}");
    let repair = machine.sh("sshd-mend repair --json");
    let json = repair.json();
    // One warning is left: a stale listener with a debugger.
    repair.assert_verdict("repaired", 1);
    let steps = repair.steps().into_iter().filter(|step| step["action"] == "terminate");
    assert_eq!(steps.map(|step| step["pid"].clone()).collect::<Vec<_>>(), [serde_json::json!(orphan)], "{json:#}");
    assert!(!machine.is_alive(orphan), "{json:#}");
    machine.assert_login();
    assert_eq!(identities(&machine), before, "{json:#}");
    assert_eq!(connections(&machine), CONNECTIONS, "{}", machine.sh("ss -tnp").stdout);
    assert_eq!(json["sessions"]["before"], json["sessions"]["after"], "{json:#}");
    for session in &mut sessions {
        session.assert_open();
    }
    for Client(client) in &mut clients {
        assert!(client.try_wait().expect("a child").is_none(), "{json:#}");
    }
}

#[test]
fn only_the_listener_is_terminated_on_debian_13() {
    only_the_listener_is_terminated("trixie");
}

#[test]
fn only_the_listener_is_terminated_on_debian_12() {
    only_the_listener_is_terminated("bookworm");
}
