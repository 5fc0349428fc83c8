//! Findings about a machine on which nobody listens, or somebody else does, and about a repair that was interrupted or
//! left a rescue: facts in; findings, plan of a repair, plan of the hook out.
#![allow(missing_docs)]

mod support;

use sshd_mend::decide::diagnose;
use sshd_mend::model::diagnosis::{FindingCode, Severity::Critical, Severity::Warning};
use sshd_mend::model::plan::Trigger;
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::process::Process;
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::unit::{ActiveState, Enablement, Unit};
use std::time::Duration;
use support::*;

const START_SERVICE: &str = "reset-failed ssh.service, start ssh.service, probe 0.0.0.0:22, probe [::]:22";
const START_BOTH: &str =
    "reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22";
const REPLACE: &str = "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22";
const REPLACE_RESCUE: &str = "stop-rescue sshd-mend-rescue-ssh.socket, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22";

/// Nobody listens, and ssh.service is in this state.
fn nobody(active: &str, sub: &str, enabled: &str) -> Snapshot {
    let mut machine = healthy();
    machine.instances[0].service = service("ssh.service", active, sub, enabled);
    machine.processes.clear();
    machine
}

/// The incident after its listener was terminated and nothing else happened.
fn interrupted() -> Snapshot {
    let mut machine = incident();
    machine.processes.clear();
    machine.intent = intent(vec![intended("ssh.service", &["[::]:22"], false)]);
    machine
}

/// The incident after a repair that ended in a rescue.
fn rescued() -> Snapshot {
    let mut machine = incident();
    machine.processes.clear();
    machine.systemd_holds = dual();
    machine.instances[0].rescue = serving_rescue(&machine.instances[0], &["[::]:22"]);
    machine
}

/// Another program holds these addresses, and ssh.service would serve at port 22.
fn taken(mut machine: Snapshot, foreign: &[&str]) -> Snapshot {
    machine.instances[0].wanted = addresses(&["0.0.0.0:22", "[::]:22"]);
    machine.foreign = sockets(foreign);
    machine
}

const ROWS: &[Row] = &[
    Row {
        name: "down",
        machine: || nobody("failed", "failed", "enabled"),
        findings: &[("down", Critical)],
        repair: START_SERVICE,
        hook: START_SERVICE,
    },
    Row {
        name: "down, and to be started again after a while",
        machine: || nobody("activating", "auto-restart", "enabled"),
        findings: &[("down", Critical)],
        repair: START_SERVICE,
        hook: START_SERVICE,
    },
    Row {
        name: "down, with the socket",
        machine: || {
            let mut machine = incident();
            machine.processes.clear();
            machine
        },
        findings: &[("down", Critical)],
        repair: START_BOTH,
        hook: START_BOTH,
    },
    Row {
        name: "nobody listens, all disabled",
        machine: || nobody("failed", "failed", "disabled"),
        findings: &[],
        repair: "",
        hook: "",
    },
    Row {
        name: "nobody listens, and the administrator wants no sshd",
        machine: || {
            let mut machine = nobody("failed", "failed", "enabled");
            machine.host.not_to_be_run = true;
            machine
        },
        findings: &[],
        repair: "",
        hook: "",
    },
    Row {
        name: "systemd holds the socket and starts ssh.service when somebody comes",
        machine: || {
            let mut machine = nobody("inactive", "dead", "disabled");
            machine.instances[0].socket.active = ActiveState::Active;
            machine.instances[0].socket.enablement = Enablement::Enabled;
            machine.systemd_holds = dual();
            machine
        },
        findings: &[],
        repair: "",
        hook: "",
    },
    Row {
        name: "interrupted, nobody listens",
        machine: interrupted,
        findings: &[("interrupted", Critical)],
        repair: START_BOTH,
        hook: START_BOTH,
    },
    Row {
        name: "interrupted, and what was declared is inactive, not failed",
        machine: || {
            let mut machine = interrupted();
            machine.instances[0].service.active = ActiveState::Inactive;
            machine.instances[0].socket.active = ActiveState::Inactive;
            machine
        },
        findings: &[("interrupted", Critical)],
        repair: START_BOTH,
        hook: START_BOTH,
    },
    Row {
        name: "interrupted before anything was terminated",
        machine: || Snapshot { intent: interrupted().intent, ..incident() },
        findings: &[("stale-orphan", Warning)],
        repair: REPLACE,
        hook: REPLACE,
    },
    Row {
        name: "interrupted after everything was done",
        machine: || Snapshot { intent: interrupted().intent, ..healthy() },
        findings: &[],
        repair: "",
        hook: "",
    },
    Row {
        name: "rescue-active",
        machine: rescued,
        findings: &[("rescue-active", Critical)],
        repair: REPLACE_RESCUE,
        hook: "",
    },
    Row {
        name: "rescue-active, and its intent is on record",
        machine: || Snapshot { intent: interrupted().intent, ..rescued() },
        findings: &[("rescue-active", Critical)],
        repair: REPLACE_RESCUE,
        hook: "",
    },
    Row {
        name: "foreign-listener",
        machine: || taken(nobody("failed", "failed", "enabled"), &["0.0.0.0:22", "0.0.0.0:80"]),
        findings: &[("foreign-listener", Critical)],
        repair: "ssh.service: foreign-listener",
        hook: "ssh.service: foreign-listener",
    },
    Row {
        name: "foreign-listener at one of two addresses",
        machine: || {
            let mut machine = healthy();
            machine.processes[0] = Process { sockets: sockets(&["[::]:22"]), ..listener(60) };
            taken(machine, &["0.0.0.0:22", "0.0.0.0:80"])
        },
        findings: &[("foreign-listener", Critical)],
        repair: "ssh.service: foreign-listener",
        hook: "ssh.service: foreign-listener",
    },
    Row {
        name: "another program at a port that ssh does not need",
        machine: || taken(healthy(), &["0.0.0.0:80"]),
        findings: &[],
        repair: "",
        hook: "",
    },
    Row {
        name: "another program at the port of a disabled ssh",
        machine: || taken(nobody("failed", "failed", "disabled"), &["0.0.0.0:22"]),
        findings: &[],
        repair: "",
        hook: "",
    },
];

#[test]
fn each_outage_has_its_finding_and_its_plan() {
    check(ROWS);
}

#[test]
fn what_was_done_is_taken_off_the_record() {
    let done = Snapshot { intent: interrupted().intent, ..healthy() };
    assert_eq!(planned(&done, &ready(), Trigger::Hook).settled, ["ssh.service"]);
    let not_begun = Snapshot { intent: interrupted().intent, ..incident() };
    let mut dead = done.clone();
    dead.processes[0].probe = probe(ProbeResult::Dead);
    let rescued = Snapshot { intent: interrupted().intent, ..rescued() };
    for machine in [interrupted(), not_begun, dead, rescued] {
        assert_eq!(planned(&machine, &ready(), Trigger::Repair).settled, Vec::<String>::new(), "{machine:?}");
    }
}

/// An address that was served before and is not any more stays critical, also while another one is served.
#[test]
fn an_address_that_was_lost_stays_critical() {
    let mut machine = healthy();
    machine.intent = intent(vec![intended("ssh.service", &["0.0.0.0:22", "0.0.0.0:2200"], false)]);
    assert_eq!(findings(&machine), [("interrupted", Critical)]);
    assert_eq!(planned(&machine, &ready(), Trigger::Repair).settled, Vec::<String>::new());
}

/// A start of what an interrupted repair stopped can only help, whatever speaks against it: nobody serves meanwhile.
#[test]
fn an_interrupted_repair_is_completed_though_the_program_fails() {
    use sshd_mend::model::trial::{Check, Package};
    let mut trials = ready();
    let trial = trial(&mut trials, "ssh.service");
    trial.config = Check::Failed("line 3".into());
    trial.handshake = Check::Failed("closed".into());
    trial.package = Package::Unconfigured("half-configured".into());
    trial.own_addresses = None;
    for trigger in [Trigger::Repair, Trigger::Hook] {
        assert_eq!(decided(&planned(&interrupted(), &trials, trigger)), START_BOTH);
    }
}

/// The same if the deadline has passed: once a listener was signalled, the start has to follow.
#[test]
fn an_interrupted_repair_is_completed_though_time_ran_out() {
    let mut trials = ready();
    trial(&mut trials, "ssh.service").timed_out = true;
    for trigger in [Trigger::Repair, Trigger::Hook] {
        assert_eq!(decided(&planned(&interrupted(), &trials, trigger)), START_BOTH);
    }
}

/// Nobody can log in, though somebody stopped it: critical, reported, and left as it is.
#[test]
fn what_somebody_stopped_is_critical_and_stays_stopped() {
    let machine = nobody("inactive", "dead", "enabled");
    for trigger in [Trigger::Repair, Trigger::Hook] {
        assert_eq!(decided(&planned(&machine, &ready(), trigger)), "");
    }
    assert_eq!(findings(&machine), [("stopped", Critical)]);
}

/// What was started by hand is no reason to start what somebody stopped.
#[test]
fn a_socket_that_was_started_by_hand_and_has_failed_is_named() {
    let mut machine = nobody("inactive", "dead", "enabled");
    machine.instances[0].socket = unit("ssh.socket", "failed", "failed", "disabled");
    assert_eq!(findings(&machine), [("stopped", Critical)]);
    let message = &diagnose(&machine).findings[0].message;
    assert!(message.ends_with("; ssh.socket, which is not enabled, has failed"), "{message}");
}

/// systemd is at it, and it takes some hundred milliseconds unless something is wrong.
#[test]
fn what_is_being_started_is_a_warning_and_soon_critical() {
    for (seconds, severity) in [(0, Warning), (14, Warning), (15, Critical)] {
        let mut machine = nobody("activating", "start", "enabled");
        machine.instances[0].service.starting_for = Some(Duration::from_secs(seconds));
        assert_eq!(findings(&machine), [("starting", severity)], "{seconds} s");
        for trigger in [Trigger::Repair, Trigger::Hook] {
            assert_eq!(decided(&planned(&machine, &ready(), trigger)), "");
        }
    }
}

#[test]
fn the_finding_stopped_names_the_unit_to_start() {
    let mut with_socket = nobody("inactive", "dead", "disabled");
    with_socket.instances[0].socket.enablement = Enablement::Enabled;
    let mut with_alias = nobody("inactive", "dead", "enabled");
    with_alias.instances[0].service.name = "sshd.service".into();
    let service = nobody("inactive", "dead", "enabled");
    for (machine, unit) in [(service, "ssh.service"), (with_socket, "ssh.socket"), (with_alias, "sshd.service")] {
        let findings = diagnose(&machine).findings;
        let stopped = findings.iter().find(|finding| finding.code == FindingCode::Stopped).expect("a finding");
        assert!(stopped.advice.contains(&format!("systemctl start {unit}.")), "{stopped:?}");
    }
}

/// `down` is about an enabled unit: ssh.socket, which is disabled, may have failed long ago.
#[test]
fn the_failure_of_a_disabled_unit_does_not_start_what_somebody_stopped() {
    let mut machine = nobody("inactive", "dead", "enabled");
    machine.instances[0].socket.active = ActiveState::Failed;
    assert!(!diagnose(&machine).has(FindingCode::Down));
    assert_eq!(decided(&planned(&machine, &ready(), Trigger::Repair)), "");
}

/// The next attempt of `Restart=` shows as a queued job. Nobody listens all the same.
#[test]
fn a_unit_that_systemd_is_about_to_start_again_is_down() {
    let mut machine = nobody("activating", "auto-restart-queued", "enabled");
    machine.instances[0].service.job = true;
    assert_eq!(findings(&machine), [("down", Critical)]);
}

/// A reload that changed its addresses closed them, and every state that systemd reports looks healthy.
#[test]
fn an_active_socket_at_whose_addresses_nothing_listens_is_restarted() {
    let mut machine = nobody("inactive", "dead", "disabled");
    machine.instances[0].socket =
        Unit { active: ActiveState::Active, sub: "listening".into(), ..incident().instances[0].socket.clone() };
    assert_eq!(findings(&machine), [("socket-deaf", Critical)]);
    for trigger in [Trigger::Repair, Trigger::Hook] {
        let plan = planned(&machine, &ready(), trigger);
        assert!(decided(&plan).contains("restart ssh.socket"), "{plan:?}");
    }
}

#[test]
fn an_active_unit_of_which_no_listener_is_seen_is_a_warning() {
    let machine = nobody("active", "running", "enabled");
    assert_eq!(findings(&machine), [("unseen", Warning)]);
    assert_eq!(decided(&planned(&machine, &ready(), Trigger::Repair)), "");
}

/// Only a person's repair ends a rescue: people may be using it right now.
#[test]
fn the_hook_leaves_a_rescue_alone_beside_a_stale_orphan() {
    let mut machine = rescued();
    machine.processes = vec![Process { sockets: sockets(&["127.0.0.1:22"]), ..stale(listener(60)) }];
    let plan = planned(&machine, &ready(), Trigger::Hook);
    assert!(!decided(&plan).contains("stop-rescue"), "{plan:?}");
}

/// A rescue that serves is not ended before what replaces it is known to work, whether its intent is on record or not.
#[test]
fn a_rescue_is_not_stopped_for_a_program_that_would_not_serve() {
    use sshd_mend::model::{refusal::RefusalCode, trial::Check};
    let on_record = Snapshot { intent: interrupted().intent, ..rescued() };
    for machine in [rescued(), on_record] {
        let mut trials = ready();
        trial(&mut trials, "ssh.service").config = Check::Failed("line 3".into());
        let plan = planned(&machine, &trials, Trigger::Repair);
        assert_eq!(refused(&plan, "ssh.service"), Some(RefusalCode::ConfigInvalid), "{plan:?}");
    }
}
