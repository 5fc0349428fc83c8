//! Every parser of something that this program did not write itself, fed with anything: with a kept corpus
//! (tests/corpus), with variations of it, and with noise. PROPTEST_CASES=… runs each for longer.
#![allow(missing_docs)]

use proptest::prelude::*;
use proptest::sample::Index;
use sshd_mend::deadline::Deadline;
use sshd_mend::parsers;
use sshd_mend::probe::Attempt;
use sshd_mend::record::Intent;
use sshd_mend::report::{Outcome, Style, render};
use sshd_mend::settings;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Everything that is kept for one parser.
fn corpus(parser: &str) -> Vec<Vec<u8>> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(parser);
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    files.iter().map(|file| std::fs::read(file).expect("a file")).collect()
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
    fn a_unit_is_a_component_of_its_cgroup(text in text_like("cgroup")) {
        if let Some(unit) = parsers::unit_of_cgroup(&text) {
            prop_assert!(!unit.contains('/') && !unit.contains('\n'));
            let named = text.contains(&format!("/{unit}")) || text.contains(&format!("/_{unit}"));
            prop_assert!(named, "{unit:?}");
        }
    }

    /// What systemd hands to a user, the user may fill as they like.
    #[test]
    fn nobody_moves_into_another_unit_from_below(below in text_like("cgroup")) {
        let text = format!("0::/user.slice/user-1000.slice/user@1000.service/{below}");
        let unit = parsers::unit_of_cgroup(&text);
        prop_assert_eq!(unit.as_deref(), Some("user@1000.service"));
    }

    #[test]
    fn what_systemctl_shows_is_read(text in text_like("shown")) {
        let unit = parsers::shown("ssh.service", &text);
        prop_assert_eq!(&unit.name, "ssh.service");
        if let Some(server) = unit.server() {
            prop_assert_eq!(server.path.file_name().and_then(|name| name.to_str()), Some("sshd"));
        }
        prop_assert!(unit.main_pid.is_none_or(|pid| pid > 0));
    }

    #[test]
    fn addresses_are_read_or_not(text in text_like("addresses")) {
        for line in text.lines() {
            if let Some(address) = parsers::address(line) {
                prop_assert_eq!(parsers::address(&address.to_string()), Some(address));
            }
        }
        for address in parsers::listen_addresses(&text) {
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
            let text = render(&outcome, Style { colour: false, verbose: true, quiet: false });
            prop_assert!(harmless(&text), "{text:?}");
        }
    }

    #[test]
    fn a_table_of_sockets_is_read_or_not(bytes in anything_like("tcp")) {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("tcp"), bytes).expect("a file");
        let _ = parsers::listening_sockets(directory.path());
    }
}

#[test]
fn what_is_kept_is_what_the_parsers_are_for() {
    assert!(corpus("server").iter().any(|said| matches!(spoken_to(said), Attempt::Kexinit(_))));
    let texts = |parser| corpus(parser).into_iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(texts("settings").any(|text| parsers::settings(&text).is_ok_and(|s| s.grace.as_secs() == 7)));
    assert!(texts("cgroup").any(|text| parsers::unit_of_cgroup(&text).as_deref() == Some("ssh.service")));
    assert!(texts("shown").any(|text| parsers::shown("x", &text).server().is_some()));
    assert!(texts("addresses").any(|text| parsers::listen_addresses(&text).len() == 2));
    assert!(texts("options").any(|text| text.lines().filter_map(parsers::assignment).count() == 2));
    assert!(texts("dpkg").any(|text| parsers::owner("/usr/sbin/sshd", &text).is_some()));
    assert!(corpus("record").iter().any(|bytes| serde_json::from_slice::<Intent>(bytes).is_ok()));
    assert!(corpus("record").iter().any(|bytes| serde_json::from_slice::<Outcome>(bytes).is_ok()));
    let directory = tempfile::tempdir().expect("a directory");
    assert!(corpus("tcp").iter().any(|table| {
        std::fs::write(directory.path().join("tcp"), table).expect("a file");
        parsers::listening_sockets(directory.path()).is_ok_and(|sockets| sockets.len() == 1)
    }));
}
