//! The one pass over a plan: first aid, then each instance by itself, phase by phase: record, terminate, start, prove,
//! and the rescue if the units do not start.
//!
//! What goes wrong at one instance stops, restarts or delays no unit of another. Once a listener was signalled, its units
//! are started whatever happens, and what is not served again stays on record.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use super::machine::{Machine, Target};
use super::prove::achieved;
use super::record::boot_id;
use super::work::Work;

pub use super::work::first_aid;
use crate::model::execution::{End, Execution, Failure, InstanceExecution, StepOutcome, Success};
use crate::model::intent::{InstanceIntent, Intent};
use crate::model::plan::{Plan, RescuePlan, Start, Step};
use crate::model::refusal::RefusalCode;
use crate::report::events;

/// Carries out a plan.
pub fn execute(plan: &Plan, machine: &impl Machine) -> Execution {
    let mut execution = Execution::default();
    if let Some(addresses) = &plan.first_aid {
        let replaced: BTreeSet<&SocketAddr> =
            plan.replacements().flat_map(|(_, replacement)| &replacement.prove).collect();
        execution.first_aid.push(first_aid(machine));
        execution.first_aid.extend(probe_all(addresses.iter().filter(|address| !replaced.contains(address)), machine));
    }
    for (instance, replacement) in plan.replacements() {
        let mut work = Work::new(machine, instance, replacement);
        let end = work.replace();
        log::debug!("{instance}: {end:?}");
        execution.instances.push(InstanceExecution {
            instance: instance.to_owned(),
            steps: work.steps,
            end,
            unreachable: work.unreachable,
        });
    }
    execution
}

/// Says of each address whether a new connection gets through.
pub fn probe_all<'a>(addresses: impl Iterator<Item = &'a SocketAddr>, machine: &impl Machine) -> Vec<StepOutcome> {
    let probed = addresses.map(|address| {
        let begun = Instant::now();
        let result = achieved(machine.probe(*address));
        let outcome = StepOutcome::new(Step::Probe { address: *address }, begun.elapsed(), result);
        events::step(&outcome, None);
        outcome
    });
    probed.collect()
}

/// What has to be done before it can be seen what the program on disk can do: units that fail over and over are stopped,
/// and `/run/sshd` is created if it is missing.
pub fn prepare(plan: &Plan, machine: &impl Machine) -> Vec<StepOutcome> {
    let mut outcomes = Vec::new();
    for stopped in &plan.stop_first {
        let begun = Instant::now();
        let result = stop_first(stopped, machine);
        let step = Step::StopUnit { unit: stopped.instance.clone() };
        let outcome = StepOutcome::new(step, begun.elapsed(), result);
        events::step(&outcome, None);
        outcomes.push(outcome);
    }
    if plan.first_aid.is_some() || !machine.has_runtime_directory() {
        outcomes.push(first_aid(machine));
    }
    outcomes
}

/// The record says that the unit is to be started as soon as the orphan that serves in its place does not any more.
fn stop_first(stopped: &InstanceIntent, machine: &impl Machine) -> Result<Success, Failure> {
    let unit = &stopped.instance;
    let start = Start { declared: stopped.units.clone(), serves: unit.clone(), ..Start::default() };
    let on_record = machine.intent().and_then(|intent| intent.of(unit).cloned());
    let record = || -> std::io::Result<()> {
        match on_record {
            // It was started again since then, and what is about to stop it is this run.
            Some(earlier) if earlier.resumed => put_on_record(InstanceIntent { resumed: false, ..earlier }, machine),
            Some(_) => Ok(()),
            None => {
                machine.write_fallback(unit, &start)?;
                put_on_record(stopped.clone(), machine)
            }
        }
    };
    record().map_err(|error| Failure::System(error.to_string()))?;
    // The port may have become free since it was seen.
    if machine.is_active(unit) {
        return Err(Failure::Systemd("it was started meanwhile".to_owned()));
    }
    // In place of the start that systemd has queued.
    machine.abort(unit);
    Ok(Success::Stopped)
}

fn put_on_record(announced: InstanceIntent, machine: &impl Machine) -> std::io::Result<()> {
    let mut intent = machine.intent().unwrap_or_default();
    intent.instances.retain(|old| old.instance != announced.instance);
    intent.instances.push(announced);
    intent.boot_id = boot_id()?;
    machine.write_intent(intent)
}

/// Takes instances off the record that serve again, and notes those whose units do.
pub fn settle(settled: &[String], resumed: &[String], machine: &impl Machine) {
    let mut intent = machine.intent().unwrap_or_default();
    intent.instances.retain(|intent| !settled.contains(&intent.instance));
    for intent in &mut intent.instances {
        intent.resumed |= resumed.contains(&intent.instance);
    }
    let written = machine.write_intent(intent);
    log::debug!("off the record: {settled:?}, resumed: {resumed:?}: {written:?}");
    for instance in settled {
        machine.remove_rescue(instance);
    }
}

impl<M: Machine> Work<'_, M> {
    fn replace(&mut self) -> End {
        if !self.pin() {
            return End::Changed;
        }
        let before = self.machine.intent();
        if let Err(error) = self.announce() {
            if before.as_ref().is_none_or(|before| before.of(self.instance).is_none()) {
                self.machine.remove_rescue(self.instance);
            }
            return End::Refused(RefusalCode::CannotRecord.because(&error.to_string()));
        }
        // The last look before the signal: somebody may have restarted the unit meanwhile, or logged in.
        if self.machine.is_asked_to_stop() || !self.old.iter().all(Target::is_unchanged) || !self.ends_no_session() {
            self.withdraw(before);
            return End::Changed;
        }
        if !self.terminate() && !self.old.iter().any(Target::has_exited) {
            // A start would fail as long as the listeners are there, and take /run/sshd with it.
            self.restore_runtime_directory();
            return End::Lost(self.replacement.keep.clone());
        }
        let was_restarting = self.machine.is_restarting(self.instance);
        let started = self.start();
        // systemd may have refused the restart: then nothing was terminated.
        let ended = self.old.is_empty() || self.old.iter().any(Target::has_exited);
        let steps = self.steps.len();
        let mut proof = self.prove(started);
        let serves = &self.replacement.start.serves;
        // Somebody else's restart is no failure of this one: what was seen during it does not count.
        if started && matches!(proof, End::Lost(_)) && self.machine.wait_for_others(serves) {
            self.steps.truncate(steps);
            proof = self.prove(self.machine.is_active(serves));
        }
        let end = match proof {
            End::Lost(lost) if ended && !self.machine.is_active(&self.replacement.start.serves) => self.rescue(lost),
            end => end,
        };
        let mut is_at_rest = true;
        if end != End::Served {
            // A unit that had come to rest before is not left doing that for ever.
            if matches!(end, End::Lost(_)) && !was_restarting && !self.end_restarts() {
                is_at_rest = false;
                self.machine.abort(self.instance);
            }
            // The unit may have died after its start, and taken the directory with it.
            self.restore_runtime_directory();
        }
        match end {
            End::Served | End::Unverified(_) => self.forget(),
            // That it has failed is in no state of its unit any more.
            _ if !is_at_rest => self.keep_on_record(before.as_ref()),
            // Nobody lost anything by it: the unit had failed before, and its state says so.
            _ if !self.replacement.ends_something() => self.withdraw(before),
            _ => {}
        }
        end
    }

    /// The start has failed, and systemd may try again (`Restart=`), each time removing `/run/sshd` from under other
    /// instances. False: it goes on for too long, or this process was asked to stop meanwhile.
    fn end_restarts(&self) -> bool {
        let begun = Instant::now();
        while self.machine.is_restarting(self.instance) {
            if self.machine.is_asked_to_stop() || !self.machine.wait_for_rest(begun) {
                return !self.machine.is_restarting(self.instance);
            }
        }
        true
    }

    /// Its unit was stopped, and is to be started by a later run. `before`: what an earlier one had announced.
    fn keep_on_record(&self, before: Option<&Intent>) {
        let of_this = |intent: Intent| intent.of(self.instance).cloned();
        let Some(announced) = self.machine.intent().and_then(of_this) else { return };
        // An earlier attempt may have terminated something.
        let earlier = before.and_then(|before| before.of(self.instance));
        let stopped = !self.replacement.ends_something() && earlier.is_none_or(|earlier| earlier.stopped);
        let written = put_on_record(InstanceIntent { stopped, ..announced }, self.machine);
        log::debug!("{} stays on record: {written:?}", self.instance);
    }

    /// What a restart ends was judged when the plan was made, before other instances were repaired.
    fn ends_no_session(&self) -> bool {
        let replaced = self.old.iter().map(|target| target.judged().pid).collect();
        self.old.is_empty() || self.machine.ends_only(self.instance, &replaced)
    }

    /// Pins the old listeners. False: one of them is no longer what it was.
    fn pin(&mut self) -> bool {
        for process in self.replacement.end.iter().chain(&self.replacement.restarted) {
            match self.machine.pin(process).filter(Target::is_unchanged) {
                Some(target) => self.old.push(target),
                None => return false,
            }
        }
        true
    }

    /// Puts on record what is about to be done, and prepares everything that is needed if it fails.
    fn announce(&self) -> std::io::Result<()> {
        let replacement = self.replacement;
        let intent = self.machine.intent().unwrap_or_default();
        let on_record = intent.of(self.instance);
        // An interrupted repair has announced the same, and /run may be full by now.
        let is_announced =
            |old: &InstanceIntent| old.addresses.is_superset(&replacement.keep) && !old.resumed && !old.stopped;
        if on_record.is_some_and(is_announced) && self.old.is_empty() {
            return Ok(());
        }
        let rescue = match &replacement.rescue {
            RescuePlan::Prepare(rescue) => {
                self.machine.write_rescue(rescue)?;
                true
            }
            RescuePlan::Prepared(_) => true,
            RescuePlan::None(why) => {
                log::debug!("{} has no rescue: {why}", self.instance);
                self.machine.write_fallback(self.instance, &replacement.start)?;
                false
            }
        };
        let announced = InstanceIntent {
            instance: self.instance.to_owned(),
            addresses: replacement.keep.clone(),
            units: replacement.start.declared.clone(),
            rescue,
            resumed: false,
            stopped: false,
        };
        put_on_record(announced, self.machine)
    }

    /// Nothing was terminated, so only what an earlier repair left has to be finished.
    fn withdraw(&self, before: Option<Intent>) {
        let was_on_record = before.as_ref().is_some_and(|before| before.of(self.instance).is_some());
        if was_on_record || self.replacement.start.stop_rescue.is_some() {
            let restored = self.machine.write_intent(before.unwrap_or_default());
            log::debug!("the record of {} is as before: {restored:?}", self.instance);
        } else {
            self.forget();
        }
    }

    /// The instance serves again.
    fn forget(&self) {
        settle(&[self.instance.to_owned()], &[], self.machine);
    }
}
