//! Instances are independent: each has its own findings, its own plan and its own record, and what is wrong with one
//! touches no unit of another.
#![allow(missing_docs)]

mod support;

use sshd_mend::decide::diagnose;
use sshd_mend::model::diagnosis::{FindingCode, Severity::Critical, Severity::Warning};
use sshd_mend::model::plan::Trigger;
use sshd_mend::model::process::Process;
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::trial::{Check, OtherProcesses, Trial, Trials};
use sshd_mend::model::unit::{ActiveState, Enablement, KillMode, Listen, Unit};
use support::*;

const RESTART_SECOND: &str = "reset-failed sshd-2222.service, restart sshd-2222.service, probe 0.0.0.0:2222";
const START_SECOND: &str = "reset-failed sshd-2222.service, start sshd-2222.service, probe 0.0.0.0:2222";
const REPLACE_SECOND: &str =
    "terminate 80, reset-failed sshd-2222.service, start sshd-2222.service, probe 0.0.0.0:2222";
const START_SECOND_WITH_SOCKET: &str = "reset-failed sshd-2222.socket, reset-failed sshd-2222.service, start sshd-2222.socket, start sshd-2222.service, probe 0.0.0.0:2222";
const REPLACE_BOTH: &str = "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22, reset-failed sshd-2222.service, restart sshd-2222.service, probe 0.0.0.0:2222";

/// A machine whose second instance is in this state, and has no listener.
fn second(machine: Snapshot, active: &str) -> Snapshot {
    let mut machine = second_instance(machine);
    machine.instances[1].service =
        service(SECOND, active, if active == "failed" { "failed" } else { "dead" }, "enabled");
    machine.processes.retain(|process| process.pid != 80);
    machine
}

/// The main instance has failed and nobody listens in its place.
fn main_down() -> Snapshot {
    let mut machine = healthy();
    machine.instances[0].service = service("ssh.service", "failed", "failed", "enabled");
    machine.processes.clear();
    machine
}

fn healthy_second(machine: Snapshot) -> Snapshot {
    let mut machine = second_instance(machine);
    let listener = machine.processes.iter_mut().find(|process| process.pid == 80).expect("its listener");
    listener.image = NEW;
    machine
}

const ROWS: &[Row] = &[
    Row {
        name: "stale-service of the second instance",
        machine: || second_instance(healthy()),
        findings: &[("stale-service", Warning)],
        repair: RESTART_SECOND,
        hook: RESTART_SECOND,
    },
    Row {
        name: "stale-service of the second instance beside a stale orphan of the main one",
        machine: || second_instance(incident()),
        findings: &[("stale-orphan", Warning), ("stale-service", Warning)],
        repair: REPLACE_BOTH,
        hook: REPLACE_BOTH,
    },
    Row {
        name: "instance-down",
        machine: || second(healthy(), "failed"),
        findings: &[("instance-down", Critical)],
        repair: START_SECOND,
        hook: START_SECOND,
    },
    Row {
        name: "instance-down, with its socket",
        machine: || {
            let mut machine = second(healthy(), "inactive");
            machine.instances[1].socket = Unit {
                listen: vec![Listen::parse("0.0.0.0:2222")],
                ..unit("sshd-2222.socket", "failed", "failed", "enabled")
            };
            machine
        },
        findings: &[("instance-down", Critical)],
        repair: START_SECOND_WITH_SOCKET,
        hook: START_SECOND_WITH_SOCKET,
    },
    Row {
        name: "the second instance, stopped by somebody",
        machine: || second(healthy(), "inactive"),
        findings: &[],
        repair: "",
        hook: "",
    },
    Row {
        name: "down, while the second instance serves",
        machine: || healthy_second(main_down()),
        findings: &[("down", Critical)],
        repair: "reset-failed ssh.service, start ssh.service, probe 0.0.0.0:22, probe [::]:22",
        hook: "reset-failed ssh.service, start ssh.service, probe 0.0.0.0:22, probe [::]:22",
    },
    Row {
        name: "stale-orphan of the second instance",
        machine: || {
            let mut machine = second_instance(healthy());
            machine.instances[1].service = service(SECOND, "failed", "failed", "enabled");
            machine
        },
        findings: &[("stale-orphan", Warning)],
        repair: REPLACE_SECOND,
        hook: REPLACE_SECOND,
    },
    Row {
        name: "rescue-active in place of the second instance",
        machine: || {
            let mut machine = second(healthy(), "failed");
            machine.instances[1].rescue = serving_rescue(&machine.instances[1], &["0.0.0.0:2222"]);
            machine.systemd_holds = sockets(&["0.0.0.0:2222"]);
            machine
        },
        findings: &[("rescue-active", Critical)],
        repair: "stop-rescue sshd-mend-rescue-sshd-2222.socket, reset-failed sshd-2222.service, start sshd-2222.service, probe 0.0.0.0:2222",
        hook: "",
    },
    Row {
        name: "interrupted at the second instance, which is inactive",
        machine: || Snapshot { intent: intent(vec![of_second()]), ..second(healthy(), "inactive") },
        findings: &[("interrupted", Critical)],
        repair: START_SECOND,
        hook: START_SECOND,
    },
    Row {
        name: "interrupted at the second instance, while somebody stopped the main one",
        machine: || {
            let mut machine = second(main_down(), "inactive");
            machine.instances[0].service.active = ActiveState::Inactive;
            machine.instances[0].service.enablement = Enablement::Disabled;
            machine.intent = intent(vec![of_second()]);
            machine
        },
        findings: &[("interrupted", Critical)],
        repair: START_SECOND,
        hook: START_SECOND,
    },
];

fn of_second() -> sshd_mend::model::intent::InstanceIntent {
    intended(SECOND, &["0.0.0.0:2222"], false)
}

#[test]
fn each_instance_has_its_own_findings_and_its_own_plan() {
    check(ROWS);
}

#[test]
fn a_second_instance_alone_never_touches_a_unit_of_the_main_one() {
    let of_second_alone = ROWS.iter().filter(|row| row.repair.contains("2222") && !row.repair.contains("terminate 60"));
    for row in of_second_alone {
        let plan = planned(&(row.machine)(), &ready(), Trigger::Repair);
        let steps = short(&plan);
        assert!(!steps.contains("ssh.service") && !steps.contains("ssh.socket"), "{}: {steps}", row.name);
        assert_eq!(plan.replacements().map(|(instance, _)| instance).collect::<Vec<_>>(), [SECOND], "{}", row.name);
    }
}

type Spoil = (RefusalCode, fn(&mut Snapshot, &mut Trials));

/// What speaks against the replacement of the second instance.
const SPOILS: &[Spoil] = &[
    (RefusalCode::BeingDebugged, |machine, _| {
        machine.processes.iter_mut().find(|process| process.pid == 80).expect("its listener").traced = true;
    }),
    (RefusalCode::ConfigInvalid, |_, trials| of(trials).config = Check::Failed("x".into())),
    (RefusalCode::BinaryUnusable, |_, trials| of(trials).handshake = Check::Failed("x".into())),
    (RefusalCode::BinaryUnusable, |_, trials| trials.retain(|name, _| name != SECOND)),
    (RefusalCode::BinaryMissing, |machine, _| machine.instances[1].program.file = None),
    (RefusalCode::AddressesNotCovered, |_, trials| *of(trials) = serves(&["0.0.0.0:22"])),
    (RefusalCode::AddressesNotCovered, |_, trials| of(trials).own_addresses = None),
    (RefusalCode::JobPending, |machine, _| machine.instances[1].service.job = true),
    (RefusalCode::NothingToStart, |machine, _| machine.instances[1].service.can_start = false),
    (RefusalCode::WouldKillSessions, |machine, trials| {
        machine.instances[1].service.kill_mode = KillMode::ControlGroup;
        of(trials).other_processes = OtherProcesses::Known(vec![90]);
    }),
    (RefusalCode::TimedOut, |_, trials| of(trials).timed_out = true),
];

fn of(trials: &mut Trials) -> &mut Trial {
    trial(trials, SECOND)
}

#[test]
fn a_refusal_of_one_instance_leaves_the_replacement_of_the_other_in_the_plan() {
    for (code, spoil) in SPOILS {
        let (mut machine, mut trials) = (second_instance(healthy()), ready());
        spoil(&mut machine, &mut trials);
        let alone = planned(&machine, &trials, Trigger::Repair);
        assert_eq!((short(&alone).as_str(), refused(&alone, SECOND)), ("", Some(*code)));

        let (mut machine, mut trials) = (second_instance(incident()), ready());
        let unspoilt = planned(&machine, &trials, Trigger::Repair);
        spoil(&mut machine, &mut trials);
        let beside = planned(&machine, &trials, Trigger::Repair);
        assert_eq!((refused(&beside, "ssh.service"), refused(&beside, SECOND)), (None, Some(*code)));
        assert_eq!(replacement(&beside, "ssh.service"), replacement(&unspoilt, "ssh.service"), "{code:?}");
    }
}

/// A stop of the second instance would stop the main one, which serves.
#[test]
fn an_instance_on_which_another_one_depends_is_left_to_a_person() {
    let mut machine = second_instance(healthy());
    assert_eq!(planned(&machine, &ready(), Trigger::Hook).refusals().next(), None);
    machine.instances[1].service.stopped_along = vec!["ssh.service".into()];
    let plan = planned(&machine, &ready(), Trigger::Hook);
    assert_eq!((short(&plan).as_str(), refused(&plan, SECOND)), ("", Some(RefusalCode::WouldKillSessions)));
}

#[test]
fn a_refusal_of_the_main_instance_leaves_the_replacement_of_the_second_in_the_plan() {
    let spoils: [fn(&mut Snapshot, &mut Trials); 5] = [
        |_, trials| trial(trials, "ssh.service").timed_out = true,
        |machine, _| machine.instances[0].service.job = true,
        |machine, _| machine.processes[0].traced = true,
        |_, trials| trial(trials, "ssh.service").config = Check::Failed("x".into()),
        |_, trials| trials.retain(|name, _| name == SECOND),
    ];
    for spoil in spoils {
        let (mut machine, mut trials) = (second_instance(incident()), ready());
        spoil(&mut machine, &mut trials);
        let plan = planned(&machine, &trials, Trigger::Repair);
        assert!(refused(&plan, "ssh.service").is_some(), "{plan:?}");
        assert_eq!(short(&plan), RESTART_SECOND);
    }
}

/// A start that would bind an address of the other instance would fail, or take it away.
#[test]
fn an_instance_does_not_start_where_another_one_serves() {
    let mut trials = ready();
    *trial(&mut trials, "ssh.service") = serves(&["0.0.0.0:22", "[::]:22", "0.0.0.0:2222"]);
    let plan = planned(&healthy_second(main_down()), &trials, Trigger::Repair);
    assert_eq!(decided(&plan), "ssh.service: foreign-listener");
}

#[test]
fn each_listener_belongs_to_one_instance() {
    let mut machine = second_instance(healthy());
    let instances = |machine: &Snapshot| {
        let listeners = diagnose(machine).listeners.into_iter();
        listeners.map(|listener| (listener.pid, listener.instance, listener.unit)).collect::<Vec<_>>()
    };
    let owned = |pid: i32, name: &str| (pid, name.to_owned(), Some(name.to_owned()));
    assert_eq!(instances(&machine), [owned(60, "ssh.service"), owned(80, SECOND)]);
    // Nobody owns it any more: its control group tells, then what the socket declares, then what the units want.
    machine.instances[1].service.main_pid = None;
    let orphan = (80, SECOND.to_owned(), None);
    assert_eq!(instances(&machine)[1], orphan);
    machine.processes[1].unit = Some("session-3.scope".into());
    assert_eq!(instances(&machine)[1], (80, "ssh.service".to_owned(), None));
    machine.instances[1].wanted = addresses(&["0.0.0.0:2222"]);
    assert_eq!(instances(&machine)[1], orphan);
    machine.instances[1].wanted.clear();
    // Its new main process could not bind the address that the old one holds.
    let mut replaced = machine.clone();
    replaced.processes.push(Process { pid: 81, sockets: sockets(&["[::]:2222"]), ..machine.processes[1].clone() });
    replaced.instances[1].service.main_pid = Some(81);
    assert_eq!(instances(&replaced)[1], orphan);
    machine.instances[1].socket.listen = vec![Listen::parse("0.0.0.0:2222")];
    assert_eq!(instances(&machine)[1], orphan);
}

/// systemd was asked for ssh.service, which is an alias there: `Id` is sshd.service.
#[test]
fn a_unit_that_was_asked_for_by_an_alias_owns_its_listener() {
    let mut machine = healthy();
    machine.instances[0].service.name = "sshd.service".into();
    let process = Process { unit: Some("sshd.service".into()), ..stale(listener(60)) };
    machine.processes[0] = Process { control_group: "/system.slice/sshd.service".into(), ..process };
    let found = diagnose(&machine);
    assert_eq!(found.listeners[0].unit.as_deref(), Some("sshd.service"));
    assert!(!found.listeners[0].orphan);
    assert!(found.has_for("sshd.service", FindingCode::StaleService));
    let mut trials = ready();
    let trial = trials.remove("ssh.service").expect("a trial");
    trials.insert("sshd.service".into(), trial);
    let steps = short(&planned(&machine, &trials, Trigger::Hook));
    assert_eq!(steps, "reset-failed sshd.service, restart sshd.service, probe 0.0.0.0:22, probe [::]:22");
}
