//! Arbitrary machines: facts that may contradict each other, about one to three instances.

use crate::plan_rules::RULES;
use crate::support::{self, NEW, OLD, SECOND, addresses, listener, probe, session, sockets, unit};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use sshd_mend::model::intent::{InstanceIntent, Intent};
use sshd_mend::model::names::DEFAULT_PROGRAM;
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::process::{ListenSocket, Process};
use sshd_mend::model::snapshot::{Host, Instance, Program, Snapshot};
use sshd_mend::model::trial::{Check, OtherProcesses, Package, Policy, Trial, Trials};
use sshd_mend::model::unit::{ActiveState, Enablement, ExecStart, KillMode, Listen, LoadState, Unit};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// A third instance, whose program is at a path of its own.
const THIRD: &str = "edge.service";
const NAMES: [&str; 3] = ["ssh.service", SECOND, THIRD];
const OTHER_PROGRAM: &str = "/opt/ssh/sbin/sshd";

fn flag(often: f64) -> impl Strategy<Value = bool> {
    prop::bool::weighted(often)
}

fn some_addresses() -> impl Strategy<Value = BTreeSet<SocketAddr>> {
    let pool = ["0.0.0.0:22", "[::]:22", "127.0.0.1:22", "0.0.0.0:2222", "[::1]:2201"];
    let any = subsequence(pool.to_vec(), 0..=3).prop_map(|texts| addresses(&texts));
    let usual = select(vec![&["0.0.0.0:22", "[::]:22"][..], &["[::]:22"], &["0.0.0.0:2222"], &["[::]:2201"]])
        .prop_map(addresses);
    prop_oneof![1 => any, 3 => usual]
}

fn some_sockets() -> impl Strategy<Value = Vec<ListenSocket>> {
    (some_addresses(), flag(0.6), flag(0.05)).prop_map(|(addresses, ipv6_only, device_bound)| {
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let all = sockets(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        all.into_iter().map(|socket| ListenSocket { ipv6_only, device_bound, ..socket }).collect()
    })
}

fn some_process() -> impl Strategy<Value = Process> {
    let here = || flag(0.97);
    let odd = || flag(0.05);
    let facts = (here(), here(), here(), here(), (odd(), odd()), odd(), (odd(), odd()), odd(), flag(0.6));
    let programs = ["/usr/sbin/sshd", "/usr/sbin/sshd", "/usr/sbin/sshd", OTHER_PROGRAM, "/home/x/sshd"];
    let units = ["ssh.service", SECOND, THIRD, "session-1.scope"];
    let more = (2..9_i32, some_sockets(), select(units.to_vec()), select(programs.to_vec()));
    let result = select(vec![ProbeResult::Ok, ProbeResult::Dead, ProbeResult::Inconclusive, ProbeResult::Skipped]);
    (facts, more, result).prop_map(
        |(
            (pid_ns, net, user, root, (uid, real), connected, (stdin, traced), parent, stale),
            (pid, sockets, unit, program),
            result,
        )| {
            let mut process = if connected { session(pid) } else { listener(pid) };
            let here = &mut process.surroundings;
            (here.pid_namespace, here.network_namespace, here.user_namespace, here.root_directory) =
                (pid_ns, net, user, root);
            process.path = program.into();
            (process.effective_uid, process.real_uid) = (u32::from(uid) * 1000, u32::from(real) * 1000);
            (process.stdin_is_socket, process.traced) = (stdin, traced);
            process.parent_is_sshd |= parent;
            process.image = if stale { OLD } else { NEW };
            process.sockets = sockets;
            process.unit = Some(unit.to_owned());
            process.control_group = format!("/system.slice/{unit}");
            process.probe = probe(result);
            process
        },
    )
}

fn some_unit(name: &'static str) -> impl Strategy<Value = Unit> {
    let is_service = name.ends_with(".service");
    let mut states = vec![("active", "x"), ("inactive", "dead"), ("failed", "failed"), ("activating", "x")];
    if is_service {
        // Only a service is started again by itself.
        states.push(("activating", "auto-restart"));
    }
    let words = (
        select(states),
        select(vec!["enabled", "disabled", "static", "masked"]),
        select([vec!["loaded"; 14], vec!["masked", "not-found"]].concat()),
        select(vec!["process", "process", "process", "process", "control-group", "mixed"]),
    );
    let odd = || flag(0.05);
    (words, 2..9_i32, odd(), flag(0.97), odd()).prop_map(
        move |(((active, sub), enabled, load, kill), pid, job, can_start, own_network)| Unit {
            load: LoadState::parse(load),
            main_pid: (active == "active" && is_service).then_some(pid),
            job,
            can_start,
            own_network,
            kill_mode: KillMode::parse(kill),
            exec_start: is_service.then(|| ExecStart { path: DEFAULT_PROGRAM.into(), arguments: Vec::new() }),
            ..unit(name, active, sub, enabled)
        },
    )
}

fn some_socket(name: &'static str) -> impl Strategy<Value = Unit> {
    let facts = (some_addresses(), flag(0.3), flag(0.1), flag(0.05), flag(0.3));
    (some_unit(name), facts).prop_map(move |(unit, (listen, ipv6_only, accept, device_bound, absent))| {
        let listen = listen.into_iter().map(Listen::Tcp).collect();
        if absent && name != "ssh.socket" {
            return Unit::absent(name);
        }
        Unit { listen, ipv6_only, accept, device_bound, ..unit }
    })
}

fn some_instance(service: &'static str, socket: &'static str) -> impl Strategy<Value = Instance> {
    let per_connection = flag(0.9);
    let facts = (flag(0.1), some_addresses(), flag(0.95), flag(0.9), some_addresses(), per_connection);
    (some_unit(service), some_socket(socket), facts).prop_map(
        move |(service, socket, (rescued, rescue_at, program, usual, wanted, per_connection))| {
            let mut instance = support::instance(service, socket);
            if rescued {
                let name = instance.rescue.name.clone();
                let listen = rescue_at.into_iter().map(Listen::Tcp).collect();
                instance.rescue = Unit { listen, ..unit(&name, "active", "listening", "static") };
            }
            let usual = usual && instance.service.name != THIRD;
            let path = if usual { DEFAULT_PROGRAM } else { OTHER_PROGRAM };
            instance.program = Program { path: path.into(), file: program.then_some(NEW) };
            let load = if per_connection { LoadState::Loaded } else { LoadState::NotFound };
            instance.per_connection =
                instance.socket.accept.then(|| Unit { load, ..unit("x@sshd-mend.service", "inactive", "dead", "") });
            instance.wanted = wanted;
            instance
        },
    )
}

fn some_intent() -> impl Strategy<Value = Option<Intent>> {
    let one = |name: &'static str, often: f64| {
        (flag(often), some_addresses(), flag(0.6)).prop_map(move |(is, addresses, rescue)| {
            let units = vec![name.to_owned()];
            is.then(|| InstanceIntent {
                instance: name.to_owned(),
                addresses,
                units,
                rescue,
                resumed: false,
                stopped: false,
            })
        })
    };
    (one(NAMES[0], 0.15), one(NAMES[1], 0.15)).prop_map(|(first, second)| {
        let instances: Vec<InstanceIntent> = [first, second].into_iter().flatten().collect();
        (!instances.is_empty()).then(|| Intent { boot_id: "x".into(), instances })
    })
}

fn some_machine() -> impl Strategy<Value = Snapshot> {
    let instances = (
        some_instance(NAMES[0], "ssh.socket"),
        some_instance(NAMES[1], "sshd-2222.socket"),
        some_instance(NAMES[2], "edge.socket"),
        1..=3_usize,
    );
    let host = (flag(0.85), flag(0.05), flag(0.05));
    let processes = prop::collection::vec(some_process(), 0..5);
    let others = (some_sockets(), flag(0.1), some_sockets(), flag(0.2));
    (instances, host, processes, others, some_intent()).prop_map(
        |(
            (first, second, third, count),
            (runtime_directory, not_to_be_run, shutting_down),
            mut processes,
            (foreign, is_foreign, of_systemd, is_of_systemd),
            mut intent,
        )| {
            // What is on record is an instance, whatever has become of its unit.
            intent
                .iter_mut()
                .for_each(|intent| intent.instances.retain(|one| NAMES[..count].contains(&one.instance.as_str())));
            processes.sort_by_key(|process| process.pid);
            processes.dedup_by_key(|process| process.pid);
            Snapshot {
                host: Host { runtime_directory, not_to_be_run, shutting_down },
                instances: [first, second, third].into_iter().take(count).collect(),
                processes,
                unreadable: Vec::new(),
                children: Vec::new(),
                holders: std::collections::BTreeMap::new(),
                unauthenticated: BTreeSet::new(),
                of_users: Vec::new(),
                systemd_holds: of_systemd.into_iter().filter(|_| is_of_systemd).collect(),
                foreign: foreign.into_iter().filter(|_| is_foreign).collect(),
                intent,
            }
        },
    )
}

fn some_trial() -> impl Strategy<Value = Trial> {
    let failed = || Check::Failed("x".into());
    let config = select([vec![Check::Passed; 8], vec![failed(), Check::NeedsRuntimeDirectory]].concat());
    let handshake = select([vec![Check::Passed; 9], vec![failed()]].concat());
    let options = ["-f", "/etc/ssh/other", "a\nb"];
    let rules = || subsequence(RULES.to_vec(), 0..=1);
    let texts = (subsequence(options.to_vec(), 0..=2), rules(), rules());
    let others = subsequence(vec![2, 3, 4, 5, 100], 0..=1);
    let verdicts = (flag(0.95), flag(0.85), flag(0.03), flag(0.05));
    let facts = (config, handshake, some_addresses(), flag(0.95), flag(0.95));
    (facts, texts, others, verdicts).prop_map(
        |(
            (config, handshake, own, tells, ready),
            (options, service, socket),
            others,
            (readable, allows, timed_out, hindered),
        )| Trial {
            own_addresses: (config != Check::NeedsRuntimeDirectory && tells).then_some(own),
            handshake: if config == Check::NeedsRuntimeDirectory { config.clone() } else { handshake },
            config,
            start_hindrance: hindered.then(|| "x".into()),
            exec_condition: hindered,
            changed: true,
            untried: None,
            package: if ready { Package::Ready } else { Package::Unconfigured("x".into()) },
            options: options.into_iter().map(str::to_owned).collect(),
            service_files: vec!["[Service]\nExecStart=/usr/sbin/sshd\n".into(), in_file("[Service]", &service)],
            socket_files: vec![in_file("[Socket]", &socket)],
            own_device_bound: BTreeSet::new(),
            unassigned: BTreeSet::new(),
            other_processes: match readable {
                true => OtherProcesses::Known(others),
                false => OtherProcesses::Unknown("x".into()),
            },
            policy: if allows { Policy::Allows } else { Policy::Denies("x".into()) },
            timed_out,
        },
    )
}

fn in_file(section: &str, settings: &[&str]) -> String {
    format!("{section}\n{}\n", settings.join("\n"))
}

fn some_trials() -> impl Strategy<Value = Trials> {
    [some_trial(), some_trial(), some_trial()]
        .prop_map(|trials| NAMES.into_iter().map(str::to_owned).zip(trials).collect())
}

type Twist = fn(&mut Snapshot, &mut Trials);

/// What may be the matter with a machine that is otherwise as in a fault of everyday: each on the first instance, and
/// most on its first process.
const TWISTS: &[Twist] = &[
    |m, _| m.host.runtime_directory = false,
    |m, _| m.instances[0].socket.accept = true,
    |m, _| m.instances[0].socket.ipv6_only = true,
    |m, t| {
        m.instances[0].socket.device_bound = true;
        support::trial(t, "ssh.service").socket_files.push("[Socket]\nBindToDevice=lo\n".into());
    },
    |m, _| m.instances[0].socket.job = true,
    |m, _| m.instances[0].socket.load = LoadState::Masked,
    |m, _| m.instances[0].socket.enablement = Enablement::Disabled,
    |m, _| m.instances[0].socket.active = ActiveState::Inactive,
    |m, _| m.instances[0].socket.active = ActiveState::Active,
    |m, _| m.instances[0].socket.own_network = true,
    |m, _| m.instances[0].socket.listen.clear(),
    |m, _| m.instances[0].service.job = true,
    |m, _| m.instances[0].service.can_start = false,
    |m, _| m.instances[0].service.load = LoadState::NotFound,
    |m, _| m.instances[0].service.enablement = Enablement::Enabled,
    |m, _| m.instances[0].service.active = ActiveState::Inactive,
    |m, _| m.instances[0].service.own_network = true,
    |m, _| m.instances[0].service.kill_mode = KillMode::Mixed,
    |m, _| {
        let service = &mut m.instances[0].service;
        (service.active, service.main_pid) = (ActiveState::Active, Some(70));
        m.processes.push(Process { sockets: sockets(&["0.0.0.0:2200"]), ..listener(70) });
    },
    |m, _| {
        let service = &mut m.instances[0].service;
        (service.active, service.main_pid) = (ActiveState::Active, Some(71));
        m.processes.push(session(71));
    },
    |m, _| {
        let rescue = &mut m.instances[0].rescue;
        let listen = vec![Listen::parse("[::]:22"), Listen::parse("0.0.0.0:2200")];
        *rescue = Unit { listen, ..unit(&rescue.name, "active", "listening", "static") };
    },
    |m, _| {
        let instance = m.instances[0].name().to_owned();
        let addresses = addresses(&["[::]:22", "0.0.0.0:2201"]);
        let intent = InstanceIntent {
            units: vec![instance.clone()],
            instance,
            addresses,
            rescue: true,
            resumed: false,
            stopped: false,
        };
        m.intent = Some(Intent { boot_id: "x".into(), instances: vec![intent] });
    },
    |m, _| m.instances[0].program.path = OTHER_PROGRAM.into(),
    |m, _| m.processes.clear(),
    |m, _| m.processes.extend(m.processes.first().map(|p| Process { pid: 61, ..p.clone() })),
    |m, _| m.processes.iter_mut().take(1).for_each(|p| p.image = NEW),
    |m, _| m.processes.iter_mut().take(1).for_each(|p| p.probe = probe(ProbeResult::Dead)),
    |m, _| m.processes.iter_mut().take(1).for_each(|p| p.probe = probe(ProbeResult::Inconclusive)),
    |m, _| m.processes.iter_mut().take(1).for_each(|p| p.connected = true),
    |m, _| m.processes.iter_mut().take(1).for_each(|p| p.path = OTHER_PROGRAM.into()),
    |m, _| m.processes.iter_mut().take(1).for_each(|p| p.sockets = sockets(&["0.0.0.0:22", "[::]:22"])),
    |m, _| m.processes.iter_mut().flat_map(|p| &mut p.sockets).for_each(|socket| socket.device_bound = true),
    |m, _| m.foreign = sockets(&["127.0.0.1:22"]),
    |_, t| t.values_mut().for_each(|trial| trial.policy = Policy::Denies("x".into())),
    |_, t| support::trial(t, "ssh.service").config = Check::Failed("x".into()),
    |_, t| support::trial(t, "ssh.service").handshake = Check::Failed("x".into()),
    |_, t| support::trial(t, "ssh.service").package = Package::Unconfigured("x".into()),
    |_, t| support::trial(t, "ssh.service").own_addresses = None,
    |_, t| support::trial(t, "ssh.service").own_addresses = Some(addresses(&["[::]:22"])),
    |_, t| support::trial(t, "ssh.service").other_processes = OtherProcesses::Known(vec![60, 100]),
    |_, t| support::trial(t, "ssh.service").options = vec!["-f".into(), "/etc/ssh/other".into()],
    |_, t| support::trial(t, "ssh.service").service_files.push("[Service]\nIPAddressDeny=any\n".into()),
    |_, t| support::trial(t, "ssh.service").socket_files.push("[Socket]\nIPAddressDeny=any\n".into()),
];

/// Arbitrary facts, which may contradict each other, or a fault of everyday with something odd about it.
pub fn any_case() -> impl Strategy<Value = (Snapshot, Trials)> {
    let arbitrary = (some_machine(), some_trials()).prop_map(|(mut machine, mut trials)| {
        // A check waits for /run/sshd only where it is missing.
        let waits = |trial: &Trial| trial.config == Check::NeedsRuntimeDirectory;
        machine.host.runtime_directory &= !trials.values().any(waits);
        for instance in machine.instances.iter().filter(|instance| instance.socket.device_bound) {
            let trial = support::trial(&mut trials, instance.name());
            trial.socket_files.push(in_file("[Socket]", &["BindToDevice=lo"]));
        }
        (machine, trials)
    });
    prop_oneof![arbitrary, twisted_machine()]
}

/// A fault of everyday with up to four twists.
fn twisted_machine() -> impl Strategy<Value = (Snapshot, Trials)> {
    let stale_service = || {
        let mut machine = support::healthy();
        machine.processes[0].image = OLD;
        machine
    };
    let down = || {
        let mut machine = support::incident();
        machine.processes.clear();
        machine
    };
    let bases: Vec<Snapshot> =
        [support::healthy(), support::incident(), support::incident(), stale_service(), down()].into();
    (select(bases), flag(0.5), subsequence(TWISTS.to_vec(), 0..=4)).prop_map(|(mut machine, second, twists)| {
        let mut trials = support::ready();
        if second {
            machine = support::second_instance(machine);
        }
        for twist in twists {
            twist(&mut machine, &mut trials);
        }
        (machine, trials)
    })
}
