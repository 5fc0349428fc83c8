//! Processes that look like the one that is to be ended, all at once on one machine with the real one: each of them is
//! alive afterwards, and `check -v` names the reason.

use crate::machine::{Machine, script};
use std::process::{Child, Stdio};

/// A session that stays, opened by an ssh client with `options`.
fn session(machine: &Machine, name: &'static str, options: &[&str]) -> (&'static str, Child) {
    let text = format!("exec -a {name} sleep 3600");
    let client = background(
        machine,
        &[&["ssh", "-o", "ExitOnForwardFailure=yes"], options, &["root@127.0.0.1", &text]].concat(),
    );
    machine.wait_until(name, |machine| machine.sh(&format!("pgrep -fx '{name} 3600'")).status == 0);
    (name, client)
}

/// A command of the machine that stays: its standard input is a pipe that nobody writes to.
fn background(machine: &Machine, arguments: &[&str]) -> Child {
    let mut command = machine.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a command")
}

fn end(mut client: Child) {
    client.kill().expect("the client is ours");
    client.wait().expect("the client ends");
}

/// Listeners that are none of the host's, and programs that are no sshd. Each leaves its pid in /run/decoy.NAME.
const LISTENERS: &str = r#"
set -eu
answers() { python3 -c "
import socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5); sys.exit(not s.recv(4).startswith(b'SSH-'))" "$1" 2>/dev/null; }
start() { # NAME PORT COMMAND…: returns once the port answers
    name=$1 port=$2; shift 2
    "$@" >/run/decoy.$name.log 2>&1 </dev/null &
    echo $! >/run/decoy.$name
    for try in $(seq 100); do answers $port && return 0; done
    cat /run/decoy.$name.log; echo "$name does not answer on $port"; exit 1
}
inner() { # NAME: its sshd, where a wrapper was started
    first=$(cat /run/decoy.$1)
    for pid in $(pgrep -x sshd); do
        up=$pid
        while [ "$up" -gt 1 ] && [ "$up" != "$first" ]; do up=$(sed 's/.*) . //; s/ .*//' /proc/$up/stat); done
        [ "$up" != "$first" ] || { echo $pid >/run/decoy.$1; return 0; }
    done
    echo "no sshd below $1"; return 1
}
mkdir -p /opt/ssh /srv/jail /home/user/bin
as_user="setpriv --reuid=user --regid=user --clear-groups"
ssh-keygen -q -t ed25519 -N '' -f /home/user/key; chown user /home/user/key
plain='-D -o PidFile=none -f /dev/null'

# A user's own sshd; the upgrade makes it stale.
start users 2222 $as_user /usr/sbin/sshd $plain -p 2222 -h /home/user/key
# An sshd of another path, stale.
cp /usr/sbin/sshd /opt/ssh/sshd
start opt 2208 /opt/ssh/sshd $plain -p 2208
cp /opt/ssh/sshd /opt/ssh/new; mv /opt/ssh/new /opt/ssh/sshd
# A file that is really named so.
cp /usr/sbin/sshd '/usr/sbin/sshd (deleted)'
start named 2203 '/usr/sbin/sshd (deleted)' $plain -p 2203
# In a chroot.
for directory in usr etc proc dev run; do mkdir /srv/jail/$directory; mount --rbind /$directory /srv/jail/$directory; done
for link in bin lib lib64 sbin; do ln -s usr/$link /srv/jail/$link; done
start jail 2205 chroot /srv/jail /usr/sbin/sshd $plain -p 2205
# In another network namespace.
ip netns add other; ip -n other link set lo up
ip netns exec other /usr/sbin/sshd $plain -p 2204 >/dev/null 2>&1 </dev/null & echo $! >/run/decoy.network
until ip netns exec other ss -ltn | grep -q :2204; do kill -0 $!; done
# In another PID namespace with the host's network, and in a user namespace where it is root.
start pod 2206 unshare --pid --fork --mount-proc /usr/sbin/sshd $plain -p 2206; inner pod
start users-root 2207 $as_user unshare --user --map-root-user --mount \
    sh -c "mount -t tmpfs none /run; mkdir -m 755 /run/sshd; exec /usr/sbin/sshd $plain -p 2207 -h /home/user/key"
# Held by a debugger.
start traced 2209 strace -f -o /dev/null -e trace=none /usr/sbin/sshd $plain -p 2209; inner traced
# A child that a listener has just forked, before it has closed anything: stopped at its first system call.
strace -f -o /dev/null -e trace=set_robust_list -e inject=set_robust_list:signal=SIGSTOP /usr/sbin/sshd $plain -p 2211 >/dev/null 2>&1 </dev/null &
echo $! >/run/decoy.forked
until inner forked >/dev/null; do kill -0 $!; done
listener=$(cat /run/decoy.forked)
until ss -ltn | grep -q :2211; do kill -CONT $listener; done
python3 -c 'import socket, time; s = socket.create_connection(("127.0.0.1", 2211)); time.sleep(3600)' >/dev/null 2>&1 </dev/null &
# "t" is also every system call's moment under strace: what counts is that it stays.
stays() { for look in $(seq 50); do grep -q '^State:.[Tt]' /proc/$1/status || return 1; done; }
until child=$(pgrep -P $listener) && stays $child; do kill -0 $!; done
echo $child >/run/decoy.forked

# Programs that are no sshd: a user's of that name, deleted; one that calls itself so, and has a port.
cp /bin/sleep /home/user/bin/sshd; $as_user /home/user/bin/sshd 3600 >/dev/null 2>&1 </dev/null & echo $! >/run/decoy.program
until [ "$(readlink /proc/$!/exe)" = /home/user/bin/sshd ]; do kill -0 $!; done
rm /home/user/bin/sshd
cat >/run/titled.sh <<'E'
exec -a 'sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups' python3 -c "
import socket
s = socket.create_server(('127.0.0.1', 2210)); open('/proc/self/comm', 'w').write('sshd')
while True:
    c = s.accept()[0]; c.sendall(b'SSH-2.0-x\r\n')"
E
start titled 2210 bash /run/titled.sh
"#;

/// A client that is neither logged in nor gone.
const HALF_WAY: &str = "
import socket
s = socket.create_connection(('127.0.0.1', 22)); s.sendall(b'SSH-2.0-half\\r\\n')
data = b''
while len(data) < 500: data += s.recv(500)
open('/run/half-way', 'w').close()
while s.recv(500): pass
";

/// Hands on between a UNIX socket and standard input and output.
const UNIX_PIPE: &str = "
import os, socket, threading
s = socket.socket(socket.AF_UNIX); s.connect('/run/inetd.sock')
def up():
    while True:
        d = os.read(0, 65536)
        if not d: break
        s.sendall(d)
threading.Thread(target=up, daemon=True).start()
while True:
    d = s.recv(65536)
    if not d: break
    os.write(1, d)
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
mkdir -p /etc/systemd/system/ssh.socket.d
printf '[Socket]\\nListenStream=\\nListenStream=127.0.0.1:22\\n' >/etc/systemd/system/ssh.socket.d/one.conf
systemctl daemon-reload
head -c 3000000 /dev/zero >/root/big
";

/// A listener that goes away under its session, and one connection of `sshd -i`.
const OTHER_LISTENERS: &str = "
/usr/sbin/sshd -o PidFile=none -p 2299; until ssh -p 2299 root@127.0.0.1 true 2>/dev/null; do :; done
systemd-socket-activate --accept --inetd --listen=/run/inetd.sock /usr/sbin/sshd -i >/dev/null 2>&1 </dev/null &
until [ -S /run/inetd.sock ]; do kill -0 $!; done
";

const LISTENER_GONE: &str = "
kill $(ss -ltnp 'sport = :2299' | sed -n 's/.*pid=\\([0-9]*\\).*/\\1/p' | sort -u); while ss -ltn | grep -q :2299; do :; done
";

/// Of the machine's own port: all but those over the port that is gone, and over the UNIX socket.
const CONNECTIONS: usize = 8;

fn decoys(root: &str) {
    let machine = Machine::with_package(root);
    machine.sh(SETTINGS).ok();
    let incident = std::fs::read_to_string(script("incident")).expect("tests/system/incident");
    let orphan = machine.sh(&format!("set -- 127.0.0.1:22\n{incident}")).ok();
    let orphan: i32 = orphan.stdout.trim().parse().expect("a pid");

    machine.sh(&format!("cat >/run/half.py <<'E'\n{HALF_WAY}\nE\ncat >/run/pipe.py <<'E'\n{UNIX_PIPE}\nE")).ok();
    machine.sh(OTHER_LISTENERS).ok();
    let x11 = ["env", "DISPLAY=:0", "ssh", "-Y", "root@127.0.0.1", "[ -n \"$DISPLAY\" ] && exec -a x11 sleep 3600"];
    let x11 = background(&machine, &x11);
    machine.wait_until("x11", |machine| machine.sh("pgrep -fx 'x11 3600'").status == 0);
    let sessions = [
        ("x11", x11),
        session(&machine, "forwarding", &["-R", "2201:127.0.0.1:22"]),
        session(&machine, "port-22", &["-R", "127.0.0.9:22:127.0.0.1:2201"]),
        session(&machine, "left-behind", &["-p", "2299"]),
        session(&machine, "inetd", &["-o", "ProxyCommand=python3 /run/pipe.py"]),
        session(&machine, "master", &["-M", "-S", "/run/mux"]),
        session(&machine, "second", &["-S", "/run/mux"]),
    ];
    machine.sh(LISTENER_GONE).ok();
    let transfers = [
        ("half way", background(&machine, &["python3", "/run/half.py"])),
        ("scp", background(&machine, &["scp", "-l", "8", "/root/big", "root@127.0.0.1:/dev/null"])),
        ("sftp", background(&machine, &["sftp", "-q", "root@127.0.0.1"])),
        ("internal-sftp", background(&machine, &["sftp", "-q", "user@127.0.0.1"])),
    ];
    let connections = |machine: &Machine| {
        let output = machine.sh("ss -Htn state established 'sport = :22' | wc -l").ok();
        output.stdout.trim().parse::<usize>().expect("a number")
    };
    machine.wait_until("somebody is half way", |machine| machine.sh("ls /run/half-way").status == 0);
    machine.wait_until("transfers are under way", |machine| connections(machine) == CONNECTIONS);

    machine.sh(LISTENERS).ok();
    machine.upgrade_without_hook().ok();
    let pid = |name: &str| -> i32 {
        machine.sh(&format!("cat /run/decoy.{name}")).ok().stdout.trim().parse().expect("a pid")
    };
    let elsewhere = "another namespace or root directory";
    let expected = [
        ("users", "does not run as root"),
        ("opt", "is not the one that ssh.service starts"),
        ("named", "is not the one that ssh.service starts"),
        ("jail", elsewhere),
        ("network", elsewhere),
        ("pod", elsewhere),
        ("users-root", elsewhere),
        ("traced", "a debugger is attached"),
        ("forked", "serves a connection"),
        ("program", "is not the one that ssh.service starts"),
        // What only calls itself sshd is not even looked at.
        ("titled", ""),
    ];
    let decoys = expected.map(|(name, reason)| (name, pid(name), reason));
    let check = machine.sh("sshd-mend -v check").stdout;
    for (name, pid, reason) in &decoys {
        assert!(machine.is_alive(*pid), "{name} is not there\n{}", machine.sh("head /run/decoy.*.log").stdout);
        let told = check.lines().any(|line| line.contains(&format!("{pid} ")) && line.contains(reason));
        assert_eq!(told, !reason.is_empty(), "{name} {pid}: {reason}\n{check}");
    }
    assert!(check.matches("serves a connection").count() > CONNECTIONS, "{check}");

    let repair = machine.sh("sshd-mend -v repair");
    // One is left that should be looked at: a stale listener with a debugger.
    assert_eq!(repair.status, 1, "{repair:#?}\n{}", machine.state());
    assert!(repair.stdout.contains("REPAIRED"), "{repair:#?}");
    assert!(!machine.is_alive(orphan), "{repair:#?}");
    machine.assert_login();
    for (name, pid, _) in &decoys {
        assert!(machine.is_alive(*pid), "{name} was ended\n{repair:#?}");
    }
    assert_eq!(connections(&machine), CONNECTIONS, "{}", machine.sh("ss -tnp").stdout);
    for (name, mut client) in sessions {
        assert!(machine.session_is_open(name, &mut client), "{name} was ended\n{repair:#?}");
        end(client);
    }
    for (name, mut client) in transfers {
        assert!(client.try_wait().expect("a child").is_none(), "{name} was ended\n{repair:#?}");
        end(client);
    }
}

#[test]
fn all_at_once_on_debian_13() {
    decoys("trixie");
}

#[test]
fn all_at_once_on_debian_12() {
    decoys("bookworm");
}
