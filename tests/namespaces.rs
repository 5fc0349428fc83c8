//! An instance that serves in a network namespace of its own is not examined: nothing in it is judged or replaced by an
//! address of the host's.
#![allow(missing_docs)]

mod support;

use sshd_mend::decide::{diagnose, instances_to_try};
use sshd_mend::model::diagnosis::{FindingCode, Severity::Critical, Severity::Warning};
use sshd_mend::model::plan::Trigger;
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::unit::{Enablement, Unit};
use support::*;

/// Its listener is in the network namespace of the service.
fn elsewhere() -> Snapshot {
    let mut machine = second_instance(healthy());
    machine.instances[1].service.own_network = true;
    machine.processes[1].surroundings.network_namespace = false;
    machine
}

#[test]
fn it_is_reported_and_neither_tried_nor_replaced() {
    let machine = elsewhere();
    assert_eq!(findings(&machine), [("not-examined", Warning)]);
    assert!(diagnose(&machine).has_for(SECOND, FindingCode::NotExamined));
    for trigger in [Trigger::Repair, Trigger::Hook] {
        assert_eq!(instances_to_try(&machine, &diagnose(&machine), trigger), Vec::<String>::new());
        assert_eq!(decided(&planned(&machine, &ready(), trigger)), "");
    }
}

#[test]
fn the_socket_counts_where_it_is_what_serves() {
    let mut machine = healthy();
    machine.instances[0].socket.own_network = true;
    assert_eq!(findings(&machine), [], "a socket that is not used");
    machine.instances[0].socket = Unit { own_network: true, ..unit("ssh.socket", "active", "running", "enabled") };
    assert_eq!(findings(&machine), [("not-examined", Warning)]);
}

/// The unit got its namespace while its listener was running: what is started next serves none of the host's addresses.
#[test]
fn a_listener_in_the_hosts_namespace_is_not_replaced_by_it() {
    let mut stale_main = second_instance(healthy());
    stale_main.instances[1].service.own_network = true;
    let mut orphan = stale_main.clone();
    orphan.instances[1].service = Unit { own_network: true, ..service(SECOND, "failed", "failed", "enabled") };
    for machine in [stale_main, orphan] {
        let plan = planned(&machine, &ready(), Trigger::Repair);
        assert_eq!(refused(&plan, SECOND), Some(RefusalCode::AddressesNotCovered));
        assert!(!plan.replaces(), "{plan:?}");
    }
}

/// A plan refuses for the reason that holds: the program of such an instance was not tried, since nothing would come of it.
#[test]
fn its_program_is_not_called_unusable() {
    let mut machine = second_instance(healthy());
    machine.instances[1].service.own_network = true;
    let to_try = instances_to_try(&machine, &diagnose(&machine), Trigger::Repair);
    let mut trials = ready();
    trials.retain(|name, _| to_try.contains(name));
    let plan = planned(&machine, &trials, Trigger::Repair);
    assert_ne!(refused(&plan, SECOND), Some(RefusalCode::BinaryUnusable), "{plan:?}");
    assert!(!plan.replaces(), "{plan:?}");
}

#[test]
fn another_program_at_an_address_of_the_hosts_is_not_in_its_way() {
    let mut machine = elsewhere();
    machine.instances[1].wanted = addresses(&["0.0.0.0:2222"]);
    machine.foreign = sockets(&["0.0.0.0:2222"]);
    assert_eq!(findings(&machine), [("not-examined", Warning)]);
}

#[test]
fn the_main_instance_is_repaired_beside_it() {
    let mut machine = second_instance(incident());
    machine.instances[1].service.own_network = true;
    machine.processes[1].surroundings.network_namespace = false;
    assert_eq!(findings(&machine), [("stale-orphan", Warning), ("not-examined", Warning)]);
    assert!(replacement(&planned(&machine, &ready(), Trigger::Hook), "ssh.service").is_some());
}

/// It has failed, which systemd says. Where it would serve cannot be tested, so no address is proven and no rescue made.
#[test]
fn one_that_has_failed_is_critical_and_gets_no_rescue() {
    let mut machine = elsewhere();
    machine.instances[1].service = Unit { own_network: true, ..service(SECOND, "failed", "failed", "enabled") };
    machine.instances[1].service.enablement = Enablement::Enabled;
    machine.processes.truncate(1);
    assert_eq!(findings(&machine), [("instance-down", Critical)]);
    let plan = planned(&machine, &ready(), Trigger::Repair);
    assert!(replacement(&plan, SECOND).is_none_or(|replacement| replacement.prove.is_empty()), "{plan:?}");
}
