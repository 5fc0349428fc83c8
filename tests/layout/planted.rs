//! The checker of the layout, checked: a small program that keeps every rule, and one violation after another in it.

use super::source::{Source, Token, tokens};
use super::{FOLDERS, LINES_MAX, RULES, Wrong};
use std::collections::BTreeMap;

/// A program that keeps every rule, file by file, each with what its first line says.
fn clean() -> BTreeMap<String, String> {
    let files = [
        ("main.rs", "use sshd_mend::agent::run;\nuse std::fs::write;\nfn main() { sshd_mend::act::go(); }"),
        ("lib.rs", "pub mod act;\npub mod parsers { pub use crate::host::parse; }"),
        ("cli.rs", "use crate::model::plain::Code;\nuse crate::report::Verdict;"),
        ("settings.rs", "use crate::model::plain::Code;\nuse std::fs;"),
        ("agent/mod.rs", "mod child;\nuse crate::act::go;\nuse crate::settings::Settings;\npub struct Run;\n"),
        ("agent/child.rs", "use super::Run;\nimpl Run { pub(super) fn step(&self) {} }"),
        (
            "act/mod.rs",
            "use crate::{decide, host::{self, systemd::Manager}};\nfn go(m: &Manager) { m.run(); rustix::fs::mkdir(x); }",
        ),
        ("report/mod.rs", "use crate::model::plain;\nuse std::io::Write;\n"),
        ("decide/mod.rs", "mod one;\nmod two;\nuse std::net::SocketAddr;\nuse std::time::{Duration, Instant};\n"),
        (
            "decide/one.rs",
            "use super::two::helper;\nuse crate::model::plain::Code;\nfn f<'a>(c: &'a char) { helper(); let _ = ('\\'', \"crate::host\"); }",
        ),
        ("decide/two.rs", "// crate::host::x is only mentioned\n/* std::fs::write */\npub fn helper() {}\n"),
        (
            "observe/mod.rs",
            "use crate::host::systemd::Manager;\nfn look() { crate::host::command::spawn(); std::fs::read(x); }\n#[cfg(test)]\nmod tests {\n    use crate::act::go;\n    fn t() { std::fs::write(x); }\n}\n",
        ),
        ("host/mod.rs", "pub mod command;\npub mod systemd;\nuse crate::model::plain;\n"),
        ("host/systemd/mod.rs", "pub struct Manager;\nimpl Manager { fn run(&self) {} }\n"),
        ("host/command.rs", "use rustix::process::{Pid, kill_process_group as end};\nuse std::process::Command;\n"),
        ("host/pid_ref.rs", "fn end(pin: &X) { rustix::process::pidfd_send_signal(pin); }\n"),
        ("host/capabilities.rs", "use rustix::thread::set_capabilities;\n"),
        ("host/limits.rs", "use rustix::process::setrlimit;\n"),
        ("model/mod.rs", "mod json;\npub mod plain;\n"),
        (
            "model/plain.rs",
            "pub struct Code;\nimpl From<crate::model::json::Time> for Code { fn from() {} }\n#[serde(with = \"super::json::time\")]\n",
        ),
        ("model/json.rs", "pub struct Time;\n"),
    ];
    files.into_iter().map(|(file, text)| (file.to_owned(), format!("//! What it is.\n{text}\n"))).collect()
}

/// What every rule finds, by its name.
fn found(files: &BTreeMap<String, String>) -> BTreeMap<&'static str, Wrong> {
    let sources: Vec<Source> = files.iter().map(|(file, text)| Source::read(file, text)).collect();
    let found = RULES.iter().map(|(name, find)| (*name, find(&sources)));
    found.filter(|(_, wrong)| !wrong.is_empty()).collect()
}

#[test]
fn a_program_that_keeps_every_rule_passes() {
    assert_eq!(found(&clean()), BTreeMap::new());
}

/// Each line breaks the rules that are named, and no other.
#[test]
fn every_violation_is_found_where_it_is() {
    const PLANTED: &[(&str, &str, &str)] = &[
        ("layers", "observe/mod.rs", "use crate::decide::one;"),
        ("layers", "observe/mod.rs", "fn f() { crate::report::g(); }"),
        ("layers", "host/command.rs", "use {super::super::observe::x};"),
        ("layers", "host/systemd/mod.rs", "use crate::{act::{self as a}};"),
        ("layers", "report/mod.rs", "fn f() -> crate::act::Go { x }"),
        ("layers", "act/mod.rs", "use crate::agent;"),
        ("layers", "act/mod.rs", "use crate::settings::Settings;"),
        ("layers", "agent/child.rs", "use crate::cli::Cli;"),
        ("layers", "cli.rs", "use crate::host::x;"),
        ("layers", "settings.rs", "use crate::cli::Cli;"),
        ("decide", "decide/two.rs", "use crate::host::x;"),
        ("decide", "decide/two.rs", "use crate::observe;"),
        ("decide", "decide/one.rs", "use std::fs;"),
        ("decide", "decide/one.rs", "use std as s; fn f() { s::fs::read(x); }"),
        ("decide", "decide/one.rs", "fn f() { std::process::exit(1); }"),
        ("decide", "decide/one.rs", "use std::{net::{SocketAddr, TcpStream}};"),
        ("decide", "decide/one.rs", "use std::time::Instant; fn f() { Instant::now(); }"),
        ("decide", "decide/one.rs", "fn f() { std::time::SystemTime::now(); }"),
        ("decide", "decide/one.rs", "fn f() { log::debug!(\"x\"); }"),
        ("decide", "decide/one.rs", "fn f(p: &Path) { p.canonicalize(); }"),
        ("decide", "decide/two.rs", "use nix::unistd::geteuid;"),
        ("decide", "decide/two.rs", "use zbus::blocking::Connection;"),
        ("decide", "decide/two.rs", "use procfs::process::Process;"),
        ("decide", "decide/two.rs", "fn f() { rustix::fs::stat(x); }"),
        ("model", "model/plain.rs", "use std::fs::read;"),
        ("model", "model/plain.rs", "fn f(begun: Instant) { begun.elapsed(); }"),
        ("model", "model/json.rs", "use std::io::Read;"),
        ("effects", "observe/mod.rs", "use rustix::fs::{self as files}; fn f() { files::unlink(x); }"),
        ("effects", "observe/mod.rs", "use std::fs; fn f() { fs::remove_file(x); }"),
        ("effects", "observe/mod.rs", "fn f(m: &Manager) { m.reset_failed(x); }"),
        ("effects", "observe/mod.rs", "fn f(m: &Manager) { m\n    .run::<T>(x); }"),
        ("effects", "observe/mod.rs", "use std::process::Command;"),
        (
            "effects",
            "observe/mod.rs",
            "use rustix::fs::OFlags; const F: OFlags = OFlags::RDONLY.union(OFlags::CREATE);",
        ),
        ("effects", "host/systemd/mod.rs", "use rustix::process::pidfd_send_signal;"),
        ("effects", "host/pid_ref.rs", "use nix::sys::signal::kill;"),
        ("effects", "settings.rs", "fn f() { fs::write(x); }"),
        ("effects", "report/mod.rs", "fn f() { std::fs::File::create(x); }"),
        ("rings", "decide/two.rs", "use super::one::f;"),
        ("rings", "model/json.rs", "fn f(code: crate::model::plain::Code) {}"),
        ("rings", "agent/mod.rs", "use child::Child;"),
        ("rings", "host/command.rs", "use super::parse;\n"),
        ("rings through methods", "agent/mod.rs", "fn go(run: &Run) { run.step(); }"),
        ("heading", "host/new.rs", "pub struct X;"),
        ("folders", "utils/mod.rs", "//! What it is.\npub struct X;"),
        ("folders", "errors.rs", "//! What it is.\npub struct X;"),
    ];
    for (rule, file, line) in PLANTED {
        let mut files = clean();
        if *file == "host/command.rs" && *rule == "rings" {
            files.get_mut("host/mod.rs").expect("a file").push_str("use command::X;\n");
        }
        let text = files.entry((*file).to_owned()).or_default();
        text.push_str(line);
        let found = found(&files);
        let rules: Vec<&str> = found.keys().copied().filter(|found| !implied(rule, found)).collect();
        assert_eq!(rules, [*rule], "{line:?} in {file}: {found:#?}");
        let named = found[rule].iter().any(|wrong| wrong.contains(file.trim_end_matches("/mod.rs")));
        assert!(named && found[rule].len() == 1, "{line:?} in {file}: {found:#?}");
    }
}

/// Whoever breaks the first of these rules often breaks the second as well.
fn implied(rule: &str, also: &str) -> bool {
    matches!((rule, also), ("decide", "layers" | "effects") | ("model", "effects") | ("layers", "decide" | "rings"))
}

#[test]
fn what_is_missing_is_found() {
    for folder in FOLDERS {
        let mut files = clean();
        files.retain(|file, _| !file.starts_with(&format!("{folder}/")));
        let found = found(&files);
        assert!(found["folders"][0].contains(folder) && found["heading"][0].contains(folder), "{found:#?}");
    }
    let mut files = clean();
    files.insert("agent/mod.rs".into(), "//! What it is.\n".into());
    assert_eq!(found(&files).into_keys().collect::<Vec<_>>(), ["exceptions"], "an exception that nobody needs");
    let mut files = clean();
    files.insert("host/pid_ref.rs".into(), "//! What it is.\n".into());
    assert_eq!(found(&files).into_keys().collect::<Vec<_>>(), ["exceptions"], "a wrapper that wraps nothing");
    let mut files = clean();
    files.insert("report/mod.rs".into(), "use crate::model::plain;\n".into());
    assert_eq!(found(&files).into_keys().collect::<Vec<_>>(), ["heading"]);
    let mut files = clean();
    files.get_mut("report/mod.rs").expect("a file").push_str(&"// x\n".repeat(LINES_MAX));
    assert_eq!(found(&files).into_keys().collect::<Vec<_>>(), ["length"]);
}

/// A ring of three is one line, wherever one begins to go round.
#[test]
fn a_ring_of_three_files_is_found_once() {
    let mut files = clean();
    for (file, next) in [("a", "b"), ("b", "c"), ("c", "a")] {
        files.insert(format!("observe/{file}.rs"), format!("//! What it is.\nuse super::{next}::x;\n"));
    }
    let found = found(&files);
    assert_eq!(found["rings"].len(), 1, "{found:#?}");
    assert_eq!(found["rings"][0].matches("observe/").count(), 3, "{found:#?}");
}

#[test]
fn texts_characters_and_comments_are_no_code() {
    let text = "a // b\n/* c */ \"d \\\" e\" r#\"f \" g\"# b'\\'' '\\u{1b}' 'h' 'i: j";
    let words: Vec<String> = tokens(text)
        .into_iter()
        .filter_map(|(token, _)| match token {
            Token::Word(word) => Some(word),
            _ => None,
        })
        .collect();
    assert_eq!(words, ["a", "b", "j"]); // the b of b'\''
    let lines: Vec<usize> = tokens("a\n\"x\ny\"\nb").into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, [1, 2, 4]);
}
