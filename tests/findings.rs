//! Findings about listeners, as a table: facts in; findings, plan of a repair, plan of the hook out.
//!
//! One row for each kind of finding about a machine on which somebody listens. Rows about a machine on which
//! nobody does are in tests/outages.rs, rows about several instances in tests/instances.rs.
#![allow(missing_docs)]

mod support;

use sshd_mend::decide::{diagnose, instances_to_try};
use sshd_mend::model::diagnosis::Severity::{Critical, Info, Warning};
use sshd_mend::model::plan::Trigger;
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::process::Process;
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::model::trial::Trials;
use sshd_mend::model::unit::{Enablement, Unit};
use support::*;

const AS_DECLARED: &str = "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22";
const AS_DECLARED_AT_BOTH: &str = "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe 0.0.0.0:22, probe [::]:22";
const AFTER_FIRST_AID: &str = "create /run/sshd, terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22";
const SERVICE_ALONE: &str = "terminate 60, reset-failed ssh.service, start ssh.service, probe [::]:22";
const SOCKET_AGAIN: &str = "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, stop ssh.service, start ssh.socket, start ssh.service, probe 0.0.0.0:22, probe [::]:22";
const RESTART: &str = "reset-failed ssh.service, restart ssh.service, probe 0.0.0.0:22, probe [::]:22";
const FIRST_AID: &str = "create /run/sshd, probe 0.0.0.0:22, probe [::]:22";

const ROWS: &[Row] = &[
    Row { name: "nothing", machine: healthy, findings: &[], repair: "", hook: "" },
    Row {
        name: NOT_APPLICABLE,
        machine: || {
            let mut machine = healthy();
            let main = &mut machine.instances[0];
            main.program.file = None;
            main.service = Unit::absent("ssh.service");
            main.socket = Unit::absent("ssh.socket");
            machine.processes.clear();
            machine
        },
        findings: &[],
        repair: "",
        hook: "",
    },
    Row {
        name: "stale-orphan",
        machine: incident,
        findings: &[("stale-orphan", Warning)],
        repair: AS_DECLARED,
        hook: AS_DECLARED,
    },
    Row {
        name: "stale-orphan whose probe is dead",
        machine: || {
            let mut machine = incident();
            machine.processes[0].probe = probe(ProbeResult::Dead);
            machine
        },
        findings: &[("stale-orphan", Critical)],
        repair: AS_DECLARED,
        hook: AS_DECLARED,
    },
    Row {
        name: "stale-orphan whose directory is missing",
        machine: || {
            let mut machine = incident();
            machine.host.runtime_directory = false;
            machine.processes[0].probe = probe(ProbeResult::Dead);
            machine
        },
        findings: &[("stale-orphan", Critical), ("runtime-directory-missing", Critical)],
        repair: AFTER_FIRST_AID,
        hook: AFTER_FIRST_AID,
    },
    Row {
        name: "stale-orphan where the service is declared",
        machine: || {
            let mut machine = incident();
            machine.instances[0].socket.enablement = Enablement::Disabled;
            machine.instances[0].service.enablement = Enablement::Enabled;
            machine
        },
        findings: &[("stale-orphan", Warning)],
        repair: SERVICE_ALONE,
        hook: SERVICE_ALONE,
    },
    Row {
        name: "stale-orphan beside a service that runs without its socket",
        machine: || {
            let mut machine = incident();
            machine.instances[0].service =
                Unit { main_pid: Some(70), ..service("ssh.service", "active", "running", "disabled") };
            machine.processes[0].sockets = sockets(&["[::]:22"]);
            machine.processes.push(Process { sockets: sockets(&["0.0.0.0:22"]), ..listener(70) });
            machine
        },
        findings: &[("stale-orphan", Warning), ("socket-detached", Info)],
        repair: SOCKET_AGAIN,
        hook: SOCKET_AGAIN,
    },
    Row {
        name: "stale-orphan that keeps to IPv6, as the socket does",
        machine: || {
            let mut machine = incident();
            machine.instances[0].socket.ipv6_only = true;
            machine.processes[0].sockets = sockets(&["[::]:22"]);
            machine
        },
        findings: &[("stale-orphan", Warning)],
        repair: AS_DECLARED,
        hook: AS_DECLARED,
    },
    Row {
        name: "stale-orphan beside one that was started by hand at another port",
        machine: || {
            let mut machine = incident();
            machine.processes.push(by_hand(80));
            machine
        },
        findings: &[("stale-orphan", Warning), ("stale-orphan", Warning)],
        repair: AS_DECLARED,
        hook: AS_DECLARED,
    },
    Row {
        name: "stale-service",
        machine: || {
            let mut machine = healthy();
            machine.processes[0] = stale(listener(60));
            machine
        },
        findings: &[("stale-service", Warning)],
        repair: RESTART,
        hook: RESTART,
    },
    Row {
        name: "stale-service whose probe is dead",
        machine: || {
            let mut machine = healthy();
            machine.processes[0] = Process { probe: probe(ProbeResult::Dead), ..stale(listener(60)) };
            machine
        },
        findings: &[("stale-service", Critical)],
        repair: RESTART,
        hook: RESTART,
    },
    Row {
        name: "stale-service beside a stale orphan at another address",
        machine: || {
            let mut machine = healthy();
            machine.processes[0] = Process { sockets: sockets(&["0.0.0.0:22"]), ..stale(listener(60)) };
            machine.processes.push(Process { sockets: sockets(&["[::]:22"]), ..stale(listener(70)) });
            machine
        },
        findings: &[("stale-service", Warning), ("stale-orphan", Warning)],
        repair: "terminate 70, reset-failed ssh.service, restart ssh.service, probe 0.0.0.0:22, probe [::]:22",
        hook: "terminate 70, reset-failed ssh.service, restart ssh.service, probe 0.0.0.0:22, probe [::]:22",
    },
    Row {
        name: "stale-service beside one that was started by hand at another port",
        machine: || {
            let mut machine = healthy();
            machine.processes[0] = stale(listener(60));
            machine.processes.push(by_hand(80));
            machine
        },
        findings: &[("stale-service", Warning), ("stale-orphan", Warning)],
        repair: RESTART,
        hook: RESTART,
    },
    Row {
        name: "one that was started by hand at another port, beside a healthy service",
        machine: || {
            let mut machine = healthy();
            machine.processes.push(by_hand(80));
            machine
        },
        findings: &[("stale-orphan", Warning)],
        repair: "ssh.service: addresses-not-covered",
        hook: "ssh.service: addresses-not-covered",
    },
    Row {
        name: "runtime-directory-missing",
        machine: || {
            let mut machine = healthy();
            machine.host.runtime_directory = false;
            machine
        },
        findings: &[("runtime-directory-missing", Critical)],
        repair: FIRST_AID,
        hook: FIRST_AID,
    },
    Row {
        name: "runtime-directory-missing, which is why the listener is dead",
        machine: || {
            let mut machine = healthy();
            machine.host.runtime_directory = false;
            machine.processes[0].probe = probe(ProbeResult::Dead);
            machine
        },
        findings: &[("runtime-directory-missing", Critical)],
        repair: FIRST_AID,
        hook: FIRST_AID,
    },
    Row {
        name: "orphan",
        machine: || {
            let mut machine = incident();
            machine.processes[0] = listener(60);
            machine
        },
        findings: &[("orphan", Warning)],
        repair: AS_DECLARED_AT_BOTH,
        hook: "",
    },
    Row {
        name: "orphan that is dead",
        machine: || {
            let mut machine = incident();
            machine.processes[0] = Process { probe: probe(ProbeResult::Dead), ..listener(60) };
            machine
        },
        findings: &[("orphan", Critical)],
        repair: AS_DECLARED_AT_BOTH,
        hook: AS_DECLARED_AT_BOTH,
    },
    // Whoever fills MaxStartups must not be able to make root terminate anything.
    Row {
        name: "orphan whose probe is inconclusive",
        machine: || {
            let mut machine = incident();
            machine.processes[0] = Process { probe: probe(ProbeResult::Inconclusive), ..listener(60) };
            machine
        },
        findings: &[("orphan", Warning)],
        repair: AS_DECLARED_AT_BOTH,
        hook: "",
    },
    Row {
        name: "socket-detached",
        machine: || {
            let mut machine = healthy();
            machine.instances[0].socket.enablement = Enablement::Enabled;
            machine
        },
        findings: &[("socket-detached", Info)],
        repair: "",
        hook: "",
    },
    Row {
        name: "listener-dead: there is nothing to be replaced",
        machine: || {
            let mut machine = healthy();
            machine.processes[0].probe = probe(ProbeResult::Dead);
            machine
        },
        findings: &[("listener-dead", Critical)],
        repair: "",
        hook: "",
    },
    Row {
        name: "a stale sshd in a container, and a stale session",
        machine: || {
            let mut machine = healthy();
            let mut contained = stale(listener(80));
            contained.surroundings.root_directory = false;
            machine.processes.push(contained);
            machine.processes.push(stale(session(90)));
            machine
        },
        findings: &[],
        repair: "",
        hook: "",
    },
];

const NOT_APPLICABLE: &str = "not-applicable";

/// A stale listener that no unit would serve in place of.
fn by_hand(pid: i32) -> Process {
    Process {
        sockets: sockets(&["0.0.0.0:2222"]),
        control_group: "/user.slice/session-3.scope".into(),
        unit: Some("session-3.scope".into()),
        ..stale(listener(pid))
    }
}

#[test]
fn each_fault_has_its_finding_and_its_plan() {
    check(ROWS);
}

#[test]
fn a_machine_without_an_openssh_server_is_not_applicable() {
    for row in ROWS {
        assert_eq!(diagnose(&(row.machine)()).applicable, row.name != NOT_APPLICABLE, "{}", row.name);
    }
}

/// A plan that terminates something depends on a trial, so an instance that was not tried keeps its listener.
#[test]
fn nothing_is_terminated_that_was_not_tried() {
    for row in ROWS {
        let machine = (row.machine)();
        for trigger in [Trigger::Repair, Trigger::Hook] {
            let untried = planned(&machine, &Trials::default(), trigger);
            assert!(!untried.replaces(), "{}: {untried:?}", row.name);
            let to_try = instances_to_try(&machine, &diagnose(&machine), trigger);
            for (instance, _) in planned(&machine, &ready(), trigger).replacements() {
                assert!(to_try.contains(&instance.to_owned()), "{}: {to_try:?}", row.name);
                assert_eq!(refused(&untried, instance), Some(RefusalCode::BinaryUnusable), "{}", row.name);
            }
        }
    }
}

/// Each trial starts sshd: none is made on a healthy machine, where the hook runs dozens of times a day.
#[test]
fn nothing_is_tried_where_nothing_would_be_replaced() {
    for row in ROWS.iter().filter(|row| row.repair.is_empty()) {
        let machine = (row.machine)();
        let to_try = instances_to_try(&machine, &diagnose(&machine), Trigger::Repair);
        assert_eq!(to_try, Vec::<String>::new(), "{}", row.name);
    }
}

#[test]
fn findings_are_sorted_worst_first() {
    let mut machine = incident();
    machine.host.runtime_directory = false;
    assert_eq!(findings(&machine), [("runtime-directory-missing", Critical), ("stale-orphan", Warning)]);
}

#[test]
fn a_listener_that_is_left_alone_is_named_with_the_reason() {
    let mut machine = incident();
    machine.processes.push(by_hand(80));
    let plan = planned(&machine, &ready(), Trigger::Repair);
    let skipped = &plan.of("ssh.service").expect("the plan of the main instance").skipped;
    let skipped: Vec<_> = skipped.iter().map(|(pid, refusal)| (*pid, refusal.code)).collect();
    assert_eq!(skipped, [(80, RefusalCode::AddressesNotCovered)]);
}
