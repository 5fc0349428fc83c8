//! What a package run is told: nothing if nothing is wrong, and the same thing only once in a while.
//!
//! unattended-upgrades runs the hook for each of its steps, dozens of times in a night.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::act::record::{Record, Remembered};
use crate::model::diagnosis::{FindingCode, Severity};
use crate::model::refusal::RefusalCode;
use crate::report::{Outcome, Verdict};

/// The same notice is not given again for this long. A run of unattended-upgrades takes less; that of the next day gets
/// it again.
const REPEAT_INTERVAL_SECS: i64 = 3600;

/// What a package run was told, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// CLOCK_BOOTTIME in seconds.
    at: i64,
    findings: Vec<(FindingCode, Option<i32>, String)>,
    refusal: Option<RefusalCode>,
    /// What is wrong with the settings.
    mistake: Option<String>,
}

impl Notice {
    /// What a package run is to be told about an outcome. `None`: nothing, or nothing that it was not told a moment ago.
    pub fn due(outcome: &Outcome, mistake: Option<String>, last: Option<&Self>) -> Option<Self> {
        // Who stopped SSH on purpose need not be told after every package run.
        let wrong = |code: FindingCode, severity: Severity| severity > Severity::Info && code != FindingCode::Stopped;
        let findings = outcome.findings.iter().filter(|finding| wrong(finding.code, finding.severity));
        let notice = Self {
            at: clock_gettime(ClockId::Boottime).tv_sec,
            findings: findings.map(|finding| (finding.code, finding.pid, finding.message.clone())).collect(),
            refusal: outcome.refusal.as_ref().map(|refusal| refusal.code),
            mistake,
        };
        if !outcome.done.is_empty() || outcome.verdict == Verdict::Unknown {
            return Some(notice);
        }
        // The next boot starts a fresh sshd: nobody has to do anything about it.
        let nothing = notice.findings.is_empty() && notice.mistake.is_none();
        if nothing || notice.refusal == Some(RefusalCode::ShuttingDown) {
            return None;
        }
        let repeated = last.is_some_and(|last| {
            let same =
                (&last.findings, &last.refusal, &last.mistake) == (&notice.findings, &notice.refusal, &notice.mistake);
            same && (0..REPEAT_INTERVAL_SECS).contains(&(notice.at - last.at))
        });
        (!repeated).then_some(notice)
    }

    /// What a package run was told last.
    pub fn last() -> Option<Self> {
        Record::open_existing().ok()?.remembered(Remembered::Notice)
    }

    /// Nothing is wrong any more: what comes back is told again at once.
    pub fn forget(outcome: &Outcome) {
        let is_wrong = outcome.findings.iter().any(|finding| finding.severity > Severity::Info);
        let Some(told) = Self::last().filter(|last| !is_wrong && !last.findings.is_empty()) else { return };
        Self { findings: Vec::new(), refusal: None, ..told }.remember();
    }

    /// Remembers that it was given.
    pub fn remember(&self) {
        let remembered = Record::open().and_then(|record| record.remember(Remembered::Notice, self));
        log::debug!("the notice is on record: {remembered:?}");
    }
}
