//! Whatever the facts are, no plan ends what it must not, or starts what was stopped: over arbitrary machines.
//!
//! What must hold is written down here once more, independently of the code that decides. For each guard one row then
//! shows that the property would see it missing.
#![allow(missing_docs)]

mod support;

use proptest::prelude::*;
use sshd_mend::diagnosis::diagnose;
use sshd_mend::plan::{Action, Plan, Trigger, plan};
use sshd_mend::preflight::{Check, Package, Policy, Preflight, Server};
use sshd_mend::probe::ProbeResult;
use sshd_mend::record::Intent;
use sshd_mend::snapshot::{FileId, Process, Snapshot, Unit};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use support::{NEW, OLD, addresses, incident, listener, probe, ready, session, unit};

/// What must hold for a plan. Says what does not.
fn holds(machine: &Snapshot, preflight: &Preflight, trigger: Trigger, plan: &Plan) -> Result<(), String> {
    let fail = |what: &str| Err(what.to_owned());
    let mut ended: Vec<&Process> = Vec::new();
    let mut instances: Vec<(&str, &Process)> = Vec::new();
    for action in &plan.actions {
        match action {
            Action::Terminate { pid, started_ticks } => {
                let Some(process) = machine.processes.iter().find(|p| p.pid == *pid) else {
                    return fail("ends a stranger");
                };
                if process.started_ticks != *started_ticks {
                    return fail("ends another process of the same number");
                }
                ended.push(process);
            }
            Action::RestartUnit { unit } if unit == "other.service" => {
                let main_pid = machine.other_units[0].main_pid;
                instances
                    .extend(machine.processes.iter().filter(|p| main_pid == Some(p.pid)).map(|p| (unit.as_str(), p)));
            }
            Action::RestartUnit { unit } => {
                let owner = [&machine.service, &machine.socket].into_iter().find(|u| u.name == *unit);
                ended.extend(machine.processes.iter().filter(|p| owner.is_some_and(|u| u.main_pid == Some(p.pid))));
            }
            _ => {}
        }
    }
    for action in &plan.actions {
        if let Action::Terminate { pid, .. } = action {
            let Some(process) = machine.processes.iter().find(|p| p.pid == *pid) else { continue };
            let here = process.surroundings;
            if !(here.pid_namespace && here.network_namespace && here.user_namespace && here.root_directory) {
                return fail("ends a process of another namespace or root");
            }
            if process.connected || process.stdin_is_socket || process.parent_is_sshd {
                return fail("ends a session");
            }
            if process.real_uid != 0 || process.effective_uid != 0 {
                return fail("ends a process of a user");
            }
            if !process.at_program_path {
                return fail("ends another program");
            }
            if process.listening.is_empty() {
                return fail("ends what does not listen");
            }
            if process.traced {
                return fail("ends what a debugger is attached to");
            }
            let dead = process.probe.as_ref().is_some_and(|probe| probe.result == ProbeResult::Dead);
            if process.on_disk == Some(process.image) && trigger == Trigger::Hook && !dead {
                return fail("a hook ends a listener that is neither stale nor dead");
            }
            if machine.service.is_active() && machine.service.main_pid == Some(*pid) {
                return fail("ends a unit's main process by hand");
            }
        }
    }
    let starts = |name: &str| {
        plan.actions
            .iter()
            .any(|a| matches!(a, Action::StartUnit { unit } | Action::RestartUnit { unit } if unit == name))
    };
    for unit in [&machine.service, &machine.socket].into_iter().chain(&machine.other_units) {
        if starts(&unit.name) && (unit.load != "loaded" || !unit.can_start || unit.job) {
            return fail("starts a unit that is masked, missing, not to be started, or has a job");
        }
        let kills = !matches!(unit.kill_mode.as_str(), "process" | "none");
        let sessions = machine.processes.iter().any(|p| {
            p.connected
                && p.surroundings.pid_namespace
                && p.surroundings.network_namespace
                && p.surroundings.user_namespace
                && p.surroundings.root_directory
                && p.unit.as_deref() == Some(unit.name.as_str())
        });
        if starts(&unit.name) && kills && sessions {
            return fail("a restart would end sessions");
        }
    }
    let after_aid = matches!(plan.actions.first(), Some(Action::CreateRuntimeDirectory { .. }));
    let good = |check: &Check| *check == Check::Passed || (after_aid && *check == Check::NeedsRuntimeDirectory);
    for (unit, process) in &instances {
        let server = &preflight.instances[*unit];
        if !good(&server.config) || !good(&server.handshake) || machine.program.file.is_none() {
            return fail("restarts an instance before it is known good");
        }
        let own = server.own_addresses.iter().flatten().copied();
        let covers = |address: &SocketAddr| own.clone().any(|have| covers(have, *address));
        if server.own_addresses.is_some() && !process.listening.iter().all(covers) {
            return fail("an instance would serve less than before");
        }
    }
    if plan.replaces() && preflight.package != Package::Ready && !(ended.is_empty() && instances.is_empty()) {
        return fail("ends while the package is unconfigured");
    }
    let denied = trigger == Trigger::Hook && preflight.policy != Policy::Allows && machine.intent.is_none();
    if !(ended.is_empty() && instances.is_empty()) && denied {
        return fail("a hook acts against policy-rc.d");
    }
    if plan.replaces() && (machine.host.shutting_down || machine.host.not_to_be_run) {
        return fail("acts although sshd is not to be run, or the system goes down");
    }
    if !ended.is_empty() {
        // With Accept=yes an active socket goes on serving by itself.
        let goes_on = machine.socket.accept && machine.socket.is_active();
        if !goes_on
            && !starts("ssh.service")
            && !starts("ssh.socket")
            && !plan.actions.iter().any(|a| matches!(a, Action::RestartUnit { .. }))
        {
            return fail("ends without starting");
        }
        if !good(&preflight.server.config) || !good(&preflight.server.handshake) || machine.program.file.is_none() {
            return fail("ends before the replacement is known good");
        }
        let lost = ended
            .iter()
            .flat_map(|p| &p.listening)
            .find(|address| !will_be_served(machine, preflight, **address, after_aid, &starts));
        if let Some(address) = lost {
            return Err(format!("{address} would not be served any more"));
        }
    }
    let declared = [&machine.service, &machine.socket].iter().any(|u| u.is_enabled() || u.is_active());
    if starts("ssh.service") && !declared {
        return fail("starts what is disabled");
    }
    let fault = !ended.is_empty()
        || machine.intent.is_some()
        || machine.rescue.active == "active"
        || machine.service.active == "failed"
        || machine.socket.active == "failed";
    if starts("ssh.service") && !fault {
        return fail("starts what somebody stopped");
    }
    Ok(())
}

fn covers(have: SocketAddr, address: SocketAddr) -> bool {
    have.port() == address.port()
        && (have.ip() == address.ip() || (have.ip().is_unspecified() && (have.is_ipv6() || address.is_ipv4())))
}

fn will_be_served(
    machine: &Snapshot,
    preflight: &Preflight,
    address: SocketAddr,
    after_aid: bool,
    starts: &impl Fn(&str) -> bool,
) -> bool {
    let covers = |have: SocketAddr| covers(have, address);
    if starts("ssh.socket") || machine.socket.is_active() {
        return machine.socket.listen.iter().filter_map(|text| text.parse().ok()).any(covers);
    }
    preflight.server.own_addresses.as_ref().map_or(after_aid, |own| own.iter().copied().any(covers))
}

fn flag(often: f64) -> impl Strategy<Value = bool> {
    prop::bool::weighted(often)
}

fn some_addresses() -> impl Strategy<Value = BTreeSet<SocketAddr>> {
    let pool = ["0.0.0.0:22", "[::]:22", "127.0.0.1:22", "0.0.0.0:2222", "[::1]:2201"];
    let any = prop::sample::subsequence(pool.to_vec(), 0..=3).prop_map(|texts| addresses(&texts));
    let usual = prop::sample::select(vec![&["0.0.0.0:22", "[::]:22"][..], &["[::]:22"]]).prop_map(addresses);
    prop_oneof![1 => any, 2 => usual]
}

fn some_process() -> impl Strategy<Value = Process> {
    let here = || flag(0.97);
    let odd = || flag(0.05);
    let facts = (here(), here(), here(), here(), here(), odd(), odd(), (odd(), odd()), odd(), flag(0.6));
    let more =
        (2..9_i32, some_addresses(), prop::sample::select(vec!["ssh.service", "session-1.scope", "other.service"]));
    let result =
        prop::sample::select(vec![ProbeResult::Ok, ProbeResult::Dead, ProbeResult::Inconclusive, ProbeResult::Skipped]);
    (facts, more, result).prop_map(
        |(
            (pid_ns, net, user, root, path, uid, connected, (stdin, traced), parent, stale),
            (pid, listening, unit),
            result,
        )| {
            let mut process = if connected { session(pid) } else { listener(pid) };
            let here = &mut process.surroundings;
            (here.pid_namespace, here.network_namespace, here.user_namespace, here.root_directory) =
                (pid_ns, net, user, root);
            process.at_program_path = path;
            process.effective_uid = u32::from(uid) * 1000;
            process.stdin_is_socket = stdin;
            process.traced = traced;
            process.parent_is_sshd |= parent;
            process.image = if stale { OLD } else { NEW };
            process.listening = listening;
            process.unit = Some(unit.to_owned());
            process.probe = probe(result);
            process
        },
    )
}

fn some_unit(name: &'static str) -> impl Strategy<Value = Unit> {
    let words = (
        prop::sample::select(vec!["active", "inactive", "failed", "activating"]),
        prop::sample::select(vec!["enabled", "disabled", "static", "masked"]),
        prop::sample::select(vec!["loaded"; 12].into_iter().chain(["masked", "not-found"]).collect::<Vec<_>>()),
        prop::sample::select(vec!["process", "process", "process", "process", "control-group", "mixed"]),
    );
    (words, 2..9_i32, flag(0.05), flag(0.97), flag(0.1)).prop_map(
        move |((active, enabled, load, kill), pid, job, can_start, accept)| Unit {
            load: load.into(),
            main_pid: (active == "active" && name.ends_with("service")).then_some(pid),
            job,
            can_start,
            kill_mode: kill.into(),
            listen: if name.ends_with("socket") { vec!["[::]:22".into(), "0.0.0.0:22".into()] } else { Vec::new() },
            accept: accept && name.ends_with("socket"),
            ..unit(name, active, "x", enabled)
        },
    )
}

fn some_machine() -> impl Strategy<Value = Snapshot> {
    let units = (some_unit("ssh.service"), some_unit("ssh.socket"), some_unit("other.service"), flag(0.1), flag(0.1));
    let host = (flag(0.8), flag(0.05), flag(0.05), flag(0.95));
    (units, host, prop::collection::vec(some_process(), 0..4), some_addresses()).prop_map(
        |(
            (service, socket, other, rescue, intent),
            (directory, unwanted, stopping, program),
            mut processes,
            foreign,
        )| {
            processes.sort_by_key(|p| p.pid);
            processes.dedup_by_key(|p| p.pid);
            let mut machine = support::healthy();
            (machine.host.runtime_directory, machine.host.not_to_be_run, machine.host.shutting_down) =
                (directory, unwanted, stopping);
            machine.program.file = program.then_some(FileId { device: 1, inode: 200 });
            (machine.service, machine.socket, machine.other_units) = (service, socket, vec![other]);
            machine.rescue.active = if rescue { "active".into() } else { "inactive".into() };
            machine.intent = intent.then(|| Intent {
                boot_id: "x".into(),
                addresses: addresses(&["[::]:22"]),
                units: vec!["ssh.service".into()],
            });
            machine.foreign = if foreign.len() > 2 { foreign.into_iter().collect() } else { Vec::new() };
            machine.processes = processes;
            machine
        },
    )
}

fn some_preflight() -> impl Strategy<Value = Preflight> {
    let check = || {
        prop::sample::select(vec![
            Check::Passed,
            Check::Passed,
            Check::Passed,
            Check::Failed("x".into()),
            Check::NeedsRuntimeDirectory,
        ])
    };
    let server = || {
        (check(), prop::option::of(some_addresses())).prop_map(|(config, own)| {
            let own_addresses = own.filter(|_| config != Check::NeedsRuntimeDirectory);
            let own_addresses = own_addresses.map(|set| set.into_iter().collect());
            Server { handshake: config.clone(), own_addresses, config }
        })
    };
    (server(), server(), flag(0.9), flag(0.8)).prop_map(|(server, instance, package, policy)| Preflight {
        instances: BTreeMap::from([("other.service".to_owned(), instance)]),
        server,
        package: if package { Package::Ready } else { Package::Unconfigured("x".into()) },
        policy: if policy { Policy::Allows } else { Policy::Denies("x".into()) },
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_does_what_must_never_be_done(mut machine in some_machine(), preflight in some_preflight()) {
        // A check waits for /run/sshd only where it is missing.
        machine.host.runtime_directory &= !preflight.needs_runtime_directory();
        for trigger in [Trigger::Repair, Trigger::Hook] {
            let plan = plan(&machine, &diagnose(&machine), Some(&preflight), trigger);
            let held = holds(&machine, &preflight, trigger, &plan);
            prop_assert!(held.is_ok(), "{held:?}\n{plan:#?}");
        }
    }
}

#[test]
fn plans_that_end_something_are_among_them() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut ending = 0;
    for _ in 0..5000 {
        let machine = some_machine().new_tree(&mut runner).expect("a machine").current();
        let plan = plan(&machine, &diagnose(&machine), Some(&ready()), Trigger::Repair);
        ending += usize::from(plan.actions.iter().any(|action| matches!(action, Action::Terminate { .. })));
    }
    assert!(ending > 100, "only {ending} of 5000 plans end anything: the property says nothing");
}

type Guard = (&'static str, fn(&mut Snapshot, &mut Preflight));

/// Each guard: a machine that it protects.
const GUARDS: &[Guard] = &[
    ("PID namespace", |m, _| m.processes[0].surroundings.pid_namespace = false),
    ("network namespace", |m, _| m.processes[0].surroundings.network_namespace = false),
    ("user namespace", |m, _| m.processes[0].surroundings.user_namespace = false),
    ("root directory", |m, _| m.processes[0].surroundings.root_directory = false),
    ("real uid", |m, _| m.processes[0].real_uid = 1),
    ("effective uid", |m, _| m.processes[0].effective_uid = 1),
    ("program", |m, _| m.processes[0].at_program_path = false),
    ("stale", |m, _| m.processes[0].image = NEW),
    ("LISTEN", |m, _| m.processes[0].listening.clear()),
    ("connection", |m, _| m.processes[0].connected = true),
    ("standard input", |m, _| m.processes[0].stdin_is_socket = true),
    ("parent", |m, _| m.processes[0].parent_is_sshd = true),
    ("debugger", |m, _| m.processes[0].traced = true),
    ("start", |m, _| m.processes[0].started_ticks += 1),
    ("config", |_, p| p.server.config = Check::Failed("x".into())),
    ("handshake", |_, p| p.server.handshake = Check::Failed("x".into())),
    ("program on disk", |m, _| m.program.file = None),
    ("package", |_, p| p.package = Package::Unconfigured("x".into())),
    ("unit masked", |m, _| m.socket.load = "masked".into()),
    ("unit missing", |m, _| m.service.load = "not-found".into()),
    ("unit may not start", |m, _| m.socket.can_start = false),
    ("job", |m, _| m.socket.job = true),
    ("nothing declared", |m, _| m.socket.enabled = "disabled".into()),
    ("sessions", |m, _| {
        m.service.kill_mode = "control-group".into();
        m.processes.push(Process { unit: Some("ssh.service".into()), ..session(61) });
    }),
    ("addresses", |m, _| m.socket.listen = vec!["127.0.0.1:2222".into()]),
    ("shutting down", |m, _| m.host.shutting_down = true),
    ("not to be run", |m, _| m.host.not_to_be_run = true),
    ("policy-rc.d", |_, p| p.policy = Policy::Denies("x".into())),
];

#[test]
fn the_property_would_see_each_guard_missing() {
    let unguarded = plan(&incident(), &diagnose(&incident()), Some(&ready()), Trigger::Hook);
    assert_eq!(holds(&incident(), &ready(), Trigger::Hook, &unguarded), Ok(()));
    for (name, spoil) in GUARDS {
        let (mut machine, mut preflight) = (incident(), ready());
        spoil(&mut machine, &mut preflight);
        // The plan that would be made if the guard did not look.
        assert!(holds(&machine, &preflight, Trigger::Hook, &unguarded).is_err(), "nobody sees that {name} is missing");
        let guarded = plan(&machine, &diagnose(&machine), Some(&preflight), Trigger::Hook);
        assert_eq!(holds(&machine, &preflight, Trigger::Hook, &guarded), Ok(()), "{name}");
    }
}
