# Everything that starts a repair, at the same moment. Each trigger leaves its name and status in /run/triggers.
trigger() { # NAME COMMAND…
    name=$1; shift
    status=0
    "$@" >"/run/trigger.$name.log" 2>&1 || status=$?
    echo "$name $status" >>/run/triggers
}
export DEBIAN_FRONTEND=noninteractive
for number in 1 2 3 4; do trigger "hook-$number" sshd-mend hook & done
trigger timer systemctl start sshd-mend.service &
trigger dpkg timeout 60 sh -c 'until dpkg --configure --pending; do :; done' &
trigger apt apt-get -o DPkg::Lock::Timeout=60 -y install /opt/lab/zzz-2.deb &
trigger repair sshd-mend repair &
wait
