//! Refusals: one row for each reason that a plan can have not to touch the incident, and what is still done then.
#![allow(missing_docs)]

mod support;

use sshd_mend::model::plan::{Plan, Trigger};
use sshd_mend::model::process::Process;
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::trial::{Check, OtherProcesses, Package, Policy, Trials};
use sshd_mend::model::unit::{Enablement, KillMode, Listen, LoadState, Unit};
use std::collections::BTreeSet;
use support::*;

type Row = (RefusalCode, fn(&mut Snapshot, &mut Trials));

const ROWS: &[Row] = &[
    (RefusalCode::ShuttingDown, |machine, _| machine.host.shutting_down = true),
    (RefusalCode::NotToBeRun, |machine, _| machine.host.not_to_be_run = true),
    (RefusalCode::BeingDebugged, |machine, _| machine.processes[0].traced = true),
    (RefusalCode::UnitMissing, |machine, _| main(machine).load = LoadState::NotFound),
    (RefusalCode::UnitMissing, |machine, _| main(machine).load = LoadState::parse("bad-setting")),
    (RefusalCode::UnitMissing, |machine, _| {
        machine.instances[0].socket.accept = true;
        machine.instances[0].per_connection = Some(Unit::absent("ssh@x.service"));
    }),
    (RefusalCode::UnitMasked, |machine, _| main(machine).load = LoadState::Masked),
    (RefusalCode::UnitMasked, |machine, _| machine.instances[0].socket.load = LoadState::Masked),
    (RefusalCode::NothingToStart, |machine, _| machine.instances[0].socket.enablement = Enablement::Disabled),
    (RefusalCode::NothingToStart, |machine, _| machine.instances[0].socket.can_start = false),
    (RefusalCode::NothingToStart, |machine, _| main(machine).can_start = false),
    (RefusalCode::JobPending, |machine, _| main(machine).job = true),
    (RefusalCode::JobPending, |machine, _| machine.instances[0].socket.job = true),
    (RefusalCode::WouldKillSessions, |machine, trials| {
        main(machine).kill_mode = KillMode::ControlGroup;
        of_main(trials).other_processes = OtherProcesses::Known(vec![90]);
    }),
    (RefusalCode::WouldKillSessions, |machine, trials| {
        main(machine).kill_mode = KillMode::Mixed;
        of_main(trials).other_processes = OtherProcesses::Unknown("Permission denied".into());
    }),
    (RefusalCode::BinaryMissing, |machine, _| machine.instances[0].program.file = None),
    (RefusalCode::PackageUnconfigured, |_, trials| of_main(trials).package = Package::Unconfigured("unpacked".into())),
    (RefusalCode::ConfigInvalid, |_, trials| of_main(trials).config = Check::Failed("line 3: Bad".into())),
    (RefusalCode::UnitWouldNotStart, |_, trials| of_main(trials).start_hindrance = Some("seen".into())),
    (RefusalCode::BinaryUnusable, |_, trials| of_main(trials).handshake = Check::Failed("closed".into())),
    (RefusalCode::BinaryUnusable, |_, trials| trials.clear()),
    (RefusalCode::SettingsUntried, |_, trials| of_main(trials).untried = Some("LimitNOFILE=".into())),
    (RefusalCode::TimedOut, |_, trials| of_main(trials).timed_out = true),
    (RefusalCode::AddressesNotCovered, |machine, _| machine.instances[0].socket.ipv6_only = true),
    (RefusalCode::AddressesNotCovered, |machine, _| {
        machine.instances[0].socket.listen = vec![Listen::parse("127.0.0.1:22")];
    }),
    (RefusalCode::AddressesNotCovered, |machine, trials| {
        service_alone(machine);
        of_main(trials).own_addresses = Some(addresses(&["0.0.0.0:22"]));
    }),
    (RefusalCode::AddressesNotCovered, |machine, trials| {
        service_alone(machine);
        of_main(trials).own_addresses = None;
    }),
    (RefusalCode::AddressesNotCovered, |machine, _| machine.processes[0].sockets[0].vrf = true),
    (RefusalCode::ForeignListener, |machine, _| {
        machine.instances[0].socket.listen.push(Listen::parse("0.0.0.0:2200"));
        machine.foreign = sockets(&["127.0.0.1:2200"]);
    }),
];

fn main(machine: &mut Snapshot) -> &mut Unit {
    &mut machine.instances[0].service
}

fn of_main(trials: &mut Trials) -> &mut sshd_mend::model::trial::Trial {
    trial(trials, "ssh.service")
}

/// ssh.service is what is declared, without the socket.
fn service_alone(machine: &mut Snapshot) {
    machine.instances[0].socket.enablement = Enablement::Disabled;
    main(machine).enablement = Enablement::Enabled;
}

fn refusal(plan: &Plan) -> Option<RefusalCode> {
    refused(plan, "ssh.service")
}

#[test]
fn each_reason_alone_keeps_the_incident_from_being_repaired() {
    for (code, spoil) in ROWS {
        let (mut machine, mut trials) = (incident(), ready());
        spoil(&mut machine, &mut trials);
        for trigger in [Trigger::Repair, Trigger::Hook] {
            let plan = planned(&machine, &trials, trigger);
            assert_eq!(refusal(&plan), Some(*code), "{plan:?}");
            assert!(plan.is_empty() && plan.steps().is_empty(), "{code:?}: {plan:?}");
        }
    }
}

/// First aid terminates nothing, and by itself restores logins.
#[test]
fn first_aid_is_given_whatever_else_is_refused() {
    let disabled = [RefusalCode::NotToBeRun, RefusalCode::UnitMasked];
    for (code, spoil) in ROWS.iter().filter(|(code, _)| !disabled.contains(code)) {
        let (mut machine, mut trials) = (incident(), ready());
        spoil(&mut machine, &mut trials);
        machine.host.runtime_directory = false;
        for trigger in [Trigger::Repair, Trigger::Hook] {
            let plan = planned(&machine, &trials, trigger);
            assert_eq!(refusal(&plan), Some(*code), "{plan:?}");
            assert_eq!(short(&plan), "create /run/sshd, probe [::]:22", "{code:?}");
        }
    }
}

/// The administrator wants no logins: nothing restores them.
#[test]
fn first_aid_is_not_given_where_the_administrator_disabled_ssh() {
    let disable: [fn(&mut Snapshot); 2] = [
        |machine| machine.host.not_to_be_run = true,
        |machine| {
            main(machine).load = LoadState::Masked;
            machine.instances[0].socket.load = LoadState::Masked;
        },
    ];
    for disable in disable {
        let mut machine = incident();
        machine.host.runtime_directory = false;
        disable(&mut machine);
        for trigger in [Trigger::Repair, Trigger::Hook] {
            let plan = planned(&machine, &ready(), trigger);
            assert!(plan.is_empty(), "{plan:?}");
        }
    }
}

/// The rest is not a plan's: the record and the environment of a package run are looked at elsewhere.
#[test]
fn every_refusal_that_a_plan_can_have_has_a_row() {
    let elsewhere = [RefusalCode::CannotRecord, RefusalCode::Suspended, RefusalCode::PolicyRcD];
    for code in RefusalCode::ALL.iter().filter(|code| !elsewhere.contains(code)) {
        assert!(ROWS.iter().any(|(row, _)| row == code), "{code:?}");
    }
}

#[test]
fn policy_rc_d_binds_the_hook_only() {
    let mut trials = ready();
    of_main(&mut trials).policy = Policy::Denies("it denies".into());
    let mut down = incident();
    down.processes.clear();
    let mut stale_service = healthy();
    stale_service.processes[0] = stale(listener(60));
    for machine in [incident(), down, stale_service] {
        let plan = planned(&machine, &trials, Trigger::Hook);
        assert_eq!(refusal(&plan), Some(RefusalCode::PolicyRcD));
        assert!(plan.is_empty(), "{plan:?}");
        assert_eq!(refusal(&planned(&machine, &trials, Trigger::Repair)), None);
    }
}

/// Any user can take [::]:2222 for IPv6 alone where an sshd serves IPv4 only.
#[test]
fn another_program_beside_what_is_served_does_not_prevent_the_replacement() {
    let mut machine = second_instance(incident());
    machine.foreign = sockets(&["[::]:2222", "127.0.0.1:80"]);
    let mut trials = ready();
    for declared in [vec!["0.0.0.0:2222"], vec!["0.0.0.0:2222", "[::]:2222"]] {
        trial(&mut trials, SECOND).own_addresses = Some(addresses(&declared));
        let plan = planned(&machine, &trials, Trigger::Hook);
        assert_eq!(plan.refusals().next(), None, "{declared:?}");
        assert!(plan.replacements().any(|(name, _)| name == SECOND), "{declared:?}");
    }
}

/// policy-rc.d is asked about each instance's own units.
#[test]
fn policy_rc_d_denies_one_instance_and_not_the_other() {
    let mut trials = ready();
    of_main(&mut trials).policy = Policy::Denies("it denies".into());
    let machine = second_instance(incident());
    let plan = planned(&machine, &trials, Trigger::Hook);
    let refused: Vec<(&str, RefusalCode)> = plan.refusals().map(|(name, refusal)| (name, refusal.code)).collect();
    assert_eq!(refused, [("ssh.service", RefusalCode::PolicyRcD)]);
    assert_eq!(plan.replacements().map(|(name, _)| name).collect::<Vec<_>>(), [SECOND]);
}

#[test]
fn policy_rc_d_leaves_first_aid_to_the_hook() {
    let mut trials = ready();
    of_main(&mut trials).policy = Policy::Denies("it denies".into());
    let mut machine = incident();
    machine.host.runtime_directory = false;
    let plan = planned(&machine, &trials, Trigger::Hook);
    assert_eq!(decided(&plan), "create /run/sshd, probe [::]:22, ssh.service: policy-rc.d");
}

/// A stop of the unit, or a failed start, ends what else runs in its control group, unless its KillMode= spares it.
#[test]
fn processes_in_the_control_group_count_where_a_stop_would_end_them() {
    let refusal_with = |mode: KillMode, others: OtherProcesses| {
        let (mut machine, mut trials) = (incident(), ready());
        main(&mut machine).kill_mode = mode;
        of_main(&mut trials).other_processes = others;
        refusal(&planned(&machine, &trials, Trigger::Repair))
    };
    let unknown = || OtherProcesses::Unknown("x".into());
    for mode in [KillMode::ControlGroup, KillMode::Mixed, KillMode::default()] {
        assert_eq!(refusal_with(mode.clone(), OtherProcesses::Known(vec![])), None, "{mode:?}");
        let orphan_alone = refusal_with(mode.clone(), OtherProcesses::Known(vec![60]));
        assert_eq!(orphan_alone, None, "{mode:?}: the old listener is to be terminated anyway");
        let with_session = refusal_with(mode.clone(), OtherProcesses::Known(vec![60, 90]));
        assert_eq!(with_session, Some(RefusalCode::WouldKillSessions), "{mode:?}");
        assert_eq!(refusal_with(mode.clone(), unknown()), Some(RefusalCode::WouldKillSessions), "{mode:?}");
    }
    for mode in [KillMode::Process, KillMode::None] {
        assert_eq!(refusal_with(mode.clone(), OtherProcesses::Known(vec![90])), None, "{mode:?}");
        assert_eq!(refusal_with(mode.clone(), unknown()), None, "{mode:?}");
    }
}

/// The same for a unit that systemd restarts.
#[test]
fn a_restart_that_would_end_sessions_is_refused() {
    let (mut machine, mut trials) = (healthy(), ready());
    machine.processes[0] = stale(listener(60));
    main(&mut machine).kill_mode = KillMode::ControlGroup;
    assert_eq!(refusal(&planned(&machine, &trials, Trigger::Hook)), None);
    of_main(&mut trials).other_processes = OtherProcesses::Known(vec![90]);
    let plan = planned(&machine, &trials, Trigger::Hook);
    assert_eq!(refusal(&plan), Some(RefusalCode::WouldKillSessions));
}

/// A listener that was started by hand, and another one that a debugger holds: neither saves a third.
#[test]
fn a_listener_that_is_left_alone_does_not_save_the_others() {
    let mut machine = incident();
    machine.processes.push(Process { sockets: sockets(&["0.0.0.0:2222"]), ..stale(listener(80)) });
    machine.processes.push(Process { traced: true, sockets: sockets(&["0.0.0.0:2200"]), ..stale(listener(81)) });
    let plan = planned(&machine, &ready(), Trigger::Repair);
    let skipped = plan.of("ssh.service").map(|plan| plan.skipped.iter().map(|(pid, why)| (*pid, why.code)).collect());
    let expected = vec![(80, RefusalCode::AddressesNotCovered), (81, RefusalCode::BeingDebugged)];
    assert_eq!(skipped, Some(expected));
    assert!(short(&plan).starts_with("terminate 60, ") && !short(&plan).contains("terminate 8"), "{plan:?}");
    // Once the socket needs an address that the debugged one keeps, nothing could be started.
    machine.instances[0].socket.listen.push(Listen::parse("0.0.0.0:2200"));
    let plan = planned(&machine, &ready(), Trigger::Repair);
    assert_eq!(decided(&plan), "ssh.service: foreign-listener");
}

/// Some checks can be made only once /run/sshd is there: first aid comes first, and everything is examined again.
#[test]
fn checks_that_need_the_directory_wait_for_first_aid() {
    for missing_under_a_listener in [true, false] {
        let (mut machine, mut trials) = (incident(), ready());
        machine.host.runtime_directory = !missing_under_a_listener;
        let trial = of_main(&mut trials);
        trial.config = Check::NeedsRuntimeDirectory;
        trial.handshake = Check::NeedsRuntimeDirectory;
        trial.own_addresses = None;
        service_alone(&mut machine);
        let plan = planned(&machine, &trials, Trigger::Repair);
        assert_eq!(refusal(&plan), None);
        assert!(plan.first_aid.is_some() && plan.replaces(), "{plan:?}");
        assert!(short(&plan).starts_with("create /run/sshd, terminate 60, "), "{plan:?}");
    }
}

/// `sshd -i` found the directory gone although `sshd -t` had not: nothing is known about the program yet.
#[test]
fn nothing_is_terminated_before_the_handshake_was_tried() {
    let mut trials = ready();
    of_main(&mut trials).handshake = Check::NeedsRuntimeDirectory;
    let plan = planned(&incident(), &trials, Trigger::Repair);
    assert!(plan.first_aid.is_some() || !plan.replaces(), "{plan:?}");
}

#[test]
fn every_refusal_has_a_sentence_and_advice() {
    for code in RefusalCode::ALL {
        let refusal = code.because("seen");
        assert!(refusal.message.ends_with(": seen") && refusal.message.len() > 30, "{refusal:?}");
        assert!(refusal.advice.len() > 20, "{refusal:?}");
        assert_eq!(code.because("").message, code.sentence());
        assert_eq!(serde_json::to_value(code).expect("JSON"), code.as_str());
    }
    let names: BTreeSet<&str> = RefusalCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(names.len(), RefusalCode::ALL.len());
}
