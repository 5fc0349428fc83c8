//! An outcome as a screen: whether a new connection gets through, who holds the port since when, what was or will be done
//! about it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;

use super::outcome::{Done, InstanceOutcome, Outcome, Sessions, UnitState, Verdict};
use crate::model::address::list;
use crate::model::diagnosis::{FindingCode, Listener};
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
    /// The verdict only.
    pub quiet: bool,
}

/// Width of the first column: `[::]:22` and a bit.
const COLUMN: usize = 12;

/// The text for a person, with a line break at its end.
pub fn render(outcome: &Outcome, style: Style) -> String {
    let mut text = String::new();
    if !style.quiet && outcome.verdict != Verdict::NotApplicable && outcome.verdict != Verdict::Unknown {
        // As it came about: what was wrong, what was done about it, how the machine is now.
        let repaired = !outcome.done.is_empty();
        if repaired {
            lines(&mut text, "found", outcome.findings.iter().map(|finding| finding.message.clone()));
            lines(&mut text, "done", outcome.done.iter().map(did));
        }
        units(&mut text, outcome);
        for listener in &outcome.listeners {
            holder(&mut text, outcome, listener);
        }
        if !repaired {
            let apart = outcome.findings.iter().filter(|f| !is_shown_with_a_listener(f.code, outcome));
            lines(&mut text, "", apart.map(|finding| finding.message.clone()));
        }
        if style.verbose {
            lines(&mut text, "others", outcome.others.iter().cloned());
        }
        if outcome.dry_run {
            lines(&mut text, "would", outcome.plan.iter().map(would));
            line(&mut text, "dry run", "nothing was changed");
        }
        let unequal = outcome.instances.iter().any(|instance| instance.verdict != outcome.verdict);
        if outcome.instances.len() > 1 && unequal {
            lines(&mut text, "instances", outcome.instances.iter().map(instance));
        }
    }
    // Why a machine could not be examined is its conclusion.
    let told = usize::from(outcome.verdict == Verdict::Unknown);
    if !style.quiet {
        lines(&mut text, "note", outcome.notes.iter().skip(told).cloned());
    }
    if let Some(refusal) = &outcome.refusal {
        let would = outcome.verdict != Verdict::Refused && (outcome.command == "check" || outcome.dry_run);
        let label = if would { "no repair" } else { "refused" };
        line(&mut text, label, &format!("{} ({})", refusal.message, refusal.code.as_str()));
        line(&mut text, "what to do", &refusal.advice);
    }
    let (word, colour) = word(outcome.verdict);
    let word = if style.colour { format!("\x1b[1;{colour}m{word}\x1b[0m") } else { word.to_owned() };
    let _ = writeln!(text, "{word}  {}", printable(&conclusion(outcome)));
    text
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

fn units(text: &mut String, outcome: &Outcome) {
    let states: Vec<String> = outcome.units.iter().map(|(name, unit)| format!("{name}  {}", state(unit))).collect();
    let _ = writeln!(text, "{}", printable(&states.join("   ")));
}

fn state(unit: &UnitState) -> String {
    if unit.load != "loaded" {
        return unit.load.clone();
    }
    let detail = if unit.active == "failed" { &unit.result } else { &unit.sub };
    format!("{} ({detail}), {}", unit.active, unit.enabled)
}

fn holder(text: &mut String, outcome: &Outcome, listener: &Listener) {
    let mut started = String::new();
    // It has no words for years after 9999.
    let _ = write!(started, "{}", humantime::format_rfc3339_seconds(listener.started));
    let since = started.split('T').next().unwrap_or(&started);
    let program = listener.exe.strip_suffix(" (deleted)").unwrap_or(&listener.exe);
    let state = match (listener.stale, &listener.unit) {
        (true, None) => format!(": {program} was replaced on disk, and no unit owns this process"),
        (true, Some(unit)) => format!(": {program} was replaced on disk; it belongs to {unit}"),
        (false, None) => ": no unit owns this process".to_owned(),
        (false, Some(unit)) => format!(" ({unit})"),
    };
    let mut labels = listener.addresses.iter().map(SocketAddr::to_string);
    line(text, &labels.next().unwrap_or_default(), &format!("sshd {}, running since {since}{state}", listener.pid));
    let mut detail = listener.probe.detail.clone();
    match listener.probe.result {
        ProbeResult::Ok => detail = format!("a new connection gets through ({detail})"),
        ProbeResult::Dead if is_directory_missing(outcome) => {
            detail = "new connections are closed after the client's KEXINIT: /run/sshd is missing".to_owned();
        }
        ProbeResult::Dead => {}
        ProbeResult::Inconclusive => detail = format!("whether a new connection gets through is not known: {detail}"),
        ProbeResult::Skipped => detail = format!("not probed: {detail}"),
    }
    line(text, &labels.next().unwrap_or_default(), &detail);
    for label in labels {
        line(text, &label, "");
    }
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
        FindingCode::StaleOrphan | FindingCode::StaleService | FindingCode::Orphan => true,
        FindingCode::RuntimeDirectoryMissing => outcome.listeners.iter().any(|listener| listener.probe.is_dead()),
        _ => false,
    }
}

fn instance(outcome: &InstanceOutcome) -> String {
    let verdict = word(outcome.verdict).0.to_lowercase();
    let addresses = match outcome.addresses.is_empty() {
        true => "serves nowhere".to_owned(),
        false => list(&outcome.addresses),
    };
    let rescue = outcome.rescue.as_ref().map(|unit| format!(", served by {unit}")).unwrap_or_default();
    let refusal = outcome.refusal.as_ref().map(|refusal| format!(": {}", refusal.message)).unwrap_or_default();
    format!("{}  {verdict}, {addresses}{rescue}{refusal}", outcome.instance)
}

fn would(step: &Step) -> String {
    match step {
        Step::CreateRuntimeDirectory { path } => format!("create {path}, after which logins may work again"),
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
    format!("{what}: {} ({} ms)", done.result, done.duration_ms)
}

const fn word(verdict: Verdict) -> (&'static str, u8) {
    match verdict {
        Verdict::Healthy => ("HEALTHY", 32),
        Verdict::AtRisk => ("AT RISK", 33),
        Verdict::Stopped => ("STOPPED", 31),
        Verdict::Broken => ("BROKEN", 31),
        Verdict::Repaired => ("REPAIRED", 32),
        Verdict::Unverified => ("UNVERIFIED", 33),
        Verdict::Refused => ("REFUSED", 33),
        Verdict::Rescued => ("RESCUED", 31),
        Verdict::Failed => ("FAILED", 31),
        Verdict::NotApplicable => ("NOT APPLICABLE", 0),
        Verdict::Unknown => ("UNKNOWN", 33),
    }
}

/// No text may say that somebody can log in: a probe stops at KEXINIT.
fn conclusion(outcome: &Outcome) -> String {
    let reach = reach(outcome);
    let advice = advice(outcome);
    let sessions = match outcome.sessions {
        Sessions { before: 0, .. } => String::new(),
        _ if outcome.done.is_empty() => String::new(),
        Sessions { before, after } => format!("; {after} of {before} open sessions survived"),
    };
    let has = |codes: &[FindingCode]| outcome.findings.iter().any(|finding| codes.contains(&finding.code));
    match outcome.verdict {
        Verdict::Healthy if outcome.listeners.is_empty() => reach,
        Verdict::Healthy => format!("{reach}, and nothing is wrong"),
        Verdict::AtRisk if has(&[FindingCode::StaleOrphan, FindingCode::Orphan]) => {
            format!("{reach}, but the next upgrade or restart may lock everybody out{advice}")
        }
        Verdict::AtRisk if has(&[FindingCode::StaleService]) => format!(
            "{reach}, but sshd still runs the version from before the upgrade: its security fixes are not in force{advice}"
        ),
        Verdict::AtRisk => format!("{reach}; what is said above needs attention{advice}"),
        Verdict::Stopped if !outcome.listeners.is_empty() => {
            format!("`sshd-mend repair` leaves as it is what somebody stopped; {reach} where sshd listens")
        }
        Verdict::Stopped => {
            "nobody can log in. `sshd-mend repair` leaves it as it is, since somebody stopped it".to_owned()
        }
        Verdict::Broken if outcome.listeners.iter().all(|l| l.probe.is_ok()) && !outcome.listeners.is_empty() => {
            format!("{reach} where sshd listens; what is said above does not work{advice}")
        }
        Verdict::Broken => format!("{reach}{advice}"),
        Verdict::Repaired => {
            let gap = outcome.unreachable_ms.map(|ms| format!("; SSH did not answer for {ms} ms")).unwrap_or_default();
            format!("new connections get through again{sessions}{gap}")
        }
        Verdict::Unverified if outcome.done.is_empty() => format!("the repair has not ended yet; {reach}"),
        Verdict::Unverified if outcome.sessions.after < outcome.sessions.before => {
            format!("{reach}, but{}", &sessions[1..])
        }
        Verdict::Unverified => {
            format!("what was done could not be verified in full; {reach}{sessions}. See: journalctl -t sshd-mend")
        }
        Verdict::Rescued => rescued(outcome, &sessions),
        Verdict::Refused if outcome.done.iter().any(|done| done.ok && is_replacement(&done.step)) => {
            format!("not everything was repaired, for the reason above; {reach}")
        }
        Verdict::Refused => format!("nothing was terminated, and {reach}"),
        Verdict::Failed => {
            let failed = outcome.instances.iter().filter(|instance| instance.verdict == Verdict::Failed);
            let failed = failed.map(|instance| instance.instance.as_str()).collect::<Vec<_>>().join(" ");
            format!(
                "{failed} could not be repaired; {reach}{sessions}. Keep the sessions that you have open. See: systemctl status {failed}; journalctl -t sshd-mend. \
                 When the cause is removed: sudo sshd-mend repair"
            )
        }
        Verdict::NotApplicable => "there is no OpenSSH server on this machine".to_owned(),
        Verdict::Unknown => match outcome.notes.first() {
            Some(why) => format!("the machine could not be examined: {why}"),
            None => "the machine could not be examined".to_owned(),
        },
    }
}

/// Whether new connections get through, and where.
fn reach(outcome: &Outcome) -> String {
    let at = |results: &[ProbeResult]| -> BTreeSet<SocketAddr> {
        let listeners = outcome.listeners.iter().filter(|listener| results.contains(&listener.probe.result));
        listeners.flat_map(|listener| listener.addresses.iter().copied()).collect()
    };
    let (ok, dead) = (at(&[ProbeResult::Ok]), at(&[ProbeResult::Dead]));
    let unknown = at(&[ProbeResult::Inconclusive, ProbeResult::Skipped]);
    match (ok.is_empty(), dead.is_empty(), unknown.is_empty()) {
        (true, true, true) => return nobody(outcome),
        (false, true, true) => return "new connections get through".to_owned(),
        (true, false, true) => return "new connections do not get through".to_owned(),
        (true, true, false) => return "whether new connections get through is not known".to_owned(),
        _ => {}
    }
    let parts = [("get through", &ok), ("do not get through", &dead), ("may get through or not", &unknown)];
    let parts = parts.into_iter().filter(|(_, addresses)| !addresses.is_empty());
    let parts: Vec<String> =
        parts.map(|(what, addresses)| format!("new connections to {} {what}", list(addresses))).collect();
    parts.join("; ")
}

/// No listener is seen.
fn nobody(outcome: &Outcome) -> String {
    let held: BTreeSet<SocketAddr> =
        outcome.instances.iter().flat_map(|instance| instance.addresses.iter().copied()).collect();
    let is_in = |states: &[&str]| outcome.units.values().any(|unit| states.contains(&unit.active.as_str()));
    if !held.is_empty() {
        format!("systemd listens at {} and starts sshd for the first connection, which was not tried", list(&held))
    } else if is_in(&["activating"]) {
        "nobody listens for SSH yet: it is being started. Look again in a moment".to_owned()
    } else if is_in(&["active"]) {
        "no listener of SSH is seen".to_owned()
    } else if outcome.findings.is_empty() {
        "nobody listens for SSH, and no unit is enabled that would".to_owned()
    } else {
        "nobody listens for SSH".to_owned()
    }
}

/// What to do next. Nothing where a refusal says it.
fn advice(outcome: &Outcome) -> &'static str {
    match (&outcome.refusal, outcome.plan.is_empty()) {
        (Some(_), false) => ". `sudo sshd-mend repair` does the rest",
        (Some(_), true) => "",
        (None, true) => ". `sshd-mend repair` would change nothing",
        (None, false) => ". To repair it: sudo sshd-mend repair",
    }
}

fn is_replacement(step: &Step) -> bool {
    matches!(step, Step::Terminate { .. } | Step::RestartUnit { .. })
}

fn rescued(outcome: &Outcome, sessions: &str) -> String {
    let rescued: Vec<&InstanceOutcome> = outcome.instances.iter().filter(|i| i.rescue.is_some()).collect();
    let each = rescued.iter().map(|instance| {
        let rescue = instance.rescue.as_deref().unwrap_or_default();
        format!(
            "{} could not be started; {rescue} serves {} in its place",
            instance.instance,
            list(&instance.addresses)
        )
    });
    let units = rescued.iter().map(|instance| instance.instance.as_str()).collect::<Vec<_>>().join(" ");
    format!(
        "{}{sessions}. It ends with the next reboot. Find the cause: systemctl status {units}; remove it; then: sudo sshd-mend repair",
        each.collect::<Vec<_>>().join("; ")
    )
}
