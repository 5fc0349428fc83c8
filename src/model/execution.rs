//! What came of the steps of a plan, as types. Text for people is made of them at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::plan::Step;
use super::probe::{Probe, ProbeResult};
use super::refusal::Refusal;

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepOutcome {
    pub step: Step,
    pub result: Result<Success, Failure>,
    /// How long it took.
    pub duration: Duration,
}

/// What a step achieved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Success {
    /// The directory is there.
    Created,
    /// SIGTERM ended the listener.
    Terminated,
    /// SIGKILL ended the listener after the grace period.
    Killed,
    /// The listener had exited by itself.
    HadExited,
    /// The unit's failed state is cleared.
    Cleared,
    Started,
    Stopped,
    Restarted,
    /// The unit started at the second attempt, after its failed state was cleared.
    StartedAtSecondAttempt,
    /// A new connection got through; the server's banner.
    Answers(String),
    /// A client got as far as authentication; the server's banner, and the methods that it offers.
    Authenticates {
        banner: String,
        methods: Vec<String>,
    },
    /// The address cannot be reached by anybody, and the instance listens there: why.
    NobodyCanConnect(String),
    /// A new connection to the rescue got through.
    RescueServes,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The kernel refused: its error.
    System(String),
    /// The listener is still there after SIGKILL, in uninterruptible sleep.
    StillRunning,
    /// systemd's answer, or the result of the job.
    Systemd(String),
    /// The listener closes every connection: what was seen.
    Dead(String),
    /// Nothing is known about the listener: what was seen.
    Unverified(String),
    /// The old listener still holds the address.
    OldListener(i32),
    /// This process was asked to stop before the probe.
    AskedToStop,
    /// No connection through the rescue gets through.
    RescueDead,
}

/// What came of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceExecution {
    /// The instance's service.
    pub instance: String,
    pub steps: Vec<StepOutcome>,
    pub end: End,
    /// From the first signal or restart until a connection got through again.
    pub unreachable: Option<Duration>,
}

/// How the work on one instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Its units serve every address that was served before, and a new connection gets through at each.
    Served,
    /// Its units are active; at these addresses it is not known whether a new connection gets through.
    Unverified(BTreeSet<SocketAddr>),
    /// Its units do not start; the rescue serves every address.
    Rescued,
    /// These addresses are not served any more.
    Lost(BTreeSet<SocketAddr>),
    /// Nothing was terminated, since a listener is no longer what it was when it was judged.
    Changed,
    /// Nothing was terminated, for this reason.
    Refused(Refusal),
}

/// What came of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Execution {
    /// First aid and its probes.
    pub first_aid: Vec<StepOutcome>,
    pub instances: Vec<InstanceExecution>,
}

impl StepOutcome {
    /// A step that took this long.
    pub fn new(step: Step, duration: Duration, result: Result<Success, Failure>) -> Self {
        Self { step, result, duration }
    }
}

impl Execution {
    /// All steps that were taken, in order.
    pub fn steps(&self) -> impl Iterator<Item = &StepOutcome> {
        self.first_aid.iter().chain(self.instances.iter().flat_map(|instance| &instance.steps))
    }

    /// Where a client got as far as authentication, at instances that serve everything that they have to.
    pub fn proven(&self) -> BTreeMap<SocketAddr, Probe> {
        let served = self.instances.iter().filter(|instance| instance.end == End::Served);
        let proof = |outcome: &StepOutcome| match (&outcome.step, &outcome.result) {
            (Step::Probe { address }, Ok(Success::Authenticates { banner, methods })) => {
                let probe = Probe::new(ProbeResult::Ok, banner);
                Some((*address, Probe { authentication: Some(methods.clone()), ..probe }))
            }
            _ => None,
        };
        served.flat_map(|instance| &instance.steps).filter_map(proof).collect()
    }

    /// What came of one instance in the end.
    pub fn of(&self, instance: &str) -> Option<&InstanceExecution> {
        self.instances.iter().rev().find(|execution| execution.instance == instance)
    }

    /// A listener was no longer what it was: the machine has to be examined again.
    pub fn has_changed(&self) -> bool {
        self.instances.iter().any(|instance| instance.end == End::Changed)
    }

    /// Adds what came of a later plan; what it says about an instance replaces what was said before.
    pub fn add(&mut self, later: Self) {
        self.first_aid.extend(later.first_aid);
        for execution in later.instances {
            self.instances.retain(|old| old.instance != execution.instance || old.end != End::Changed);
            self.instances.push(execution);
        }
    }
}

impl fmt::Display for Success {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Terminated => "terminated by SIGTERM",
            Self::Killed => "terminated by SIGKILL",
            Self::HadExited => "had exited",
            Self::Cleared => "failed state cleared",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Restarted => "restarted",
            Self::StartedAtSecondAttempt => "started at the second attempt",
            Self::NobodyCanConnect(why) => return f.write_str(why),
            Self::RescueServes => "serves SSH in place of the unit",
            Self::Answers(banner) => {
                return write!(f, "a new connection gets through up to the key exchange ({banner})");
            }
            Self::Authenticates { methods, .. } => {
                return write!(f, "a client gets as far as authentication ({})", methods.join(", "));
            }
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) | Self::Systemd(error) | Self::Dead(error) => f.write_str(error),
            Self::StillRunning => f.write_str("it is still there after SIGKILL, in uninterruptible sleep"),
            Self::Unverified(seen) => write!(f, "unverified: {seen}"),
            Self::OldListener(pid) => write!(f, "the old listener {pid} is still there"),
            Self::AskedToStop => f.write_str("not probed: this process was asked to stop"),
            Self::RescueDead => f.write_str("it closes every connection, so it was stopped again"),
        }
    }
}
