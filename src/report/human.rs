//! An outcome as a screen: first whether a new connection gets through, then who holds the port since when and what was or
//! will be done about it, at the end the one thing to do.

use std::fmt::Write;
use std::net::SocketAddr;

use super::conclusion::conclusion;
use super::next_step::next_step;
use super::outcome::{Done, InstanceOutcome, Outcome, Tried, UnitState, Verdict};
use crate::model::address::list;
use crate::model::diagnosis::{Finding, FindingCode, Listener};
use crate::model::plan::Step;
use crate::model::printable::printable;
use crate::model::probe::ProbeResult;

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// With colours.
    pub colour: bool,
    /// With every process that is called sshd.
    pub verbose: bool,
    /// The verdict, a refusal, and what to do only.
    pub quiet: bool,
}

/// Width of the first column: `what to do` and a bit.
const COLUMN: usize = 12;

/// The text for a person, with a line break at its end.
pub fn render(outcome: &Outcome, style: Style) -> String {
    let mut text = String::new();
    headline(&mut text, outcome, style.colour);
    if !style.quiet {
        if outcome.verdict != Verdict::NotApplicable && outcome.verdict != Verdict::Unknown {
            facts(&mut text, outcome, style.verbose);
        }
        // Why a machine could not be examined is its headline.
        let told = usize::from(outcome.verdict == Verdict::Unknown);
        // The refusal says it again.
        let is_said = |note: &&String| outcome.refusal.as_ref().is_some_and(|refusal| note.contains(&refusal.message));
        lines(&mut text, "note", outcome.notes.iter().skip(told).filter(|note| !is_said(note)).cloned());
    }
    if let Some(refusal) = &outcome.refusal {
        let label = if would_refuse(outcome) { "no repair" } else { "refused" };
        let would = match () {
            () if !would_refuse(outcome) => "because ",
            () if outcome.plan.is_empty() => "repair would refuse: ",
            () => "repair would do a part, and refuse the rest: ",
        };
        line(&mut text, label, &format!("{would}{} ({})", refusal.message, refusal.code.as_str()));
    }
    if must_keep_sessions(outcome) {
        line(&mut text, "keep in mind", "Do not close the sessions that you have open");
    }
    if let Some(step) = next_step(outcome) {
        lines(&mut text, "what to do", steps(&step).into_iter());
    }
    text
}

/// They may be the only way in.
fn must_keep_sessions(outcome: &Outcome) -> bool {
    let may_be_dead = [Verdict::Broken, Verdict::Refused, Verdict::Rescued, Verdict::Failed].contains(&outcome.verdict);
    let is_unverified = outcome.verdict == Verdict::Unverified && !outcome.done.is_empty();
    is_unverified || (may_be_dead && outcome.exit_status == 2)
}

/// Nobody has asked for a repair yet.
fn would_refuse(outcome: &Outcome) -> bool {
    outcome.verdict != Verdict::Refused && (outcome.command == "check" || outcome.dry_run)
}

/// As monitoring plugins begin: the service, and one of four words for its state.
fn headline(text: &mut String, outcome: &Outcome, coloured: bool) {
    let (state, colour) = match outcome.exit_status {
        0 => ("OK", 32),
        1 => ("WARNING", 33),
        2 => ("CRITICAL", 31),
        _ => ("UNKNOWN", 33),
    };
    let verdict = word(outcome.verdict);
    let begins = match verdict == state {
        true => format!("SSHD {state}"),
        false => format!("SSHD {state} - {verdict}"),
    };
    let begins = if coloured { format!("\x1b[1;{colour}m{begins}\x1b[0m") } else { begins };
    let _ = writeln!(text, "{begins}: {}", printable(&conclusion(outcome)));
}

/// Advice with one step a line: `First this: 1. a. 2. b` has three.
fn steps(advice: &str) -> Vec<String> {
    let Some((before, mut rest)) = advice.split_once("1. ") else { return vec![advice.to_owned()] };
    let mut steps: Vec<String> =
        Some(before.trim_end()).filter(|text| !text.is_empty()).map(str::to_owned).into_iter().collect();
    for number in 1.. {
        let (step, later) = match rest.split_once(&format!(". {}. ", number + 1)) {
            Some((step, later)) => (step, Some(later)),
            None => (rest, None),
        };
        steps.push(format!("{number}. {step}"));
        let Some(later) = later else { break };
        rest = later;
    }
    steps
}

/// As it came about: what was wrong, what was done about it, how the machine is now.
fn facts(text: &mut String, outcome: &Outcome, verbose: bool) {
    let repaired = !outcome.done.is_empty();
    if repaired {
        lines(text, "found", outcome.findings.iter().map(|finding| finding.message.clone()));
        lines(text, "done", outcome.done.iter().map(did));
    }
    let states = outcome.units.iter().map(|(name, unit)| format!("{name}  {}", state(unit)));
    line(text, "units", &states.collect::<Vec<_>>().join("   "));
    let listeners = outcome.listeners.iter().flat_map(|listener| holder(outcome, listener));
    let waiting = outcome.instances.iter().filter_map(|instance| waiting(outcome, instance));
    lines(text, "listener", listeners.chain(waiting));
    if !repaired {
        let headline = conclusion(outcome);
        let is_shown =
            |finding: &&Finding| is_shown_with_a_listener(finding.code, outcome) || headline.contains(&finding.message);
        let apart = outcome.findings.iter().filter(|finding| !is_shown(finding));
        lines(text, "found", apart.map(|finding| finding.message.clone()));
    }
    if verbose {
        lines(text, "others", outcome.others.iter().cloned());
    }
    if outcome.dry_run {
        lines(text, "would", outcome.plan.iter().map(would));
        line(text, "dry run", "nothing was changed");
    }
    let unequal = outcome.instances.iter().any(|instance| instance.verdict != outcome.verdict);
    if outcome.instances.len() > 1 && unequal {
        lines(text, "instances", outcome.instances.iter().map(|each| instance(outcome, each)));
    }
}

fn line(text: &mut String, label: &str, content: &str) {
    let _ = writeln!(text, "{label:COLUMN$} {}", printable(content));
}

/// Lines under one label.
fn lines(text: &mut String, label: &str, contents: impl Iterator<Item = String>) {
    for (index, content) in contents.enumerate() {
        line(text, if index == 0 { label } else { "" }, &content);
    }
}

fn state(unit: &UnitState) -> String {
    if unit.load != "loaded" {
        return unit.load.clone();
    }
    let detail = if unit.active == "failed" { &unit.result } else { &unit.sub };
    format!("{} ({detail}), {}", unit.active, unit.enabled)
}

/// Who it is, where it listens and since when; then whether it answers.
fn holder(outcome: &Outcome, listener: &Listener) -> [String; 2] {
    let mut started = String::new();
    // It has no words for years after 9999.
    let _ = write!(started, "{}", humantime::format_rfc3339_seconds(listener.started));
    let since = started.split('T').next().unwrap_or(&started);
    let program = listener.exe.strip_suffix(" (deleted)").unwrap_or(&listener.exe);
    let program = match (listener.stale, listener.removed) {
        (false, _) => String::new(),
        (true, false) => format!("; {program} was replaced on disk since"),
        (true, true) => format!("; {program} was removed from disk since"),
    };
    let unit = listener.unit.as_deref().unwrap_or("no unit owns it");
    let addresses = list(&listener.addresses);
    let probe = &listener.probe;
    let detail = &probe.detail;
    let answers = match (probe.result, &probe.authentication, &probe.proof_detail) {
        (ProbeResult::Ok, Some(methods), _) => {
            format!("answers: {detail}; a client gets as far as authentication ({})", methods.join(", "))
        }
        (ProbeResult::Ok, None, Some(why)) => {
            format!("answers: {detail}, up to the key exchange; how a client gets on is not known: {why}")
        }
        (ProbeResult::Ok, None, None) => format!("answers: {detail}, up to the key exchange"),
        (ProbeResult::Dead, ..) if is_directory_missing(outcome) => {
            "does not answer: it closes new connections in the middle of the key exchange, since /run/sshd is missing"
                .to_owned()
        }
        (ProbeResult::Dead, ..) => format!("does not answer: {detail}"),
        (ProbeResult::Inconclusive, ..) => format!("whether it answers is not known: {detail}"),
        (ProbeResult::Skipped, ..) => format!("not probed: {detail}"),
    };
    [format!("sshd {} ({unit}) at {addresses}, since {since}{program}", listener.pid), answers]
}

/// Addresses that systemd holds until the first connection, and what is known of the program that it will start.
fn waiting(outcome: &Outcome, instance: &InstanceOutcome) -> Option<String> {
    let by_listeners = |address: &SocketAddr| outcome.listeners.iter().any(|l| l.addresses.contains(address));
    if instance.addresses.is_empty() || instance.addresses.iter().any(by_listeners) {
        return None;
    }
    if let Some(rescue) = &instance.rescue {
        return Some(format!("{rescue} at {}, in place of {}", list(&instance.addresses), instance.instance));
    }
    let tried = match instance.tried {
        Some(Tried::Passed) => "which was tried and answers",
        Some(Tried::ConfigurationOnly) => {
            "whose configuration is valid; it answers once /run/sshd is there, which systemd creates"
        }
        Some(Tried::Failed) => "which would fail",
        None => "which was not tried",
    };
    let addresses = list(&instance.addresses);
    Some(format!(
        "systemd for {} at {addresses}; the first connection starts the sshd on disk, {tried}",
        instance.instance
    ))
}

/// `/run/sshd` was missing, and is not there again.
fn is_directory_missing(outcome: &Outcome) -> bool {
    let created = |done: &Done| done.ok && matches!(done.step, Step::CreateRuntimeDirectory { .. });
    outcome.findings.iter().any(|finding| finding.code == FindingCode::RuntimeDirectoryMissing)
        && !outcome.done.iter().any(created)
}

/// The listener's own lines say it already.
fn is_shown_with_a_listener(code: FindingCode, outcome: &Outcome) -> bool {
    match code {
        FindingCode::StaleOrphan
        | FindingCode::StaleService
        | FindingCode::Orphan
        | FindingCode::NotAnswering
        | FindingCode::RescueActive => true,
        FindingCode::RuntimeDirectoryMissing => outcome.listeners.iter().any(|listener| listener.probe.is_dead()),
        _ => false,
    }
}

fn instance(machine: &Outcome, outcome: &InstanceOutcome) -> String {
    let verdict = word(outcome.verdict).to_lowercase();
    let is_unseen = |finding: &&Finding| {
        finding.instance.as_ref() == Some(&outcome.instance)
            && [FindingCode::NotExamined, FindingCode::Unseen].contains(&finding.code)
    };
    let addresses = match outcome.addresses.is_empty() {
        true if machine.findings.iter().any(|finding| is_unseen(&finding)) => {
            "where it listens is not known".to_owned()
        }
        true => "does not listen".to_owned(),
        false => list(&outcome.addresses),
    };
    let rescue = outcome.rescue.as_ref().map(|unit| format!(", served by {unit}")).unwrap_or_default();
    let refusal = outcome.refusal.as_ref().map(|refusal| format!(": {}", refusal.message)).unwrap_or_default();
    format!("{}  {verdict}, {addresses}{rescue}{refusal}", outcome.instance)
}

fn would(step: &Step) -> String {
    match step {
        Step::CreateRuntimeDirectory { path } => {
            format!("create {path}, after which new connections may get through again")
        }
        Step::Terminate { pid, .. } => format!("terminate sshd {pid} (open sessions survive)"),
        Step::ResetFailed { unit } => format!("clear the failed state of {unit}"),
        Step::StopUnit { unit } | Step::StopRescue { unit } => format!("stop {unit}"),
        Step::StartUnit { unit } | Step::StartRescue { unit, .. } => format!("start {unit}"),
        Step::RestartUnit { unit } => format!("restart {unit}"),
        Step::Probe { address } => format!("probe {address} with a new connection"),
    }
}

fn did(done: &Done) -> String {
    let what = match &done.step {
        Step::CreateRuntimeDirectory { path } => path.clone(),
        Step::Terminate { pid, .. } => format!("sshd {pid}"),
        Step::ResetFailed { unit }
        | Step::StopUnit { unit }
        | Step::StartUnit { unit }
        | Step::RestartUnit { unit }
        | Step::StartRescue { unit, .. }
        | Step::StopRescue { unit } => unit.clone(),
        Step::Probe { address } => address.to_string(),
    };
    let failed = if done.ok { "" } else { "failed: " };
    format!("{what}: {failed}{} ({} ms)", done.result, done.duration_ms)
}

pub(super) const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Healthy => "HEALTHY",
        Verdict::AtRisk => "AT RISK",
        Verdict::Stopped => "STOPPED",
        Verdict::Broken => "BROKEN",
        Verdict::Repaired => "REPAIRED",
        Verdict::Unverified => "UNVERIFIED",
        Verdict::Refused => "REFUSED",
        Verdict::Rescued => "RESCUED",
        Verdict::Failed => "FAILED",
        Verdict::NotApplicable => "NOT APPLICABLE",
        Verdict::Unknown => "UNKNOWN",
    }
}
