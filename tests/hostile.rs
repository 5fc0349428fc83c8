//! Every parser of something that this program did not write itself, fed with anything: with a kept corpus
//! (tests/corpus), with variations of it, and with noise. PROPTEST_CASES=… runs each for longer.
#![allow(missing_docs)]

mod support;

use proptest::prelude::*;
use proptest::sample::Index;
use sshd_mend::act::request::Request;
use sshd_mend::act::rescue_units;
use sshd_mend::agent::notice::Notice;
use sshd_mend::decide::{diagnose, plan};
use sshd_mend::host::deadline::Deadline;
use sshd_mend::host::handshake::Attempt;
use sshd_mend::model::address::with_scope;
use sshd_mend::model::intent::Intent;
use sshd_mend::model::plan::{Rescue, RescuePlan, Trigger};
use sshd_mend::model::process::ListenSocket;
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::words::words;
use sshd_mend::parsers;
use sshd_mend::report::{Outcome, Style, render};
use sshd_mend::settings;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Everything that is kept for one parser, by name.
fn kept(parser: &str) -> Vec<(String, Vec<u8>)> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(parser);
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    let named = |file: &std::path::PathBuf| file.file_name().expect("a name").to_string_lossy().into_owned();
    files.iter().map(|file| (named(file), std::fs::read(file).expect("a file"))).collect()
}

fn corpus(parser: &str) -> Vec<Vec<u8>> {
    kept(parser).into_iter().map(|(_, bytes)| bytes).collect()
}

fn one(parser: &str, name: &str) -> Vec<u8> {
    kept(parser).into_iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes).expect("a kept file")
}

/// A kept text, or one with some of its bytes replaced, doubled or cut, or noise.
fn anything_like(parser: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let kept = prop::sample::select(corpus(parser));
    let changes = prop::collection::vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..8);
    let changed = (kept.clone(), changes).prop_map(|(mut bytes, changes)| {
        for (index, byte, kind) in changes {
            let at = index.index(bytes.len() + 1);
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => bytes.truncate(at),
                _ => {
                    let tail = bytes[at..].to_vec();
                    bytes.extend(tail);
                }
            }
        }
        bytes
    });
    prop_oneof![1 => kept, 6 => changed, 2 => prop::collection::vec(any::<u8>(), 0..4096)]
}

fn text_like(parser: &'static str) -> impl Strategy<Value = String> {
    anything_like(parser).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn harmless(text: &str) -> bool {
    text.chars().all(|c| matches!(c, ' '..='~' | '\n'))
}

/// What a client makes of a server that says `said` and closes.
fn spoken_to(said: &[u8]) -> Attempt {
    let (mut client, mut server) = UnixStream::pair().expect("a socket pair");
    let said = said.to_vec();
    let server = std::thread::spawn(move || {
        let _ = server.write_all(&said);
        let _ = server.shutdown(std::net::Shutdown::Write);
        let _ = server.take(100_000).read_to_end(&mut Vec::new());
    });
    let begun = Instant::now();
    let attempt = parsers::handshake(&mut client, Deadline::after(Duration::from_secs(2)));
    assert!(begun.elapsed() < Duration::from_secs(10), "the deadline was 2 s");
    drop(client);
    server.join().expect("the server's thread");
    attempt
}

fn unit_of(text: &str) -> Option<String> {
    parsers::unit_of_control_group(parsers::control_group(text))
}

/// The sockets of one answer, and whether more answers follow.
fn answer(bytes: &[u8]) -> (Vec<ListenSocket>, std::io::Result<bool>) {
    let mut sockets = Vec::new();
    let more = parsers::sock_diag(bytes, |_| true, &mut sockets);
    (sockets, more)
}

/// A socket as the kernel describes it: `struct nlmsghdr`, `struct inet_diag_msg`, attributes (sock_diag(7)).
fn described(socket: &ListenSocket, device: u32) -> Vec<u8> {
    let (family, mut source) = match socket.address.ip() {
        IpAddr::V4(ip) => (2, ip.octets().to_vec()),
        IpAddr::V6(ip) => (10, ip.octets().to_vec()),
    };
    source.resize(16, 0);
    let mut body = vec![family, 10, 0, 0];
    body.extend(socket.address.port().to_be_bytes());
    body.extend([0; 2]);
    body.extend(source);
    body.extend([0; 16]); // the destination
    body.extend(device.to_ne_bytes());
    body.extend([0; 24]); // cookie, timer, queues, uid
    body.extend(u32::try_from(socket.inode).expect("32 bits").to_ne_bytes());
    // INET_DIAG_TOS, INET_DIAG_SKV6ONLY and INET_DIAG_SHUTDOWN, padded to 4 bytes each.
    for (kind, value) in [(5_u16, 0), (11, u8::from(socket.ipv6_only)), (8, 0)] {
        body.extend(5_u16.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend([value, 0, 0, 0]);
    }
    message(20, &body)
}

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut message = u32::try_from(16 + body.len()).expect("short").to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend([0; 10]); // flags, sequence, port
    message.extend(body);
    message
}

fn link_local(interface: u64) -> IpAddr {
    std::net::Ipv6Addr::from((0xfe80_u128 << 112) | u128::from(interface)).into()
}

prop_compose! {
    fn any_socket()(ip in prop_oneof![3 => any::<IpAddr>(), 1 => any::<u64>().prop_map(link_local)], port in any::<u16>(), inode in any::<u32>(), ipv6_only in any::<bool>(),
                    device in prop_oneof![Just(0), any::<u32>()]) -> (ListenSocket, u32) {
        let link_local = matches!(ip, IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfe80);
        let device_bound = device != 0 && !link_local;
        (ListenSocket { address: SocketAddr::new(ip, port), ipv6_only, device_bound, vrf: device != 0, inode: inode.into() }, device)
    }
}

/// The rescue of a machine whose units' files are these.
fn rescue(mut machine: Snapshot, service: &str, socket: &str) -> RescuePlan {
    machine.processes[0] = support::stale(machine.processes[0].clone());
    let mut trials = support::ready();
    let trial = support::trial(&mut trials, "ssh.service");
    trial.service_files.push(service.to_owned());
    trial.socket_files.push(socket.to_owned());
    let plan = plan(&machine, &diagnose(&machine), &trials, Trigger::Repair);
    let mut rescues = plan.replacements().map(|(_, replacement)| replacement.rescue.clone());
    rescues.next().expect("a replacement")
}

/// How often a unit's text sets a key, in any section.
fn times_set(text: &str, key: &str) -> usize {
    text.lines().filter(|line| line.split_once('=').is_some_and(|(name, _)| name.trim() == key)).count()
}

proptest! {
    #[test]
    fn whatever_holds_the_port(said in anything_like("server")) {
        let told = match spoken_to(&said) {
            Attempt::Kexinit(banner) => {
                prop_assert!(banner.starts_with("SSH-"));
                banner
            }
            Attempt::Closed(banner) => banner.unwrap_or_default(),
            Attempt::Refused(text) | Attempt::Unclear(text) => text,
        };
        prop_assert!(harmless(&told) && !told.contains('\n'), "{told:?}");
        prop_assert!(told.len() < 2000, "{} bytes are shown", told.len());
    }

    #[test]
    fn settings_are_in_bounds_or_name_their_line(text in text_like("settings")) {
        match parsers::settings(&text) {
            Ok(settings) => for time in [settings.grace, settings.deadline] {
                prop_assert!((1..=600).contains(&time.as_secs()));
            },
            Err(error) => {
                if let settings::Error::Line(line, _) = &error {
                    prop_assert!((1..=text.lines().count()).contains(line));
                }
                prop_assert!(harmless(&error.to_string()), "{error}");
            }
        }
    }

    #[test]
    fn a_unit_is_a_component_of_its_control_group(text in text_like("cgroup")) {
        let group = parsers::control_group(&text);
        prop_assert!(text.contains(group) && !group.contains('\n'));
        if let Some(unit) = parsers::unit_of_control_group(group) {
            prop_assert!(!unit.contains('/') && !unit.contains('\n'));
            let named = group.split('/').any(|part| part == unit || part.strip_prefix('_') == Some(&unit));
            prop_assert!(named, "{unit:?}");
        }
    }

    /// What systemd hands to a user, the user may fill as they like.
    #[test]
    fn nobody_moves_into_another_unit_from_below(below in text_like("cgroup"), legacy in any::<bool>()) {
        // The kernel takes no name with a line break for a control group (cgroup_mkdir, kernel/cgroup/cgroup.c).
        let below = below.replace('\n', "/");
        let path = format!("/user.slice/user-1000.slice/user@1000.service/{below}");
        let text = if legacy { format!("8:pids:/\n1:name=systemd:{path}\n0::/\n") } else { format!("0::{path}\n") };
        let unit = unit_of(&text);
        prop_assert_eq!(unit.as_deref(), Some("user@1000.service"));
    }

    #[test]
    fn what_systemctl_shows_is_read(text in text_like("shown")) {
        let unit = parsers::shown("ssh.service", &text);
        // `Id` is its name, also where it was asked for by an alias.
        let id = text.lines().find_map(|line| line.strip_prefix("Id=")).filter(|id| !id.is_empty());
        prop_assert_eq!(unit.name.as_str(), id.unwrap_or("ssh.service"));
        if let Some(sshd) = unit.sshd() {
            prop_assert_eq!(sshd.path.file_name().and_then(|name| name.to_str()), Some("sshd"));
        }
        prop_assert!(unit.main_pid.is_none_or(|pid| pid > 0));
    }

    #[test]
    fn addresses_are_read_or_not(text in text_like("addresses")) {
        for line in text.lines() {
            if let Some(address) = parsers::address(line) {
                prop_assert_eq!(parsers::address(&address.to_string()), Some(address));
                let scoped = with_scope(address, &text);
                prop_assert_eq!((scoped.ip(), scoped.port()), (address.ip(), address.port()));
            }
        }
        for address in parsers::listen_addresses(&text).into_keys() {
            prop_assert!(text.contains(&address.port().to_string()));
        }
    }

    #[test]
    fn an_address_is_read_as_it_is_written(address in any::<SocketAddr>()) {
        let without_scope = SocketAddr::new(address.ip(), address.port());
        prop_assert_eq!(parsers::address(&without_scope.to_string()), Some(without_scope));
    }

    #[test]
    fn options_are_words_of_their_sources(text in text_like("options")) {
        let environment: Vec<(String, String)> = text.lines().filter_map(parsers::assignment).collect();
        let arguments: Vec<String> = text.split_whitespace().take(20).map(str::to_owned).collect();
        let expanded = parsers::expand(&arguments, &environment);
        let longest = environment.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
        let total: usize = expanded.iter().map(String::len).sum();
        prop_assert!(total <= text.len() * (longest + 1), "values are put in once");
        prop_assert!(words(&text).iter().map(String::len).sum::<usize>() <= text.len());
    }

    #[test]
    fn an_owner_is_what_dpkg_names(text in text_like("dpkg")) {
        if let Some(owner) = parsers::owner("/usr/sbin/sshd", &text) {
            prop_assert!(text.lines().any(|line| line.starts_with(&owner)));
        }
    }

    #[test]
    fn a_record_is_read_or_not(bytes in anything_like("record")) {
        if let Ok(intent) = serde_json::from_slice::<Intent>(&bytes) {
            let again = serde_json::to_vec(&intent).expect("JSON");
            prop_assert_eq!(serde_json::from_slice::<Intent>(&again).expect("an intent"), intent);
        }
        if let Ok(outcome) = serde_json::from_slice::<Outcome>(&bytes) {
            let again = serde_json::to_vec(&outcome).expect("JSON");
            prop_assert_eq!(&serde_json::from_slice::<Outcome>(&again).expect("an outcome"), &outcome);
            let text = render(&outcome, Style { colour: false, verbose: true, quiet: false });
            prop_assert!(harmless(&text), "{text:?}");
            let notice = serde_json::from_slice::<Notice>(&one("record", "notice")).expect("a notice");
            let _ = Notice::due(&outcome, None, Some(&notice));
        }
        let _ = serde_json::from_slice::<Request>(&bytes);
        let _ = serde_json::from_slice::<Notice>(&bytes);
    }

    /// Whatever an answer is, it takes nothing of an earlier one away, and a part of it tells nothing that the whole does
    /// not.
    #[test]
    fn an_answer_of_the_kernel_is_read_or_not(bytes in anything_like("sock_diag"), cut in any::<Index>()) {
        let (sockets, _) = answer(&bytes);
        prop_assert!(sockets.len() * (16 + 72) <= bytes.len(), "{} sockets in {} bytes", sockets.len(), bytes.len());
        let (part, _) = answer(&bytes[..cut.index(bytes.len() + 1)]);
        prop_assert!(sockets.starts_with(&part), "{part:?} is no part of {sockets:?}");
        let mut both = sockets.clone();
        let _ = parsers::sock_diag(&bytes, |_| true, &mut both);
        prop_assert_eq!(both, [sockets.clone(), sockets].concat());
    }

    #[test]
    fn sockets_are_read_as_the_kernel_describes_them(told in prop::collection::vec(any_socket(), 0..20)) {
        let mut bytes: Vec<u8> = told.iter().flat_map(|(socket, device)| described(socket, *device)).collect();
        let expected: Vec<ListenSocket> = told.iter().map(|(socket, _)| *socket).collect();
        let (sockets, more) = answer(&bytes);
        prop_assert_eq!((&sockets, more.expect("an answer")), (&expected, true));
        bytes.extend(message(3, &[0; 4]));
        bytes.extend(&bytes.clone()); // nothing counts after the end
        let (sockets, more) = answer(&bytes);
        prop_assert_eq!((sockets, more.expect("an answer")), (expected, false));
    }

    /// Rules are carried over from files of units; what they cannot do is to make the rescue something else.
    #[test]
    fn files_of_units_make_no_other_rescue(service in text_like("units"), socket in text_like("units")) {
        for machine in [support::incident(), support::healthy()] {
            let RescuePlan::Prepare(rescue) = rescue(machine, &service, &socket) else { continue };
            let Rescue { service_settings, socket_settings, .. } = &*rescue;
            for line in service_settings.iter().chain(socket_settings) {
                prop_assert!(line.contains('=') && !line.contains('\n'), "{line:?}");
            }
            let units = rescue_units::units(&rescue, "");
            let (socket, service) = (&units[0].text, &units[1].text);
            for (key, times) in [("Accept", 1), ("FreeBind", 1), ("BindIPv6Only", 1), ("MaxConnections", 1),
                                 ("ListenStream", rescue.addresses.len()), ("Service", 0), ("ListenDatagram", 0)] {
                prop_assert_eq!(times_set(socket, key), times, "{}: {}", key, socket);
            }
            for (key, times) in [("ExecStart", 1), ("StandardInput", 1), ("KillMode", 1), ("RuntimeDirectory", 1),
                                 ("ExecStartPre", 0), ("Type", 0), ("Restart", 0)] {
                prop_assert_eq!(times_set(service, key), times, "{}: {}", key, service);
            }
        }
    }
}

#[test]
fn what_is_kept_is_what_the_parsers_are_for() {
    assert!(corpus("server").iter().any(|said| matches!(spoken_to(said), Attempt::Kexinit(_))));
    let texts = |parser| corpus(parser).into_iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(texts("settings").any(|text| parsers::settings(&text).is_ok_and(|s| s.grace.as_secs() == 7)));
    assert!(texts("cgroup").any(|text| unit_of(&text).as_deref() == Some("ssh.service")));
    assert!(texts("shown").any(|text| parsers::shown("x", &text).sshd().is_some()));
    assert!(texts("addresses").any(|text| parsers::listen_addresses(&text).len() == 2));
    assert!(texts("options").any(|text| text.lines().filter_map(parsers::assignment).count() == 2));
    assert!(texts("dpkg").any(|text| parsers::owner("/usr/sbin/sshd", &text).is_some()));
    let records = corpus("record");
    assert!(records.iter().any(|bytes| serde_json::from_slice::<Intent>(bytes).is_ok_and(|i| i.instances.len() == 2)));
    assert!(records.iter().any(|bytes| serde_json::from_slice::<Outcome>(bytes).is_ok_and(|o| o.instances.len() == 2)));
    assert!(records.iter().any(|bytes| serde_json::from_slice::<Notice>(bytes).is_ok()));
    assert!(records.iter().any(|bytes| serde_json::from_slice::<Request>(bytes).is_ok()));
}
