//! What the manual page and `--help` say, and how. SSHD_MEND_BLESS=1 writes packaging/generated: the manual page and the completions.
#![allow(missing_docs)]

#[path = "support/manual.rs"]
mod pages;

use sshd_mend::cli::sections;
use sshd_mend::model::diagnosis::FindingCode;
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::report::Verdict;
use std::path::Path;
use std::process::{Command, Stdio};

/// Every word that `--json` may have for a kind of finding, a verdict, a refusal; by the section of the manual.
fn words() -> [(&'static str, Vec<&'static str>); 3] {
    [
        ("Findings", FindingCode::ALL.iter().map(|code| code.as_str()).collect()),
        ("Verdicts", Verdict::ALL.iter().map(|verdict| verdict.as_str()).collect()),
        ("Refusals", RefusalCode::ALL.iter().map(|code| code.as_str()).collect()),
    ]
}

/// The manual page as text, its sections by their headings.
fn manual() -> Vec<(String, String)> {
    let mut page = Vec::new();
    pages::manual(&mut page).expect("a page");
    let page = String::from_utf8(page).expect("text").replace("\\-", "-").replace("\\*(Aq", "'");
    let sections = page.split("\n.SH ").skip(1);
    let sections = sections.map(|section| section.split_once('\n').expect("a section"));
    sections.map(|(heading, text)| (heading.trim_matches('"').to_owned(), text.to_owned())).collect()
}

#[test]
fn the_manual_has_every_finding_verdict_and_refusal() {
    let manual = manual();
    for (heading, words) in words() {
        let (_, text) = manual.iter().find(|(name, _)| *name == heading.to_uppercase()).expect("the section");
        let entries: Vec<&str> = text.split(".TP\n\\fB").skip(1).collect();
        assert_eq!(entries.len(), words.len(), "{heading}");
        for word in words {
            let entry = entries.iter().find(|entry| entry.split(['\\', ' ']).next() == Some(word));
            let told = entry.and_then(|entry| entry.split_once('\n')).map_or(0, |(_, text)| text.len());
            assert!(told > 20, "{word} is not explained under {heading}");
        }
    }
    let (_, findings) = manual.iter().find(|(name, _)| name == "FINDINGS").expect("findings");
    for code in FindingCode::ALL {
        let meaning = code.meaning();
        for told in [meaning.what, meaning.severity, meaning.repair, meaning.hook] {
            assert!(findings.contains(told) && !told.ends_with('.'), "{}: {told}", code.as_str());
        }
    }
    let (_, refusals) = manual.iter().find(|(name, _)| name == "REFUSALS").expect("refusals");
    for code in RefusalCode::ALL {
        assert!(refusals.contains(code.advice()), "{}: no advice", code.as_str());
    }
}

#[test]
fn what_is_installed_is_what_the_commands_and_options_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/generated");
    for (name, text) in pages::generated().expect("pages") {
        let path = directory.join(name);
        if std::env::var_os("SSHD_MEND_BLESS").is_some_and(|value| value == "1") {
            std::fs::write(&path, &text).expect("a file");
        }
        let kept = std::fs::read(&path).unwrap_or_default();
        assert!(kept == text, "{} is old: SSHD_MEND_BLESS=1 writes it anew", path.display());
    }
}

/// man-pages(7), as far as it knows them.
#[test]
fn the_manual_has_its_sections_in_the_usual_order() {
    let headings: Vec<String> = manual().into_iter().map(|(heading, _)| heading).collect();
    let usual = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "COMMANDS",
        "OPTIONS",
        "FINDINGS",
        "VERDICTS",
        "REFUSALS",
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "UNITS",
        "BUGS",
        "EXAMPLES",
        "SEE ALSO",
    ];
    assert_eq!(headings, usual);
}

/// What the program prints for these arguments on something that is no terminal and so wide.
fn help(arguments: &[&str], columns: usize) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sshd-mend"))
        .args(arguments)
        .env("COLUMNS", columns.to_string())
        .stdin(Stdio::null())
        .output()
        .expect("the program");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn help_is_as_wide_as_the_terminal_and_the_short_one_is_short() {
    for columns in [60, 80, 200] {
        for arguments in [&["-h"][..], &["--help"], &["check", "-h"], &["repair", "--help"]] {
            let text = help(arguments, columns);
            let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > columns.min(100)).collect();
            assert!(long.is_empty(), "{arguments:?} at {columns}: {long:#?}");
        }
    }
    let short = help(&["-h"], 80);
    assert!(short.lines().count() <= 24, "no longer than a screen:\n{short}");
    let long = help(&["--help"], 80);
    for section in sections() {
        let heading = format!("\n{}:\n", section.heading);
        assert!(long.contains(&heading) && !short.contains(&heading), "{heading}");
    }
}
