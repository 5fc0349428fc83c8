//! Faults that were seen on real machines, each once, on the model: what holds now.

use crate::scenes::{executed, healthy, incident, on_record, second};
use crate::simulated::faults::{Fate, Faults};
use crate::simulated::layout::{Layout, Shape, build};
use crate::simulated::world::World;
use crate::support::{SECOND, addresses};
use sshd_mend::decide::diagnose;
use sshd_mend::model::diagnosis::{FindingCode, Severity};
use sshd_mend::model::execution::End;
use sshd_mend::model::plan::{Job, Trigger};
use sshd_mend::model::unit::ActiveState;

fn fates(jobs: &[Fate]) -> Faults {
    Faults { jobs: jobs.to_vec(), ..Faults::default() }
}

#[test]
fn a_failed_restart_of_one_instance_leaves_a_healthy_ssh_service_alone() {
    let mut truth = build(&[healthy(), second()]);
    truth.instances[1].broken = true;
    let done = executed(&truth, &Faults::default());
    done.assert_holds();
    assert_eq!(done.touched("ssh."), []);
    assert_eq!(done.end(SECOND), End::Rescued);
    assert_eq!(done.served(SECOND), addresses(&["0.0.0.0:2222"]));

    // Once the cause is gone, a repair is not refused, and nothing is left of the rescue.
    let next = done.world.next_run();
    next.truth.borrow_mut().instances[1].broken = false;
    next.repair(Trigger::Repair);
    let after = next.truth.borrow();
    assert_eq!(after.instances[1].instance.service.active, ActiveState::Active);
    assert!(after.by_systemd.is_empty() && after.files.is_empty() && after.intent.is_none());
}

#[test]
fn a_waiting_ssh_socket_is_left_alone_while_another_instance_binds_late() {
    let waiting = Layout { shape: Shape::Waiting, listen: vec!["[::]:22"], socket_enabled: true, ..Layout::default() };
    let truth = build(&[waiting, second()]);
    let done = executed(&truth, &fates(&[Fate::BindsLate(2)]));
    done.assert_holds();
    assert_eq!((done.end(SECOND), done.touched("ssh.")), (End::Served, Vec::new()));

    // One that never binds is lost and on record. It is no reason for a rescue beside an active unit.
    let done = executed(&truth, &fates(&[Fate::NeverBinds]));
    done.assert_holds();
    assert_eq!(done.end(SECOND), End::Lost(addresses(&["0.0.0.0:2222"])));
    assert_eq!((done.touched("ssh."), done.touched("sshd-mend-rescue")), (Vec::new(), Vec::new()));
    assert_eq!(done.on_record(SECOND), addresses(&["0.0.0.0:2222"]));
}

#[test]
fn a_rescue_opens_only_what_was_served_and_ends_with_the_start_of_its_unit() {
    let truth = build(&[Layout { own: vec!["0.0.0.0:2200"], ..Layout::default() }]);
    let done = executed(&truth, &fates(&[Fate::Fails, Fate::Fails]));
    done.assert_holds();
    assert_eq!(done.end("ssh.service"), End::Rescued);
    assert_eq!(done.served("ssh.service"), addresses(&["0.0.0.0:2200"]));

    // Somebody starts the unit by hand.
    done.world.request(Job::Start, "ssh.service").expect("it starts");
    let after = done.world.truth.borrow();
    assert_eq!(after.instances[0].instance.rescue.active, ActiveState::Inactive);
    assert_eq!(after.instances[0].instance.service.active, ActiveState::Active);
}

#[test]
fn nothing_is_rescued_where_nothing_was_terminated() {
    let mut truth = build(&[Layout { shape: Shape::Failed, ..Layout::default() }]);
    truth.instances[0].broken = true;
    let done = executed(&truth, &Faults::default());
    done.assert_holds();
    assert!(matches!(done.end("ssh.service"), End::Lost(_)));
    assert_eq!(done.touched("sshd-mend-rescue"), []);
    assert_eq!(done.served("ssh.service"), addresses(&[]));
}

#[test]
fn a_rescue_has_the_program_options_and_rules_of_its_unit() {
    let mut truth = build(&[Layout::default()]);
    let managed = &mut truth.instances[0];
    managed.broken = true;
    managed.trial.options = ["-f", "/etc/ssh/hardened_config"].map(str::to_owned).into();
    managed.trial.service_files.push("[Service]\nIPAddressDeny=any\nIPAddressAllow=192.0.2.0/24\n".to_owned());
    let done = executed(&truth, &Faults::default());
    done.assert_holds();
    assert_eq!(done.end("ssh.service"), End::Rescued);
    let files = done.world.truth.borrow().files["ssh.service"].clone();
    let rescue = files.rescue.expect("a rescue");
    assert_eq!(rescue.options, ["-f", "/etc/ssh/hardened_config"]);
    assert_eq!(rescue.service_settings, ["IPAddressDeny=any", "IPAddressAllow=192.0.2.0/24"]);
    assert_eq!(rescue.socket_settings, rescue.service_settings);
}

#[test]
fn a_rescue_whose_probe_is_dead_has_failed_and_is_stopped() {
    let mut truth = build(&[Layout::default()]);
    truth.instances[0].broken = true;
    let done = executed(&truth, &Faults { rescue_is_dead: true, ..Faults::default() });
    done.assert_holds();
    let served = addresses(&["0.0.0.0:22", "[::]:22"]);
    assert_eq!(done.end("ssh.service"), End::Lost(served.clone()));
    assert_eq!(done.on_record("ssh.service"), served);
    assert!(done.world.truth.borrow().by_systemd.is_empty(), "it would hold the addresses against its unit");
}

#[test]
fn a_lost_address_stays_on_record_and_critical_until_it_is_served_again() {
    let mut truth = build(&[incident(), second()]);
    truth.instances[1].broken = true;
    let done = executed(&truth, &Faults { rescue_is_dead: true, ..Faults::default() });
    done.assert_holds();
    assert_eq!(done.end("ssh.service"), End::Served);
    assert_eq!(done.end(SECOND), End::Lost(addresses(&["0.0.0.0:2222"])));
    assert_eq!(done.on_record("ssh.service"), addresses(&[]));

    let next = done.world.next_run();
    let diagnosis = diagnose(&next.observe());
    assert!(diagnosis.has_for(SECOND, FindingCode::Interrupted), "{diagnosis:#?}");
    assert_eq!(diagnosis.severity(), Some(Severity::Critical));

    next.truth.borrow_mut().instances[1].broken = false;
    next.repair(Trigger::Hook);
    assert_eq!(next.truth.borrow().served(1), addresses(&["0.0.0.0:2222"]));
    assert_eq!(on_record(&next, SECOND), addresses(&[]));
    assert_eq!(diagnose(&next.observe()).severity(), None);
}

#[test]
fn an_instance_in_another_network_is_left_alone_and_not_called_healthy() {
    let elsewhere = Layout { shape: Shape::Elsewhere, ..Layout::default() };
    let world = World::new(build(&[elsewhere, second()]), Faults::default());
    let (snapshot, plan) = world.assess(Trigger::Repair);
    assert!(diagnose(&snapshot).has_for("ssh.service", FindingCode::NotExamined));
    assert_eq!(plan.replacements().map(|(name, _)| name).collect::<Vec<_>>(), [SECOND]);
    let mut failed = world.truth.borrow().clone();
    failed.instances[0].instance.service.active = ActiveState::Failed;
    let world = World::new(failed, fates(&[Fate::Fails, Fate::Fails]));
    world.repair(Trigger::Repair);
    let after = world.truth.borrow();
    assert!(after.by_systemd.iter().all(|(unit, _)| unit.contains("2222")), "{:?}", after.by_systemd);
}

#[test]
fn a_rescue_of_a_listener_on_one_network_interface_serves_that_one() {
    let bound = Layout { device_bound: true, ..incident() };
    let mut truth = build(&[bound]);
    truth.instances[0].broken = true;
    let done = executed(&truth, &Faults::default());
    done.assert_holds();
    assert_eq!(done.end("ssh.service"), End::Rescued);
    let after = done.world.truth.borrow();
    assert!(after.by_systemd.iter().all(|(_, socket)| socket.device_bound), "{:?}", after.by_systemd);
}

#[test]
fn there_is_no_rescue_where_no_unit_names_the_network_interface() {
    // `ListenAddress 0.0.0.0 rdomain lo`
    let mut truth = build(&[Layout { own: vec!["0.0.0.0:22"], ..Layout::default() }]);
    truth.processes[0].facts.sockets[0].device_bound = true;
    truth.instances[0].broken = true;
    let done = executed(&truth, &Faults::default());
    done.assert_holds();
    assert_eq!(done.end("ssh.service"), End::Lost(addresses(&["0.0.0.0:22"])));
    assert_eq!(done.touched("sshd-mend-rescue"), []);
}
