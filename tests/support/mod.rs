//! Machines as facts, for tests of decisions.
#![allow(dead_code, missing_docs)] // each test binary uses a part of it

use sshd_mend::decide::{diagnose, plan};
use sshd_mend::model::diagnosis::Severity;
use sshd_mend::model::intent::{InstanceIntent, Intent};
use sshd_mend::model::plan::{Plan, Replacement, Step, Trigger};
use sshd_mend::model::probe::{Probe, ProbeResult};
use sshd_mend::model::process::{FileId, ListenSocket, Process, Surroundings};
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::model::snapshot::{Host, Instance, Program, Snapshot};
use sshd_mend::model::trial::{Check, OtherProcesses, Package, Policy, Trial, Trials};
use sshd_mend::model::unit::{ActiveState, Enablement, ExecStart, KillMode, Listen, LoadState, Unit};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub const OLD: FileId = FileId { device: 1, inode: 100 };
pub const NEW: FileId = FileId { device: 1, inode: 200 };
/// The service of a second instance, see [`second_instance`].
pub const SECOND: &str = "sshd-2222.service";

pub fn addresses(texts: &[&str]) -> BTreeSet<SocketAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

/// Sockets in LISTEN. `[::]` keeps to IPv6, as sshd binds it; see [`dual`].
pub fn sockets(texts: &[&str]) -> Vec<ListenSocket> {
    let socket = |address: SocketAddr| ListenSocket {
        address,
        ipv6_only: address.is_ipv6(),
        device_bound: false,
        vrf: false,
        inode: 1000 + u64::from(address.port()) * 2 + u64::from(address.is_ipv6()),
    };
    addresses(texts).into_iter().map(socket).collect()
}

/// `[::]:22` as systemd binds it for ssh.socket: IPv4 is served, too.
pub fn dual() -> Vec<ListenSocket> {
    sockets(&["[::]:22"]).into_iter().map(|socket| ListenSocket { ipv6_only: false, ..socket }).collect()
}

pub fn probe(result: ProbeResult) -> Option<Probe> {
    Some(Probe::new(result, "seen"))
}

/// A healthy listener of ssh.service.
pub fn listener(pid: i32) -> Process {
    Process {
        pid,
        started_ticks: 1000 + u64::from(pid.unsigned_abs()),
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_741_651_200),
        exe: PathBuf::from("/usr/sbin/sshd"),
        path: PathBuf::from("/usr/sbin/sshd"),
        image: NEW,
        on_disk: Some(NEW),
        surroundings: Surroundings {
            pid_namespace: true,
            network_namespace: true,
            user_namespace: true,
            root_directory: true,
        },
        real_uid: 0,
        effective_uid: 0,
        parent: 1,
        parent_is_sshd: false,
        sockets: sockets(&["0.0.0.0:22", "[::]:22"]),
        connected: false,
        traced: false,
        stdin_is_socket: false,
        control_group: "/system.slice/ssh.service".into(),
        unit: Some("ssh.service".into()),
        stale_libraries: Vec::new(),
        probe: probe(ProbeResult::Ok),
    }
}

pub fn stale(process: Process) -> Process {
    Process { image: OLD, exe: PathBuf::from("/usr/sbin/sshd (deleted)"), ..process }
}

/// A session: on Debian 12 it runs the listener's own program.
pub fn session(pid: i32) -> Process {
    Process {
        connected: true,
        parent_is_sshd: true,
        sockets: Vec::new(),
        control_group: "/user.slice/session-1.scope".into(),
        unit: Some("session-1.scope".into()),
        ..listener(pid)
    }
}

/// A loaded unit in systemd's words.
pub fn unit(name: &str, active: &str, sub: &str, enabled: &str) -> Unit {
    Unit {
        name: name.into(),
        load: LoadState::Loaded,
        active: ActiveState::parse(active),
        sub: sub.into(),
        result: "success".into(),
        enablement: Enablement::parse(enabled),
        can_start: true,
        ..Unit::default()
    }
}

/// A service that starts sshd.
pub fn service(name: &str, active: &str, sub: &str, enabled: &str) -> Unit {
    Unit {
        kill_mode: KillMode::Process,
        exec_start: Some(ExecStart {
            path: "/usr/sbin/sshd".into(),
            arguments: vec!["-D".into(), "$SSHD_OPTS".into()],
        }),
        ..unit(name, active, sub, enabled)
    }
}

pub fn instance(service: Unit, socket: Unit) -> Instance {
    let stem = service.name.trim_end_matches(".service");
    Instance {
        rescue: Unit::absent(&format!("sshd-mend-rescue-{stem}.socket")),
        service,
        socket,
        per_connection: None,
        program: Program { path: "/usr/sbin/sshd".into(), file: Some(NEW) },
        socket_on_record: false,
        wanted: BTreeSet::new(),
    }
}

/// A Debian 13 as it is installed.
pub fn healthy() -> Snapshot {
    let main = instance(
        Unit {
            main_pid: Some(60),
            control_group: "/system.slice/ssh.service".into(),
            ..service("ssh.service", "active", "running", "enabled")
        },
        Unit { listen: vec![Listen::parse("[::]:22")], ..unit("ssh.socket", "inactive", "dead", "disabled") },
    );
    Snapshot {
        host: Host { runtime_directory: true, not_to_be_run: false, shutting_down: false },
        instances: vec![main],
        processes: vec![listener(60)],
        children: Vec::new(),
        holders: std::collections::BTreeMap::new(),
        unauthenticated: BTreeSet::new(),
        of_users: Vec::new(),
        unreadable: Vec::new(),
        systemd_holds: Vec::new(),
        foreign: Vec::new(),
        intent: None,
    }
}

/// The incident: ssh.socket is enabled and failed, and an orphan serves.
pub fn incident() -> Snapshot {
    let mut machine = healthy();
    let main = &mut machine.instances[0];
    main.service = service("ssh.service", "failed", "failed", "disabled");
    main.socket = Unit { listen: vec![Listen::parse("[::]:22")], ..unit("ssh.socket", "failed", "failed", "enabled") };
    machine.processes = vec![Process { sockets: dual(), ..stale(listener(60)) }];
    machine
}

/// With a second instance on port 2222, whose listener 80 is stale.
pub fn second_instance(mut machine: Snapshot) -> Snapshot {
    let second = instance(
        Unit { main_pid: Some(80), ..service(SECOND, "active", "running", "enabled") },
        Unit::absent("sshd-2222.socket"),
    );
    machine.instances.push(second);
    machine.processes.push(Process {
        sockets: sockets(&["0.0.0.0:2222"]),
        control_group: format!("/system.slice/{SECOND}"),
        unit: Some(SECOND.into()),
        ..stale(listener(80))
    });
    machine
}

/// A program that would serve these addresses.
pub fn serves(texts: &[&str]) -> Trial {
    Trial {
        config: Check::Passed,
        start_hindrance: None,
        exec_condition: false,
        changed: true,
        untried: None,
        handshake: Check::Passed,
        own_addresses: Some(addresses(texts)),
        package: Package::Ready,
        options: Vec::new(),
        service_files: vec!["[Service]\nExecStart=/usr/sbin/sshd -D $SSHD_OPTS\nKillMode=process\n".into()],
        socket_files: vec!["[Socket]\nListenStream=22\nAccept=no\n".into()],
        own_device_bound: BTreeSet::new(),
        unassigned: BTreeSet::new(),
        other_processes: OtherProcesses::Known(Vec::new()),
        policy: Policy::Allows,
        timed_out: false,
    }
}

/// Trials in which everything works.
pub fn ready() -> Trials {
    Trials::from([
        ("ssh.service".to_owned(), serves(&["0.0.0.0:22", "[::]:22"])),
        (SECOND.to_owned(), serves(&["0.0.0.0:2222"])),
    ])
}

/// The trial of one instance.
pub fn trial<'a>(trials: &'a mut Trials, instance: &str) -> &'a mut Trial {
    trials.get_mut(instance).expect("an instance that was tried")
}

/// The steps of a plan in short: `terminate 60, reset-failed ssh.socket, …`.
pub fn short(plan: &Plan) -> String {
    let step = |step: &Step| match step {
        Step::CreateRuntimeDirectory { path } => format!("create {path}"),
        Step::Terminate { pid, .. } => format!("terminate {pid}"),
        Step::ResetFailed { unit } => format!("reset-failed {unit}"),
        Step::StopUnit { unit } => format!("stop {unit}"),
        Step::StartUnit { unit } => format!("start {unit}"),
        Step::RestartUnit { unit } => format!("restart {unit}"),
        Step::StartRescue { unit, .. } => format!("start-rescue {unit}"),
        Step::StopRescue { unit } => format!("stop-rescue {unit}"),
        Step::Probe { address } => format!("probe {address}"),
    };
    plan.steps().iter().map(step).collect::<Vec<_>>().join(", ")
}

/// An interrupted repair was about to serve these addresses of an instance again.
pub fn intended(instance: &str, texts: &[&str], rescue: bool) -> InstanceIntent {
    InstanceIntent {
        instance: instance.into(),
        addresses: addresses(texts),
        units: vec![instance.into()],
        rescue,
        resumed: false,
        stopped: false,
    }
}

/// What is on record about an interrupted repair.
pub fn intent(instances: Vec<InstanceIntent>) -> Option<Intent> {
    Some(Intent { boot_id: "this boot".into(), instances })
}

/// The rescue of an instance, while it serves.
pub fn serving_rescue(instance: &Instance, texts: &[&str]) -> Unit {
    Unit {
        listen: texts.iter().map(|text| Listen::parse(text)).collect(),
        ..unit(&instance.rescue.name, "active", "listening", "static")
    }
}

/// Findings in short, worst first: code and severity.
pub fn findings(machine: &Snapshot) -> Vec<(&'static str, Severity)> {
    diagnose(machine).findings.iter().map(|finding| (finding.code.as_str(), finding.severity)).collect()
}

/// The plan for a machine.
pub fn planned(machine: &Snapshot, trials: &Trials, trigger: Trigger) -> Plan {
    plan(machine, &diagnose(machine), trials, trigger)
}

/// Why nothing is done about an instance.
pub fn refused(plan: &Plan, instance: &str) -> Option<RefusalCode> {
    plan.refusals().find(|(name, _)| *name == instance).map(|(_, refusal)| refusal.code)
}

/// How the listener of an instance is replaced.
pub fn replacement<'a>(plan: &'a Plan, instance: &str) -> Option<&'a Replacement> {
    plan.replacements().find(|(name, _)| *name == instance).map(|(_, replacement)| replacement)
}

/// A plan in short, as [`short`], and what it refuses: `ssh.service: job-pending`.
pub fn decided(plan: &Plan) -> String {
    let refusals = plan.refusals().map(|(instance, refusal)| format!("{instance}: {}", refusal.code.as_str()));
    Some(short(plan)).filter(|steps| !steps.is_empty()).into_iter().chain(refusals).collect::<Vec<_>>().join(", ")
}

/// A row of a table of decisions.
pub struct Row {
    pub name: &'static str,
    pub machine: fn() -> Snapshot,
    /// See [`findings`].
    pub findings: &'static [(&'static str, Severity)],
    /// See [`decided`].
    pub repair: &'static str,
    pub hook: &'static str,
}

/// Checks each row, if everything works that is tried, and names all that differ.
pub fn check(rows: &[Row]) {
    let mut differences = String::new();
    for row in rows {
        let machine = (row.machine)();
        let found = findings(&machine);
        if found != row.findings {
            differences += &format!("{}:\n  found {found:?}\n  not   {:?}\n", row.name, row.findings);
        }
        for (trigger, expected) in [(Trigger::Repair, row.repair), (Trigger::Hook, row.hook)] {
            let decided = decided(&planned(&machine, &ready(), trigger));
            if decided != expected {
                differences += &format!("{}, {trigger:?}:\n  decided {decided:?}\n  not     {expected:?}\n", row.name);
            }
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}
