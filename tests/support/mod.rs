//! Machines as facts, for tests of decisions.
#![allow(dead_code, missing_docs)] // each test binary uses a part of it

use sshd_mend::preflight::{Check, Package, Policy, Preflight, Server};
use sshd_mend::probe::{Probe, ProbeResult};
use sshd_mend::snapshot::{ExecStart, FileId, Host, Process, Program, Snapshot, Surroundings, Unit};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub const OLD: FileId = FileId { device: 1, inode: 100 };
pub const NEW: FileId = FileId { device: 1, inode: 200 };

pub fn addresses(texts: &[&str]) -> BTreeSet<SocketAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

pub fn probe(result: ProbeResult) -> Option<Probe> {
    Some(Probe { result, detail: "seen".into() })
}

/// A healthy listener of ssh.service.
pub fn listener(pid: i32) -> Process {
    Process {
        pid,
        started_ticks: 1000 + u64::from(pid.unsigned_abs()),
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_741_651_200),
        exe: PathBuf::from("/usr/sbin/sshd"),
        image: NEW,
        on_disk: Some(NEW),
        at_program_path: true,
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
        listening: addresses(&["0.0.0.0:22", "[::]:22"]),
        ipv6_only: false,
        connected: false,
        traced: false,
        stdin_is_socket: false,
        unit: Some("ssh.service".into()),
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
        listening: BTreeSet::new(),
        unit: Some("session-1.scope".into()),
        ..listener(pid)
    }
}

pub fn unit(name: &str, active: &str, sub: &str, enabled: &str) -> Unit {
    Unit {
        name: name.into(),
        load: "loaded".into(),
        active: active.into(),
        sub: sub.into(),
        result: "success".into(),
        enabled: enabled.into(),
        can_start: true,
        ..Unit::default()
    }
}

/// A Debian 13 as it is installed.
pub fn healthy() -> Snapshot {
    Snapshot {
        host: Host { runtime_directory: true, not_to_be_run: false, shutting_down: false },
        program: Program { path: "/usr/sbin/sshd".into(), file: Some(NEW) },
        service: Unit {
            main_pid: Some(60),
            kill_mode: "process".into(),
            exec_start: Some(ExecStart {
                path: "/usr/sbin/sshd".into(),
                arguments: vec!["-D".into(), "$SSHD_OPTS".into()],
            }),
            ..unit("ssh.service", "active", "running", "enabled")
        },
        socket: Unit {
            listen: vec!["[::]:22".into()],
            bind_ipv6_only: "default".into(),
            ..unit("ssh.socket", "inactive", "dead", "disabled")
        },
        per_connection: None,
        rescue: Unit {
            listen: vec!["[::]:22".into()],
            ..unit("sshd-mend-rescue.socket", "inactive", "dead", "static")
        },
        intent: None,
        other_units: Vec::new(),
        processes: vec![listener(60)],
        foreign: Vec::new(),
        wanted: BTreeSet::new(),
    }
}

/// The incident: ssh.socket is enabled and failed, and an orphan serves.
pub fn incident() -> Snapshot {
    let mut machine = healthy();
    machine.service.active = "failed".into();
    machine.service.sub = "failed".into();
    machine.service.enabled = "disabled".into();
    machine.service.main_pid = None;
    machine.socket.active = "failed".into();
    machine.socket.sub = "failed".into();
    machine.socket.enabled = "enabled".into();
    machine.processes = vec![Process { listening: addresses(&["[::]:22"]), ..stale(listener(60)) }];
    machine
}

/// A program that would serve these addresses.
pub fn serves(texts: &[&str]) -> Server {
    Server {
        config: Check::Passed,
        handshake: Check::Passed,
        own_addresses: Some(addresses(texts).into_iter().collect()),
    }
}

/// A replacement that would work.
pub fn ready() -> Preflight {
    Preflight {
        server: serves(&["0.0.0.0:22", "[::]:22"]),
        instances: BTreeMap::from([("sshd-2222.service".to_owned(), serves(&["0.0.0.0:2222"]))]),
        package: Package::Ready,
        policy: Policy::Allows,
    }
}
