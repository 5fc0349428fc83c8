//! The last line of a screen: the one thing to do now. It never asks for a repair that would refuse or change nothing.

use super::conclusion::failed;
use super::outcome::{Outcome, Verdict};
use crate::model::diagnosis::{Finding, FindingCode, Severity};
use crate::model::names::{REPAIR_UNIT, SERVICE, SOCKET};

/// No repair ends a session.
const REPAIR: &str = "sudo sshd-mend repair (open sessions survive)";

/// `None`: nothing has to be done.
pub(super) fn next_step(outcome: &Outcome) -> Option<String> {
    match outcome.verdict {
        Verdict::NotApplicable | Verdict::Unknown => None,
        Verdict::Rescued => Some(rescued(outcome)),
        Verdict::Repaired => outcome.refusal.as_ref().map(|refusal| refusal.advice.clone()).or_else(|| {
            let is_all = outcome.exit_status == 0;
            (!is_all).then(|| "sudo sshd-mend check, which says what is left to do".to_owned())
        }),
        Verdict::Failed => Some(format!("1. See why: {}. 2. Remove the cause. 3. {REPAIR}", logs(&failed(outcome)))),
        Verdict::Unverified if outcome.done.is_empty() => Some(format!(
            "1. Until it has ended, watch it (Ctrl-C to leave): sudo journalctl -fu {REPAIR_UNIT}. 2. sudo sshd-mend check"
        )),
        Verdict::Unverified => {
            Some("1. sudo sshd-mend check. 2. If that is not OK: sudo journalctl -t sshd-mend".to_owned())
        }
        Verdict::Healthy | Verdict::AtRisk | Verdict::Refused | Verdict::Stopped | Verdict::Broken => found(outcome),
    }
}

fn found(outcome: &Outcome) -> Option<String> {
    let remaining = !outcome.plan.is_empty() && outcome.done.is_empty() && outcome.verdict != Verdict::Refused;
    if let Some(refusal) = &outcome.refusal {
        // What can be repaired need not wait for the rest.
        let rest = if remaining { format!("{REPAIR} does what can be done now. Then: ") } else { String::new() };
        return Some(format!("{rest}{}", refusal.advice));
    }
    if remaining {
        let has_failed_before = |finding: &&Finding| finding.code == FindingCode::Interrupted;
        return Some(
            match outcome.findings.iter().find(has_failed_before).and_then(|finding| finding.instance.as_ref()) {
                Some(unit) => format!("{REPAIR}. If it has failed before, first see why: {}", logs(unit)),
                None => REPAIR.to_owned(),
            },
        );
    }
    // Whoever follows any other advice may restart the unit.
    let forbids_restart = |finding: &&Finding| finding.code == FindingCode::WouldNotRestart;
    let shown = || {
        let counts = |finding: &&Finding| outcome.exit_status == 0 || finding.severity > Severity::Info;
        outcome.findings.iter().filter(counts).filter(|finding| !finding.advice.is_empty())
    };
    shown().find(forbids_restart).or_else(|| shown().next()).map(|finding| finding.advice.clone())
}

fn logs(units: &str) -> String {
    let of_unit = |unit: &str| match unit == SERVICE {
        true => format!("-u {SERVICE} -u {SOCKET}"),
        false => format!("-u {unit}"),
    };
    let of_units: Vec<String> = units.split(' ').map(of_unit).collect();
    format!("sudo journalctl {} -u {REPAIR_UNIT}", of_units.join(" "))
}

/// A rescue is no end. A restart by hand is safe: if it fails, the rescue serves again.
fn rescued(outcome: &Outcome) -> String {
    let rescued = outcome.instances.iter().filter(|instance| instance.rescue.is_some());
    let units: Vec<&str> = rescued.map(|instance| instance.instance.as_str()).collect();
    format!(
        "Do not reboot before it is repaired. 1. See why {} did not start: {}. 2. Remove the cause. 3. {REPAIR}. A restart by hand does no harm: if it fails, the rescue serves again",
        units.join(" "),
        logs(&units.join(" "))
    )
}
