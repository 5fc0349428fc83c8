//! What came of a run: one value, which is the JSON of `--json` and the source of the text for people.

mod human;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;

use crate::carry_out::Done;
use crate::diagnosis::{Finding, Listener, Severity};
use crate::plan::Action;
use crate::refusal::Refusal;
use crate::snapshot::Unit;

pub use human::{Style, render};

/// Everything that a run has to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Version of this format.
    pub schema: u32,
    /// check, repair or hook.
    pub command: String,
    /// Nothing was to be changed.
    pub dry_run: bool,
    /// The result in a word.
    pub verdict: Verdict,
    /// As the process exits.
    pub exit_status: u8,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
    /// The listeners at the end of the run.
    pub listeners: Vec<Listener>,
    /// ssh.service and ssh.socket at the end of the run.
    pub units: BTreeMap<String, UnitState>,
    /// The steps that mend it.
    pub plan: Vec<Action>,
    /// Those that were taken.
    pub done: Vec<Done>,
    /// Why no more was done.
    pub refusal: Option<Refusal>,
    /// Open sessions.
    pub sessions: Sessions,
    /// From the first signal until a connection got through again.
    pub unreachable_ms: Option<u64>,
    /// Of the whole run.
    pub duration_ms: u64,
    /// Anything else that a person should know.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
    /// Processes that are called sshd and that nothing is done to; for `-v`.
    #[serde(skip)]
    pub others: Vec<String>,
}

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing is wrong.
    Healthy,
    /// It works, and will not for long.
    AtRisk,
    /// A new connection does not get through.
    Broken,
    /// Mended and probed.
    Repaired,
    /// Mended; whether a connection gets through is not known.
    Unverified,
    /// A fault was seen and not acted on.
    Refused,
    /// ssh.service could not be started; the rescue serves.
    Rescued,
    /// The repair did not reach its end.
    Failed,
    /// There is no OpenSSH server here.
    NotApplicable,
    /// The machine could not be examined.
    Unknown,
}

/// Sessions that were open when the run began, and those of them that still are at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// When the run began.
    pub before: usize,
    /// At its end.
    pub after: usize,
}

/// A unit in systemd's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// `LoadState`
    pub load: String,
    /// `ActiveState`
    pub active: String,
    /// `SubState`
    pub sub: String,
    /// `Result`
    pub result: String,
    /// `UnitFileState`
    pub enabled: String,
    /// `MainPID`
    pub main_pid: Option<i32>,
    /// Stream addresses; of a socket unit only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub listen: Option<Vec<String>>,
}

impl From<&Unit> for UnitState {
    fn from(unit: &Unit) -> Self {
        Self {
            load: unit.load.clone(),
            active: unit.active.clone(),
            sub: unit.sub.clone(),
            result: unit.result.clone(),
            enabled: unit.enabled.clone(),
            main_pid: unit.main_pid,
            listen: unit.name.ends_with(".socket").then(|| unit.listen.clone()),
        }
    }
}

impl Verdict {
    /// The exit status for this verdict and the worst that is still wrong at the end of the run.
    #[must_use]
    pub fn exit_status(self, remaining: Option<Severity>) -> u8 {
        let by_state = match remaining {
            Some(Severity::Critical) => 2,
            Some(Severity::Warning) => 1,
            Some(Severity::Info) | None => 0,
        };
        match self {
            Self::Unknown => 3,
            Self::NotApplicable => 0,
            Self::Failed | Self::Rescued => 2,
            Self::Refused | Self::Unverified => by_state.max(1),
            Self::Healthy | Self::AtRisk | Self::Broken | Self::Repaired => by_state,
        }
    }
}

/// Prints an outcome to standard output, for a program or for a person. A terminal that went away is no reason to
/// panic, and there is nobody left to tell.
pub fn print(outcome: &Outcome, json: bool, style: Style) {
    let mut out = std::io::stdout().lock();
    let _ = if json {
        serde_json::to_writer(&mut out, outcome).map_err(Into::into).and_then(|()| writeln!(out))
    } else {
        out.write_all(render(outcome, style).as_bytes())
    };
    let _ = out.flush();
}
