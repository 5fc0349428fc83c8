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
        Verdict::Healthy | Verdict::NotApplicable => healthy(outcome, reach),
        Verdict::AtRisk => at_risk(outcome, &reach),
        Verdict::Stopped | Verdict::Broken => broken(outcome, reach),
        Verdict::Repaired => {
            let gap = outcome.unreachable_ms.map(|ms| format!("; SSH did not answer for {ms} ms")).unwrap_or_default();
            format!("new connections get through again{}{gap}", sessions(outcome))
        }
        Verdict::Unverified if outcome.done.is_empty() => format!("what the repair did is not known yet; {reach}"),
        Verdict::Unverified if outcome.sessions.after < outcome.sessions.before => {
            format!("{reach}, but sessions were lost{}", sessions(outcome))
        }
        Verdict::Unverified => format!("what was done could not be verified in full; {reach}{}", sessions(outcome)),
        Verdict::Rescued => rescued(outcome),
        Verdict::Refused => refused(outcome, &reach),
        Verdict::Failed => format!("{} could not be repaired; {reach}{}", failed(outcome), sessions(outcome)),
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
    if outcome.verdict == Verdict::NotApplicable {
        return "there is no OpenSSH server on this machine".to_owned();
    }
    let detached = outcome.findings.iter().any(|finding| finding.code == FindingCode::SocketDetached);
    let stale_libraries = outcome.findings.iter().any(|finding| finding.code == FindingCode::StaleLibraries);
    match (stale_libraries, detached) {
        (true, _) => format!("{reach}; sshd still uses libraries from before an upgrade"),
        (false, true) => format!("{reach}; ssh.socket is not active, and sshd serves without it"),
        (false, false) => reach,
    }
}

fn at_risk(outcome: &Outcome, reach: &str) -> String {
    let has = |code: FindingCode| outcome.findings.iter().any(|finding| finding.code == code);
    if has(FindingCode::StaleOrphan) || has(FindingCode::Orphan) {
        return format!("{reach}, but the next upgrade or restart may lock everybody out");
    }
    if has(FindingCode::StaleService) {
        return format!(
            "{reach}, but sshd still runs the version from before the upgrade: its security fixes are not in force"
        );
    }
    if has(FindingCode::WouldNotRestart) {
        return format!("{reach}, but not after the next restart: sshd would not start again");
    }
    match worst(outcome) {
        Some(finding) if all_answer(outcome) => format!("{reach}, but {}", finding.message),
        _ => reach.to_owned(),
    }
}

/// What does not work, and what does.
fn broken(outcome: &Outcome, reach: String) -> String {
    let is_dead = |listener: &Listener| listener.probe.is_dead();
    let Some(worst) = worst(outcome).filter(|_| !outcome.listeners.iter().any(is_dead)) else { return reach };
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

fn refused(outcome: &Outcome, reach: &str) -> String {
    let achieved = |is_it: fn(&Step) -> bool| outcome.done.iter().any(|done| done.ok && is_it(&done.step));
    if achieved(|step| matches!(step, Step::Terminate { .. } | Step::RestartUnit { .. })) {
        return format!("not everything was repaired; {reach}{}", sessions(outcome));
    }
    let why = outcome.refusal.as_ref().map(|refusal| format!(", because {}", refusal.message)).unwrap_or_default();
    if achieved(|step| matches!(step, Step::CreateRuntimeDirectory { .. })) && all_answer(outcome) {
        let old = outcome.listeners.iter().filter(|listener| listener.stale || listener.orphan);
        let old: Vec<String> = old.map(|listener| listener.pid.to_string()).collect();
        return format!(
            "new connections get through again: /run/sshd was created. The old sshd {} still runs{why}",
            old.join(" ")
        );
    }
    match outcome.exit_status {
        2 => format!("still broken: {reach}; nothing was terminated{why}"),
        _ => format!("{reach}; nothing was terminated{why}"),
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
    format!("{}{}. It ends with the next reboot", each.collect::<Vec<_>>().join("; "), sessions(outcome))
}

/// Nothing where nothing was done to them.
fn sessions(outcome: &Outcome) -> String {
    match outcome.sessions {
        Sessions { before: 0, .. } => String::new(),
        _ if outcome.done.is_empty() => String::new(),
        Sessions { before, after } => format!("; {after} of {before} open sessions survived"),
    }
}

fn worst(outcome: &Outcome) -> Option<&Finding> {
    outcome.findings.iter().find(|finding| finding.severity > Severity::Info)
}

fn all_answer(outcome: &Outcome) -> bool {
    !outcome.listeners.is_empty() && outcome.listeners.iter().all(|listener| listener.probe.is_ok())
}

/// Whether new connections get through, and where.
fn reach(outcome: &Outcome) -> String {
    let all = |results: &[ProbeResult]| outcome.listeners.iter().all(|l| results.contains(&l.probe.result));
    if outcome.listeners.is_empty() {
        return nobody(outcome);
    }
    if all(&[ProbeResult::Ok]) {
        return "new connections get through".to_owned();
    }
    if all(&[ProbeResult::Dead]) {
        return "new connections do not get through".to_owned();
    }
    if all(&[ProbeResult::Inconclusive, ProbeResult::Skipped]) {
        return "whether new connections get through is not known".to_owned();
    }
    let each = outcome.listeners.iter().map(|listener| {
        let at = format!("{} ({})", list(&listener.addresses), listener.unit.as_deref().unwrap_or("no unit"));
        match listener.probe.result {
            ProbeResult::Ok => format!("{at} works"),
            ProbeResult::Dead => format!("{at} closes every connection"),
            ProbeResult::Inconclusive | ProbeResult::Skipped => format!("whether {at} works is not known"),
        }
    });
    each.collect::<Vec<_>>().join("; ")
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
    } else if is_in(&["activating"]) {
        "nobody listens for SSH yet: it is being started".to_owned()
    } else if is_in(&["active"]) {
        "no listener of SSH is seen".to_owned()
    } else if outcome.findings.is_empty() {
        "nobody listens for SSH, and no unit is enabled that would".to_owned()
    } else {
        "nobody listens for SSH".to_owned()
    }
}
