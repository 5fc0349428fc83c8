//! Gaps that the properties of tests/execution.rs found, each reduced to one case.

use crate::scenes::{executed, incident, on_record, second};
use crate::simulated::faults::{Answer, Fate, Faults, Taker};
use crate::simulated::layout::{Layout, Shape, build};
use crate::simulated::world::World;
use crate::support::addresses;
use sshd_mend::model::execution::End;
use sshd_mend::model::plan::Trigger;
use sshd_mend::model::unit::ActiveState;

fn taken(address: &str, ssh: bool, socket_unit: bool) -> Faults {
    let address = address.parse().expect("an address");
    Faults { taker: Some(Taker { address, ssh, socket_unit }), ..Faults::default() }
}

#[test]
fn what_a_dual_socket_served_over_ipv4_is_proven_too() {
    // ssh.socket cannot have [::]:22 for both families any more, and sshd has it for IPv6 alone.
    let done = executed(&build(&[incident()]), &taken("0.0.0.0:22", false, false));
    done.assert_holds();
    assert_eq!(done.end("ssh.service"), End::Lost(addresses(&["0.0.0.0:22"])));
}

#[test]
fn another_ssh_server_at_the_address_does_not_settle_it() {
    let done = executed(&build(&[Layout::default()]), &taken("[::]:22", true, false));
    done.assert_holds();
    assert_eq!(done.end("ssh.service"), End::Lost(addresses(&["[::]:22"])));
    assert!(done.on_record("ssh.service").is_superset(&addresses(&["[::]:22"])));
}

#[test]
fn another_programs_socket_unit_at_the_address_does_not_settle_it() {
    let done = executed(&build(&[Layout::default()]), &taken("[::]:22", false, true));
    done.assert_holds();
    assert_eq!(done.end("ssh.service"), End::Lost(addresses(&["[::]:22"])));
}

#[test]
fn a_start_follows_a_stop_that_timed_out() {
    let beside = Layout {
        shape: Shape::OrphanBeside,
        listen: vec!["0.0.0.0:22", "[::]:22"],
        ipv6_only: true,
        socket_enabled: true,
        ..Layout::default()
    };
    let done = executed(&build(&[beside]), &Faults { jobs: vec![Fate::HangsStopping], ..Faults::default() });
    done.assert_holds();
    assert!(done.touched("ssh.").iter().any(|event| format!("{event:?}").starts_with("Requested(Start")));
}

#[test]
fn run_sshd_is_there_again_after_a_service_that_died_at_once() {
    let failed = Layout { shape: Shape::Failed, ..Layout::default() };
    let truth = build(&[failed, Layout { stale: false, ..second() }]);
    let done = executed(&truth, &Faults { jobs: vec![Fate::Dies], ..Faults::default() });
    done.assert_holds();
    assert!(done.world.truth.borrow().runtime_directory, "nobody gets in on port 2222");
}

#[test]
fn a_rescue_that_has_to_serve_again_is_on_record_and_stays_prepared() {
    let mut truth = build(&[Layout { shape: Shape::RescuedOffRecord, ..Layout::default() }]);
    truth.instances[0].broken = true;
    let done = executed(&truth, &Faults::default());
    done.assert_holds();
    assert_eq!(done.end("ssh.service"), End::Rescued);
    assert_eq!(done.on_record("ssh.service"), addresses(&["0.0.0.0:22", "[::]:22"]));
    assert!(done.world.truth.borrow().files["ssh.service"].rescue.is_some());
}

#[test]
fn a_rescue_is_not_stopped_before_it_is_known_what_would_serve_in_its_place() {
    let rescued = Layout {
        shape: Shape::RescuedOffRecord,
        own: vec!["0.0.0.0:22"],
        listen: vec!["0.0.0.0:22", "0.0.0.0:1022"],
        ..Layout::default()
    };
    let mut truth = build(&[rescued]);
    truth.runtime_directory = false;
    let world = World::new(truth, Faults::default());
    world.repair(Trigger::Repair);
    let expected = addresses(&["0.0.0.0:22", "0.0.0.0:1022"]);
    assert_eq!(world.truth.borrow().served(0), expected);
}

#[test]
fn a_rescue_that_serves_keeps_its_units_when_nothing_is_done() {
    let truth = build(&[Layout { shape: Shape::RescuedOffRecord, ..Layout::default() }]);
    let done = executed(&truth, &Faults { asked_to_stop: Some(1), ..Faults::default() });
    assert_eq!(done.end("ssh.service"), End::Changed);
    done.assert_holds();
}

#[test]
fn nothing_is_left_when_the_intent_cannot_be_written() {
    let done = executed(&build(&[Layout::default()]), &Faults { intents: vec![true], ..Faults::default() });
    assert!(matches!(done.end("ssh.service"), End::Refused(_)));
    assert_eq!(done.world.truth.borrow().files, done.before.files);
    assert_eq!(done.touched("ssh"), []);
}

#[test]
fn an_interrupted_restart_of_a_disabled_service_is_finished() {
    let interrupted = Layout { shape: Shape::Interrupted, service_enabled: false, ..Layout::default() };
    let world = World::new(build(&[interrupted]), Faults::default());
    world.repair(Trigger::Hook);
    assert_eq!(world.truth.borrow().served(0), addresses(&["0.0.0.0:22", "[::]:22"]));
    assert_eq!(on_record(&world, "ssh.service"), addresses(&[]));
}

/// A repair died after ssh.socket was started and ssh.service had failed, or while it still starts.
#[test]
fn the_record_is_kept_while_the_service_behind_its_socket_does_not_run() {
    for state in [ActiveState::Failed, ActiveState::Activating] {
        let interrupted =
            Layout { shape: Shape::Interrupted, listen: vec!["[::]:22"], socket_enabled: true, ..Layout::default() };
        let mut truth = build(&[interrupted]);
        let socket = truth.socket("[::]:22".parse().expect("an address"), false, false);
        truth.by_systemd.push(("ssh.socket".to_owned(), socket));
        let instance = &mut truth.instances[0].instance;
        (instance.socket.active, instance.service.active) = (ActiveState::Active, state.clone());
        let (_, plan) = World::new(truth, Faults::default()).assess(Trigger::Repair);
        assert_eq!(plan.settled, Vec::<String>::new(), "{state:?}");
    }
}

#[test]
fn a_service_that_died_behind_its_socket_does_not_serve() {
    let required = Layout { requires_socket: true, ..incident() };
    let jobs = vec![Fate::Refused, Fate::Refused, Fate::Dies];
    let done = executed(&build(&[required]), &Faults { jobs, ..Faults::default() });
    done.assert_holds();
    assert_ne!(done.end("ssh.service"), End::Served);
}

#[test]
fn what_a_dead_rescue_does_not_serve_is_lost_whatever_each_probe_said() {
    let mut truth = build(&[Layout::default()]);
    truth.instances[0].broken = true;
    let answers = vec![Answer::Inconclusive, Answer::Dead];
    let done = executed(&truth, &Faults { answers, ..Faults::default() });
    done.assert_holds();
    assert_eq!(done.end("ssh.service"), End::Lost(addresses(&["0.0.0.0:22", "[::]:22"])));
}

#[test]
fn what_a_failed_service_behind_its_socket_served_is_named_as_lost() {
    let activated =
        Layout { shape: Shape::Activated, listen: vec!["[::]:22"], socket_enabled: true, ..Layout::default() };
    let faults = Faults { jobs: vec![Fate::Dies, Fate::Refused], resets: vec![false, true], ..Faults::default() };
    let done = executed(&build(&[activated]), &faults);
    done.assert_holds();
    assert_eq!(done.end("ssh.service"), End::Lost(addresses(&["0.0.0.0:22", "[::]:22"])));
}
