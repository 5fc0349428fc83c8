//! The steps to take, instance by instance and phase by phase. What a dry run prints is derived from it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::intent::InstanceIntent;
use super::names;
use super::process::Process;
use super::refusal::Refusal;

/// Who asks for a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// A package run, which is bound by policy-rc.d.
    Hook,
    /// The timer, or the failure of a unit of SSH.
    Unattended,
    /// A person.
    Repair,
}

/// What is to be done about a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Services that fail and are started again by systemd, over and over: each attempt removes `/run/sshd` from under
    /// those who serve. They serve nobody, and are stopped before anything else. What is put on record before.
    pub stop_first: Vec<InstanceIntent>,
    /// Create `/run/sshd`, and probe these addresses afterwards: terminates nothing, and by itself restores logins.
    pub first_aid: Option<BTreeSet<SocketAddr>>,
    /// All instances, each with its decision.
    pub instances: Vec<InstancePlan>,
    /// Instances on record whose addresses are all served again, or that somebody stopped after they were: to be taken off
    /// the record.
    pub settled: Vec<String>,
    /// Instances on record whose units serve again, though not at every address.
    pub resumed: Vec<String>,
}

/// What is to be done about one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstancePlan {
    /// The instance's service.
    pub instance: String,
    pub decision: Decision,
    /// Listeners that the steps leave alone, and why.
    pub skipped: Vec<(i32, Refusal)>,
}

/// The decision about one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// There is nothing to be done.
    Nothing,
    /// A fault was found, and this is why nothing is done about it.
    Refuse(Refusal),
    /// A fresh listener takes the place of the old one.
    Replace(Box<Replacement>),
}

/// How a fresh listener takes the place of an old one. The phases are carried out in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// Listeners to terminate, as they were when they were judged.
    pub end: Vec<Process>,
    /// Listeners that systemd ends when it restarts their unit.
    pub restarted: Vec<Process>,
    pub start: Start,
    /// Addresses to be probed afterwards, where a process that is not the old listener has to answer.
    pub prove: BTreeSet<SocketAddr>,
    /// Addresses to be served afterwards: those of `prove`, and where a socket at `[::]` serves IPv4 as well.
    pub keep: BTreeSet<SocketAddr>,
    pub rescue: RescuePlan,
}

/// How what was declared is started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// The socket of the rescue that serves now, which has to free its addresses.
    pub stop_rescue: Option<String>,
    /// Units whose failed state and start counter are cleared.
    pub reset: Vec<String>,
    /// In this order.
    pub jobs: Vec<UnitJob>,
    /// The units that are active once all is as declared, in the order in which they can be started.
    pub declared: Vec<String>,
    /// The service to start alone if its socket cannot be started.
    pub service_alone: Option<String>,
    /// The unit that is active once the instance serves.
    pub serves: String,
}

/// A request to systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitJob {
    pub job: Job,
    pub unit: String,
}

/// What is requested for a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    Start,
    Stop,
    Restart,
}

/// What serves if the units do not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RescuePlan {
    /// There is to be none: why.
    None(String),
    /// To be written before anything is terminated.
    Prepare(Box<Rescue>),
    /// An interrupted repair has written it: the name of its socket.
    Prepared(String),
}

/// A socket unit of our own that serves one instance in place of its units, with the rules of those units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescue {
    /// The instance's service.
    pub instance: String,
    /// Units in whose place it serves, and which stop it when they are started.
    pub conflicts: Vec<String>,
    /// What starts the instance itself.
    pub start: Start,
    /// Exactly those that the terminated listeners serve.
    pub addresses: BTreeSet<SocketAddr>,
    /// `[::]` does not serve IPv4.
    pub ipv6_only: bool,
    pub program: PathBuf,
    pub options: Vec<String>,
    /// Lines of `[Service]` that its unit has.
    pub service_settings: Vec<String>,
    /// Lines of `[Socket]` that its unit has, or its unit's filters of addresses.
    pub socket_settings: Vec<String>,
}

/// One step, as it is shown to people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Step {
    CreateRuntimeDirectory { path: String },
    Terminate { pid: i32, started_ticks: u64 },
    ResetFailed { unit: String },
    StopUnit { unit: String },
    StartUnit { unit: String },
    RestartUnit { unit: String },
    StartRescue { unit: String, addresses: BTreeSet<SocketAddr> },
    StopRescue { unit: String },
    Probe { address: SocketAddr },
}

impl Plan {
    /// It terminates, starts, restarts or stops something. First aid does not.
    pub fn replaces(&self) -> bool {
        self.replacements().next().is_some() || !self.stop_first.is_empty()
    }

    /// Nothing is to be done to the machine.
    pub fn is_empty(&self) -> bool {
        self.first_aid.is_none() && !self.replaces()
    }

    /// Instances whose listener is replaced.
    pub fn replacements(&self) -> impl Iterator<Item = (&str, &Replacement)> {
        self.instances.iter().filter_map(|plan| match &plan.decision {
            Decision::Replace(replacement) => Some((plan.instance.as_str(), &**replacement)),
            _ => None,
        })
    }

    /// Instances about which nothing is done although there is a fault.
    pub fn refusals(&self) -> impl Iterator<Item = (&str, &Refusal)> {
        self.instances.iter().filter_map(|plan| match &plan.decision {
            Decision::Refuse(refusal) => Some((plan.instance.as_str(), refusal)),
            _ => None,
        })
    }

    /// The plan for one instance.
    pub fn of(&self, instance: &str) -> Option<&InstancePlan> {
        self.instances.iter().find(|plan| plan.instance == instance)
    }

    /// Listeners that end, by pid.
    pub fn replaced(&self) -> BTreeSet<i32> {
        let ended =
            self.replacements().flat_map(|(_, replacement)| replacement.end.iter().chain(&replacement.restarted));
        ended.map(|process| process.pid).collect()
    }

    /// All steps, in the order in which they are taken if nothing fails.
    pub fn steps(&self) -> Vec<Step> {
        let stop = |stopped: &InstanceIntent| Step::StopUnit { unit: stopped.instance.clone() };
        let mut steps: Vec<Step> = self.stop_first.iter().map(stop).collect();
        if let Some(probed) = &self.first_aid {
            steps.push(Step::first_aid());
            let proven: BTreeSet<_> = self.replacements().flat_map(|(_, replacement)| &replacement.prove).collect();
            let alone = probed.iter().filter(|address| !proven.contains(address));
            steps.extend(alone.map(|address| Step::Probe { address: *address }));
        }
        steps.extend(self.replacements().flat_map(|(_, replacement)| replacement.steps()));
        steps
    }
}

impl Replacement {
    /// Its steps, in order.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = self.end.iter().map(Step::terminate).collect();
        steps.extend(self.start.stop_rescue.iter().map(|unit| Step::StopRescue { unit: unit.clone() }));
        steps.extend(self.start.reset.iter().map(|unit| Step::ResetFailed { unit: unit.clone() }));
        steps.extend(self.start.jobs.iter().map(UnitJob::step));
        steps.extend(self.prove.iter().map(|address| Step::Probe { address: *address }));
        steps
    }

    /// Somebody serves now who will not while it is carried out.
    pub fn ends_something(&self) -> bool {
        !self.end.is_empty() || !self.restarted.is_empty() || self.start.stop_rescue.is_some()
    }
}

impl Start {
    /// The units that it starts or restarts.
    pub fn units(&self) -> Vec<String> {
        let started = self.jobs.iter().filter(|job| job.job != Job::Stop);
        started.map(|job| job.unit.clone()).collect()
    }
}

impl UnitJob {
    pub fn new(job: Job, unit: &str) -> Self {
        Self { job, unit: unit.to_owned() }
    }

    /// As it is shown.
    pub fn step(&self) -> Step {
        let unit = self.unit.clone();
        match self.job {
            Job::Start => Step::StartUnit { unit },
            Job::Stop => Step::StopUnit { unit },
            Job::Restart => Step::RestartUnit { unit },
        }
    }
}

impl Step {
    /// First aid.
    pub fn first_aid() -> Self {
        Self::CreateRuntimeDirectory { path: names::RUNTIME_DIRECTORY.to_owned() }
    }

    /// The termination of a listener.
    pub fn terminate(process: &Process) -> Self {
        Self::Terminate { pid: process.pid, started_ticks: process.started_ticks }
    }
}
