//! The outcome of a run: one value, which is the JSON of `--json` and the source of the text for people.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::host::node;
use crate::model::diagnosis::{Finding, FindingCode, Listener, Severity};
use crate::model::execution::StepOutcome;
use crate::model::plan::Step;
use crate::model::refusal::Refusal;
use crate::model::trial::Trial;
use crate::model::unit::{Listen, Unit};

/// Version of the JSON. 2 adds `instances` and the instance of findings and listeners. A field that is added is no new
/// version: whoever reads the JSON ignores what it does not know. One that changes its meaning, or goes, is.
/// packaging/outcome.schema.json describes all of them.
pub const SCHEMA: u32 = 2;

/// Everything that a run has to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// See [`SCHEMA`].
    pub schema: u32,
    #[serde(flatten)]
    pub origin: Origin,
    /// check, repair or hook.
    pub command: String,
    /// Nothing was to be changed.
    pub dry_run: bool,
    /// The machine as a whole.
    pub verdict: Verdict,
    /// As the process exits.
    pub exit_status: u8,
    /// What was found when the run began, worst first.
    pub findings: Vec<Finding>,
    /// The listeners at the end of the run.
    pub listeners: Vec<Listener>,
    /// ssh.service and ssh.socket at the end of the run.
    pub units: BTreeMap<String, UnitState>,
    /// Each instance by itself, the main one first.
    pub instances: Vec<InstanceOutcome>,
    /// The steps that repair what was found.
    pub plan: Vec<Step>,
    /// Those that were taken.
    pub done: Vec<Done>,
    /// Why no more was done.
    pub refusal: Option<Refusal>,
    /// Open sessions.
    pub sessions: Sessions,
    /// From the first signal until a connection got through again: the longest of all instances.
    pub unreachable_ms: Option<u64>,
    /// Of the whole run.
    pub duration_ms: u64,
    /// Anything else that a person should know.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
    /// Processes that are called sshd and are left alone; for `-v`.
    #[serde(skip)]
    pub others: Vec<String>,
}

impl Outcome {
    /// When the oldest of the listeners was started.
    pub fn oldest_listener(&self) -> Option<SystemTime> {
        self.listeners.iter().map(|listener| listener.started).min()
    }
}

/// Who says it, about which machine, and when: for those who collect the outcomes of many machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Of this program.
    pub version: String,
    /// The machine's node name, printable.
    pub host: String,
    /// The end of the run, in whole seconds.
    #[serde(with = "crate::model::json::rfc3339")]
    pub time: SystemTime,
}

/// What came of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceOutcome {
    /// Its service.
    pub instance: String,
    pub verdict: Verdict,
    /// Where it serves at the end of the run.
    pub addresses: BTreeSet<SocketAddr>,
    /// Why no more was done about it.
    pub refusal: Option<Refusal>,
    /// The socket of its rescue, if that serves.
    pub rescue: Option<String>,
    /// What came of the trial of the program on disk. `None`: it was not tried.
    #[serde(default)]
    pub tried: Option<Tried>,
}

/// Whether the program on disk would serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tried {
    /// Configuration and handshake.
    Passed,
    /// The handshake could not be tried: `/run/sshd` is missing until systemd starts the unit.
    ConfigurationOnly,
    Failed,
}

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    #[serde(flatten)]
    pub step: Step,
    /// It achieved what it is for.
    pub ok: bool,
    /// What came of it, for a person.
    pub result: String,
    /// How long it took.
    pub duration_ms: u64,
}

/// The result of a run, for the machine or for one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// There is no OpenSSH server here.
    NotApplicable,
    /// Nothing is wrong.
    Healthy,
    /// Repaired and probed.
    Repaired,
    /// SSH works now, and may stop working.
    AtRisk,
    /// Repaired; whether a connection gets through is not known.
    Unverified,
    /// A fault was found, and nothing was done about it.
    Refused,
    /// Nobody listens, because somebody stopped it.
    Stopped,
    /// A new connection does not get through.
    Broken,
    /// The units could not be started; the rescue serves.
    Rescued,
    /// The repair did not reach its end.
    Failed,
    /// The machine could not be examined.
    Unknown,
}

/// Sessions that were open when the run began, and those of them that still are at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    pub before: usize,
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

impl From<&Trial> for Tried {
    fn from(trial: &Trial) -> Self {
        match trial.has_passed() {
            true if trial.needs_runtime_directory() => Self::ConfigurationOnly,
            true => Self::Passed,
            false => Self::Failed,
        }
    }
}

impl From<&Unit> for UnitState {
    fn from(unit: &Unit) -> Self {
        Self {
            load: unit.load.as_str().to_owned(),
            active: unit.active.as_str().to_owned(),
            sub: unit.sub.clone(),
            result: unit.result.clone(),
            enabled: unit.enablement.as_str().to_owned(),
            main_pid: unit.main_pid,
            listen: unit.name.ends_with(".socket").then(|| unit.listen.iter().map(Listen::text).collect()),
        }
    }
}

impl From<&StepOutcome> for Done {
    fn from(outcome: &StepOutcome) -> Self {
        let result = match &outcome.result {
            Ok(success) => success.to_string(),
            Err(failure) => failure.to_string(),
        };
        let duration_ms = u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX);
        Self { step: outcome.step.clone(), ok: outcome.result.is_ok(), result, duration_ms }
    }
}

impl Verdict {
    /// Every verdict, from nothing wrong to the worst.
    pub const ALL: &'static [Self] = &[
        Self::NotApplicable,
        Self::Healthy,
        Self::Repaired,
        Self::AtRisk,
        Self::Unverified,
        Self::Refused,
        Self::Stopped,
        Self::Broken,
        Self::Rescued,
        Self::Failed,
        Self::Unknown,
    ];

    /// As in JSON and documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotApplicable => "not-applicable",
            Self::Healthy => "healthy",
            Self::Repaired => "repaired",
            Self::AtRisk => "at-risk",
            Self::Unverified => "unverified",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
            Self::Broken => "broken",
            Self::Rescued => "rescued",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// What it means, for the manual: a sentence without a full stop.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::NotApplicable => "This host has no OpenSSH server",
            Self::Healthy => "Nothing is wrong, and what was tested lets new connections through",
            Self::Repaired => {
                "A repair reached its end, new connections get through again, and every open session survived"
            }
            Self::AtRisk => "SSH works now and may stop working, or part of it could not be tested",
            Self::Unverified => {
                "A repair was made, or is still at work, and whether all is as it should be is not known; or it lost a session"
            }
            Self::Refused => "A fault was found, and a repair of it was declined for a named reason",
            Self::Stopped => "Nobody listens, because somebody stopped it: nobody can log in",
            Self::Broken => "A new connection does not get through",
            Self::Rescued => "The units could not be started, and a rescue serves in their place: find the cause",
            Self::Failed => {
                "A repair did not reach its end, and new connections may not get through: keep the sessions that are open"
            }
            Self::Unknown => "The machine could not be examined",
        }
    }

    /// Of a machine or an instance that nothing is done to.
    pub fn of<'a>(findings: impl Iterator<Item = &'a Finding> + Clone) -> Self {
        let mut critical = findings.clone().filter(|finding| finding.severity == Severity::Critical);
        match findings.map(|finding| finding.severity).max() {
            Some(Severity::Critical) if critical.all(|finding| finding.code == FindingCode::Stopped) => Self::Stopped,
            Some(Severity::Critical) => Self::Broken,
            Some(Severity::Warning) => Self::AtRisk,
            Some(Severity::Info) | None => Self::Healthy,
        }
    }

    /// The exit status for this verdict and the worst that is still wrong at the end of the run.
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
            Self::Healthy | Self::AtRisk | Self::Stopped | Self::Broken | Self::Repaired => by_state,
        }
    }
}

impl Origin {
    /// Of an outcome that is put together now, by this program.
    pub fn now() -> Self {
        // In JSON it has no fraction, and what is read back from the record is to be what was written. A clock before 1970
        // cannot be written in RFC 3339.
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), host: node::name(), time }
    }
}

impl Outcome {
    /// Of a machine that could not be examined.
    pub fn unknown(command: &str, why: &str) -> Self {
        Self {
            schema: SCHEMA,
            origin: Origin::now(),
            command: command.to_owned(),
            dry_run: false,
            verdict: Verdict::Unknown,
            exit_status: 3,
            findings: Vec::new(),
            listeners: Vec::new(),
            units: BTreeMap::new(),
            instances: Vec::new(),
            plan: Vec::new(),
            done: Vec::new(),
            refusal: None,
            sessions: Sessions { before: 0, after: 0 },
            unreachable_ms: None,
            duration_ms: 0,
            notes: vec![why.to_owned()],
            others: Vec::new(),
        }
    }
}
