# The incident without a package run, on a machine that had one before: the same file under a new inode, and a listener
# that systemd knows nothing of. Prints its pid.
# $1: the command that brings the fault into the repair. $2: "clean" after an incident that was not repaired.
within() { # SECONDS COMMAND…: waits for a condition
    end=$(($(date +%s) + $1)); shift
    until "$@"; do
        [ "$(date +%s)" -lt "$end" ] || { echo "not in time: $*" >&2; exit 1; }
    done
}
free() { [ -z "$(ss -Hltn 'sport = :22')" ]; }
# Only the session of the bystander is open: its monitor and its child.
alone() { [ "$(pgrep -c '^sshd-session')" = 2 ]; }
login() { ssh -o ConnectTimeout=2 root@127.0.0.1 true 2>/dev/null </dev/null; }

systemctl stop sshd-mend-repair.service ssh.service ssh.socket
systemctl stop sshd-mend-rescue-ssh.socket 2>/dev/null || :
systemctl reset-failed
rm -f /run/attempts /run/trace /run/fault /run/fallback-ran
if [ "$2" = clean ]; then
    old=$(cat /run/listener)
    case $(readlink "/proc/$old/exe" || :) in /usr/sbin/sshd*) kill "$old" ;; esac
    rm -rf /run/sshd-mend /run/systemd/system/sshd-mend-*
    systemctl daemon-reload
fi
within 10 free
[ ! -e /run/sshd-mend/intent ]

mkdir -p /run/sshd
systemd-socket-activate --listen='[::]:22' /usr/sbin/sshd -D >/dev/null 2>&1 </dev/null &
listener=$!
within 10 login
within 10 alone
[ "$(readlink /proc/$listener/exe)" = /usr/sbin/sshd ]
cp -p /usr/sbin/sshd /usr/sbin/sshd.new
mv /usr/sbin/sshd.new /usr/sbin/sshd
[ "$(readlink /proc/$listener/exe)" = '/usr/sbin/sshd (deleted)' ]
printf '%s' "$1" >/run/fault
echo "$listener" >/run/listener
echo "$listener"
