//! What is looked at more closely: which listeners are probed in a package run, for which units it is looked up where
//! they would serve, and what the result of a probe means.
#![allow(missing_docs)]

mod support;

use sshd_mend::decide::diagnose;
use sshd_mend::decide::diagnosis::{instances_in_doubt, suspects};
use sshd_mend::model::diagnosis::Severity::{Critical, Warning};
use sshd_mend::model::plan::Trigger;
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::process::Process;
use sshd_mend::model::unit::ActiveState;
use support::*;

/// Each probe is a line in sshd's log.
#[test]
fn only_listeners_that_look_wrong_are_probed_in_a_package_run() {
    assert_eq!(suspects(&healthy()), [0; 0]);
    assert_eq!(suspects(&incident()), [60], "stale, and nobody's");
    let mut machine = healthy();
    machine.processes[0] = stale(listener(60));
    assert_eq!(suspects(&machine), [60], "stale");
    let mut machine = incident();
    machine.processes[0] = listener(60);
    assert_eq!(suspects(&machine), [60], "nobody's");
    let mut machine = healthy();
    machine.host.runtime_directory = false;
    assert_eq!(suspects(&machine), [60], "/run/sshd is missing");
    let mut machine = healthy();
    machine.intent = intent(vec![intended("ssh.service", &["[::]:22"], false)]);
    assert_eq!(suspects(&machine), [60], "a repair was interrupted");
    assert_eq!(suspects(&second_instance(healthy())), [80], "the other instance is stale");
}

/// A session's connection is its own, and a container's sshd is not the host's.
#[test]
fn nothing_but_a_listener_is_probed() {
    let mut machine = healthy();
    machine.processes.push(Process { sockets: sockets(&["127.0.0.1:6010"]), ..stale(session(90)) });
    let mut contained = stale(listener(91));
    contained.surroundings.root_directory = false;
    machine.processes.push(contained);
    assert_eq!(suspects(&machine), [0; 0]);
}

/// It takes a run of sshd to find out, so it is done where somebody else may be at the address.
#[test]
fn where_the_units_would_serve_is_looked_up_where_somebody_else_may() {
    assert_eq!(instances_in_doubt(&second_instance(healthy())), [0; 0], "all are active");
    let mut machine = second_instance(healthy());
    machine.instances[1].service.active = ActiveState::Inactive;
    assert_eq!(instances_in_doubt(&machine), [1]);
    assert_eq!(instances_in_doubt(&incident()), [0]);
    let mut machine = second_instance(healthy());
    machine.foreign = sockets(&["127.0.0.1:80"]);
    assert_eq!(instances_in_doubt(&machine), [0; 0], "a port of nobody's");
    machine.foreign = sockets(&["127.0.0.1:22"]);
    assert_eq!(instances_in_doubt(&machine), [0, 1], "whose it is, is not known yet");
}

/// It is reported where it was found, and no result but `dead` makes anything worse.
#[test]
fn only_a_dead_probe_makes_a_finding_critical() {
    for result in [ProbeResult::Ok, ProbeResult::Inconclusive, ProbeResult::Skipped, ProbeResult::Dead] {
        let mut machine = incident();
        machine.processes[0].probe = probe(result);
        let severity = if result == ProbeResult::Dead { Critical } else { Warning };
        assert_eq!(findings(&machine), [("stale-orphan", severity)], "{result:?}");
        assert_eq!(diagnose(&machine).listeners[0].probe.result, result);
    }
}

/// It accepts and sends nothing, or rejects everyone. Nothing is known about it: a warning, and no reason to act.
#[test]
fn a_current_listener_that_does_not_answer_is_a_warning() {
    let mut machine = healthy();
    machine.processes[0].probe = probe(ProbeResult::Inconclusive);
    for trigger in [Trigger::Repair, Trigger::Hook] {
        assert_eq!(decided(&planned(&machine, &ready(), trigger)), "");
    }
    assert_eq!(findings(&machine), [("not-answering", Warning)]);
}
