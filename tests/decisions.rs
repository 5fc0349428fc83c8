//! Decisions, as a table: facts in; findings, plan or refusal out. One row for each line of the table of findings and
//! for each refusal.
#![allow(missing_docs)]

mod support;

use sshd_mend::diagnosis::{Code, LeftOut, Role, Severity, diagnose, role};
use sshd_mend::plan::{Action, Plan, Trigger, needs_preflight, plan};
use sshd_mend::preflight::{Check, Package, Policy, Preflight, Server};
use sshd_mend::probe::ProbeResult;
use sshd_mend::record::Intent;
use sshd_mend::refusal::Reason;
use sshd_mend::snapshot::{Process, Snapshot};
use support::{addresses, healthy, incident, listener, probe, ready, serves, session, stale, unit};

fn intent() -> Intent {
    Intent { boot_id: "this boot".into(), addresses: addresses(&["[::]:22"]), units: vec!["ssh.service".into()] }
}

fn findings(machine: &Snapshot) -> Vec<(Code, Severity)> {
    diagnose(machine).findings.iter().map(|finding| (finding.code, finding.severity)).collect()
}

fn planned(machine: &Snapshot, preflight: &Preflight, trigger: Trigger) -> Plan {
    plan(machine, &diagnose(machine), Some(preflight), trigger)
}

/// A plan in short: `terminate 60, reset-failed ssh.socket, …`.
fn short(plan: &Plan) -> String {
    let step = |action: &Action| match action {
        Action::CreateRuntimeDirectory { path } => format!("create {path}"),
        Action::Terminate { pid, .. } => format!("terminate {pid}"),
        Action::ResetFailed { unit } => format!("reset-failed {unit}"),
        Action::StopUnit { unit } => format!("stop {unit}"),
        Action::StartUnit { unit } => format!("start {unit}"),
        Action::RestartUnit { unit } => format!("restart {unit}"),
        Action::StartRescue { .. } => "start-rescue".into(),
        Action::StopRescue { .. } => "stop-rescue".into(),
        Action::Probe { address } => format!("probe {address}"),
    };
    plan.actions.iter().map(step).collect::<Vec<_>>().join(", ")
}

type Row = (&'static str, fn() -> Snapshot, &'static [(Code, Severity)], &'static str, &'static str);

/// Name, facts, findings, plan of a repair, plan of the hook.
const ROWS: &[Row] = &[
    ("nothing", healthy, &[], "", ""),
    (
        "not-applicable",
        || {
            let mut machine = healthy();
            machine.program.file = None;
            machine.service = unit("ssh.service", "inactive", "dead", "");
            machine.service.load = "not-found".into();
            machine.socket = machine.service.clone();
            machine.processes.clear();
            machine
        },
        &[],
        "",
        "",
    ),
    (
        "stale-orphan",
        incident,
        &[(Code::StaleOrphan, Severity::Warning)],
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
    ),
    (
        "stale-orphan whose directory is missing",
        || {
            let mut machine = incident();
            machine.host.runtime_directory = false;
            machine.processes[0].probe = probe(ProbeResult::Dead);
            machine
        },
        &[(Code::StaleOrphan, Severity::Critical), (Code::RuntimeDirectoryMissing, Severity::Critical)],
        "create /run/sshd, terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
        "create /run/sshd, terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
    ),
    (
        "stale-orphan where the service is declared",
        || {
            let mut machine = incident();
            machine.socket.enabled = "disabled".into();
            machine.service.enabled = "enabled".into();
            machine
        },
        &[(Code::StaleOrphan, Severity::Warning)],
        "terminate 60, reset-failed ssh.service, start ssh.service, probe [::]:22",
        "terminate 60, reset-failed ssh.service, start ssh.service, probe [::]:22",
    ),
    (
        "stale-orphan beside a service that runs without its socket",
        || {
            let mut machine = incident();
            machine.service.active = "active".into();
            machine.service.main_pid = Some(70);
            machine.processes.push(Process { listening: addresses(&["0.0.0.0:22"]), ..listener(70) });
            machine
        },
        &[(Code::StaleOrphan, Severity::Warning), (Code::SocketDetached, Severity::Info)],
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, stop ssh.service, start ssh.socket, start ssh.service, probe 0.0.0.0:22, probe [::]:22",
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, stop ssh.service, start ssh.socket, start ssh.service, probe 0.0.0.0:22, probe [::]:22",
    ),
    (
        "stale-orphan that keeps to IPv6, as the service does",
        || {
            let mut machine = incident();
            machine.socket.bind_ipv6_only = "ipv6-only".into();
            machine.processes[0].ipv6_only = true;
            machine
        },
        &[(Code::StaleOrphan, Severity::Warning)],
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
    ),
    (
        "stale-orphan beside one that was started by hand at another port",
        || {
            let mut machine = incident();
            machine.processes.push(Process { listening: addresses(&["0.0.0.0:2222"]), ..stale(listener(80)) });
            machine
        },
        &[(Code::StaleOrphan, Severity::Warning), (Code::StaleOrphan, Severity::Warning)],
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
    ),
    (
        "stale-service",
        || {
            let mut machine = healthy();
            machine.processes[0] = stale(listener(60));
            machine
        },
        &[(Code::StaleService, Severity::Warning)],
        "reset-failed ssh.service, restart ssh.service, probe 0.0.0.0:22, probe [::]:22",
        "reset-failed ssh.service, restart ssh.service, probe 0.0.0.0:22, probe [::]:22",
    ),
    (
        "stale-service of another instance",
        || with_instance(healthy()),
        &[(Code::StaleService, Severity::Warning)],
        "reset-failed sshd-2222.service, restart sshd-2222.service, probe 0.0.0.0:2222",
        "reset-failed sshd-2222.service, restart sshd-2222.service, probe 0.0.0.0:2222",
    ),
    (
        "stale-service of another instance beside a stale orphan",
        || with_instance(incident()),
        &[(Code::StaleOrphan, Severity::Warning), (Code::StaleService, Severity::Warning)],
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, reset-failed sshd-2222.service, restart sshd-2222.service, probe 0.0.0.0:2222, probe [::]:22",
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, reset-failed sshd-2222.service, restart sshd-2222.service, probe 0.0.0.0:2222, probe [::]:22",
    ),
    (
        "runtime-directory-missing",
        || {
            let mut machine = healthy();
            machine.host.runtime_directory = false;
            machine
        },
        &[(Code::RuntimeDirectoryMissing, Severity::Critical)],
        "create /run/sshd, probe 0.0.0.0:22, probe [::]:22",
        "create /run/sshd, probe 0.0.0.0:22, probe [::]:22",
    ),
    (
        "orphan",
        || {
            let mut machine = incident();
            machine.processes[0] = listener(60);
            machine
        },
        &[(Code::Orphan, Severity::Warning)],
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe 0.0.0.0:22, probe [::]:22",
        "",
    ),
    (
        "orphan that is dead",
        || {
            let mut machine = incident();
            machine.processes[0] = Process { probe: probe(ProbeResult::Dead), ..listener(60) };
            machine
        },
        &[(Code::Orphan, Severity::Critical)],
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe 0.0.0.0:22, probe [::]:22",
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe 0.0.0.0:22, probe [::]:22",
    ),
    (
        "orphan whose probe is inconclusive",
        || {
            let mut machine = incident();
            machine.processes[0] = Process { probe: probe(ProbeResult::Inconclusive), ..listener(60) };
            machine
        },
        &[(Code::Orphan, Severity::Warning)],
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe 0.0.0.0:22, probe [::]:22",
        "",
    ),
    (
        "socket-detached",
        || {
            let mut machine = healthy();
            machine.socket.enabled = "enabled".into();
            machine
        },
        &[(Code::SocketDetached, Severity::Info)],
        "",
        "",
    ),
    (
        "down",
        || {
            let mut machine = healthy();
            machine.service.active = "failed".into();
            machine.service.main_pid = None;
            machine.processes.clear();
            machine
        },
        &[(Code::Down, Severity::Critical)],
        "reset-failed ssh.service, start ssh.service, probe 0.0.0.0:22, probe [::]:22",
        "reset-failed ssh.service, start ssh.service, probe 0.0.0.0:22, probe [::]:22",
    ),
    (
        "interrupted, nobody listens",
        || {
            let mut machine = incident();
            machine.processes.clear();
            machine.intent = Some(intent());
            machine
        },
        &[(Code::Interrupted, Severity::Critical)],
        "reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
        "reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
    ),
    (
        "interrupted, and what was declared is inactive, not failed",
        || {
            let mut machine = incident();
            machine.processes.clear();
            machine.intent = Some(intent());
            machine.service.active = "inactive".into();
            machine.socket.active = "inactive".into();
            machine
        },
        &[(Code::Interrupted, Severity::Critical)],
        "reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
        "reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
    ),
    (
        "interrupted before anything was ended",
        || {
            let mut machine = incident();
            machine.intent = Some(intent());
            machine
        },
        &[(Code::Interrupted, Severity::Critical), (Code::StaleOrphan, Severity::Warning)],
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
        "terminate 60, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
    ),
    (
        "interrupted after everything was done",
        || {
            let mut machine = healthy();
            machine.intent = Some(intent());
            machine
        },
        &[(Code::Interrupted, Severity::Critical)],
        "probe 0.0.0.0:22, probe [::]:22",
        "probe 0.0.0.0:22, probe [::]:22",
    ),
    (
        "rescue-active",
        || {
            let mut machine = incident();
            machine.processes.clear();
            machine.rescue.active = "active".into();
            machine
        },
        &[(Code::RescueActive, Severity::Critical)],
        "stop-rescue, reset-failed ssh.socket, reset-failed ssh.service, start ssh.socket, start ssh.service, probe [::]:22",
        "",
    ),
    (
        "stopped",
        || {
            let mut machine = healthy();
            machine.service.active = "inactive".into();
            machine.service.main_pid = None;
            machine.processes.clear();
            machine
        },
        &[(Code::Stopped, Severity::Warning)],
        "",
        "",
    ),
    (
        "nobody listens, all disabled",
        || {
            let mut machine = healthy();
            machine.service.active = "failed".into();
            machine.service.enabled = "disabled".into();
            machine.service.main_pid = None;
            machine.processes.clear();
            machine
        },
        &[],
        "",
        "",
    ),
    (
        "down, and to be started again after a while",
        || {
            let mut machine = healthy();
            machine.service.active = "activating".into();
            machine.service.sub = "auto-restart".into();
            machine.service.main_pid = None;
            machine.processes.clear();
            machine
        },
        &[(Code::Down, Severity::Critical)],
        "reset-failed ssh.service, start ssh.service, probe 0.0.0.0:22, probe [::]:22",
        "reset-failed ssh.service, start ssh.service, probe 0.0.0.0:22, probe [::]:22",
    ),
    (
        "foreign-listener",
        || {
            let mut machine = healthy();
            machine.service.active = "failed".into();
            machine.service.main_pid = None;
            machine.processes.clear();
            machine.wanted = addresses(&["0.0.0.0:22", "[::]:22"]);
            machine.foreign = addresses(&["0.0.0.0:22", "0.0.0.0:80"]).into_iter().collect();
            machine
        },
        &[(Code::ForeignListener, Severity::Critical)],
        "refused",
        "refused",
    ),
    (
        "listener-dead: there is nothing to be replaced",
        || {
            let mut machine = healthy();
            machine.processes[0].probe = probe(ProbeResult::Dead);
            machine
        },
        &[(Code::ListenerDead, Severity::Critical)],
        "",
        "",
    ),
    (
        "foreign-listener at one of two addresses",
        || {
            let mut machine = healthy();
            machine.processes[0] = Process { listening: addresses(&["[::]:22"]), ipv6_only: true, ..listener(60) };
            machine.wanted = addresses(&["0.0.0.0:22", "[::]:22"]);
            machine.foreign = addresses(&["0.0.0.0:22", "0.0.0.0:80"]).into_iter().collect();
            machine
        },
        &[(Code::ForeignListener, Severity::Critical)],
        "refused",
        "refused",
    ),
    (
        "systemd holds the socket and starts ssh.service when somebody comes",
        || {
            let mut machine = healthy();
            machine.service.active = "inactive".into();
            machine.service.main_pid = None;
            machine.socket.active = "active".into();
            machine.socket.enabled = "enabled".into();
            machine.processes.clear();
            machine
        },
        &[],
        "",
        "",
    ),
    (
        "a stale sshd in a container, and a stale session",
        || {
            let mut machine = healthy();
            let mut contained = stale(listener(80));
            contained.surroundings.root_directory = false;
            machine.processes.push(contained);
            machine.processes.push(stale(session(90)));
            machine
        },
        &[],
        "",
        "",
    ),
];

/// With another instance on port 2222, whose listener is stale.
fn with_instance(mut machine: Snapshot) -> Snapshot {
    machine.other_units.push(sshd_mend::snapshot::Unit {
        main_pid: Some(80),
        kill_mode: "process".into(),
        ..unit("sshd-2222.service", "active", "running", "enabled")
    });
    machine.processes.push(Process { listening: addresses(&["0.0.0.0:2222"]), ..stale(listener(80)) });
    machine
}

/// What speaks against the restart of another instance is said, and keeps nobody from mending ssh.service.
#[test]
fn another_instance_is_restarted_only_if_it_will_serve_again() {
    type Spoil = fn(&mut Snapshot, &mut Preflight);
    let spoils: [(Reason, Spoil); 8] = [
        (Reason::BeingDebugged, |m, _| {
            m.processes.iter_mut().find(|p| p.pid == 80).expect("the instance").traced = true;
        }),
        (Reason::ConfigInvalid, |_, p| instance(p).config = Check::Failed("x".into())),
        (Reason::BinaryUnusable, |_, p| instance(p).handshake = Check::Failed("x".into())),
        (Reason::BinaryUnusable, |_, p| p.instances.clear()),
        (Reason::AddressesNotCovered, |_, p| *instance(p) = serves(&["0.0.0.0:22"])),
        (Reason::AddressesNotCovered, |_, p| instance(p).own_addresses = None),
        (Reason::JobPending, |m, _| m.other_units[0].job = true),
        (Reason::WouldKillSessions, |m, _| {
            m.other_units[0].kill_mode = "control-group".into();
            m.processes.push(Process { unit: Some("sshd-2222.service".into()), ..session(90) });
        }),
    ];
    for (reason, spoil) in spoils {
        let (mut machine, mut preflight) = (with_instance(healthy()), ready());
        spoil(&mut machine, &mut preflight);
        let alone = planned(&machine, &preflight, Trigger::Repair);
        assert_eq!((short(&alone).as_str(), alone.refusal.map(|r| r.code)), ("", Some(reason)));
        let (mut machine, mut preflight) = (with_instance(incident()), ready());
        spoil(&mut machine, &mut preflight);
        let beside = planned(&machine, &preflight, Trigger::Repair);
        assert_eq!(beside.refusal, None);
        assert!(short(&beside).starts_with("terminate 60") && !short(&beside).contains("2222"), "{beside:?}");
    }
}

fn instance(preflight: &mut Preflight) -> &mut Server {
    preflight.instances.get_mut("sshd-2222.service").expect("an instance")
}

/// `--help`, from which the manual comes, and the README name every refusal.
#[test]
fn every_refusal_is_documented() {
    use clap::CommandFactory;
    let help = sshd_mend::cli::Cli::command().render_long_help().to_string();
    let readme = include_str!("../README.md");
    for reason in Reason::ALL {
        assert!(help.contains(&format!("{}: ", reason.as_str())), "{} is not in --help", reason.as_str());
        assert!(readme.contains(&format!("`{}`", reason.as_str())), "{} is not in README.md", reason.as_str());
    }
}

#[test]
fn findings_and_plans() {
    for (name, machine, expected, repair, hook) in ROWS {
        let machine = machine();
        assert_eq!(findings(&machine), *expected, "findings of {name}");
        for (trigger, expected) in [(Trigger::Repair, repair), (Trigger::Hook, hook)] {
            let plan = planned(&machine, &ready(), trigger);
            let done = if plan.refusal.is_some() { "refused" } else { &short(&plan) };
            assert_eq!(done, *expected, "{trigger:?} for {name}: {plan:?}");
        }
    }
}

#[test]
fn what_is_not_here_is_not_applicable() {
    for (name, machine, ..) in ROWS {
        assert_eq!(diagnose(&machine()).applicable, *name != "not-applicable", "{name}");
    }
}

#[test]
fn a_plan_without_preflight_ends_nothing() {
    for (name, machine, ..) in ROWS {
        let machine = machine();
        let diagnosis = diagnose(&machine);
        let plan = plan(&machine, &diagnosis, None, Trigger::Repair);
        assert!(!plan.replaces(), "{name}: {plan:?}");
        let with = planned(&machine, &ready(), Trigger::Repair);
        assert_eq!(needs_preflight(&machine, &diagnosis, Trigger::Repair), with.replaces(), "{name}");
    }
}

type Refused = (Reason, fn(&mut Snapshot, &mut Preflight));

/// What keeps the incident from being mended, one row for each reason that a plan can have.
const REFUSED: &[Refused] = &[
    (Reason::ShuttingDown, |machine, _| machine.host.shutting_down = true),
    (Reason::NotToBeRun, |machine, _| machine.host.not_to_be_run = true),
    (Reason::BeingDebugged, |machine, _| machine.processes[0].traced = true),
    (Reason::UnitMissing, |machine, _| machine.service.load = "not-found".into()),
    (Reason::UnitMissing, |machine, _| machine.service.load = "bad-setting".into()),
    (Reason::AddressesNotCovered, |machine, _| machine.socket.bind_ipv6_only = "ipv6-only".into()),
    (Reason::UnitMissing, |machine, _| {
        machine.socket.accept = true;
        machine.per_connection = Some(unit("ssh@x.service", "inactive", "dead", ""));
        machine.per_connection.as_mut().expect("a unit").load = "not-found".into();
    }),
    (Reason::UnitMasked, |machine, _| machine.service.load = "masked".into()),
    (Reason::UnitMasked, |machine, _| machine.socket.load = "masked".into()),
    (Reason::NothingToStart, |machine, _| machine.socket.enabled = "disabled".into()),
    (Reason::NothingToStart, |machine, _| machine.socket.can_start = false),
    (Reason::JobPending, |machine, _| machine.service.job = true),
    (Reason::JobPending, |machine, _| machine.socket.job = true),
    (Reason::WouldKillSessions, |machine, _| {
        machine.service.kill_mode = "control-group".into();
        machine.processes.push(Process { unit: Some("ssh.service".into()), ..session(90) });
    }),
    (Reason::BinaryMissing, |machine, _| machine.program.file = None),
    (Reason::PackageUnconfigured, |_, preflight| preflight.package = Package::Unconfigured("unpacked".into())),
    (Reason::ConfigInvalid, |_, preflight| preflight.server.config = Check::Failed("line 3: Bad".into())),
    (Reason::BinaryUnusable, |_, preflight| preflight.server.handshake = Check::Failed("closed".into())),
    (Reason::AddressesNotCovered, |machine, _| machine.socket.listen = vec!["127.0.0.1:22".into()]),
    (Reason::AddressesNotCovered, |machine, _| machine.socket.bind_ipv6_only = "ipv6-only".into()),
    (Reason::AddressesNotCovered, |machine, preflight| {
        machine.socket.enabled = "disabled".into();
        machine.service.enabled = "enabled".into();
        preflight.server.own_addresses = Some(addresses(&["0.0.0.0:22"]).into_iter().collect());
    }),
    (Reason::ForeignListener, |machine, _| {
        machine.socket.listen.push("0.0.0.0:2200".into());
        machine.foreign = vec!["127.0.0.1:2200".parse().expect("an address")];
    }),
];

#[test]
fn refusals() {
    for (reason, spoil) in REFUSED {
        let (mut machine, mut preflight) = (incident(), ready());
        spoil(&mut machine, &mut preflight);
        for trigger in [Trigger::Repair, Trigger::Hook] {
            let plan = planned(&machine, &preflight, trigger);
            assert_eq!(plan.refusal.as_ref().map(|refusal| refusal.code), Some(*reason), "{plan:?}");
            assert_eq!(plan.actions, [], "{reason:?}");
        }
        // The first aid is given all the same: it ends nothing.
        machine.host.runtime_directory = false;
        let plan = planned(&machine, &preflight, Trigger::Repair);
        assert_eq!(plan.refusal.as_ref().map(|refusal| refusal.code), Some(*reason), "{plan:?}");
        assert_eq!(short(&plan), "create /run/sshd, probe [::]:22", "{reason:?}");
    }
}

#[test]
fn policy_rc_d_binds_the_hook_only() {
    let preflight = Preflight { policy: Policy::Denies("it denies".into()), ..ready() };
    let plan = planned(&incident(), &preflight, Trigger::Hook);
    assert_eq!(plan.refusal.map(|refusal| refusal.code), Some(Reason::PolicyRcD));
    assert_eq!(planned(&incident(), &preflight, Trigger::Repair).refusal, None);
}

#[test]
fn every_refusal_has_a_sentence_and_advice() {
    for reason in Reason::ALL {
        let refusal = reason.because("seen");
        assert!(refusal.message.ends_with(": seen") && refusal.message.len() > 30, "{refusal:?}");
        assert!(refusal.advice.len() > 20, "{refusal:?}");
        assert_eq!(serde_json::to_value(reason).expect("JSON"), reason.as_str());
    }
    let names: std::collections::BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
}

#[test]
fn checks_that_need_the_directory_wait_for_the_first_aid() {
    let mut machine = incident();
    machine.host.runtime_directory = false;
    let server =
        Server { config: Check::NeedsRuntimeDirectory, handshake: Check::NeedsRuntimeDirectory, own_addresses: None };
    let waiting = Preflight { server, ..ready() };
    let plan = planned(&machine, &waiting, Trigger::Repair);
    assert_eq!(plan.refusal, None);
    assert!(plan.begins_with_first_aid() && plan.replaces(), "{plan:?}");
}

type Changed = (&'static str, fn(&mut Process), Role);

/// Each guard of the rule for what may be ended: taken alone, it keeps a stale orphan alive.
const GUARDS: &[Changed] = &[
    ("PID namespace", |p| p.surroundings.pid_namespace = false, Role::LeftOut(LeftOut::Elsewhere)),
    ("network namespace", |p| p.surroundings.network_namespace = false, Role::LeftOut(LeftOut::Elsewhere)),
    ("user namespace", |p| p.surroundings.user_namespace = false, Role::LeftOut(LeftOut::Elsewhere)),
    ("root directory", |p| p.surroundings.root_directory = false, Role::LeftOut(LeftOut::Elsewhere)),
    ("real uid", |p| p.real_uid = 1000, Role::LeftOut(LeftOut::NotRoot)),
    ("effective uid", |p| p.effective_uid = 1000, Role::LeftOut(LeftOut::NotRoot)),
    ("program", |p| p.at_program_path = false, Role::LeftOut(LeftOut::OtherProgram)),
    ("no socket in LISTEN", |p| p.listening.clear(), Role::LeftOut(LeftOut::NotListening)),
    ("a connection", |p| p.connected = true, Role::Session),
    ("standard input", |p| p.stdin_is_socket = true, Role::Session),
    ("parent", |p| p.parent_is_sshd = true, Role::Session),
];

#[test]
fn only_one_kind_of_process_is_ever_ended() {
    for (name, change, expected) in GUARDS {
        let mut machine = incident();
        assert_eq!(role(&machine.processes[0]), Role::Listener);
        change(&mut machine.processes[0]);
        assert_eq!(role(&machine.processes[0]), *expected, "{name}");
        let plan = planned(&machine, &ready(), Trigger::Repair);
        assert!(!short(&plan).contains("terminate"), "{name}: {plan:?}");
    }
}

#[test]
fn a_child_that_was_just_forked_takes_no_address_away() {
    let mut machine = incident();
    let child = Process { pid: 61, connected: true, parent_is_sshd: true, ..machine.processes[0].clone() };
    machine.processes.push(child);
    assert_eq!(planned(&machine, &ready(), Trigger::Repair).refusal, None);
}

#[test]
fn a_listener_that_is_restarted_along_must_stay_covered() {
    let mut machine = incident();
    machine.service.active = "active".into();
    machine.service.main_pid = Some(70);
    machine.processes.push(Process { listening: addresses(&["0.0.0.0:2222"]), ..listener(70) });
    let plan = planned(&machine, &ready(), Trigger::Repair);
    assert_eq!(plan.refusal.map(|refusal| refusal.code), Some(Reason::AddressesNotCovered));
}
