//! What a local user could try to keep the machine from being repaired, or to make package runs slow or noisy.

use crate::machine::Machine;

/// A process of a user's whose program is called sshd, and whose name is no text.
const NAMELESS: &str = "cp /usr/bin/python3 /home/user/sshd
setpriv --reuid=user --regid=user --clear-groups /home/user/sshd /lab/nameless.py >/dev/null 2>&1 </dev/null &
until grep -q 'Name:.*[^ -~]' /proc/$!/status; do kill -0 $!; done";

#[test]
fn a_name_in_any_bytes_switches_nothing_off() {
    let machine = Machine::with_package("trixie");
    machine.copy_in(&crate::machine::script("scripts/nameless.py"), "nameless.py");
    machine.sh(NAMELESS).ok();
    let hook = machine.sh("sshd-mend hook").ok();
    assert_eq!((hook.stdout.as_str(), hook.stderr.as_str()), ("", ""), "nothing is wrong");
    machine.sh("sshd-mend check").ok();
    let listener = machine.incident();
    machine.upgrade().ok();
    assert!(!machine.is_alive(listener), "{}", machine.state());
    machine.assert_login();
    machine.sh("sshd-mend check").ok();
}

/// System calls of a hook.
fn calls(machine: &Machine) -> i32 {
    machine.sh("strace -f -c -o /lab/calls sshd-mend hook").ok();
    machine.number("awk '$NF == \"total\" { print $(NF - 2) + 0 == $(NF - 2) ? $(NF - 2) : $(NF - 1) }' /lab/calls")
}

/// Nothing but the name of their program and their user is read.
#[test]
fn a_crowd_of_users_processes_called_sshd_costs_two_calls_each() {
    let machine = Machine::with_package("trixie");
    machine.copy_in(&crate::machine::script("scripts/crowd.py"), "crowd.py");
    let before = calls(&machine);
    machine
        .sh("ulimit -n $(ulimit -H -n)
             setpriv --reuid=user --regid=user --clear-groups python3 /lab/crowd.py 2000 >/dev/null 2>&1 </dev/null &
             until [ -e /tmp/crowd-is-here ]; do kill -0 $!; done")
        .ok();
    assert!(machine.number("pgrep -c -x sshd") > 2000);
    let after = calls(&machine);
    // readlink(2) and stat(2), and what it takes to list the directory.
    assert!(after - before < 2000 * 5 / 2, "{before} calls before, {after} with 2,000 processes");
}

/// Sessions with reverse tunnels listen, too. What it takes to tell them from listeners does not grow with a pause each.
#[test]
fn sessions_with_tunnels_do_not_make_the_hook_wait() {
    let machine = Machine::with_package("bookworm");
    machine.sh("echo 'MaxStartups 1000' >/etc/ssh/sshd_config.d/x.conf; systemctl reload ssh.service").ok();
    machine
        .sh("for i in $(seq 60); do ssh -o ExitOnForwardFailure=yes -N -R $((3000 + i)):127.0.0.1:22 root@127.0.0.1 >/dev/null 2>&1 </dev/null & done
             until [ $(ss -Hltn 'sport >= :3001 and sport <= :3060' | wc -l) -ge 60 ]; do sleep 0.1; done")
        .ok();
    machine.sh("strace -f -o /lab/trace -e trace=nanosleep,clock_nanosleep sshd-mend hook").ok();
    let pauses = machine.number("grep -c 'nanosleep(' /lab/trace || :");
    assert!(pauses <= 6, "{pauses} pauses for 60 sessions");
    let check = machine.sh("sshd-mend check --json").ok().json();
    assert_eq!(check["sessions"]["before"], 60, "{check:#}");
    // Each is pinned by two descriptors once the listener that has accepted it is gone.
    machine.sh("systemctl restart ssh.service").ok();
    let check = machine.sh("ulimit -S -n 100; sshd-mend check --json").ok().json();
    assert_eq!(check["sessions"]["before"], 60, "{check:#}");
    assert!(machine.number("systemctl show -P LimitNOFILESoft sshd-mend-repair.service") > 100_000);
}
