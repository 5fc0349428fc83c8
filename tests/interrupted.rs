//! The record of an interrupted repair, instance by instance: what is completed, by whose units an address has to be
//! served again, and when an instance is taken off the record.
#![allow(missing_docs)]

mod support;

use sshd_mend::decide::diagnose;
use sshd_mend::model::diagnosis::{FindingCode, Severity::Critical};
use sshd_mend::model::intent::InstanceIntent;
use sshd_mend::model::plan::Trigger;
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::process::Process;
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::trial::{Check, Policy, Trials};
use sshd_mend::model::unit::{ActiveState, Enablement, Unit};
use support::*;

fn of_main() -> InstanceIntent {
    intended("ssh.service", &["0.0.0.0:22", "[::]:22"], false)
}

fn of_second() -> InstanceIntent {
    intended(SECOND, &["0.0.0.0:2222"], false)
}

/// Both instances serve, each by its own unit.
fn both_serve() -> Snapshot {
    let mut machine = second_instance(healthy());
    machine.processes[1].image = NEW;
    machine
}

/// The second instance was terminated, and its unit is inactive.
fn second_terminated(machine: Snapshot) -> Snapshot {
    let mut machine = second_instance(machine);
    machine.instances[1].service = service(SECOND, "inactive", "dead", "enabled");
    machine.processes.retain(|process| process.pid != 80);
    machine
}

fn settled(machine: &Snapshot) -> Vec<String> {
    planned(machine, &ready(), Trigger::Repair).settled
}

#[test]
fn an_intent_concerns_the_instance_that_it_names() {
    let machine = Snapshot { intent: intent(vec![of_second()]), ..second_terminated(healthy()) };
    let found = diagnose(&machine);
    assert!(found.has_for(SECOND, FindingCode::Interrupted) && !found.has_for("ssh.service", FindingCode::Interrupted));
    let plan = planned(&machine, &ready(), Trigger::Hook);
    assert_eq!(plan.replacements().map(|(instance, _)| instance).collect::<Vec<_>>(), [SECOND]);
}

/// Its unit was started again, and somebody stopped it later: that was on purpose.
#[test]
fn who_stops_what_was_started_again_has_stopped_it() {
    let resumed = InstanceIntent { resumed: true, ..of_second() };
    let machine = Snapshot { intent: intent(vec![resumed]), ..second_terminated(healthy()) };
    let found = diagnose(&machine);
    assert!(!found.has_for(SECOND, FindingCode::Interrupted), "{found:?}");
    for trigger in [Trigger::Hook, Trigger::Repair] {
        let plan = planned(&machine, &ready(), trigger);
        assert!(plan.is_empty(), "{plan:?}");
        assert_eq!(plan.settled, [SECOND]);
    }
}

/// Its unit serves again, but not at every address: critical until it does, and no reason to start it again.
#[test]
fn what_serves_at_some_addresses_only_stays_on_record_as_started_again() {
    let lost = InstanceIntent { addresses: addresses(&["0.0.0.0:2222", "0.0.0.0:2223"]), ..of_second() };
    let machine = Snapshot { intent: intent(vec![lost.clone()]), ..both_serve() };
    assert!(diagnose(&machine).has_for(SECOND, FindingCode::Interrupted));
    let plan = planned(&machine, &ready(), Trigger::Hook);
    assert_eq!((plan.settled.len(), plan.resumed.as_slice()), (0, [SECOND.to_owned()].as_slice()));
    let noted = Snapshot { intent: intent(vec![InstanceIntent { resumed: true, ..lost }]), ..machine };
    assert!(diagnose(&noted).has_for(SECOND, FindingCode::Interrupted));
    let plan = planned(&noted, &ready(), Trigger::Hook);
    assert!(plan.is_empty() && plan.settled.is_empty() && plan.resumed.is_empty(), "{plan:?}");
}

/// Somebody stopped the main instance: that a repair of the other one was interrupted is no reason to start it.
#[test]
fn an_intent_for_one_instance_starts_no_other() {
    let mut machine = second_terminated(healthy());
    machine.instances[0].service = service("ssh.service", "inactive", "dead", "enabled");
    machine.processes.clear();
    machine.intent = intent(vec![of_second()]);
    let steps = short(&planned(&machine, &ready(), Trigger::Repair));
    assert!(steps.contains(SECOND) && !steps.contains("ssh.service"), "{steps}");
}

/// policy-rc.d was asked before the repair of the second instance began, and now denies the rest.
#[test]
fn an_intent_for_one_instance_overrides_policy_rc_d_for_no_other() {
    let machine = Snapshot { intent: intent(vec![of_second()]), ..second_terminated(incident()) };
    let mut denied = ready();
    trial(&mut denied, "ssh.service").policy = Policy::Denies("it denies".into());
    let plan = planned(&machine, &denied, Trigger::Hook);
    assert_eq!(refused(&plan, "ssh.service"), Some(RefusalCode::PolicyRcD));
    assert_eq!(short(&plan), "reset-failed sshd-2222.service, start sshd-2222.service, probe 0.0.0.0:2222");
}

/// Checks are passed over only for what a repair has terminated itself.
#[test]
fn an_intent_for_one_instance_passes_no_check_of_another() {
    use sshd_mend::model::trial::Check;
    let mut trials = ready();
    for name in ["ssh.service", SECOND] {
        trial(&mut trials, name).handshake = Check::Failed("closed".into());
    }
    let mut down = incident();
    down.processes.clear();
    for machine in [incident(), down] {
        let machine = Snapshot { intent: intent(vec![of_second()]), ..second_terminated(machine) };
        let plan = planned(&machine, &trials, Trigger::Repair);
        assert_eq!(refused(&plan, "ssh.service"), Some(RefusalCode::BinaryUnusable));
        assert!(replacement(&plan, SECOND).is_some(), "{plan:?}");
    }
}

/// The old listener still serves: it is not terminated before what replaces it is known to work, on record or not.
#[test]
fn an_intent_passes_no_check_while_a_listener_is_to_be_terminated() {
    use sshd_mend::model::trial::Check;
    let machine = Snapshot { intent: intent(vec![of_main()]), ..incident() };
    let mut trials = ready();
    trial(&mut trials, "ssh.service").handshake = Check::Failed("closed".into());
    let plan = planned(&machine, &trials, Trigger::Repair);
    assert_eq!(decided(&plan), "ssh.service: binary-unusable");
}

/// One address was lost, the other is served by an orphan: both are to be proven afterwards.
#[test]
fn addresses_on_record_are_proven_with_those_that_are_served() {
    let mut machine = incident();
    machine.processes[0].sockets = sockets(&["[::]:22"]);
    machine.intent = intent(vec![of_main()]);
    let plan = planned(&machine, &ready(), Trigger::Repair);
    let replacement = replacement(&plan, "ssh.service").expect("a replacement");
    assert_eq!(replacement.prove, addresses(&["0.0.0.0:22", "[::]:22"]));
}

#[test]
fn instances_are_taken_off_the_record_one_by_one() {
    let on_record = intent(vec![of_main(), of_second()]);
    let machine = Snapshot { intent: on_record.clone(), ..both_serve() };
    assert_eq!(settled(&machine), ["ssh.service", SECOND]);
    let machine = Snapshot { intent: on_record.clone(), ..second_terminated(healthy()) };
    assert_eq!(settled(&machine), ["ssh.service"]);
    let mut machine = Snapshot { intent: on_record, ..both_serve() };
    machine.processes.remove(0);
    machine.instances[0].service.active = ActiveState::Inactive;
    assert_eq!(settled(&machine), [SECOND]);
    assert_eq!(settled(&both_serve()), Vec::<String>::new(), "nothing is on record");
}

/// systemd holds the address for the socket, which starts the service when somebody comes.
#[test]
fn an_address_that_the_socket_holds_is_served() {
    let mut machine = healthy();
    machine.instances[0].service = service("ssh.service", "inactive", "dead", "disabled");
    machine.instances[0].socket =
        Unit { active: ActiveState::Active, sub: "listening".into(), ..incident().instances[0].socket.clone() };
    machine.processes.clear();
    machine.systemd_holds = dual();
    machine.intent = intent(vec![of_main()]);
    assert_eq!(settled(&machine), ["ssh.service"]);
}

type Spoil = (&'static str, fn(&mut Snapshot));

/// Why the second instance, which is on record, is not settled.
const UNSETTLED: &[Spoil] = &[
    ("its listener is dead", |machine| machine.processes[1].probe = probe(ProbeResult::Dead)),
    ("its listener is an orphan", |machine| machine.instances[1].service.main_pid = Some(99)),
    ("its unit has failed", |machine| machine.instances[1].service.active = ActiveState::Failed),
    ("its unit is inactive, and systemd holds the address for another one", |machine| {
        machine.instances[1].service.active = ActiveState::Inactive;
        machine.processes.truncate(1);
        machine.systemd_holds = sockets(&["0.0.0.0:2222"]);
    }),
    ("its rescue serves", |machine| {
        machine.instances[1].rescue = serving_rescue(&machine.instances[1], &["0.0.0.0:2222"]);
    }),
    ("one of its addresses is not served", |machine| {
        machine.intent = intent(vec![intended(SECOND, &["0.0.0.0:2222", "0.0.0.0:2223"], false)]);
    }),
    ("its listener serves another port", |machine| machine.processes[1].sockets = sockets(&["0.0.0.0:2223"])),
    ("its listener serves IPv6 only", |machine| machine.processes[1].sockets = sockets(&["[::]:2222"])),
];

#[test]
fn an_instance_stays_on_record_until_its_own_units_serve_every_address() {
    for (name, spoil) in UNSETTLED {
        let mut machine = Snapshot { intent: intent(vec![of_second()]), ..both_serve() };
        assert_eq!(settled(&machine), [SECOND]);
        spoil(&mut machine);
        assert_eq!(settled(&machine), Vec::<String>::new(), "{name}");
    }
}

/// Another instance holds the address: the instance on record still serves less than before.
#[test]
fn an_address_that_another_instance_serves_does_not_settle_it() {
    let mut machine = Snapshot { intent: intent(vec![of_second()]), ..both_serve() };
    machine.processes[0].sockets = sockets(&["0.0.0.0:22", "[::]:22", "0.0.0.0:2222"]);
    machine.processes[1].sockets = sockets(&["0.0.0.0:2223"]);
    assert_eq!(settled(&machine), Vec::<String>::new());
}

/// Its listener was terminated and its unit is gone: nobody serves its address, and its rescue must not be removed.
#[test]
fn an_instance_whose_unit_is_gone_stays_critical_and_on_record() {
    let mut machine = Snapshot { intent: intent(vec![of_second()]), ..second_terminated(healthy()) };
    machine.instances[1].service = Unit::absent(SECOND);
    assert_eq!(findings(&machine), [("interrupted", Critical)]);
    let plan = planned(&machine, &ready(), Trigger::Repair);
    assert_eq!(decided(&plan), "sshd-2222.service: unit-missing");
    assert_eq!(plan.settled, Vec::<String>::new());
    machine.instances.truncate(1);
    assert_eq!(settled(&machine), Vec::<String>::new(), "nothing is known about it");
}

/// Whatever listens there, it is not a listener of this host's instances.
#[test]
fn an_address_that_a_stranger_holds_is_not_served_again() {
    let mut machine = Snapshot { intent: intent(vec![of_second()]), ..second_terminated(healthy()) };
    machine.foreign = sockets(&["0.0.0.0:2222"]);
    let mut contained = Process { sockets: sockets(&["0.0.0.0:2222"]), ..listener(81) };
    contained.surroundings.pid_namespace = false;
    machine.processes.push(contained);
    assert!(diagnose(&machine).has_for(SECOND, FindingCode::Interrupted));
    assert_eq!(settled(&machine), Vec::<String>::new());
}

/// In the middle of `systemctl restart` the unit is inactive, and a start of it is queued.
#[test]
fn a_restart_is_not_taken_for_a_stop() {
    let resumed = InstanceIntent { resumed: true, ..of_second() };
    let mut machine = Snapshot { intent: intent(vec![resumed]), ..second_terminated(healthy()) };
    assert!(machine.intent_of(SECOND).is_none());
    machine.instances[1].service.job = true;
    assert!(machine.intent_of(SECOND).is_some());
    assert_eq!(settled(&machine), Vec::<String>::new());
}

/// A stop of a unit that has failed leaves it failed.
#[test]
fn a_socket_that_failed_and_was_disabled_is_stopped_too() {
    let resumed = InstanceIntent { resumed: true, ..of_second() };
    let mut machine = Snapshot { intent: intent(vec![resumed]), ..second_terminated(healthy()) };
    for (enabled, is_wanted) in [("enabled", true), ("disabled", false)] {
        machine.instances[1].socket = unit("sshd-2222.socket", "failed", "failed", enabled);
        assert_eq!(machine.intent_of(SECOND).is_some(), is_wanted, "{enabled}");
    }
}

#[test]
fn what_systemd_is_starting_does_not_serve_yet() {
    let mut machine = Snapshot { intent: intent(vec![of_main()]), ..healthy() };
    let noted = |machine: &Snapshot| planned(machine, &ready(), Trigger::Repair).resumed;
    assert_eq!(noted(&machine), ["ssh.service"]);
    let service = &mut machine.instances[0].service;
    (service.active, service.sub) = (ActiveState::Activating, "start-pre".into());
    (service.control_pid, service.main_pid) = (service.main_pid.take(), None);
    machine.processes[0].sockets.clear();
    assert_eq!(noted(&machine), Vec::<String>::new());
}

/// A unit that fails over and over is stopped before its orphan is replaced, unless that would be for nothing.
#[test]
fn only_a_unit_whose_place_is_taken_is_stopped_first() {
    let mut machine = incident();
    let main = &mut machine.instances[0];
    main.service = Unit { job: true, ..service("ssh.service", "activating", "auto-restart", "enabled") };
    main.socket = Unit::absent("ssh.socket");
    main.wanted = addresses(&["0.0.0.0:22", "[::]:22"]);
    let stopped = |machine: &Snapshot, trials: &Trials, trigger| {
        planned(machine, trials, trigger).stop_first.into_iter().map(|intent| intent.instance).collect::<Vec<_>>()
    };
    assert_eq!(stopped(&machine, &ready(), Trigger::Hook), ["ssh.service"]);

    let mut elsewhere = machine.clone();
    elsewhere.processes[0].sockets = sockets(&["0.0.0.0:1022"]);
    assert_eq!(stopped(&elsewhere, &ready(), Trigger::Hook), Vec::<String>::new());

    let mut denied = ready();
    trial(&mut denied, "ssh.service").policy = Policy::Denies("it denies".into());
    assert_eq!(stopped(&machine, &denied, Trigger::Hook), Vec::<String>::new());

    let mut invalid = ready();
    trial(&mut invalid, "ssh.service").config = Check::Failed("line 1".into());
    assert_eq!(stopped(&machine, &invalid, Trigger::Hook), ["ssh.service"], "it takes /run/sshd from the orphan");

    let mut unwanted = machine.clone();
    unwanted.instances[0].service.enablement = Enablement::Disabled;
    assert_eq!(stopped(&unwanted, &ready(), Trigger::Hook), Vec::<String>::new());

    let mut dependent = second_instance(machine);
    dependent.instances[0].service.stopped_along = vec![SECOND.into()];
    assert_eq!(stopped(&dependent, &ready(), Trigger::Hook), Vec::<String>::new());
}

/// Nothing was terminated: who disables it afterwards does not want it, and every check holds as without a record.
#[test]
fn a_unit_that_was_only_stopped_is_started_only_if_it_is_still_wanted() {
    let stopped = InstanceIntent { stopped: true, ..of_main() };
    let mut machine = Snapshot { intent: intent(vec![stopped]), ..healthy() };
    machine.processes.clear();
    machine.instances[0].service = service("ssh.service", "inactive", "dead", "enabled");
    let plan = planned(&machine, &ready(), Trigger::Hook);
    assert!(short(&plan).contains("start ssh.service"), "{plan:?}");
    let mut invalid = ready();
    trial(&mut invalid, "ssh.service").config = Check::Failed("line 1".into());
    let plan = planned(&machine, &invalid, Trigger::Hook);
    assert_eq!(refused(&plan, "ssh.service"), Some(RefusalCode::ConfigInvalid));
    machine.instances[0].service.enablement = Enablement::Disabled;
    let plan = planned(&machine, &ready(), Trigger::Hook);
    assert!(plan.is_empty() && plan.settled == ["ssh.service"], "{plan:?}");
}
