//! Outcomes of every kind, made of facts by the functions that the program uses. What joins them is private to `agent`,
//! so [`examined`] does that here; the system tests show the same screens from real machines.

use super::support::{self, SECOND, addresses, healthy, listener, ready, service, stale, trial, unit};
use sshd_mend::decide::{diagnose, judge_trials, plan};
use sshd_mend::model::execution::{Failure, StepOutcome, Success};
use sshd_mend::model::intent::{InstanceIntent, Intent};
use sshd_mend::model::plan::{Decision, Step, Trigger};
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::process::Process;
use sshd_mend::model::snapshot::{Instance, Snapshot};
use sshd_mend::model::trial::{Check, Trial, Trials};
use sshd_mend::model::unit::{Listen, Unit};
use sshd_mend::report::outcome::SCHEMA;
use sshd_mend::report::{Done, InstanceOutcome, Origin, Outcome, Sessions, Tried, UnitState, Verdict};
use std::time::{Duration, SystemTime};

const BANNER: &str = "SSH-2.0-OpenSSH_10.0p2 Debian-7";

/// A machine as `sshd-mend check` reports it.
pub fn examined(machine: &Snapshot, trials: &Trials, trigger: Trigger) -> Outcome {
    let mut machine = machine.clone();
    for probe in machine.processes.iter_mut().filter_map(|process| process.probe.as_mut()) {
        probe.authentication = probe.is_ok().then(|| vec!["publickey".to_owned(), "password".to_owned()]);
        probe.detail = match probe.result {
            ProbeResult::Ok => BANNER.to_owned(),
            ProbeResult::Dead => {
                format!("new connections are closed in the middle of the key exchange (banner {BANNER})")
            }
            ProbeResult::Inconclusive => "refused with \"Exceeded MaxStartups\"".to_owned(),
            ProbeResult::Skipped => "nothing about it looks wrong".to_owned(),
        };
    }
    let mut diagnosis = diagnose(&machine);
    let plan = plan(&machine, &diagnosis, trials, trigger);
    judge_trials(&mut diagnosis, &machine, trials, &plan);
    let severity = diagnosis.severity();
    let refusal_of = |name: &str| match plan.of(name).map(|plan| &plan.decision) {
        Some(Decision::Refuse(refusal)) => Some(refusal.clone()),
        _ => None,
    };
    let is_rescued = |instance: &&Instance| instance.rescue.is_active();
    let verdict = match () {
        () if !diagnosis.applicable => Verdict::NotApplicable,
        () if machine.instances.iter().any(|instance| is_rescued(&instance)) => Verdict::Rescued,
        () => Verdict::of(diagnosis.findings.iter()),
    };
    let state = |instance: &Instance| {
        let name = instance.name();
        let listeners = diagnosis.listeners_of(name).flat_map(|listener| listener.addresses.iter().copied());
        let rescued = is_rescued(&instance);
        let held = machine.systemd_holds.iter().filter(|_| instance.socket.is_active()).map(|socket| socket.address);
        InstanceOutcome {
            instance: name.to_owned(),
            verdict: match rescued {
                true => Verdict::Rescued,
                false => Verdict::of(diagnosis.of(name)),
            },
            addresses: listeners.chain(held).chain(instance.rescue.tcp_addresses().filter(|_| rescued)).collect(),
            refusal: refusal_of(name),
            rescue: rescued.then(|| instance.rescue.name.clone()),
            tried: trials.get(name).map(Tried::from),
        }
    };
    let skipped = plan.instances.iter().flat_map(|plan| &plan.skipped);
    let skipped =
        skipped.map(|(pid, why)| format!("sshd {pid} is left alone: {} ({})", why.message, why.code.as_str()));
    Outcome {
        schema: SCHEMA,
        origin: Origin {
            version: "0.1.0".into(),
            host: "web".into(),
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_748_736_060),
        },
        command: if trigger == Trigger::Hook { "hook".into() } else { "check".into() },
        dry_run: false,
        verdict,
        exit_status: verdict.exit_status(severity),
        units: machine.instances[0].units().map(|unit| (unit.name.clone(), UnitState::from(unit))).into(),
        instances: machine.instances.iter().map(state).collect(),
        plan: plan.steps(),
        done: Vec::new(),
        refusal: machine.instances.iter().find_map(|instance| refusal_of(instance.name())),
        sessions: Sessions { before: diagnosis.sessions.len(), after: diagnosis.sessions.len() },
        unreachable_ms: None,
        duration_ms: 60,
        notes: skipped.collect(),
        others: Vec::new(),
        findings: diagnosis.findings,
        listeners: diagnosis.listeners,
    }
}

/// Examined by a person, with a program on disk that works.
pub fn check(machine: &Snapshot) -> Outcome {
    examined(machine, &ready(), Trigger::Repair)
}

/// A check of the incident with something that speaks against its repair, as a repair reports it.
pub fn refused(machine: &Snapshot, spoil: impl FnOnce(&mut Snapshot, &mut Trials), trigger: Trigger) -> Outcome {
    let (mut machine, mut trials) = (machine.clone(), ready());
    spoil(&mut machine, &mut trials);
    let found = examined(&machine, &trials, trigger);
    assert!(found.refusal.is_some(), "{found:#?}");
    let instances = found.instances.iter().map(|instance| match instance.refusal.is_some() {
        true => InstanceOutcome { verdict: Verdict::Refused, ..instance.clone() },
        false => instance.clone(),
    });
    Outcome { verdict: Verdict::Refused, instances: instances.collect(), ..found.clone() }
}

/// What a repair reports: what was found before, what was done, how the machine is after it.
pub fn repaired(
    before: &Snapshot,
    after: &Snapshot,
    verdict: Verdict,
    done: &[(Step, Result<Success, Failure>)],
) -> Outcome {
    let done = done.iter().zip([1, 12, 2, 31, 118, 22, 24, 20, 19]).map(|((step, result), took)| {
        let duration = Duration::from_millis(took);
        Done::from(&StepOutcome { step: step.clone(), result: result.clone(), duration })
    });
    let (before, after) = (check(before), check(after));
    let instances = after
        .instances
        .iter()
        .map(|instance| InstanceOutcome { verdict: instance.verdict.max(verdict), ..instance.clone() });
    Outcome {
        command: "repair".into(),
        verdict,
        findings: before.findings,
        plan: before.plan,
        done: done.collect(),
        instances: instances.collect(),
        sessions: Sessions { before: 2, after: 2 },
        unreachable_ms: Some(143),
        refusal: None,
        ..after
    }
}

/// Steps of a repair, each with what came of it.
pub fn done(steps: &[(&str, Result<Success, Failure>)]) -> Vec<(Step, Result<Success, Failure>)> {
    let step = |text: &str| match text.split_once(' ').unwrap_or((text, "")) {
        ("first-aid", _) => Step::first_aid(),
        ("terminate", _) => Step::terminate(&incident().processes[0]),
        ("reset", unit) => Step::ResetFailed { unit: unit.into() },
        ("start", unit) => Step::StartUnit { unit: unit.into() },
        ("restart", unit) => Step::RestartUnit { unit: unit.into() },
        ("stop-rescue", unit) => Step::StopRescue { unit: unit.into() },
        ("rescue", unit) => Step::StartRescue { unit: unit.into(), addresses: addresses(&["[::]:22"]) },
        ("probe", address) => Step::Probe { address: address.parse().expect("an address") },
        _ => panic!("{text}"),
    };
    steps.iter().map(|(text, result)| (step(text), result.clone())).collect()
}

pub fn answers() -> Result<Success, Failure> {
    let methods = vec!["publickey".to_owned(), "password".to_owned()];
    Ok(Success::Authenticates { banner: "SSH-2.0-OpenSSH_10.0".to_owned(), methods })
}

pub fn job_failed(unit: &str, result: &str) -> Result<Success, Failure> {
    let text = format!("systemd could not start {unit}: the job ended with \"{result}\". See: journalctl -u {unit}");
    Err(Failure::Systemd(text))
}

pub fn changed(mut machine: Snapshot, change: impl FnOnce(&mut Snapshot)) -> Snapshot {
    change(&mut machine);
    machine
}

/// The incident, with what systemd says about it.
pub fn incident() -> Snapshot {
    changed(support::incident(), |machine| {
        machine.instances[0].service.result = "exit-code".into();
        machine.instances[0].socket.result = "resources".into();
    })
}

/// A program on disk that would not start.
pub fn invalid() -> Trials {
    let words = "/etc/ssh/sshd_config line 12: Bad configuration option: PermitRoot";
    tried(|trial| trial.config = Check::Failed(words.into()))
}

/// What came of a trial of the main instance.
pub fn tried(change: impl FnOnce(&mut Trial)) -> Trials {
    let mut trials = ready();
    change(trial(&mut trials, "ssh.service"));
    trials
}

/// A probe of the first listener tells nothing.
pub fn silent(machine: &mut Snapshot) {
    machine.processes[0].probe = support::probe(ProbeResult::Inconclusive);
}

/// A listener that a repair has just started.
pub fn fresh(pid: i32) -> Process {
    Process { started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_748_736_000), ..listener(pid) }
}

/// The incident after its repair: a fresh listener, as the socket declares it.
pub fn mended() -> Snapshot {
    changed(incident(), |machine| {
        let main = &mut machine.instances[0];
        main.service = Unit { main_pid: Some(81), ..service("ssh.service", "active", "running", "disabled") };
        main.socket =
            Unit { listen: vec![Listen::parse("[::]:22")], ..unit("ssh.socket", "active", "running", "enabled") };
        machine.processes = vec![Process { sockets: support::dual(), ..fresh(81) }];
    })
}

/// The incident once somebody has restarted ssh.service.
pub fn lock_out() -> Snapshot {
    changed(incident(), |machine| {
        machine.host.runtime_directory = false;
        machine.processes[0].probe = support::probe(ProbeResult::Dead);
    })
}

/// ssh.service has failed, and nobody listens.
pub fn down() -> Snapshot {
    changed(healthy(), |machine| {
        machine.instances[0].service =
            Unit { result: "exit-code".into(), ..service("ssh.service", "failed", "failed", "enabled") };
        machine.processes.clear();
    })
}

/// The incident whose units do not start, and whose rescue serves.
pub fn rescued() -> Snapshot {
    changed(lock_out(), |machine| {
        machine.host.runtime_directory = true;
        machine.processes.clear();
        machine.instances[0].rescue = Unit {
            listen: vec![Listen::parse("[::]:22")],
            ..unit("sshd-mend-rescue-ssh.socket", "active", "listening", "static")
        };
        machine.systemd_holds = support::dual();
        machine.intent = Some(intent("ssh.service", "[::]:22"));
    })
}

/// A repair of one instance is on record.
pub fn intent(instance: &str, address: &str) -> Intent {
    let units = vec!["ssh.socket".into(), "ssh.service".into()];
    let instance = InstanceIntent {
        instance: instance.into(),
        addresses: addresses(&[address]),
        units,
        rescue: true,
        resumed: false,
        stopped: false,
    };
    Intent { boot_id: "this boot".into(), instances: vec![instance] }
}

/// Two instances, both of them healthy.
pub fn two_instances() -> Snapshot {
    changed(support::second_instance(healthy()), |machine| {
        let second = machine.processes.iter_mut().find(|process| process.pid == 80).expect("the second instance");
        *second = Process { sockets: support::sockets(&["0.0.0.0:2222"]), unit: Some(SECOND.into()), ..listener(80) };
    })
}

/// With the main process of ssh.service stale.
pub fn stale_service() -> Snapshot {
    changed(healthy(), |machine| machine.processes[0] = stale(listener(60)))
}
