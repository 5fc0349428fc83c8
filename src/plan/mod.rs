//! Which steps mend the machine, or why none is taken. Pure: what a dry run prints is the value that a repair carries
//! out.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::diagnosis::{Code, Diagnosis, Listener, in_the_way};
use crate::observe::{RUNTIME_DIRECTORY, SERVICE};
use crate::preflight::Preflight;
use crate::refusal::{Reason, Refusal};
use crate::snapshot::Snapshot;
use replacement::{Replacement, replacement};

mod instances;
mod replacement;

/// Who asks for a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// A person, who is not bound by policy-rc.d.
    Repair,
    /// A package run.
    Hook,
}

/// The steps to take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// A fault was seen, and this is why no more is done about it.
    pub refusal: Option<Refusal>,
    /// Listeners that the steps pass by, and why: what speaks against one keeps nobody from being mended at another.
    pub left_alone: Vec<(i32, Refusal)>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Create sshd's privilege separation directory: first aid, which ends nothing.
    CreateRuntimeDirectory {
        /// The directory.
        path: String,
    },
    /// End a listener: SIGTERM, then SIGKILL.
    Terminate {
        /// The process.
        pid: i32,
        /// Its start in clock ticks since boot.
        started_ticks: u64,
    },
    /// Clear a unit's failed state and start counter.
    ResetFailed {
        /// The unit.
        unit: String,
    },
    /// Stop a unit.
    StopUnit {
        /// The unit.
        unit: String,
    },
    /// Start a unit.
    StartUnit {
        /// The unit.
        unit: String,
    },
    /// Restart a unit.
    RestartUnit {
        /// The unit.
        unit: String,
    },
    /// Let systemd serve SSH, with one sshd for each connection.
    StartRescue {
        /// Where.
        addresses: BTreeSet<SocketAddr>,
    },
    /// End that again.
    StopRescue {
        /// Its socket unit.
        unit: String,
    },
    /// See whether a new connection gets through.
    Probe {
        /// Where.
        address: SocketAddr,
    },
}

impl Plan {
    /// There is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// The addresses that it probes: those that have to be served at its end.
    #[must_use]
    pub fn probed(&self) -> BTreeSet<SocketAddr> {
        let address = |action: &Action| match action {
            Action::Probe { address } => Some(*address),
            _ => None,
        };
        self.actions.iter().filter_map(address).collect()
    }

    /// Its first step is the mildest cure.
    #[must_use]
    pub fn begins_with_first_aid(&self) -> bool {
        matches!(self.actions.first(), Some(Action::CreateRuntimeDirectory { .. }))
    }

    /// It ends, starts or restarts something. First aid does not.
    #[must_use]
    pub fn replaces(&self) -> bool {
        self.actions
            .iter()
            .any(|action| !matches!(action, Action::CreateRuntimeDirectory { .. } | Action::Probe { .. }))
    }
}

/// Listeners that this trigger would end or restart.
fn to_be_replaced(diagnosis: &Diagnosis, trigger: Trigger) -> impl Iterator<Item = &Listener> {
    // Further instances of sshd are restarted through their own units: `instances`.
    diagnosis.listeners.iter().filter(move |listener| match listener.unit.as_deref() {
        Some(unit) => listener.stale && unit == SERVICE,
        // An orphan that is not stale still serves: a package run only touches it once it is dead.
        None => listener.stale || trigger == Trigger::Repair || listener.probe.is_dead(),
    })
}

/// The plan may depend on what the program on disk can do.
#[must_use]
pub fn needs_preflight(snapshot: &Snapshot, diagnosis: &Diagnosis, trigger: Trigger) -> bool {
    needs_replacement(snapshot, diagnosis, trigger) || instances::stale(diagnosis).next().is_some()
}

/// Something is to be done about what ssh.service and ssh.socket stand for.
fn needs_replacement(snapshot: &Snapshot, diagnosis: &Diagnosis, trigger: Trigger) -> bool {
    to_be_replaced(diagnosis, trigger).next().is_some() || to_be_started(snapshot, diagnosis, trigger)
}

/// Nobody serves SSH as declared, and this trigger would change that.
fn to_be_started(snapshot: &Snapshot, diagnosis: &Diagnosis, trigger: Trigger) -> bool {
    let owned = diagnosis.listeners.iter().any(|listener| listener.unit.as_deref() == Some(SERVICE));
    diagnosis.has(Code::Down)
        || (diagnosis.has(Code::Interrupted) && !owned && !snapshot.service.is_active())
        // A rescue serves: a package run does not touch what people may be using to mend the machine.
        || (diagnosis.has(Code::RescueActive) && trigger == Trigger::Repair)
}

/// Makes the plan. `preflight` may be left out if it is not [needed](needs_preflight).
#[must_use]
pub fn plan(snapshot: &Snapshot, diagnosis: &Diagnosis, preflight: Option<&Preflight>, trigger: Trigger) -> Plan {
    let first_aid = diagnosis.has(Code::RuntimeDirectoryMissing);
    let mut actions = Vec::new();
    if first_aid {
        actions.push(Action::CreateRuntimeDirectory { path: RUNTIME_DIRECTORY.to_owned() });
    }
    let mut served: BTreeSet<SocketAddr> =
        diagnosis.listeners.iter().flat_map(|l| l.addresses.iter().copied()).collect();
    served.extend(snapshot.intent.iter().flat_map(|intent| intent.addresses.iter().copied()));
    let probes = |addresses: &BTreeSet<SocketAddr>| {
        addresses.iter().map(|address| Action::Probe { address: *address }).collect::<Vec<_>>()
    };

    if diagnosis.has(Code::ForeignListener) && !needs_preflight(snapshot, diagnosis, trigger) {
        let refusal = Some(Reason::ForeignListener.because(&in_the_way(snapshot).join(", ")));
        return Plan { actions, refusal, ..Plan::default() };
    }
    let Some(preflight) = preflight.filter(|_| needs_preflight(snapshot, diagnosis, trigger)) else {
        if first_aid || diagnosis.has(Code::Interrupted) {
            actions.extend(probes(&served));
        }
        return Plan { actions, ..Plan::default() };
    };
    let further = instances::restarts(snapshot, diagnosis, preflight, trigger);
    let main = match needs_replacement(snapshot, diagnosis, trigger) {
        true => replacement(snapshot, diagnosis, preflight, trigger),
        false if further.actions.is_empty() => {
            further.refusals.first().cloned().map_or_else(|| Ok(Replacement::default()), |(_, refusal)| Err(refusal))
        }
        false => Ok(Replacement { ends_something: true, ..Replacement::default() }),
    };
    match main {
        Ok(replacement) => {
            // The last checks of the replacement can be made only where the directory is.
            if !first_aid && preflight.needs_runtime_directory() && replacement.ends_something {
                actions.push(Action::CreateRuntimeDirectory { path: RUNTIME_DIRECTORY.to_owned() });
            }
            actions.extend(replacement.actions);
            actions.extend(further.actions);
            actions.extend(probes(&(&replacement.addresses | &further.addresses)));
            let left_alone = [replacement.left_alone, further.refusals].concat();
            Plan { actions, refusal: None, left_alone }
        }
        Err(refusal) => {
            if first_aid {
                actions.extend(probes(&served));
            }
            Plan { actions, refusal: Some(refusal), left_alone: Vec::new() }
        }
    }
}
