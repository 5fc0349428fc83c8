//! The rule for what may ever be terminated: one kind of process, and each guard alone keeps a process alive
//!.
#![allow(missing_docs)]

mod support;

use sshd_mend::decide::diagnose;
use sshd_mend::decide::role::role;
use sshd_mend::model::diagnosis::{Exclusion, Role};
use sshd_mend::model::plan::{Decision, Plan, Step, Trigger};
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::process::{Child, Process};
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::unit::{KillMode, Unit};
use std::collections::BTreeSet;
use support::*;

type Guard = (&'static str, fn(&mut Process), Role);

/// Each change to the stale orphan of the incident, taken alone, keeps it alive.
const GUARDS: &[Guard] = &[
    ("PID namespace", |p| p.surroundings.pid_namespace = false, Role::Excluded(Exclusion::Elsewhere)),
    ("network namespace", |p| p.surroundings.network_namespace = false, Role::Excluded(Exclusion::Elsewhere)),
    ("user namespace", |p| p.surroundings.user_namespace = false, Role::Excluded(Exclusion::Elsewhere)),
    ("root directory", |p| p.surroundings.root_directory = false, Role::Excluded(Exclusion::Elsewhere)),
    ("real uid", |p| p.real_uid = 1000, Role::Excluded(Exclusion::NotRoot)),
    ("effective uid", |p| p.effective_uid = 1000, Role::Excluded(Exclusion::NotRoot)),
    ("program", |p| p.path = "/opt/sshd".into(), Role::Excluded(Exclusion::OtherProgram)),
    (
        "program of sessions",
        |p| p.path = "/usr/lib/openssh/sshd-session".into(),
        Role::Excluded(Exclusion::OtherProgram),
    ),
    ("no socket in LISTEN", |p| p.sockets.clear(), Role::Excluded(Exclusion::NotListening)),
    ("a connection", |p| p.connected = true, Role::Session),
    ("standard input", |p| p.stdin_is_socket = true, Role::Session),
    ("parent", |p| p.parent_is_sshd = true, Role::Session),
];

/// The pids of all listeners that a plan would end, by a signal or by a restart of their unit.
fn ended(plan: &Plan) -> Vec<i32> {
    let replaced =
        plan.replacements().flat_map(|(_, replacement)| replacement.end.iter().chain(&replacement.restarted));
    replaced.map(|process| process.pid).collect()
}

fn plans(machine: &Snapshot) -> [Plan; 2] {
    [Trigger::Repair, Trigger::Hook].map(|trigger| planned(machine, &ready(), trigger))
}

#[test]
fn only_one_kind_of_process_is_ever_terminated() {
    for plan in plans(&incident()) {
        assert_eq!(ended(&plan), [60]);
    }
    for (name, change, expected) in GUARDS {
        let mut machine = incident();
        assert_eq!(role(&machine.processes[0], &machine), Role::Listener);
        change(&mut machine.processes[0]);
        assert_eq!(role(&machine.processes[0], &machine), *expected, "{name}");
        assert_eq!(diagnose(&machine).listeners, [], "{name}");
        for plan in plans(&machine) {
            assert_eq!(ended(&plan), [0; 0], "{name}: {plan:?}");
            assert!(!short(&plan).contains("terminate"), "{name}: {plan:?}");
        }
    }
}

/// Also a main process of an active unit: a restart would end it.
#[test]
fn no_unit_is_restarted_for_a_main_process_that_is_no_listener() {
    for (name, change, _) in GUARDS {
        let mut machine = healthy();
        machine.processes[0] = stale(listener(60));
        for plan in plans(&machine) {
            assert_eq!(ended(&plan), [60]);
        }
        change(&mut machine.processes[0]);
        for plan in plans(&machine) {
            assert!(!plan.replaces(), "{name}: {plan:?}");
        }
    }
}

/// With -R or X11 forwarding a root session holds a socket in LISTEN and, up to 9.7, runs the listener's program.
#[test]
fn a_root_session_that_forwards_is_a_session() {
    let forwards = Process { sockets: sockets(&["127.0.0.1:6010"]), ..stale(session(90)) };
    let mut machine = incident();
    machine.processes.push(forwards);
    assert_eq!(role(&machine.processes[1], &machine), Role::Session);
    assert_eq!(diagnose(&machine).sessions, [90]);
    for plan in plans(&machine) {
        assert_eq!(ended(&plan), [60]);
    }
}

/// A connection is served by a monitor and its child.
#[test]
fn a_session_of_two_processes_is_counted_once() {
    let mut machine = healthy();
    machine.processes.push(session(90));
    machine.processes.push(Process { parent: 90, ..session(91) });
    machine.processes.push(session(95));
    machine.children = vec![child(92, 60), child(93, 92), child(96, 95)];
    assert_eq!(diagnose(&machine).sessions, [90, 92, 95]);
    machine.unauthenticated = BTreeSet::from([92]);
    assert_eq!(diagnose(&machine).sessions, [90, 95]);
}

/// What a running sshd has started.
fn child(pid: i32, parent: i32) -> Child {
    let (exe, control_group) = ("/usr/sbin/sshd".into(), "/user.slice".into());
    Child { pid, parent, exe, control_group, unit: None }
}

/// Nobody's process counts as a session of the host's because it says so: a container's has its own namespaces.
#[test]
fn a_session_in_a_container_is_none_of_the_hosts() {
    let mut machine = healthy();
    let mut contained = session(90);
    contained.surroundings.pid_namespace = false;
    machine.processes.push(contained);
    machine.children.push(child(91, 90));
    let found = diagnose(&machine);
    assert_eq!((found.sessions, found.excluded), (Vec::new(), vec![(90, Exclusion::Elsewhere)]));
}

/// What counts is the path that `ExecStart=` of one of the instances names.
#[test]
fn the_program_is_the_one_that_a_unit_starts() {
    let mut machine = second_instance(incident());
    machine.instances[1].program.path = "/opt/sshd".into();
    machine.processes[1].path = "/opt/sshd".into();
    assert_eq!(role(&machine.processes[1], &machine), Role::Listener);
    machine.instances[0].program.path = "/usr/local/sbin/sshd".into();
    assert_eq!(role(&machine.processes[0], &machine), Role::Excluded(Exclusion::OtherProgram));
    for plan in plans(&machine) {
        assert!(!ended(&plan).contains(&60), "{plan:?}");
    }
}

/// The name of its file, its start and its unit are for people: none of them makes a listener of anything, or saves one.
#[test]
fn facts_for_people_decide_nothing() {
    let expected = plans(&incident()).map(|plan| short(&plan));
    let mut machine = incident();
    machine.processes[0].exe = "/usr/sbin/sshd: /usr/sbin/sshd -D [listener]".into();
    machine.processes[0].started = std::time::SystemTime::UNIX_EPOCH;
    machine.processes[0].parent = 4711;
    assert_eq!(plans(&machine).map(|plan| short(&plan)), expected);
    machine.processes[0].image = NEW;
    assert!(!diagnose(&machine).listeners[0].stale, "the file decides, not the text that /proc shows");
}

#[test]
fn a_program_that_was_removed_or_replaced_is_stale() {
    let mut process = listener(60);
    assert!(!process.is_stale());
    process.on_disk = None;
    assert!(process.is_stale(), "removed");
    process.on_disk = Some(OLD);
    assert!(process.is_stale(), "another inode");
    process.on_disk = Some(sshd_mend::model::process::FileId { device: 9, ..NEW });
    assert!(process.is_stale(), "another file system");
}

/// A package run terminates an orphan that is not stale only if no connection gets through to it.
#[test]
fn the_hook_terminates_a_current_orphan_only_if_it_is_dead() {
    let results = [ProbeResult::Ok, ProbeResult::Inconclusive, ProbeResult::Skipped, ProbeResult::Dead];
    for result in results {
        let mut machine = incident();
        machine.processes[0] = Process { probe: probe(result), ..listener(60) };
        let [repair, hook] = plans(&machine);
        assert_eq!(ended(&repair), [60], "{result:?}");
        assert_eq!(ended(&hook).contains(&60), result == ProbeResult::Dead, "{result:?}");
    }
    let mut machine = incident();
    machine.processes[0] = Process { probe: None, ..listener(60) };
    assert_eq!(ended(&plans(&machine)[1]), [0; 0], "not probed");
}

/// A current main process of an active unit is nobody's target, whatever its probe says.
#[test]
fn a_current_listener_of_an_active_unit_is_left_alone() {
    for result in [ProbeResult::Ok, ProbeResult::Inconclusive, ProbeResult::Skipped, ProbeResult::Dead] {
        let mut machine = healthy();
        machine.processes[0].probe = probe(result);
        for plan in plans(&machine) {
            assert!(!plan.replaces(), "{result:?}: {plan:?}");
        }
    }
}

/// systemd ends it when it restarts the unit. A signal by hand would count as a clean exit, and no start would follow.
/// systemd would leave it, and the new one would find the port taken.
#[test]
fn with_kill_mode_none_a_stale_main_process_is_terminated_before_its_unit_is_started_again() {
    let mut machine = healthy();
    machine.processes[0] = stale(listener(60));
    machine.instances[0].service.kill_mode = KillMode::None;
    for plan in plans(&machine) {
        let steps = short(&plan);
        assert!(steps.starts_with("terminate 60, reset-failed ssh.service, restart ssh.service, probe"), "{steps}");
    }
    machine.processes[0] = listener(60);
    machine.processes.push(stale(Process { sockets: sockets(&["127.0.0.1:22"]), ..listener(61) }));
    for plan in plans(&machine) {
        assert!(ended(&plan).is_empty(), "the current one would stay, too");
        assert_eq!(plan.refusals().map(|(_, refusal)| refusal.code).collect::<Vec<_>>(), [RefusalCode::NothingToStart]);
    }
}

#[test]
fn the_main_process_of_an_active_unit_is_never_signalled() {
    let mut machine = second_instance(healthy());
    machine.processes[0] = stale(listener(60));
    for plan in plans(&machine) {
        assert!(!short(&plan).contains("terminate"), "{plan:?}");
        assert_eq!(ended(&plan), [60, 80]);
    }
}

/// It never says that it is ready (`Type=notify`), or does not fork (`Type=forking`): systemd kills it in the end, and starts
/// it again. It serves meanwhile.
#[test]
fn what_systemd_is_starting_is_left_to_it() {
    let starting = Unit { restarts: 3, job: true, ..service("ssh.service", "activating", "start", "enabled") };
    let by_pid =
        [Unit { main_pid: Some(60), ..starting.clone() }, Unit { control_pid: Some(60), main_pid: None, ..starting }];
    for unit in by_pid {
        let mut machine = healthy();
        machine.processes[0] = stale(listener(60));
        machine.instances[0].service = unit;
        assert!(!diagnose(&machine).listeners[0].orphan);
        for plan in plans(&machine) {
            assert!(plan.is_empty(), "{plan:?}");
            assert_eq!(plan.refusals().map(|(_, refusal)| refusal.code).collect::<Vec<_>>(), [RefusalCode::JobPending]);
        }
    }
}

/// systemd has lost track of it: whatever it calls the main process, a restart would not end it.
#[test]
fn a_unit_that_is_not_active_owns_no_listener() {
    for (active, sub) in [("inactive", "dead"), ("failed", "failed"), ("activating", "auto-restart")] {
        let mut machine = incident();
        machine.instances[0].service = Unit { main_pid: Some(60), ..service("ssh.service", active, sub, "disabled") };
        assert!(diagnose(&machine).listeners[0].orphan, "{active}");
        let [repair, _] = plans(&machine);
        // What starts itself again is stopped before.
        let steps = short(&repair);
        let first = if sub == "auto-restart" { "stop ssh.service, terminate 60, " } else { "terminate 60, " };
        assert!(steps.starts_with(first), "{active}: {steps}");
    }
}

/// The one that was judged, with its start, so that another process of the same pid is not signalled.
#[test]
fn a_target_is_named_as_it_was_judged() {
    let machine = incident();
    let plan = planned(&machine, &ready(), Trigger::Repair);
    let replacement = replacement(&plan, "ssh.service").expect("a replacement");
    assert_eq!(replacement.end, machine.processes);
    assert_eq!(plan.steps()[0], Step::Terminate { pid: 60, started_ticks: 1060 });
    let judged = &machine.processes[0];
    let changes: [fn(&mut Process); 5] =
        [|p| p.pid = 61, |p| p.started_ticks += 1, |p| p.image.inode += 1, |p| p.sockets.clear(), |p| p.traced = true];
    for change in changes {
        let mut now = judged.clone();
        assert!(now.is_same_as(judged));
        change(&mut now);
        assert!(!now.is_same_as(judged), "{now:?}");
    }
}

/// PID 1 holds the socket of ssh.socket: it is not in the list of processes, and none of what it holds is in the way.
#[test]
fn what_systemd_holds_is_no_listener_of_anybodys() {
    let mut machine = incident();
    machine.systemd_holds = dual();
    machine.processes.clear();
    assert_eq!(diagnose(&machine).listeners, []);
    let plan = planned(&machine, &ready(), Trigger::Repair);
    assert!(plan.of("ssh.service").is_some_and(|plan| matches!(plan.decision, Decision::Replace(_))), "{plan:?}");
    assert_eq!(ended(&plan), [0; 0]);
}
