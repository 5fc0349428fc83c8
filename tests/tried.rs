//! What is found out by trying: whether the program on disk would start again, which libraries a listener still uses, who
//! holds an address.
#![allow(missing_docs)]

mod support;

use sshd_mend::decide::diagnosis::suspects;
use sshd_mend::decide::served::sockets_in_the_way;
use sshd_mend::decide::{diagnose, instances_in_service, judge_trials};
use sshd_mend::model::diagnosis::{Diagnosis, FindingCode, Severity};
use sshd_mend::model::plan::Trigger;
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::process::Process;
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::trial::{Check, Trials};
use sshd_mend::model::unit::{ActiveState, ExecStart, Listen, Unit};
use support::*;

/// As `agent` does it.
fn judged(machine: &Snapshot, trials: &Trials) -> Diagnosis {
    let mut diagnosis = diagnose(machine);
    let plan = planned(machine, trials, Trigger::Repair);
    judge_trials(&mut diagnosis, machine, trials, &plan);
    diagnosis
}

fn codes(diagnosis: &Diagnosis) -> Vec<(&'static str, Severity)> {
    diagnosis.findings.iter().map(|finding| (finding.code.as_str(), finding.severity)).collect()
}

fn invalid() -> Trials {
    let mut trials = ready();
    trial(&mut trials, "ssh.service").config = Check::Failed("/etc/ssh/sshd_config line 1: bad".into());
    trials
}

/// ssh.socket waits for the first connection.
fn waiting() -> Snapshot {
    let mut machine = healthy();
    machine.processes.clear();
    let main = &mut machine.instances[0];
    (main.service.active, main.service.main_pid) = (ActiveState::Inactive, None);
    main.socket =
        Unit { listen: vec![Listen::parse("[::]:22")], ..unit("ssh.socket", "active", "listening", "enabled") };
    machine.systemd_holds = dual();
    machine
}

#[test]
fn a_program_that_would_not_start_again() {
    assert_eq!(codes(&judged(&healthy(), &ready())), []);
    let found = judged(&healthy(), &invalid());
    assert_eq!(codes(&found), [("would-not-restart", Severity::Warning)]);
    assert!(found.findings[0].message.contains("/etc/ssh/sshd_config line 1: bad"), "{found:?}");

    let mut fails = ready();
    trial(&mut fails, "ssh.service").handshake = Check::Failed("no hostkeys available".into());
    assert_eq!(codes(&judged(&healthy(), &fails)), [("would-not-restart", Severity::Warning)]);
}

/// The next connection makes systemd start it, and takes the socket down.
#[test]
fn it_is_critical_where_systemd_holds_the_socket() {
    assert_eq!(codes(&judged(&waiting(), &ready())), []);
    assert_eq!(codes(&judged(&waiting(), &invalid())), [("would-not-restart", Severity::Critical)]);
    // Not tried, because /run/sshd is created by the start.
    let mut later = ready();
    trial(&mut later, "ssh.service").handshake = Check::NeedsRuntimeDirectory;
    assert_eq!(codes(&judged(&waiting(), &later)), []);
}

/// Whatever its program is like, systemd would not start it.
#[test]
fn a_unit_that_systemd_would_not_start() {
    let mut hindered = ready();
    trial(&mut hindered, "ssh.service").start_hindrance = Some("ConditionPathExists=/x does not hold".into());
    let found = judged(&healthy(), &hindered);
    assert_eq!(codes(&found), [("would-not-restart", Severity::Warning)]);
    assert!(found.findings[0].message.ends_with("ConditionPathExists=/x does not hold"), "{found:?}");
    assert_eq!(codes(&judged(&waiting(), &hindered)), [("would-not-restart", Severity::Critical)]);
}

/// It decides whether the next connection is served, and running it is not this program's business.
#[test]
fn a_command_that_decides_about_the_start_is_not_known() {
    let mut conditional = ready();
    trial(&mut conditional, "ssh.service").exec_condition = true;
    assert_eq!(codes(&judged(&waiting(), &conditional)), [("not-examined", Severity::Warning)]);
    assert_eq!(codes(&judged(&healthy(), &conditional)), []);
}

/// The configuration was changed, and sshd was not restarted since.
#[test]
fn addresses_that_the_next_start_would_change() {
    let mut moved = ready();
    trial(&mut moved, "ssh.service").own_addresses = Some(addresses(&["0.0.0.0:2222", "[::]:2222"]));
    let found = judged(&healthy(), &moved);
    assert_eq!(codes(&found), [("would-not-restart", Severity::Warning)]);
    assert!(found.findings[0].message.contains("no longer 0.0.0.0:22, [::]:22"), "{found:?}");
    let mut more = ready();
    let own = Some(addresses(&["0.0.0.0:22", "[::]:22", "0.0.0.0:2222"]));
    trial(&mut more, "ssh.service").own_addresses = own;
    assert_eq!(codes(&judged(&healthy(), &more)), [], "nothing is lost");
    let mut taken = healthy();
    taken.foreign = sockets(&["0.0.0.0:2222"]);
    let found = judged(&taken, &more);
    assert_eq!(codes(&found), [("would-not-restart", Severity::Warning)]);
    assert!(found.findings[0].message.contains("could not serve what another program holds"), "{found:?}");
    // Its addresses are those of its socket.
    assert_eq!(codes(&judged(&waiting(), &moved)), []);
}

/// sshd goes on without an address that it cannot bind when it is started.
#[test]
fn an_address_that_is_declared_and_not_served() {
    let judged = |changed: bool, unassigned: &[&str]| {
        let mut more = ready();
        let trial = trial(&mut more, "ssh.service");
        trial.own_addresses = Some(addresses(&["0.0.0.0:22", "[::]:22", "192.0.2.1:2222"]));
        trial.changed = changed;
        trial.unassigned = addresses(unassigned);
        codes(&judged(&healthy(), &more))
    };
    assert_eq!(judged(false, &[]), [("instance-down", Severity::Critical)]);
    assert_eq!(judged(true, &[]), [], "it was added to the configuration afterwards");
    assert_eq!(judged(false, &["192.0.2.1:2222"]), [], "no interface has it");
}

/// What another socket of the same sshd serves is not served by that one.
#[test]
fn a_wildcard_of_one_family_is_not_the_other() {
    let mut trials = ready();
    trial(&mut trials, "ssh.service").changed = false;
    for (served, others, expected) in [
        ("0.0.0.0:22", &["[::1]:631"][..], &[("instance-down", Severity::Critical)][..]),
        ("[::]:22", &[], &[("instance-down", Severity::Critical)]),
        // Nobody on this host uses IPv6, which may be switched off.
        ("0.0.0.0:22", &[], &[]),
    ] {
        let mut machine = healthy();
        machine.processes[0].sockets = sockets(&[served]);
        machine.foreign = sockets(others);
        assert_eq!(codes(&judged(&machine, &trials)), expected, "{served} beside {others:?}");
    }
    // It has only just been started.
    let mut machine = healthy();
    machine.processes[0].sockets = sockets(&["[::]:22"]);
    machine.instances[0].service.active = ActiveState::Reloading;
    assert_eq!(codes(&judged(&machine, &trials)), []);
}

/// No probe reaches it there.
#[test]
fn a_listener_in_a_vrf_is_not_known_to_be_healthy() {
    let mut machine = healthy();
    machine.processes[0].sockets[0].vrf = true;
    assert_eq!(codes(&judged(&machine, &ready())), [("not-examined", Severity::Warning)]);
}

/// The plan says what is wrong with a program that is to take over.
#[test]
fn a_refusal_is_not_said_twice() {
    assert_eq!(codes(&judged(&incident(), &invalid())), codes(&diagnose(&incident())));
}

#[test]
fn what_could_not_be_tried_is_no_fault() {
    let mut machine = healthy();
    machine.instances[0].service.exec_start =
        Some(ExecStart { path: "/usr/local/sbin/wrapper".into(), arguments: Vec::new() });
    let mut untried = ready();
    trial(&mut untried, "ssh.service").handshake = Check::Failed("it is not an sshd".into());
    assert_eq!(codes(&judged(&machine, &untried)), [("not-examined", Severity::Warning)]);
    let mut slow = ready();
    let late = trial(&mut slow, "ssh.service");
    (late.timed_out, late.handshake) = (true, Check::Failed("it did not end in time".into()));
    assert_eq!(codes(&judged(&waiting(), &slow)), [("not-examined", Severity::Warning)]);
}

#[test]
fn instances_that_serve_can_be_tried() {
    assert_eq!(instances_in_service(&healthy(), &[]), ["ssh.service"]);
    assert_eq!(instances_in_service(&waiting(), &[]), ["ssh.service"]);
    assert_eq!(instances_in_service(&healthy(), &["ssh.service".to_owned()]), Vec::<String>::new());
    let mut elsewhere = healthy();
    elsewhere.instances[0].service.own_network = true;
    assert_eq!(instances_in_service(&elsewhere, &[]), Vec::<String>::new());
    let mut unwanted = healthy();
    unwanted.host.not_to_be_run = true;
    assert_eq!(instances_in_service(&unwanted, &[]), Vec::<String>::new());
}

#[test]
fn a_listener_with_old_libraries_is_probed_and_is_critical_only_if_it_is_dead() {
    let mut machine = healthy();
    assert_eq!(suspects(&machine), Vec::<i32>::new());
    machine.processes[0].stale_libraries = vec!["libcrypto.so.3".into()];
    assert_eq!(suspects(&machine), [60]);
    assert_eq!(codes(&diagnose(&machine)), [("stale-libraries", Severity::Info)]);
    machine.processes[0].probe = probe(ProbeResult::Dead);
    let found = diagnose(&machine);
    assert_eq!(codes(&found), [("stale-libraries", Severity::Critical)]);
    assert!(found.findings[0].message.contains("libcrypto.so.3"), "{found:?}");
}

/// The program that holds an address is named, where its name is known.
#[test]
fn a_program_in_the_way_is_named() {
    let mut machine = healthy();
    machine.processes[0].sockets = sockets(&["[::]:22"]);
    machine.instances[0].wanted = addresses(&["0.0.0.0:22", "[::]:22"]);
    machine.foreign = sockets(&["0.0.0.0:22"]);
    let inode = machine.foreign[0].inode;
    assert!(sockets_in_the_way(&machine).contains(&inode));
    machine.holders.insert(inode, "nginx 812".into());
    let found = diagnose(&machine);
    assert!(found.findings[0].message.ends_with("0.0.0.0:22 (nginx 812)"), "{found:?}");
    let refusal = planned(&machine, &ready(), Trigger::Hook);
    assert_eq!(refused(&refusal, "ssh.service"), Some(RefusalCode::ForeignListener));
}

/// An sshd that somebody started in an emergency is not to be ended before ssh.service can start.
#[test]
fn an_sshd_of_another_unit_that_serves_is_kept() {
    let mut machine = second_instance(healthy());
    let main = &mut machine.instances[0].service;
    (main.active, main.sub, main.main_pid) = (ActiveState::Failed, "failed".into(), None);
    machine.instances[0].wanted = addresses(&["0.0.0.0:22"]);
    machine.processes.remove(0);
    machine.processes[0].sockets = sockets(&["0.0.0.0:22"]);
    machine.processes[0].image = NEW;
    let down = diagnose(&machine).findings;
    let down = down.iter().find(|finding| finding.code == FindingCode::Down).expect("ssh.service has failed");
    assert!(down.message.contains("sshd 80 of sshd-2222.service serves 0.0.0.0:22"), "{down:?}");
    let plan = planned(&machine, &ready(), Trigger::Repair);
    let (_, refusal) = plan.refusals().next().expect("a refusal");
    assert_eq!(refusal.code, RefusalCode::ForeignListener);
    let advice = "systemctl stop sshd-2222.service; systemctl start ssh.service'";
    assert!(refusal.advice.ends_with(advice), "{refusal:?}");
}

/// An sshd that somebody started at a port of its own does not hide what is wrong with ssh.service.
#[test]
fn an_orphan_elsewhere_does_not_hide_it() {
    let mut machine = waiting();
    machine.processes = vec![Process { sockets: sockets(&["0.0.0.0:2222"]), ..stale(listener(70)) }];
    let found = judged(&machine, &invalid());
    assert!(codes(&found).contains(&("would-not-restart", Severity::Critical)), "{found:?}");
}
