//! First aid: `/run/sshd` is created by the process that sees that it is missing, before anything is tried or asked. It
//! alone lets new connections through again, and takes nothing from anybody.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::repair_unit;
use super::run::Run;
use crate::act::execute::{first_aid, probe_all};
use crate::act::record;
use crate::decide::needs_first_aid;
use crate::model::diagnosis::{Diagnosis, Finding, FindingCode};
use crate::model::execution::StepOutcome;
use crate::model::names::RETRY_TIMER;
use crate::model::plan::{Job, Step};
use crate::model::snapshot::Snapshot;
use crate::observe::{Unexaminable, observe, package};
use crate::report::{Done, Outcome, Verdict, events};

/// What was given, and why.
#[derive(Debug, Default)]
pub(super) struct FirstAid {
    pub(super) findings: Vec<Finding>,
    pub(super) steps: Vec<StepOutcome>,
    /// Where listeners serve that were in need of it.
    addresses: BTreeSet<SocketAddr>,
}

impl Run<'_> {
    /// Gives first aid if `snapshot` says that it is needed. Returns the snapshot to go on with.
    ///
    /// # Errors
    /// The machine could not be examined again.
    pub(super) fn first_aid(&self, snapshot: Snapshot) -> Result<(FirstAid, Snapshot), Unexaminable> {
        let Some(diagnosis) = needs_first_aid(&snapshot) else { return Ok((FirstAid::default(), snapshot)) };
        let findings = about_directory(&diagnosis);
        events::findings(&snapshot, &findings);
        let steps = vec![first_aid(&self.host(&snapshot, None))];
        let addresses = diagnosis.listeners.iter().flat_map(|listener| listener.addresses.iter().copied()).collect();
        Ok((FirstAid { findings, steps, addresses }, observe(&self.manager, snapshot.intent)?))
    }

    /// Where nothing more is done, it is the repair, and has to be proven.
    pub(super) fn prove_first_aid(&self, first_aid: &mut FirstAid, snapshot: &Snapshot) {
        if first_aid.was_given() {
            first_aid.steps.extend(probe_all(first_aid.addresses.iter(), &self.host(snapshot, None)));
        }
    }
}

impl Run<'_> {
    /// Has the machine looked at again two minutes from now. A timer that has just started this run is still active, and
    /// would not be started anew.
    fn look_again(&self) {
        let armed = self.manager.enqueue(Job::Restart, RETRY_TIMER);
        log::debug!("{RETRY_TIMER}: {armed:?}");
    }

    /// Nobody can connect, and what prevents it may be corrected without anything that starts the hook. So may what keeps a
    /// unit from its start that failed over and over, and was stopped in place of a refused repair.
    ///
    /// Where one of several servers is reached, nothing is tried again and again: a start that fails may take /run/sshd from it.
    pub fn look_again_if_broken(&self, outcome: &Outcome) {
        let verdicts = [Verdict::Failed, Verdict::Broken, Verdict::Refused, Verdict::Unverified];
        let is_broken = verdicts.contains(&outcome.verdict) && outcome.exit_status == 2;
        let is_reached = outcome.listeners.iter().any(|listener| listener.probe.is_ok());
        let is_stopped = || record::intent().is_some_and(|intent| intent.instances.iter().any(|intent| intent.stopped));
        // As long as it is refused, no start is tried.
        let waits = outcome.verdict == Verdict::Refused && is_stopped();
        if (is_broken && !is_reached) || waits {
            self.look_again();
        }
    }

    /// Others are at work: a package run, whose own hook may come at its end, or a repair, which deals with the failures that
    /// it causes. First aid is all that is given now, and in two minutes it is looked whether they have left anything.
    ///
    /// # Errors
    /// The machine could not be examined.
    pub fn is_left_to_others(&self) -> Result<bool, Unexaminable> {
        let is_repair = repair_unit::is_busy(&self.manager);
        if !is_repair && !package::is_run_under_way() {
            return Ok(false);
        }
        self.look_again();
        if !is_repair {
            self.first_aid(observe(&self.manager, None)?)?;
        }
        Ok(true)
    }
}

fn about_directory(diagnosis: &Diagnosis) -> Vec<Finding> {
    let is_it = |finding: &&Finding| finding.code == FindingCode::RuntimeDirectoryMissing;
    diagnosis.findings.iter().filter(is_it).cloned().collect()
}

impl FirstAid {
    pub(super) fn was_given(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Puts it into the outcome of what followed, which another process may have done.
    pub(super) fn add_to(self, outcome: &mut Outcome) {
        if !self.was_given() {
            return;
        }
        let known = |finding: &Finding| outcome.findings.iter().any(|known| known.code == finding.code);
        let findings: Vec<Finding> = self.findings.into_iter().filter(|finding| !known(finding)).collect();
        outcome.findings.splice(0..0, findings);
        outcome.done.splice(0..0, self.steps.iter().map(Done::from));
        // As a dry run prints it.
        let is_proven = |address: &SocketAddr| outcome.plan.contains(&Step::Probe { address: *address });
        let alone = self.addresses.iter().filter(|address| !is_proven(address));
        let planned: Vec<Step> =
            [Step::first_aid()].into_iter().chain(alone.map(|address| Step::Probe { address: *address })).collect();
        outcome.plan.splice(0..0, planned);
        let achieved = self.steps.iter().all(|step| step.result.is_ok());
        let after = |verdict: Verdict| match verdict {
            Verdict::Healthy if achieved => Verdict::Repaired,
            Verdict::Broken => Verdict::Failed,
            other => other,
        };
        outcome.verdict = after(outcome.verdict);
        let serving = outcome.instances.iter_mut().filter(|instance| !instance.addresses.is_empty());
        serving.for_each(|instance| instance.verdict = after(instance.verdict));
    }
}
