//! What an examination shows.

use super::outcomes::{
    changed, check, down, examined, incident, intent, invalid, lock_out, rescued, silent, stale_service, tried,
    two_instances,
};
use super::support::{self, addresses, healthy, listener, probe, second_instance, sockets, unit};
use super::{COLOUR, PLAIN, QUIET, Screen, VERBOSE};
use sshd_mend::model::plan::Trigger;
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::process::Process;
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::unit::{ActiveState, Enablement, Listen, Unit};
use sshd_mend::observe::Unexaminable;
use sshd_mend::report::Outcome;
use std::time::Duration;

const CONDITION: &str = "ConditionPathExists=/srv/keys does not hold";

fn not_started(machine: &mut Snapshot, active: &str, sub: &str) {
    machine.instances[0].service.active = ActiveState::parse(active);
    machine.instances[0].service.sub = sub.into();
    machine.instances[0].service.main_pid = None;
    machine.processes.clear();
}

/// Screens of `check`, of a dry run, and of what cannot be examined.
pub fn screens() -> Vec<Screen> {
    let socket = |active, sub| Unit { listen: vec![Listen::parse("22")], ..unit("ssh.socket", active, sub, "enabled") };
    vec![
        ("healthy", check(&healthy()), PLAIN),
        ("healthy-colour", check(&healthy()), COLOUR),
        ("healthy-quiet", check(&healthy()), QUIET),
        ("healthy-two-instances", check(&two_instances()), PLAIN),
        (
            "healthy-verbose",
            Outcome {
                others: vec![
                    "812 (/usr/sbin/sshd (deleted)) is left alone: it runs in another namespace or root directory (a container, a pod, a chroot)".into(),
                    "90 (/usr/lib/openssh/sshd-session) serves a connection".into(),
                ],
                notes: vec!["process 4711 could not be examined and is left alone: Permission denied".into()],
                ..check(&healthy())
            },
            VERBOSE,
        ),
        (
            "healthy-socket-listens",
            check(&changed(healthy(), |machine| {
                not_started(machine, "inactive", "dead");
                machine.instances[0].service.enablement = Enablement::Disabled;
                machine.instances[0].socket = socket("active", "listening");
                machine.systemd_holds = support::dual();
            })),
            PLAIN,
        ),
        (
            "broken-would-not-restart",
            examined(
                &changed(healthy(), |machine| {
                    not_started(machine, "inactive", "dead");
                    machine.instances[0].service.enablement = Enablement::Disabled;
                    machine.instances[0].socket = socket("active", "listening");
                    machine.systemd_holds = support::dual();
                }),
                &invalid(),
                Trigger::Repair,
            ),
            PLAIN,
        ),
        ("at-risk-would-not-restart", examined(&healthy(), &invalid(), Trigger::Repair), PLAIN),
        (
            "at-risk-condition",
            examined(&healthy(), &tried(|trial| trial.start_hindrance = Some(CONDITION.into())), Trigger::Repair),
            PLAIN,
        ),
        (
            "at-risk-addresses-changed",
            examined(
                &healthy(),
                &tried(|trial| trial.own_addresses = Some(addresses(&["0.0.0.0:2222", "[::]:2222"]))),
                Trigger::Repair,
            ),
            PLAIN,
        ),
        (
            "broken-starting",
            check(&changed(healthy(), |machine| {
                not_started(machine, "activating", "start");
                machine.instances[0].service.starting_for = Some(Duration::from_secs(40));
            })),
            PLAIN,
        ),
        (
            "healthy-stale-libraries",
            check(&changed(healthy(), |m| m.processes[0].stale_libraries = vec!["libcrypto.so.3".into()])),
            PLAIN,
        ),
        (
            "broken-stale-libraries",
            check(&changed(healthy(), |machine| {
                machine.processes[0].stale_libraries = vec!["libcrypto.so.3".into()];
                machine.processes[0].probe = probe(ProbeResult::Dead);
            })),
            PLAIN,
        ),
        (
            "broken-down-while-another-unit-serves",
            check(&changed(two_instances(), |machine| {
                machine.instances[0].service.active = ActiveState::Failed;
                machine.instances[0].service.sub = "failed".into();
                machine.processes.remove(0);
            })),
            PLAIN,
        ),
        (
            "broken-socket-deaf",
            check(&changed(healthy(), |machine| {
                not_started(machine, "inactive", "dead");
                machine.instances[0].socket = socket("active", "listening");
            })),
            PLAIN,
        ),
        ("at-risk-not-answering", check(&changed(healthy(), silent)), PLAIN),
        ("at-risk-unseen", check(&changed(healthy(), |machine| machine.processes.clear())), PLAIN),
        ("at-risk-starting", check(&changed(healthy(), |m| not_started(m, "activating", "start"))), PLAIN),
        (
            "healthy-disabled",
            check(&changed(healthy(), |machine| {
                not_started(machine, "inactive", "dead");
                machine.instances[0].service.enablement = Enablement::Disabled;
            })),
            PLAIN,
        ),
        (
            "healthy-socket-detached",
            check(&changed(healthy(), |m| m.instances[0].socket = socket("inactive", "dead"))),
            PLAIN,
        ),
        ("at-risk-stale-orphan", check(&incident()), PLAIN),
        ("at-risk-stale-orphan-quiet", check(&incident()), QUIET),
        ("at-risk-stale-orphan-dry-run", Outcome { dry_run: true, ..check(&incident()) }, PLAIN),
        ("at-risk-stale-orphan-busy", check(&changed(incident(), silent)), PLAIN),
        ("at-risk-stale-service", check(&stale_service()), PLAIN),
        (
            "at-risk-orphan",
            check(&changed(incident(), |m| m.processes[0] = Process { sockets: support::dual(), ..listener(60) })),
            PLAIN,
        ),
        ("at-risk-second-instance", check(&second_instance(healthy())), PLAIN),
        ("stopped", check(&changed(healthy(), |m| not_started(m, "inactive", "dead"))), PLAIN),
        (
            "at-risk-not-examined",
            check(&changed(two_instances(), |machine| {
                machine.instances[1].service.own_network = true;
                machine.processes.pop();
            })),
            PLAIN,
        ),
        ("broken-lock-out", check(&lock_out()), PLAIN),
        ("broken-lock-out-colour", check(&lock_out()), COLOUR),
        ("broken-lock-out-dry-run", Outcome { dry_run: true, ..check(&lock_out()) }, PLAIN),
        ("broken-lock-out-quiet", check(&lock_out()), QUIET),
        ("broken-down", check(&down()), PLAIN),
        ("at-risk-refused", examined(&incident(), &invalid(), Trigger::Repair), PLAIN),
        (
            "at-risk-refused-dry-run",
            Outcome { dry_run: true, ..examined(&incident(), &invalid(), Trigger::Repair) },
            PLAIN,
        ),
        ("broken-refused", examined(&lock_out(), &invalid(), Trigger::Repair), PLAIN),
        (
            "broken-one-of-two-dead",
            check(&changed(two_instances(), |machine| {
                let second = machine.processes.iter_mut().find(|process| process.pid == 80);
                second.expect("the second instance").probe = probe(ProbeResult::Dead);
            })),
            PLAIN,
        ),
        (
            "broken-listener-dead",
            check(&changed(healthy(), |m| m.processes[0].probe = probe(ProbeResult::Dead))),
            PLAIN,
        ),
        (
            "broken-foreign-listener",
            check(&changed(down(), |machine| {
                machine.instances[0].wanted = addresses(&["0.0.0.0:22", "[::]:22"]);
                machine.foreign = sockets(&["0.0.0.0:22"]);
            })),
            PLAIN,
        ),
        (
            "broken-foreign-listener-at-one-address",
            check(&changed(healthy(), |machine| {
                machine.processes[0].sockets = support::sockets(&["[::]:22"]);
                machine.instances[0].wanted = addresses(&["0.0.0.0:22", "[::]:22"]);
                machine.foreign = sockets(&["0.0.0.0:22"]);
            })),
            PLAIN,
        ),
        (
            "broken-interrupted",
            check(&changed(down(), |machine| machine.intent = Some(intent("ssh.service", "[::]:22")))),
            PLAIN,
        ),
        (
            "broken-second-instance-down",
            check(&changed(two_instances(), |machine| {
                machine.instances[1].service.active = ActiveState::Failed;
                machine.processes.pop();
            })),
            PLAIN,
        ),
        ("rescued-check", check(&rescued()), PLAIN),
        (
            "not-applicable",
            check(&changed(healthy(), |machine| {
                machine.instances[0] = support::instance(Unit::absent("ssh.service"), Unit::absent("ssh.socket"));
                machine.instances[0].program.file = None;
                machine.processes.clear();
            })),
            PLAIN,
        ),
        ("unknown-not-root", Outcome::unknown("check", &Unexaminable::NotRoot.to_string()), PLAIN),
        ("unknown-colour", Outcome::unknown("check", &Unexaminable::NoSystemd.to_string()), COLOUR),
        ("unknown-quiet", Outcome::unknown("check", &Unexaminable::NoSystemd.to_string()), QUIET),
    ]
}
