//! What monitoring systems are told: `check --plugin` and `check --metrics`, of outcomes of every kind.
#![allow(missing_docs)]

#[path = "screens/examinations.rs"]
mod examinations;
#[path = "screens/outcomes.rs"]
mod outcomes;
#[path = "screens/repairs.rs"]
mod repairs;
mod support;

use sshd_mend::model::diagnosis::FindingCode;
use sshd_mend::report::{Outcome, Style, Verdict, answer, metrics, render};
use std::collections::BTreeMap;

const PLAIN: Style = Style { colour: false, verbose: false, quiet: false };
const COLOUR: Style = Style { colour: true, ..PLAIN };
const VERBOSE: Style = Style { verbose: true, ..PLAIN };
const QUIET: Style = Style { quiet: true, ..PLAIN };

type Screen = (&'static str, Outcome, Style);

fn all() -> Vec<(&'static str, Outcome)> {
    let screens = examinations::screens().into_iter().chain(repairs::screens());
    screens.map(|(name, outcome, _)| (name, outcome)).collect()
}

const STATES: [&str; 4] = ["OK", "WARNING", "CRITICAL", "UNKNOWN"];

/// `'label'=value[unit];warning;critical;minimum`, by label.
fn performance(first_line: &str) -> BTreeMap<String, String> {
    let (_, data) = first_line.split_once(" | ").expect("performance data");
    let datum = |datum: &str| {
        let (label, value) = datum.split_once('=').expect("a value");
        let value = value.strip_suffix(";;;0").expect("a minimum");
        let number: String = value.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
        assert!(number.parse::<f64>().is_ok() && [number.clone(), format!("{number}s")].contains(&value.to_owned()));
        (label.trim_matches('\'').to_owned(), number)
    };
    data.split(' ').map(datum).collect()
}

#[test]
fn a_plugin_says_what_a_screen_says_and_counts() {
    for (name, outcome) in all() {
        let answer = answer(&outcome, false);
        assert_eq!(answer.exit_status, outcome.exit_status, "{name}");
        let (first, rest) = answer.text.split_once('\n').expect("lines");
        let state = STATES[usize::from(answer.exit_status)];
        assert!(first.starts_with(&format!("SSHD {state}")), "{name}: {first}");
        assert_eq!(answer.text.matches('|').count(), 1, "{name}: {}", answer.text);
        let screen = render(&outcome, PLAIN);
        let (headline, facts) = screen.split_once('\n').expect("lines");
        assert_eq!((first.split(" | ").next(), rest), (Some(headline), facts), "{name}");
        let counted = performance(first);
        let known = outcome.verdict != Verdict::Unknown;
        assert_eq!(counted.get("listeners"), known.then(|| outcome.listeners.len().to_string()).as_ref(), "{name}");
        assert_eq!(counted.get("sessions"), known.then(|| outcome.sessions.after.to_string()).as_ref(), "{name}");
        assert_eq!(counted.contains_key("oldest_listener"), !outcome.listeners.is_empty(), "{name}");
    }
}

/// It would end the text, and what follows would be taken for performance data.
#[test]
fn a_bar_in_the_text_is_no_bar_in_the_answer() {
    let mut outcome = Outcome::unknown("check", "a | b");
    outcome.notes.push("c | d".to_owned());
    let text = answer(&outcome, false).text;
    assert_eq!(text.matches('|').count(), 1, "{text}");
    assert!(text.contains("a / b") && text.contains("c / d"), "{text}");
}

#[test]
fn a_machine_that_must_have_sshd_is_critical_without() {
    let mut missing = Vec::new();
    for (name, outcome) in all() {
        let (plain, strict) = (answer(&outcome, false), answer(&outcome, true));
        if plain == strict {
            continue;
        }
        assert_eq!((plain.exit_status, strict.exit_status), (0, 2), "{name}");
        assert!(strict.text.starts_with("SSHD CRITICAL - "), "{}", strict.text);
        assert!(outcome.listeners.is_empty(), "{name}");
        missing.push(outcome.verdict);
    }
    assert!(missing.contains(&Verdict::NotApplicable) && missing.contains(&Verdict::Healthy), "{missing:?}");
}

/// Values by series, as the collector reads them. Each metric is described before its first series, once.
fn series(text: &str) -> BTreeMap<String, f64> {
    let mut described = Vec::new();
    let mut values = BTreeMap::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (metric, help) = help.split_once(' ').expect("a text");
            assert!(!help.is_empty() && !described.contains(&metric.to_owned()), "{line}");
            described.push(metric.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind.split_once(' '), Some((described.last().expect("a metric").as_str(), "gauge")));
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            assert_eq!(name.split('{').next(), described.last().map(String::as_str), "{line}");
            assert!(
                values.insert(name.to_owned(), value.parse().expect("a number")).is_none(),
                "{line} is there twice"
            );
        }
    }
    values
}

#[test]
fn metrics_say_what_the_json_says() {
    for (name, outcome) in all() {
        let text = metrics(&outcome);
        assert!(text.ends_with('\n'));
        let series = series(&text);
        let value = |metric: &str| series.get(&format!("sshd_mend_{metric}")).copied();
        assert_eq!(value("status"), Some(f64::from(outcome.exit_status)), "{name}");
        for verdict in Verdict::ALL {
            let expected = f64::from(u8::from(*verdict == outcome.verdict));
            assert_eq!(value(&format!("verdict{{verdict=\"{}\"}}", verdict.as_str())), Some(expected), "{name}");
        }
        // The JSON has what was found at the beginning, and the file what is there.
        let is_over = outcome.exit_status == 0 && !outcome.done.is_empty();
        for code in FindingCode::ALL {
            let found = !is_over && outcome.findings.iter().any(|finding| finding.code == *code);
            let expected = f64::from(u8::from(found));
            assert_eq!(value(&format!("finding{{finding=\"{}\"}}", code.as_str())), Some(expected), "{name}");
        }
        let known = outcome.verdict != Verdict::Unknown;
        assert_eq!(value("listeners").is_some(), known, "{name}");
        assert_eq!(value("oldest_listener_start_timestamp_seconds").is_some(), !outcome.listeners.is_empty(), "{name}");
        assert!(value("last_run_timestamp_seconds").is_some_and(|time| time > 1e9), "{name}");
    }
}
