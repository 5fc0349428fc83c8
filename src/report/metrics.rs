//! An outcome as Prometheus metrics, for the textfile collector of node_exporter: one series for each verdict and each kind
//! of finding, always present, 0 or 1. Without time stamps of samples, which the collector refuses.

use std::fmt::{Display, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::outcome::{Outcome, Verdict};
use crate::model::diagnosis::FindingCode;
use crate::model::printable::printable;

/// The text of the file. <https://prometheus.io/docs/instrumenting/exposition_formats/>
pub fn metrics(outcome: &Outcome) -> String {
    let mut text = String::new();
    let status = "Exit status of `sshd-mend check`: 0 OK, 1 warning, 2 critical, 3 unknown.";
    gauge(&mut text, "status", status, [(String::new(), outcome.exit_status)]);
    let of_verdict = |verdict: &Verdict| (label("verdict", verdict.as_str()), u8::from(*verdict == outcome.verdict));
    gauge(&mut text, "verdict", "1 for the verdict about the machine.", Verdict::ALL.iter().map(of_verdict));
    // An outcome has the findings of the beginning.
    let is_over = !outcome.done.is_empty() && outcome.exit_status == 0;
    let has = |code: &FindingCode| !is_over && outcome.findings.iter().any(|finding| finding.code == *code);
    let of_finding = |code: &FindingCode| (label("finding", code.as_str()), u8::from(has(code)));
    gauge(
        &mut text,
        "finding",
        "1 for each kind of finding; 0 for all once they are repaired.",
        FindingCode::ALL.iter().map(of_finding),
    );
    if outcome.verdict != Verdict::Unknown {
        let listeners = outcome.listeners.len();
        gauge(&mut text, "sessions", "Open SSH sessions.", [(String::new(), outcome.sessions.after)]);
        gauge(&mut text, "listeners", "Processes that listen for SSH.", [(String::new(), listeners)]);
        gauge(&mut text, "instances", "Declared SSH servers.", [(String::new(), outcome.instances.len())]);
    }
    if let Some(started) = outcome.oldest_listener() {
        let help = "When the oldest of the listeners was started.";
        gauge(&mut text, "oldest_listener_start_timestamp_seconds", help, [(String::new(), seconds(started))]);
    }
    let help = "When the machine was examined.";
    gauge(&mut text, "last_run_timestamp_seconds", help, [(String::new(), seconds(outcome.origin.time))]);
    let duration = format!("{}.{:03}", outcome.duration_ms / 1000, outcome.duration_ms % 1000);
    gauge(&mut text, "last_run_duration_seconds", "How long that took.", [(String::new(), duration)]);
    let version = label("version", &outcome.origin.version);
    gauge(&mut text, "build_info", "1, with the version of sshd-mend.", [(version, 1)]);
    text
}

fn gauge<T: Display>(text: &mut String, name: &str, help: &str, series: impl IntoIterator<Item = (String, T)>) {
    let _ = writeln!(text, "# HELP sshd_mend_{name} {help}\n# TYPE sshd_mend_{name} gauge");
    for (labels, value) in series {
        let _ = writeln!(text, "sshd_mend_{name}{labels} {value}");
    }
}

fn label(name: &str, value: &str) -> String {
    format!("{{{name}=\"{}\"}}", printable(value).replace('\\', "\\\\").replace('"', "\\\""))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
