//! What a person sees, screen by screen: tests/screens/NAME.txt. SSHD_MEND_BLESS=1 writes the files anew; read what has
//! changed before it is kept.
#![allow(missing_docs)]

#[path = "screens/examinations.rs"]
mod examinations;
#[path = "screens/outcomes.rs"]
mod outcomes;
#[path = "screens/repairs.rs"]
mod repairs;
mod support;

use sshd_mend::report::{Outcome, Style, Verdict, render};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const PLAIN: Style = Style { colour: false, verbose: false, quiet: false };
const COLOUR: Style = Style { colour: true, ..PLAIN };
const VERBOSE: Style = Style { verbose: true, ..PLAIN };
const QUIET: Style = Style { quiet: true, ..PLAIN };

/// A screen: its name, what it shows, and how.
type Screen = (&'static str, Outcome, Style);

fn screens() -> Vec<Screen> {
    examinations::screens().into_iter().chain(repairs::screens()).collect()
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/screens")
}

fn files() -> BTreeSet<String> {
    let files = std::fs::read_dir(directory()).expect("screens");
    let files = files.map(|file| file.expect("an entry").file_name().to_string_lossy().into_owned());
    files.filter(|file| file.ends_with(".txt")).collect()
}

#[test]
fn screens_are_as_they_were_read_and_found_good() {
    let bless = std::env::var_os("SSHD_MEND_BLESS").is_some_and(|value| value == "1");
    let mut different = Vec::new();
    if bless {
        for file in files() {
            std::fs::remove_file(directory().join(file)).expect("a file");
        }
    }
    for (name, outcome, style) in screens() {
        let screen = render(&outcome, style);
        let file = directory().join(format!("{name}.txt"));
        if bless {
            std::fs::write(&file, &screen).expect("a file");
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        if screen != kept {
            different.push(format!("--- {name}\n{kept}+++ {name}\n{screen}"));
        }
    }
    assert!(different.is_empty(), "SSHD_MEND_BLESS=1 keeps these as they are now:\n{}", different.join("\n"));
}

/// A new verdict does not compile without a place in here.
const fn begins(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NotApplicable => "not-applicable",
        Verdict::Healthy => "healthy",
        Verdict::Repaired => "repaired",
        Verdict::AtRisk => "at-risk",
        Verdict::Unverified => "unverified",
        Verdict::Refused => "refused",
        Verdict::Stopped => "stopped",
        Verdict::Broken => "broken",
        Verdict::Rescued => "rescued",
        Verdict::Failed => "failed",
        Verdict::Unknown => "unknown",
    }
}

#[test]
fn every_verdict_has_a_screen_and_every_screen_is_one() {
    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for (name, outcome, _) in screens() {
        assert!(name.starts_with(begins(outcome.verdict)), "{name} shows {:?}", outcome.verdict);
        assert!(names.insert(format!("{name}.txt")), "{name} is there twice");
        *verdicts.entry(begins(outcome.verdict)).or_default() += 1;
    }
    assert_eq!(verdicts.len(), 11, "{verdicts:?}");
    let bless = std::env::var_os("SSHD_MEND_BLESS").is_some_and(|value| value == "1");
    assert!(
        bless || files() == names,
        "files that are no screen, or screens without a file: {:?}",
        files().symmetric_difference(&names)
    );
}
