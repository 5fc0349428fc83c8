//! What a rescue may be: equivalent to the units in whose place it serves, or none.
#![allow(missing_docs)]

mod support;

use sshd_mend::model::plan::{Job, Rescue, RescuePlan, Start, Trigger, UnitJob};
use sshd_mend::model::process::{ListenSocket, Process};
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::trial::{Check, Trials};
use sshd_mend::model::unit::{Enablement, Listen, Unit};
use support::*;

/// The rescue in the plan for an instance.
fn rescue_of(machine: &Snapshot, trials: &Trials, instance: &str) -> RescuePlan {
    let plan = planned(machine, trials, Trigger::Repair);
    let replacement = replacement(&plan, instance).unwrap_or_else(|| panic!("no replacement: {plan:?}"));
    replacement.rescue.clone()
}

fn prepared(machine: &Snapshot, trials: &Trials, instance: &str) -> Rescue {
    match rescue_of(machine, trials, instance) {
        RescuePlan::Prepare(rescue) => *rescue,
        other => panic!("no rescue is prepared: {other:?}"),
    }
}

/// Why there is to be no rescue of the main instance.
fn none(machine: &Snapshot, trials: &Trials) -> String {
    match rescue_of(machine, trials, "ssh.service") {
        RescuePlan::None(why) => why,
        other => panic!("{other:?}"),
    }
}

/// The incident, with ssh.service declared instead of its socket.
fn service_alone() -> Snapshot {
    let mut machine = incident();
    machine.instances[0].socket.enablement = Enablement::Disabled;
    machine.instances[0].service.enablement = Enablement::Enabled;
    machine
}

fn down() -> Snapshot {
    let mut machine = incident();
    machine.processes.clear();
    machine
}

fn with_files(service: &[&str], socket: &[&str]) -> Trials {
    let mut trials = ready();
    let trial = trial(&mut trials, "ssh.service");
    trial.service_files = service.iter().map(|&text| text.to_owned()).collect();
    trial.socket_files = socket.iter().map(|&text| text.to_owned()).collect();
    trials
}

#[test]
fn it_serves_what_the_terminated_listener_served_as_the_units_would() {
    let expected = Rescue {
        instance: "ssh.service".into(),
        conflicts: vec!["ssh.service".into(), "ssh.socket".into()],
        start: Start {
            reset: vec!["ssh.socket".into(), "ssh.service".into()],
            jobs: ["ssh.socket", "ssh.service"].map(|unit| UnitJob::new(Job::Start, unit)).into(),
            declared: vec!["ssh.socket".into(), "ssh.service".into()],
            service_alone: Some("ssh.service".into()),
            serves: "ssh.service".into(),
            ..Start::default()
        },
        addresses: addresses(&["[::]:22"]),
        ipv6_only: false,
        program: "/usr/sbin/sshd".into(),
        options: Vec::new(),
        service_settings: Vec::new(),
        socket_settings: Vec::new(),
    };
    assert_eq!(prepared(&incident(), &ready(), "ssh.service"), expected);
    let hook = planned(&incident(), &ready(), Trigger::Hook);
    let by_hook = replacement(&hook, "ssh.service").map(|replacement| replacement.rescue.clone());
    assert_eq!(by_hook, Some(RescuePlan::Prepare(Box::new(expected))), "a package run needs it all the more");
}

#[test]
fn it_has_the_program_and_the_options_of_the_unit() {
    let (mut machine, mut trials) = (incident(), ready());
    machine.instances[0].program.path = "/opt/sshd".into();
    machine.processes[0].path = "/opt/sshd".into();
    let options = ["-f", "/etc/ssh/other config", "-o", "AllowUsers=admin"].map(str::to_owned);
    trial(&mut trials, "ssh.service").options = options.to_vec();
    let rescue = prepared(&machine, &trials, "ssh.service");
    assert_eq!((rescue.program.to_str(), rescue.options.as_slice()), (Some("/opt/sshd"), &options[..]));
}

/// Everything that is not about how the unit runs its own program: who may log in and from where depends on it.
#[test]
fn it_has_the_rules_of_the_unit_from_all_its_files_in_order() {
    let unit = "[Unit]\nDescription=ssh\n[Service]\nEnvironmentFile=-/etc/default/ssh\nExecStartPre=/usr/sbin/sshd -t\nExecStart=/usr/sbin/sshd -D $SSHD_OPTS\nExecReload=/usr/sbin/sshd -t\nKillMode=process\nRestart=on-failure\nRestartPreventExitStatus=255\nType=notify\nRuntimeDirectory=sshd\nRuntimeDirectoryMode=0755\nIPAddressDeny=any\n[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\n";
    let drop_in = "# an administrator's\n[Service]\nEnvironment=A=1\nIPAddressDeny=\nIPAddressAllow=10.0.0.0/8 \\\n  localhost\nPrivateTmp=yes\n";
    let rescue = prepared(&incident(), &with_files(&[unit, drop_in], &["[Socket]\nListenStream=22\n"]), "ssh.service");
    let expected = [
        "EnvironmentFile=-/etc/default/ssh",
        "IPAddressDeny=any",
        "Environment=A=1",
        "IPAddressDeny=",
        "IPAddressAllow=10.0.0.0/8  localhost",
        "PrivateTmp=yes",
    ];
    assert_eq!(rescue.service_settings, expected);
    assert_eq!(rescue.socket_settings, [""; 0], "the filters of ssh.socket are its own");
}

/// systemd filters by the unit that made the socket: the service makes its own, and the rescue's socket takes its place.
#[test]
fn it_filters_addresses_as_the_unit_that_made_the_socket() {
    let service = "[Service]\nIPAddressDeny=any\nIPAddressAllow=10.0.0.0/8\nSocketBindDeny=any\nSocketBindAllow=tcp:22\nNoNewPrivileges=no\n";
    let socket = "[Socket]\nListenStream=22\nIPAddressDeny=192.0.2.0/24\nBacklog=64\nAccept=no\n";
    let trials = with_files(&[service], &[socket]);
    let filters = ["IPAddressDeny=any", "IPAddressAllow=10.0.0.0/8", "SocketBindDeny=any", "SocketBindAllow=tcp:22"];
    let alone = prepared(&service_alone(), &trials, "ssh.service");
    assert_eq!(alone.socket_settings, filters);
    let with_socket = prepared(&incident(), &trials, "ssh.service");
    assert_eq!(with_socket.socket_settings, ["IPAddressDeny=192.0.2.0/24", "Backlog=64"]);
    for rescue in [alone, with_socket] {
        assert_eq!(rescue.service_settings, [&filters[..], &["NoNewPrivileges=no"]].concat());
    }
}

#[test]
fn it_is_bound_to_the_interface_of_the_unit() {
    let mut machine = incident();
    machine.instances[0].socket.device_bound = true;
    machine.processes[0].sockets = dual().into_iter().map(|s| ListenSocket { device_bound: true, ..s }).collect();
    let trials = with_files(&["[Service]\n"], &["[Socket]\nListenStream=22\n", "[Socket]\nBindToDevice=eth1\n"]);
    assert_eq!(prepared(&machine, &trials, "ssh.service").socket_settings, ["BindToDevice=eth1"]);
}

/// It opens nothing that was not open: IPv4 at `[::]` only if the listener served it there.
#[test]
fn it_serves_ipv4_only_where_the_listener_did() {
    let mut machine = incident();
    assert!(!prepared(&machine, &ready(), "ssh.service").ipv6_only);
    machine.processes[0].sockets = sockets(&["[::]:22"]);
    let rescue = prepared(&machine, &ready(), "ssh.service");
    assert_eq!((rescue.ipv6_only, rescue.addresses), (true, addresses(&["[::]:22"])));
    machine.processes[0].sockets = sockets(&["127.0.0.1:22", "[::1]:22"]);
    let rescue = prepared(&machine, &ready(), "ssh.service");
    assert_eq!(rescue.addresses, addresses(&["127.0.0.1:22", "[::1]:22"]));
}

#[test]
fn the_rescue_of_one_instance_has_nothing_of_another() {
    let mut trials = ready();
    trial(&mut trials, SECOND).options = vec!["-p".into(), "2222".into()];
    trial(&mut trials, SECOND).service_files = vec!["[Service]\nUMask=077\n".into()];
    let machine = second_instance(incident());
    let second = prepared(&machine, &trials, SECOND);
    assert_eq!(
        (second.conflicts, second.start.declared, second.start.serves.as_str()),
        (vec![SECOND.into()], vec![SECOND.into()], SECOND)
    );
    assert_eq!((second.addresses, second.service_settings), (addresses(&["0.0.0.0:2222"]), vec!["UMask=077".into()]));
    let main = prepared(&machine, &trials, "ssh.service");
    assert_eq!((main.addresses, main.options.len(), main.service_settings.len()), (addresses(&["[::]:22"]), 0, 0));
}

type Spoil = (&'static str, &'static str, fn(&mut Snapshot, &mut Trials));

/// Name, a part of the reason, what keeps the incident from having a rescue though its listener is terminated.
const NONE: &[Spoil] = &[
    ("Accept=yes", "for each connection", |machine, _| {
        machine.instances[0].socket.accept = true;
        machine.instances[0].per_connection = Some(service("ssh@x.service", "inactive", "dead", "static"));
    }),
    ("the handshake was not tried", "could not be tried", |machine, trials| {
        machine.host.runtime_directory = false;
        of_main(trials).config = Check::NeedsRuntimeDirectory;
        of_main(trials).handshake = Check::NeedsRuntimeDirectory;
    }),
    ("a specifier in the service", "Environment=NAME=%n", |_, trials| {
        of_main(trials).service_files.push("[Service]\nEnvironment=NAME=%n\n".into());
    }),
    ("a specifier in the socket", "SmackLabel=%p", |_, trials| {
        of_main(trials).socket_files.push("[Socket]\nSmackLabel=%p\n".into());
    }),
    ("a specifier after an escaped one", "Environment=A=%%%i", |_, trials| {
        of_main(trials).service_files.push("[Service]\nEnvironment=A=%%%i\n".into());
    }),
    ("a line break in an option", "cannot be written", |_, trials| {
        of_main(trials).options = vec!["-o".into(), "AllowUsers=a\nExecStart=x".into()];
    }),
    ("a device that no unit names", "network interface", |machine, _| {
        machine.processes[0].sockets[0].device_bound = true;
    }),
    ("IPv6 only here, both there", "IPv6 only", |machine, _| {
        machine.instances[0].socket.listen.push(Listen::parse("[::]:2200"));
        machine.processes[0].sockets.extend(sockets(&["[::]:2200"]));
    }),
];

fn of_main(trials: &mut Trials) -> &mut sshd_mend::model::trial::Trial {
    trial(trials, "ssh.service")
}

#[test]
fn there_is_none_where_it_would_not_be_equivalent() {
    for (name, part, spoil) in NONE {
        let (mut machine, mut trials) = (incident(), ready());
        spoil(&mut machine, &mut trials);
        let why = none(&machine, &trials);
        assert!(why.contains(part), "{name}: {why}");
    }
}

/// A device that ssh.socket names, while sshd serves without it.
#[test]
fn there_is_none_where_the_socket_that_names_the_device_is_not_declared() {
    let mut machine = service_alone();
    machine.instances[0].socket.device_bound = true;
    machine.processes[0].sockets[0].device_bound = true;
    assert!(none(&machine, &ready()).contains("network interface"));
}

/// Where nothing changes by it, a percent sign keeps nobody from being rescued.
#[test]
fn a_percent_sign_counts_only_in_what_is_carried_over() {
    let service = "[Unit]\nDescription=%n\n[Service]\n# %i\nExecStart=/usr/sbin/sshd -D -p %i\nExecStartPre=/bin/echo %n\nEnvironment=A=100%%\n";
    let trials = with_files(&[service], &["[Socket]\nListenStream=22\nFileDescriptorName=%n\n"]);
    assert_eq!(prepared(&incident(), &trials, "ssh.service").service_settings, ["Environment=A=100%%"]);
    let trials = with_files(&["[Service]\n"], &["[Socket]\nSmackLabel=%p\n"]);
    prepared(&service_alone(), &trials, "ssh.service");
}

#[test]
fn there_is_none_where_nothing_is_terminated() {
    assert_eq!(none(&down(), &ready()), "nothing is terminated");
    for trigger in [Trigger::Repair, Trigger::Hook] {
        let plan = planned(&second_instance(down()), &ready(), trigger);
        let rescues =
            plan.replacements().map(|(name, replacement)| (name, matches!(replacement.rescue, RescuePlan::Prepare(_))));
        assert_eq!(rescues.collect::<Vec<_>>(), [("ssh.service", false), (SECOND, true)]);
    }
}

#[test]
fn the_one_that_an_interrupted_repair_prepared_is_used() {
    let interrupted =
        |rescue| Snapshot { intent: intent(vec![intended("ssh.service", &["[::]:22"], rescue)]), ..down() };
    let prepared = RescuePlan::Prepared("sshd-mend-rescue-ssh.socket".into());
    assert_eq!(rescue_of(&interrupted(true), &ready(), "ssh.service"), prepared);
    assert!(none(&interrupted(false), &ready()).contains("had prepared none"));
    let of_second = Snapshot { intent: intent(vec![intended(SECOND, &["0.0.0.0:2222"], true)]), ..down() };
    assert_eq!(none(&of_second, &ready()), "nothing is terminated", "the rescue of another instance");
}

/// It was interrupted before the signal: what is terminated now is what counts.
#[test]
fn it_is_prepared_anew_where_a_listener_is_terminated_after_all() {
    let on_record = intent(vec![intended("ssh.service", &["[::]:22"], false)]);
    let rescue = prepared(&Snapshot { intent: on_record, ..incident() }, &ready(), "ssh.service");
    assert_eq!(rescue.addresses, addresses(&["[::]:22"]));
}

/// One of two listeners was terminated before the interruption: its address is to be rescued as well.
#[test]
fn it_also_serves_what_the_interrupted_repair_terminated() {
    let mut machine = incident();
    machine.instances[0].socket.listen = vec![Listen::parse("0.0.0.0:22"), Listen::parse("0.0.0.0:2200")];
    machine.processes[0].sockets = sockets(&["0.0.0.0:22"]);
    machine.intent = intent(vec![intended("ssh.service", &["0.0.0.0:22", "0.0.0.0:2200"], true)]);
    let rescue = prepared(&machine, &ready(), "ssh.service");
    assert_eq!(rescue.addresses, addresses(&["0.0.0.0:22", "0.0.0.0:2200"]));
}

/// `repair` stops a rescue and starts the units. If that fails, the rescue is started again, whatever is on record.
#[test]
fn a_rescue_that_serves_is_started_again_if_the_units_fail() {
    let mut machine = down();
    machine.systemd_holds = dual();
    machine.instances[0].rescue = serving_rescue(&machine.instances[0], &["[::]:22"]);
    let prepared = RescuePlan::Prepared("sshd-mend-rescue-ssh.socket".into());
    let with_intent = Snapshot { intent: intent(vec![intended("ssh.service", &["[::]:22"], true)]), ..machine.clone() };
    assert_eq!(rescue_of(&with_intent, &ready(), "ssh.service"), prepared);
    assert_eq!(rescue_of(&machine, &ready(), "ssh.service"), prepared, "without an intent");
}

/// An orphan at another address is terminated along with the rescue's stop: the next rescue serves both.
#[test]
fn a_rescue_that_is_replaced_leaves_none_of_its_addresses() {
    let mut machine = down();
    machine.instances[0].socket.listen = vec![Listen::parse("0.0.0.0:22"), Listen::parse("0.0.0.0:2200")];
    machine.systemd_holds = sockets(&["0.0.0.0:22"]);
    machine.instances[0].rescue = serving_rescue(&machine.instances[0], &["0.0.0.0:22"]);
    machine.processes = vec![Process { sockets: sockets(&["0.0.0.0:2200"]), ..stale(listener(60)) }];
    let rescue = prepared(&machine, &ready(), "ssh.service");
    assert_eq!(rescue.addresses, addresses(&["0.0.0.0:22", "0.0.0.0:2200"]));
}

/// A drop-in that is in force and whose text is gone: nobody knows which rules it has.
#[test]
fn there_is_none_where_a_file_of_the_unit_could_not_be_read() {
    let mut machine = incident();
    let files = ["/usr/lib/systemd/system/ssh.service", "/etc/systemd/system/ssh.service.d/filter.conf"];
    machine.instances[0].service =
        Unit { files: files.map(Into::into).to_vec(), ..machine.instances[0].service.clone() };
    assert!(matches!(rescue_of(&machine, &ready(), "ssh.service"), RescuePlan::None(_)));
}
