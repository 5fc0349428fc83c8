# Starts listeners that are none of the host's own, and programs that are no sshd. Each leaves its pid in
# /run/decoy.NAME.
set -eu
end=$(($(date +%s) + 60))

# For a loop that waits for something: the process that brings it about is there, and there is time left.
waits() { # PID
    kill -0 "$1" && [ "$(date +%s)" -lt "$end" ]
}

# The server at a port of 127.0.0.1 sends a banner.
answers() { # PORT
    python3 -c "
import socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5); sys.exit(not s.recv(4).startswith(b'SSH-'))" "$1" 2>/dev/null
}

# Starts a command, and returns once its port answers.
start() { # NAME PORT COMMAND…
    name=$1 port=$2; shift 2
    "$@" >"/run/decoy.$name.log" 2>&1 </dev/null &
    echo $! >"/run/decoy.$name"
    for try in $(seq 100); do answers "$port" && return 0; done
    cat "/run/decoy.$name.log"; echo "$name does not answer at $port"; exit 1
}

# The sshd below a wrapper takes the wrapper's place in /run/decoy.NAME.
inner() { # NAME
    first=$(cat "/run/decoy.$1")
    for pid in $(pgrep -x sshd); do
        up=$pid
        while [ "$up" -gt 1 ] && [ "$up" != "$first" ]; do up=$(sed 's/.*) . //; s/ .*//' "/proc/$up/stat"); done
        [ "$up" != "$first" ] || { echo "$pid" >"/run/decoy.$1"; return 0; }
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

# A file that is really called that.
cp /usr/sbin/sshd '/usr/sbin/sshd (deleted)'
start named 2203 '/usr/sbin/sshd (deleted)' $plain -p 2203

# In a chroot.
for directory in usr etc proc dev run; do mkdir /srv/jail/$directory; mount --rbind /$directory /srv/jail/$directory; done
for link in bin lib lib64 sbin; do ln -s usr/$link /srv/jail/$link; done
start jail 2205 chroot /srv/jail /usr/sbin/sshd $plain -p 2205

# In another network namespace.
ip netns add other; ip -n other link set lo up
ip netns exec other /usr/sbin/sshd $plain -p 2204 >/dev/null 2>&1 </dev/null &
echo $! >/run/decoy.network
until ip netns exec other ss -ltn | grep -q :2204; do waits $!; done

# In another PID namespace with the host's network; and in a user namespace where it is root.
start pod 2206 unshare --pid --fork --mount-proc /usr/sbin/sshd $plain -p 2206; inner pod
start users-root 2207 $as_user unshare --user --map-root-user --mount \
    sh -c "mount -t tmpfs none /run; mkdir -m 755 /run/sshd; exec /usr/sbin/sshd $plain -p 2207 -h /home/user/key"

# Held by a debugger.
start traced 2209 strace -f -o /dev/null -e trace=none /usr/sbin/sshd $plain -p 2209; inner traced

# A child that a listener has just forked, before it has closed anything: stopped at its first system call.
strace -f -o /dev/null -e trace=set_robust_list -e inject=set_robust_list:signal=SIGSTOP /usr/sbin/sshd $plain -p 2211 >/dev/null 2>&1 </dev/null &
echo $! >/run/decoy.forked
until inner forked >/dev/null; do waits $!; done
listener=$(cat /run/decoy.forked)
until ss -ltn | grep -q :2211; do waits $!; kill -CONT "$listener"; done
python3 -c 'import socket, time; s = socket.create_connection(("127.0.0.1", 2211)); time.sleep(3600)' >/dev/null 2>&1 </dev/null &
# "t" is also the state of a traced process at every system call: what counts is that it stays.
stays() { for look in $(seq 50); do grep -q '^State:.[Tt]' "/proc/$1/status" || return 1; done; }
until child=$(pgrep -P "$listener") && stays "$child"; do waits $!; done
echo "$child" >/run/decoy.forked

# A user's program of that name, deleted, which is no sshd.
cp /bin/sleep /home/user/bin/sshd
$as_user /home/user/bin/sshd 3600 >/dev/null 2>&1 </dev/null &
echo $! >/run/decoy.program
until [ "$(readlink /proc/$!/exe)" = /home/user/bin/sshd ]; do waits $!; done
rm /home/user/bin/sshd

# A program that calls itself so, and has a port.
cat >/run/titled.py <<'E'
import socket
s = socket.create_server(("127.0.0.1", 2210))
open("/proc/self/comm", "w").write("sshd")
while True:
    s.accept()[0].sendall(b"SSH-2.0-x\r\n")
E
start titled 2210 bash -c 'exec -a "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups" python3 /run/titled.py'
