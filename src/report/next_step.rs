//! The last line of a screen: the one thing to do now. It never asks for a repair that would refuse or change nothing.

use super::conclusion::failed;
use super::outcome::{Outcome, Verdict};
use crate::model::diagnosis::Severity;

const REPAIR: &str = "sudo sshd-mend repair";

/// `None`: nothing has to be done, or a refusal says what.
pub(super) fn next_step(outcome: &Outcome) -> Option<String> {
    match outcome.verdict {
        Verdict::NotApplicable | Verdict::Unknown => None,
        Verdict::Rescued => Some(rescued(outcome)),
        Verdict::Repaired => outcome.refusal.as_ref().map(|refusal| refusal.advice.clone()),
        Verdict::Failed => {
            let units = failed(outcome);
            Some(format!(
                "Keep the sessions that you have open. See: systemctl status {units}; journalctl -t sshd-mend. When the cause is removed: {REPAIR}"
            ))
        }
        Verdict::Unverified if outcome.done.is_empty() => {
            Some("See: journalctl -u sshd-mend-repair.service. Then: sudo sshd-mend check".to_owned())
        }
        Verdict::Unverified => Some("See: journalctl -t sshd-mend. Then: sudo sshd-mend check".to_owned()),
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
        let harmless = outcome.exit_status < 2;
        let sessions = if harmless { " (open sessions survive)" } else { "" };
        return Some(format!("{REPAIR}{sessions}"));
    }
    if outcome.verdict == Verdict::Healthy && starting(outcome) {
        return Some("Look again in a moment: sudo sshd-mend check".to_owned());
    }
    let advice =
        outcome.findings.iter().filter(|finding| outcome.exit_status == 0 || finding.severity > Severity::Info);
    advice.map(|finding| &finding.advice).find(|advice| !advice.is_empty()).cloned()
}

fn starting(outcome: &Outcome) -> bool {
    outcome.listeners.is_empty() && outcome.units.values().any(|unit| unit.active == "activating")
}

/// A rescue is no end. A restart by hand is safe: if it fails, the rescue serves again.
fn rescued(outcome: &Outcome) -> String {
    let rescued = outcome.instances.iter().filter(|instance| instance.rescue.is_some());
    let units: Vec<&str> = rescued.map(|instance| instance.instance.as_str()).collect();
    let logs: Vec<String> = units.iter().map(|unit| format!("journalctl -u {unit}")).collect();
    format!(
        "1. See why {} did not start: {}. 2. Remove the cause. 3. {REPAIR}. A restart by hand does no harm: if it fails, the rescue serves again",
        units.join(" "),
        logs.join("; ")
    )
}
