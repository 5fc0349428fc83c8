//! Machines of a few instances, each in one of the states in which an instance is found.

use super::truth::{Addresses, Files, Managed, Running, Truth, empty};
use crate::facts::reached_at;
use crate::support::{self, SECOND, addresses, session};
use sshd_mend::model::intent::{InstanceIntent, Intent};
use sshd_mend::model::names::rescue_socket;
use sshd_mend::model::plan::{Job, Rescue, Start, UnitJob};
use sshd_mend::model::process::{ListenSocket, Process};
use sshd_mend::model::trial::{Check, OtherProcesses, Package, Policy, Trial};
use sshd_mend::model::unit::{ActiveState, Enablement, KillMode, Listen, Unit};
use std::net::SocketAddr;

/// The state in which an instance is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The service runs by itself.
    Service,
    /// The service has the socket unit's sockets.
    Activated,
    /// The socket waits for its first connection.
    Waiting,
    /// Nobody's listener, beside units that have failed.
    Orphan,
    /// Nobody's listener, beside units that are stopped.
    OrphanOfStopped,
    /// Nobody's listener at one address, beside the service at another.
    OrphanBeside,
    TwoOrphans,
    Failed,
    Stopped,
    /// The rescue of an interrupted or failed repair serves.
    Rescued,
    /// The same, but the record is gone.
    RescuedOffRecord,
    RescuedBesideOrphan,
    /// A repair died after it had terminated the listener.
    Interrupted,
    InterruptedWithoutRescue,
    /// A repair died before it terminated the listener; a part of its addresses is lost.
    InterruptedBefore,
    /// It serves in a network namespace of its own.
    Elsewhere,
}

/// One instance, before it is put onto a machine.
#[derive(Debug, Clone)]
pub struct Layout {
    pub shape: Shape,
    pub own: Vec<&'static str>,
    /// `ListenStream=`. Empty: it has no socket unit.
    pub listen: Vec<&'static str>,
    pub stale: bool,
    pub service_enabled: bool,
    pub socket_enabled: bool,
    pub ipv6_only: bool,
    pub device_bound: bool,
    pub accept: bool,
    pub has_directory: bool,
    pub requires_socket: bool,
    pub kill_mode: &'static str,
    /// In the service's control group.
    pub session: bool,
    pub works: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            shape: Shape::Service,
            own: vec!["0.0.0.0:22", "[::]:22"],
            listen: Vec::new(),
            stale: true,
            service_enabled: true,
            socket_enabled: false,
            ipv6_only: false,
            device_bound: false,
            accept: false,
            has_directory: true,
            requires_socket: false,
            kill_mode: "process",
            session: false,
            works: true,
        }
    }
}

const NAMES: [&str; 3] = ["ssh.service", SECOND, "edge.service"];

/// A machine with these instances.
pub fn build(layouts: &[Layout]) -> Truth {
    let mut truth = empty();
    for (index, layout) in layouts.iter().enumerate() {
        place(&mut truth, index, layout);
    }
    truth
}

fn enabled(is: bool) -> Enablement {
    if is { Enablement::Enabled } else { Enablement::Disabled }
}

fn place(truth: &mut Truth, index: usize, layout: &Layout) {
    let name = NAMES[index];
    let socket_name = name.replace(".service", ".socket");
    let has_socket = !layout.listen.is_empty();
    let mut instance = support::instance(
        Unit {
            enablement: enabled(layout.service_enabled),
            kill_mode: KillMode::parse(layout.kill_mode),
            control_group: format!("/system.slice/{name}"),
            own_network: layout.shape == Shape::Elsewhere,
            ..support::service(name, "inactive", "dead", "")
        },
        match has_socket {
            true => Unit {
                enablement: enabled(layout.socket_enabled),
                listen: layout.listen.iter().map(|text| Listen::parse(text)).collect(),
                ipv6_only: layout.ipv6_only,
                device_bound: layout.device_bound,
                accept: layout.accept,
                ..support::unit(&socket_name, "inactive", "dead", "")
            },
            false => Unit::absent(&socket_name),
        },
    );
    instance.per_connection =
        (has_socket && layout.accept).then(|| support::unit("ssh@sshd-mend.service", "inactive", "dead", "static"));
    truth.lost_to_others.push(Addresses::new());
    truth.instances.push(Managed {
        instance,
        own: addresses(&layout.own),
        trial: trial(layout),
        has_directory: layout.has_directory,
        // `RequiredBy=` goes with the socket's enablement, and then the service does not run without it.
        requires_socket: has_socket
            && layout.requires_socket
            && layout.socket_enabled
            && ![Shape::Service, Shape::OrphanBeside].contains(&layout.shape),
        broken: false,
    });
    arrange(truth, index, layout);
    if layout.session {
        truth.next += 1;
        let facts = Process { unit: Some(name.to_owned()), ..session(truth.next) };
        truth.processes.push(Running { facts, instance: index, old: true, late: None });
    }
}

fn trial(layout: &Layout) -> Trial {
    let device = if layout.device_bound { "BindToDevice=lo\n" } else { "" };
    Trial {
        config: if layout.works { Check::Passed } else { Check::Failed("x".to_owned()) },
        handshake: if layout.works { Check::Passed } else { Check::Failed("x".to_owned()) },
        start_hindrance: None,
        exec_condition: false,
        changed: true,
        untried: None,
        own_addresses: layout.works.then(|| addresses(&layout.own)),
        package: Package::Ready,
        options: Vec::new(),
        service_files: vec!["[Service]\nExecStart=/usr/sbin/sshd -D\n".to_owned()],
        socket_files: vec![format!("[Socket]\n{device}")],
        own_device_bound: addresses(&[]),
        unassigned: addresses(&[]),
        other_processes: OtherProcesses::Known(Vec::new()),
        policy: Policy::Allows,
        timed_out: false,
    }
}

/// Puts the instance into its state.
fn arrange(truth: &mut Truth, index: usize, layout: &Layout) {
    let own = own_sockets(truth, index);
    let declared = if layout.listen.is_empty() { own.clone() } else { unit_sockets(truth, index) };
    match layout.shape {
        Shape::Service => active(truth, index, own, layout.stale),
        Shape::Activated => {
            if !layout.listen.is_empty() {
                open(truth, index, &declared);
            }
            if !layout.accept {
                active(truth, index, declared, layout.stale);
            }
        }
        Shape::Waiting if layout.listen.is_empty() => active(truth, index, own, false),
        Shape::Waiting => open(truth, index, &declared),
        Shape::Orphan => {
            fail(truth, index);
            orphan(truth, index, declared, layout.stale);
        }
        Shape::OrphanOfStopped => {
            orphan(truth, index, declared, layout.stale);
        }
        Shape::OrphanBeside => {
            let (mine, others): (Vec<ListenSocket>, _) = own.into_iter().partition(|socket| socket.address.is_ipv6());
            if !mine.is_empty() {
                active(truth, index, mine, false);
            }
            if !others.is_empty() {
                orphan(truth, index, others, layout.stale);
            }
        }
        Shape::TwoOrphans => {
            fail(truth, index);
            let (mine, others): (Vec<ListenSocket>, _) =
                declared.into_iter().partition(|socket| socket.address.is_ipv6());
            for sockets in [mine, others].into_iter().filter(|sockets| !sockets.is_empty()) {
                orphan(truth, index, sockets, layout.stale);
            }
        }
        Shape::Failed => fail(truth, index),
        Shape::Stopped => {}
        Shape::Rescued => {
            fail(truth, index);
            record(truth, index, &declared, true);
            serve_by_rescue(truth, index, &declared);
        }
        Shape::RescuedOffRecord => {
            fail(truth, index);
            record(truth, index, &declared, true);
            serve_by_rescue(truth, index, &declared);
            forget(truth, index);
        }
        Shape::RescuedBesideOrphan => {
            fail(truth, index);
            let mut rest = declared.clone();
            let last = rest.pop().expect("an address");
            if rest.is_empty() {
                orphan(truth, index, vec![last], layout.stale);
            } else {
                record(truth, index, &rest, true);
                serve_by_rescue(truth, index, &rest);
                orphan(truth, index, vec![last], layout.stale);
            }
        }
        Shape::Interrupted => {
            fail(truth, index);
            record(truth, index, &declared, true);
        }
        Shape::InterruptedWithoutRescue => {
            fail(truth, index);
            record(truth, index, &declared, false);
        }
        Shape::InterruptedBefore => {
            fail(truth, index);
            record(truth, index, &declared, true);
            let mut rest = declared;
            rest.truncate(1);
            orphan(truth, index, rest, layout.stale);
        }
        Shape::Elsewhere => {
            let service = &mut truth.instances[index].instance.service;
            (service.active, service.main_pid) = (ActiveState::Active, None);
        }
    }
}

fn own_sockets(truth: &mut Truth, index: usize) -> Vec<ListenSocket> {
    let own = truth.instances[index].own.clone();
    own.into_iter().map(|address| truth.socket(address, true, false)).collect()
}

fn unit_sockets(truth: &mut Truth, index: usize) -> Vec<ListenSocket> {
    let socket = truth.instances[index].instance.socket.clone();
    let listen: Vec<SocketAddr> = socket.tcp_addresses().collect();
    listen.into_iter().map(|address| truth.socket(address, socket.ipv6_only, socket.device_bound)).collect()
}

fn active(truth: &mut Truth, index: usize, sockets: Vec<ListenSocket>, stale: bool) {
    let pid = orphan(truth, index, sockets, stale);
    let service = &mut truth.instances[index].instance.service;
    (service.active, service.sub, service.main_pid) = (ActiveState::Active, "running".to_owned(), Some(pid));
}

fn orphan(truth: &mut Truth, index: usize, sockets: Vec<ListenSocket>, stale: bool) -> i32 {
    let pid = truth.spawn(index, sockets);
    let process = truth.processes.last_mut().expect("the new one");
    process.old = true;
    if stale {
        process.facts = support::stale(process.facts.clone());
    }
    pid
}

fn open(truth: &mut Truth, index: usize, sockets: &[ListenSocket]) {
    let socket = &mut truth.instances[index].instance.socket;
    (socket.active, socket.sub) = (ActiveState::Active, "listening".to_owned());
    let name = socket.name.clone();
    truth.by_systemd.extend(sockets.iter().map(|socket| (name.clone(), *socket)));
}

fn fail(truth: &mut Truth, index: usize) {
    let instance = &mut truth.instances[index].instance;
    for unit in [&mut instance.service, &mut instance.socket].into_iter().filter(|unit| unit.exists()) {
        (unit.active, unit.sub) = (ActiveState::Failed, "failed".to_owned());
    }
}

/// What an earlier repair has announced.
fn record(truth: &mut Truth, index: usize, sockets: &[ListenSocket], rescue: bool) {
    let managed = &truth.instances[index];
    let Unit { name, .. } = managed.instance.service.clone();
    let units: Vec<String> = match managed.instance.socket.is_enabled() {
        true => vec![managed.instance.socket.name.clone(), name.clone()],
        false => vec![name.clone()],
    };
    let prepared = Rescue {
        instance: name.clone(),
        conflicts: managed.instance.units().into_iter().filter(|u| u.exists()).map(|u| u.name.clone()).collect(),
        start: Start {
            jobs: units.iter().map(|unit| UnitJob::new(Job::Start, unit)).collect(),
            declared: units.clone(),
            serves: name.clone(),
            ..Start::default()
        },
        addresses: sockets.iter().map(|socket| socket.address).collect(),
        ipv6_only: sockets.iter().any(|socket| socket.ipv6_only),
        program: managed.instance.program.path.clone(),
        options: Vec::new(),
        service_settings: Vec::new(),
        socket_settings: sockets
            .iter()
            .filter(|s| s.device_bound)
            .map(|_| "BindToDevice=lo".to_owned())
            .take(1)
            .collect(),
    };
    let listen = prepared.addresses.iter().copied().map(Listen::Tcp).collect();
    let unit = support::unit(&rescue_socket(&name), "inactive", "dead", "static");
    if rescue {
        truth.instances[index].instance.rescue = Unit { listen, ipv6_only: prepared.ipv6_only, ..unit };
    }
    truth.files.insert(name.clone(), Files { rescue: rescue.then_some(prepared), fallback: true });
    let intent = truth.intent.get_or_insert_with(|| Intent { boot_id: "this boot".to_owned(), instances: Vec::new() });
    let addresses = sockets.iter().flat_map(reached_at).collect();
    // Its unit may have served again since then.
    intent.instances.push(InstanceIntent { instance: name, addresses, units, rescue, resumed: rescue, stopped: false });
}

fn serve_by_rescue(truth: &mut Truth, index: usize, sockets: &[ListenSocket]) {
    let rescue = &mut truth.instances[index].instance.rescue;
    (rescue.active, rescue.sub) = (ActiveState::Active, "listening".to_owned());
    let name = rescue.name.clone();
    truth.by_systemd.extend(sockets.iter().map(|socket| (name.clone(), *socket)));
}

fn forget(truth: &mut Truth, index: usize) {
    let name = NAMES[index];
    if let Some(intent) = &mut truth.intent {
        intent.instances.retain(|intent| intent.instance != name);
    }
    truth.intent = truth.intent.take().filter(|intent| !intent.instances.is_empty());
}
