//! What is started has to be reached at every address at which clients reach what is replaced: wildcards, IPv6 only or
//! not, and sockets that are bound to a network interface.
#![allow(missing_docs)]

mod support;

use sshd_mend::model::plan::{Plan, Trigger};
use sshd_mend::model::process::{ListenSocket, Process};
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::trial::Trials;
use sshd_mend::model::unit::{Enablement, Listen, Unit};
use support::*;

/// Sockets of a listener.
type Served = fn() -> Vec<ListenSocket>;

fn covered(plan: &Plan) -> bool {
    match refused(plan, "ssh.service") {
        Some(code) => {
            assert_eq!(code, RefusalCode::AddressesNotCovered);
            false
        }
        None => {
            assert!(plan.replaces(), "{plan:?}");
            true
        }
    }
}

/// The incident, with ssh.service declared instead of its socket.
fn service_alone() -> Snapshot {
    let mut machine = incident();
    machine.instances[0].socket.enablement = Enablement::Disabled;
    machine.instances[0].service.enablement = Enablement::Enabled;
    machine
}

fn one(text: &str) -> Vec<ListenSocket> {
    sockets(&[text])
}

fn device_bound(sockets: Vec<ListenSocket>) -> Vec<ListenSocket> {
    sockets.into_iter().map(|socket| ListenSocket { device_bound: true, ..socket }).collect()
}

fn nothing_but_a_path() -> Unit {
    Unit { listen: vec![Listen::parse("/run/ssh-unix-local/socket")], ..incident().instances[0].socket.clone() }
}

fn socket_at(texts: &[&str]) -> Unit {
    let listen = texts.iter().map(|text| Listen::parse(text)).collect();
    Unit { listen, ..incident().instances[0].socket.clone() }
}

fn for_ipv6_only(socket: Unit) -> Unit {
    Unit { ipv6_only: true, ..socket }
}

/// Name, what ssh.socket would serve, what the orphan serves, whether that is covered.
type Case = (&'static str, fn() -> Unit, Served, bool);

const BY_SOCKET: &[Case] = &[
    ("[::] for both, of the same", || socket_at(&["[::]:22"]), dual, true),
    ("[::] for both, of IPv6 alone", || socket_at(&["[::]:22"]), || one("[::]:22"), true),
    ("[::] for both, of IPv4 alone", || socket_at(&["[::]:22"]), || one("0.0.0.0:22"), true),
    ("[::] for both, of one address", || socket_at(&["[::]:22"]), || one("192.0.2.1:22"), true),
    ("[::] for IPv6, of both", || for_ipv6_only(socket_at(&["[::]:22"])), dual, false),
    ("[::] for IPv6, of IPv6", || for_ipv6_only(socket_at(&["[::]:22"])), || one("[::]:22"), true),
    ("[::] for IPv6, of IPv4", || for_ipv6_only(socket_at(&["[::]:22"])), || one("0.0.0.0:22"), false),
    ("Ubuntu's pair, of both", || for_ipv6_only(socket_at(&["[::]:22", "0.0.0.0:22"])), dual, true),
    ("0.0.0.0, of one address", || socket_at(&["0.0.0.0:22"]), || one("127.0.0.1:22"), true),
    ("0.0.0.0, of both", || socket_at(&["0.0.0.0:22"]), dual, false),
    ("0.0.0.0, of one IPv6 address", || socket_at(&["0.0.0.0:22"]), || one("[::1]:22"), false),
    ("one address, of itself", || socket_at(&["192.0.2.1:22"]), || one("192.0.2.1:22"), true),
    ("one address, of another", || socket_at(&["192.0.2.1:22"]), || one("192.0.2.2:22"), false),
    ("one address, of all", || socket_at(&["192.0.2.1:22"]), || one("0.0.0.0:22"), false),
    ("another port", || socket_at(&["[::]:2222"]), dual, false),
    ("one port of two", || socket_at(&["[::]:22"]), || sockets(&["0.0.0.0:22", "0.0.0.0:2200"]), false),
    ("no TCP address", nothing_but_a_path, dual, false),
    ("one interface, of all", || Unit { device_bound: true, ..socket_at(&["[::]:22"]) }, dual, false),
    ("one interface, of one", || Unit { device_bound: true, ..socket_at(&["[::]:22"]) }, || device_bound(dual()), true),
    ("all interfaces, of one", || socket_at(&["[::]:22"]), || device_bound(dual()), true),
];

#[test]
fn a_socket_covers_what_its_clients_reach() {
    for (name, socket, served, expected) in BY_SOCKET {
        let mut machine = incident();
        machine.instances[0].socket = socket();
        machine.processes[0].sockets = served();
        let plan = planned(&machine, &ready(), Trigger::Repair);
        assert_eq!(covered(&plan), *expected, "{name}: {plan:?}");
    }
}

/// sshd binds each family by itself: its `[::]` serves IPv6 only.
#[test]
fn a_service_covers_what_sshd_binds_by_itself() {
    let cases: [(&[&str], Served, bool); 6] = [
        (&["0.0.0.0:22", "[::]:22"], dual, true),
        (&["[::]:22"], dual, false),
        (&["[::]:22"], || one("[::]:22"), true),
        (&["0.0.0.0:22"], dual, false),
        (&["0.0.0.0:22"], || one("192.0.2.1:22"), true),
        (&["127.0.0.1:22"], || one("0.0.0.0:22"), false),
    ];
    for (own, served, expected) in cases {
        let (mut machine, mut trials) = (service_alone(), ready());
        machine.processes[0].sockets = served();
        *trial(&mut trials, "ssh.service") = serves(own);
        let plan = planned(&machine, &trials, Trigger::Repair);
        assert_eq!(covered(&plan), expected, "{own:?}: {plan:?}");
    }
}

/// The addresses of ssh.socket count where it is declared, those of sshd where it is not.
#[test]
fn what_counts_is_where_the_declared_units_would_serve() {
    let elsewhere = |trials: &mut Trials| *trial(trials, "ssh.service") = serves(&["127.0.0.1:2200"]);
    let mut trials = ready();
    elsewhere(&mut trials);
    assert!(covered(&planned(&incident(), &trials, Trigger::Repair)));
    assert!(!covered(&planned(&service_alone(), &trials, Trigger::Repair)));
    let mut machine = service_alone();
    machine.instances[0].socket.listen = vec![Listen::parse("127.0.0.1:2200")];
    assert!(covered(&planned(&machine, &ready(), Trigger::Repair)));
}

/// A stale main process that systemd restarts: what its successor serves has to cover it, too.
#[test]
fn a_main_process_is_restarted_only_if_its_successor_serves_the_same() {
    let mut machine = healthy();
    machine.processes[0] = stale(listener(60));
    assert!(covered(&planned(&machine, &ready(), Trigger::Repair)));
    for own in [&["0.0.0.0:22"][..], &["[::]:22"], &["0.0.0.0:2222"]] {
        let mut trials = ready();
        *trial(&mut trials, "ssh.service") = serves(own);
        assert!(!covered(&planned(&machine, &trials, Trigger::Repair)), "{own:?}");
    }
    // ssh.socket gave it its address, and will give it to its successor.
    machine.instances[0].socket =
        Unit { active: sshd_mend::model::unit::ActiveState::Active, ..socket_at(&["127.0.0.1:22"]) };
    assert!(!covered(&planned(&machine, &ready(), Trigger::Repair)));
}

/// The main process of the service would be stopped with the orphan's termination, to have the socket back.
#[test]
fn a_listener_that_is_restarted_along_must_stay_covered() {
    let mut machine = incident();
    machine.instances[0].service =
        Unit { main_pid: Some(70), ..service("ssh.service", "active", "running", "disabled") };
    machine.processes[0].sockets = one("[::]:22");
    machine.processes.push(Process { sockets: one("0.0.0.0:22"), ..listener(70) });
    assert!(covered(&planned(&machine, &ready(), Trigger::Repair)));
    machine.processes[1].sockets = one("0.0.0.0:2222");
    assert!(!covered(&planned(&machine, &ready(), Trigger::Repair)));
}

/// The sockets of a child that was just forked are those of its listener.
#[test]
fn a_child_that_was_just_forked_takes_no_address_away() {
    let mut machine = incident();
    let child = Process { pid: 61, connected: true, parent_is_sshd: true, ..machine.processes[0].clone() };
    machine.processes.push(child);
    assert!(covered(&planned(&machine, &ready(), Trigger::Repair)));
}

/// Something else at an address that the units would bind: the start would fail.
#[test]
fn an_address_in_other_hands_is_not_free_for_a_start() {
    let session = Process { sockets: one("127.0.0.1:2200"), ..session(90) };
    let contained = |network: bool| {
        let mut process = Process { sockets: one("127.0.0.1:2200"), ..listener(91) };
        process.surroundings.pid_namespace = false;
        process.surroundings.network_namespace = network;
        process
    };
    for (process, free) in [(session, false), (contained(true), false), (contained(false), true)] {
        let mut machine = incident();
        machine.instances[0].socket = socket_at(&["[::]:22", "0.0.0.0:2200"]);
        machine.processes.push(process);
        let plan = planned(&machine, &ready(), Trigger::Repair);
        let expected = (!free).then_some(RefusalCode::ForeignListener);
        assert_eq!(refused(&plan, "ssh.service"), expected, "{plan:?}");
    }
}

/// A rescue serves in place of the units, so they have to cover it before it is stopped.
#[test]
fn a_rescue_is_replaced_only_by_units_that_cover_it() {
    let rescued = |texts: &[&str]| {
        let mut machine = service_alone();
        machine.processes.clear();
        machine.instances[0].rescue = serving_rescue(&machine.instances[0], texts);
        machine
    };
    assert!(covered(&planned(&rescued(&["0.0.0.0:22"]), &ready(), Trigger::Repair)));
    assert!(!covered(&planned(&rescued(&["0.0.0.0:22", "0.0.0.0:2200"]), &ready(), Trigger::Repair)));
}

/// The same for IPv4 at its `[::]`.
#[test]
fn a_dual_stack_rescue_is_replaced_only_by_units_that_serve_ipv4_too() {
    let mut machine = service_alone();
    machine.processes.clear();
    machine.systemd_holds = dual();
    machine.instances[0].rescue = serving_rescue(&machine.instances[0], &["[::]:22"]);
    let mut trials = ready();
    assert!(covered(&planned(&machine, &trials, Trigger::Repair)));
    *trial(&mut trials, "ssh.service") = serves(&["[::]:22"]);
    assert!(!covered(&planned(&machine, &trials, Trigger::Repair)));
}
