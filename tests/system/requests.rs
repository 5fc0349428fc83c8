//! Who asks for a repair: package runs and persons at the same time, and what policy-rc.d says to the one and not to the
//! other.

use crate::machine::Machine;

#[test]
fn a_person_who_asks_during_a_package_runs_repair_gets_one_of_their_own() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.copy_in(&crate::machine::script("scripts/policy-changes-its-mind"), "policy");
    machine.sh("install -m 755 /lab/policy /usr/sbin/policy-rc.d").ok();
    machine
        .sh("sshd-mend hook >/lab/hook 2>&1 & hook=$!
             until [ -e /run/asked-again ]; do kill -0 $hook; done
             sshd-mend repair --json >/lab/repair 2>/lab/error & repair=$!
             until [ -e /run/sshd-mend/request ]; do kill -0 $repair; done
             touch /run/answer; wait $hook; wait $repair; journalctl --sync")
        .ok();
    let refused = machine.sh("journalctl -q -o cat -t sshd-mend REASON=policy-rc.d").ok().stdout;
    assert!(!refused.is_empty(), "the package run's repair was not refused\n{}", machine.state());
    let repair = machine.sh("cat /lab/repair").ok().json();
    assert_eq!(repair["verdict"], "repaired", "{repair:#}\n{}", machine.state());
    assert!(!machine.is_alive(listener));
    machine.assert_login();
}

#[test]
fn a_policy_that_hangs_denies_and_leaves_no_process_behind() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine
        .sh("printf '#!/bin/sh\\nsleep 4321 & wait\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d")
        .ok();
    let hook = machine.sh("sshd-mend hook").ok();
    assert!(hook.stdout.contains("(policy-rc.d)"), "{hook:#?}");
    assert!(machine.is_alive(listener));
    assert_eq!(machine.sh("pgrep -fx 'sleep 4321'").status, 1, "a child of policy-rc.d is still there");
}
