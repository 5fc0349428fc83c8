//! What a package run is told: nothing if nothing is wrong, and the same thing only once in a while.
//!
//! unattended-upgrades runs the hook for each of its steps, dozens of times in a night.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::diagnosis::{Code, Severity};
use crate::record::Record;
use crate::refusal::Reason;
use crate::report::{Outcome, Verdict};

/// In seconds. A run of unattended-upgrades takes less; the one of the next day is told again.
const ONCE_IN: i64 = 3600;

/// What a package run was told last, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    /// CLOCK_BOOTTIME in seconds.
    at: i64,
    findings: Vec<(Code, Option<i32>)>,
    refusal: Option<Reason>,
}

/// There is something to say after a package run that was not said a moment ago.
#[must_use]
pub fn is_worth_saying(outcome: &Outcome) -> bool {
    // Who stopped SSH on purpose need not be told after every package run.
    let wrong = |code: Code, severity: Severity| severity > Severity::Info && code != Code::Stopped;
    let findings = outcome.findings.iter().filter(|finding| wrong(finding.code, finding.severity));
    let now = Said {
        at: clock_gettime(ClockId::Boottime).tv_sec,
        findings: findings.map(|finding| (finding.code, finding.pid)).collect(),
        refusal: outcome.refusal.as_ref().map(|refusal| refusal.code),
    };
    if !outcome.done.is_empty() || outcome.verdict == Verdict::Unknown {
        return true;
    }
    // The next boot starts a fresh sshd: nobody has to do anything about it.
    if now.findings.is_empty() || now.refusal == Some(Reason::ShuttingDown) {
        return false;
    }
    let Ok(record) = Record::open() else { return true };
    let again = record.said::<Said>().is_some_and(|last| {
        let same = (&last.findings, &last.refusal) == (&now.findings, &now.refusal);
        same && (0..ONCE_IN).contains(&(now.at - last.at))
    });
    if !again {
        let remembered = record.write_said(&now);
        log::debug!("what was said is on record: {remembered:?}");
    }
    !again
}
