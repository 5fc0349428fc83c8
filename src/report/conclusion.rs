//! The headline of a screen: whether new connections get through, and what is wrong, in one sentence. No text may say that
//! somebody can log in: neither a probe nor the client that follows it authenticates.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::outcome::{InstanceOutcome, Outcome, Sessions, Tried, Verdict};
use crate::model::address::list;
use crate::model::diagnosis::{Finding, FindingCode, Listener, Severity};
use crate::model::names::SERVICE;
use crate::model::plan::Step;
use crate::model::probe::ProbeResult;

/// One sentence, without the verdict's word.
pub(super) fn conclusion(outcome: &Outcome) -> String {
    let reach = reach(outcome);
    match outcome.verdict {
        Verdict::NotApplicable => "there is no OpenSSH server on this machine".to_owned(),
        Verdict::Healthy => healthy(outcome, reach),
        Verdict::AtRisk => at_risk(outcome, &reach),
        Verdict::Stopped | Verdict::Broken => broken(outcome, reach),
        Verdict::Repaired => {
            let gap = outcome.unreachable_ms.map(|ms| format!("; SSH did not answer for {ms} ms")).unwrap_or_default();
            format!("new connections get through again{}{gap}", sessions(outcome))
        }
        Verdict::Unverified if outcome.done.is_empty() => format!("what the repair did is not known yet; {reach}"),
        Verdict::Unverified if outcome.sessions.after < outcome.sessions.before => {
            let Sessions { before, after } = outcome.sessions;
            format!("{reach}, but {} of {before} open sessions ended during the repair", before - after)
        }
        Verdict::Unverified => format!("what was done could not be verified in full; {reach}{}", sessions(outcome)),
        Verdict::Rescued => rescued(outcome),
        Verdict::Refused => refused(outcome, &reach),
        Verdict::Failed => {
            let is_silent = |instance: &InstanceOutcome| {
                instance.verdict == Verdict::Failed && instance.addresses.is_empty() && !outcome.listeners.is_empty()
            };
            let silent = if outcome.instances.iter().any(is_silent) { ", and does not listen" } else { "" };
            format!("{} could not be repaired{silent}; {reach}{}", failed(outcome), sessions(outcome))
        }
        Verdict::Unknown => match outcome.notes.first() {
            Some(why) => format!("the machine could not be examined: {why}"),
            None => "the machine could not be examined".to_owned(),
        },
    }
}

/// The instances that could not be repaired.
pub(super) fn failed(outcome: &Outcome) -> String {
    let failed = outcome.instances.iter().filter(|instance| instance.verdict == Verdict::Failed);
    let failed: Vec<&str> = failed.map(|instance| instance.instance.as_str()).collect();
    // What has failed may concern the machine as a whole.
    if failed.is_empty() { SERVICE.to_owned() } else { failed.join(" ") }
}

fn healthy(outcome: &Outcome, reach: String) -> String {
    match find(outcome, &[FindingCode::StaleLibraries, FindingCode::SocketDetached]) {
        Some(finding) => format!("{reach}; {}", finding.message),
        None => reach,
    }
}

fn at_risk(outcome: &Outcome, reach: &str) -> String {
    if let Some(finding) = find(outcome, &[FindingCode::StaleOrphan, FindingCode::Orphan]) {
        let pid = finding.pid.unwrap_or_default();
        return format!(
            "{reach}, but the next upgrade or restart of ssh may lock everybody out: no unit owns sshd {pid}"
        );
    }
    if let Some(finding) = find(outcome, &[FindingCode::StaleService]) {
        let unit = finding.instance.as_deref().unwrap_or(SERVICE);
        return format!(
            "{reach}, but {unit} still runs the version from before the upgrade: its security fixes are not in force"
        );
    }
    match outcome.findings.iter().find(|finding| finding.severity > Severity::Info) {
        // Its listener's line says what was seen.
        Some(finding) if finding.code == FindingCode::NotAnswering => reach.to_owned(),
        Some(finding) if outcome.listeners.is_empty() => finding.message.clone(),
        Some(finding) => format!("{reach}, but {}", finding.message),
        None => reach.to_owned(),
    }
}

/// What does not work, and what does.
fn broken(outcome: &Outcome, reach: String) -> String {
    let is_dead = |listener: &Listener| listener.probe.is_dead();
    let worst = outcome.findings.iter().find(|finding| finding.severity > Severity::Info);
    let Some(worst) = worst.filter(|_| !outcome.listeners.iter().any(is_dead)) else { return reach };
    let answer: BTreeSet<SocketAddr> = outcome
        .listeners
        .iter()
        .filter(|listener| listener.probe.is_ok())
        .flat_map(|listener| listener.addresses.iter().copied())
        .collect();
    match answer.is_empty() {
        true => worst.message.clone(),
        false => format!("{}; new connections to {} get through", worst.message, list(&answer)),
    }
}

/// The line about the refusal says why.
fn refused(outcome: &Outcome, reach: &str) -> String {
    let achieved = |is_it: fn(&Step) -> bool| outcome.done.iter().any(|done| done.ok && is_it(&done.step));
    if achieved(|step| matches!(step, Step::Terminate { .. } | Step::RestartUnit { .. })) {
        return format!("not everything was repaired; {reach}{}", sessions(outcome));
    }
    let all_answer = !outcome.listeners.is_empty() && outcome.listeners.iter().all(|listener| listener.probe.is_ok());
    if achieved(|step| matches!(step, Step::CreateRuntimeDirectory { .. })) && all_answer {
        let old = outcome.listeners.iter().filter(|listener| listener.stale || listener.orphan);
        let old: Vec<String> = old.map(|listener| listener.pid.to_string()).collect();
        let still = if old.is_empty() { String::new() } else { format!(". The old sshd {} still runs", old.join(" ")) };
        return format!("new connections get through again: /run/sshd was created{still}");
    }
    match outcome.exit_status {
        2 => format!("still broken: {reach}; nothing was terminated"),
        _ => format!("{reach}; nothing was terminated"),
    }
}

fn rescued(outcome: &Outcome) -> String {
    let rescued: Vec<&InstanceOutcome> = outcome.instances.iter().filter(|i| i.rescue.is_some()).collect();
    let each = rescued.iter().map(|instance| {
        let rescue = instance.rescue.as_deref().unwrap_or_default();
        format!(
            "{} could not be started; {rescue} serves {} in its place",
            instance.instance,
            list(&instance.addresses)
        )
    });
    let each = each.collect::<Vec<_>>().join("; ");
    format!("{each}, until the next reboot{}", sessions(outcome))
}

/// Nothing where nothing was done to them.
fn sessions(outcome: &Outcome) -> String {
    match outcome.sessions {
        Sessions { before: 0, .. } => String::new(),
        _ if outcome.done.is_empty() => String::new(),
        Sessions { before, after } => format!("; {after} of {before} open sessions survived"),
    }
}

/// The first finding of one of these kinds, tried in order.
fn find<'a>(outcome: &'a Outcome, codes: &[FindingCode]) -> Option<&'a Finding> {
    codes.iter().find_map(|code| outcome.findings.iter().find(|finding| finding.code == *code))
}

/// Whether new connections get through, and where.
fn reach(outcome: &Outcome) -> String {
    let of = |results: &[ProbeResult]| {
        let chosen = outcome.listeners.iter().filter(|listener| results.contains(&listener.probe.result));
        chosen
            .map(|l| format!("{} ({})", list(&l.addresses), l.unit.as_deref().unwrap_or("no unit")))
            .collect::<Vec<_>>()
    };
    let dead = of(&[ProbeResult::Dead]);
    let unknown = of(&[ProbeResult::Inconclusive, ProbeResult::Skipped]);
    let answer = of(&[ProbeResult::Ok]);
    match (dead.len(), unknown.len(), answer.len()) {
        (0, 0, 0) => nobody(outcome),
        (0, 0, _) => "new connections get through".to_owned(),
        (_, 0, 0) => "new connections do not get through".to_owned(),
        (0, _, 0) => "whether new connections get through is not known".to_owned(),
        _ => {
            let each = [
                ("do not get through", dead),
                ("may or may not get through: that is not known", unknown),
                ("get through", answer),
            ];
            let each = each.into_iter().filter(|(_, places)| !places.is_empty());
            let each = each.map(|(what, places)| format!("new connections to {} {what}", places.join(" and ")));
            each.collect::<Vec<_>>().join("; ")
        }
    }
}

/// No listener is seen.
fn nobody(outcome: &Outcome) -> String {
    let waiting = outcome.instances.iter().filter(|instance| !instance.addresses.is_empty());
    let held: BTreeSet<SocketAddr> = waiting.clone().flat_map(|instance| instance.addresses.iter().copied()).collect();
    let tried: Vec<Option<Tried>> = waiting.map(|instance| instance.tried).collect();
    let is_in = |states: &[&str]| outcome.units.values().any(|unit| states.contains(&unit.active.as_str()));
    if !held.is_empty() {
        let tried = match () {
            () if tried.iter().all(|tried| *tried == Some(Tried::Passed)) => "the sshd on disk was tried and answers",
            () if tried.contains(&Some(Tried::Failed)) => "the sshd on disk was tried and fails",
            () if tried.contains(&None) => "the sshd on disk was not tried",
            () => "the configuration of the sshd on disk is valid",
        };
        format!("systemd listens at {}; {tried}", list(&held))
    } else if is_in(&["active"]) {
        "no listener of SSH is seen".to_owned()
    } else if outcome.findings.is_empty() {
        "no SSH server is enabled here, and nobody listens".to_owned()
    } else {
        "nobody listens for SSH".to_owned()
    }
}
