//! What must hold after a plan was executed, whatever failed: judged by the truth of the model and its journal.

use crate::facts::{is_reached, reached_at};
use crate::simulated::truth::{Addresses, Truth};
use crate::simulated::world::{Entry, Event, World};
use sshd_mend::model::execution::{End, Execution, Failure, InstanceExecution, StepOutcome};
use sshd_mend::model::intent::{InstanceIntent, Intent};
use sshd_mend::model::plan::{Job, Plan, Replacement, Step};
use sshd_mend::model::process::Process;
use sshd_mend::model::unit::ActiveState;

type Held = Result<(), String>;

fn check(holds: bool, otherwise: &str) -> Held {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn of<'a>(intent: Option<&'a Intent>, name: &str) -> Option<&'a InstanceIntent> {
    intent.into_iter().flat_map(|intent| &intent.instances).find(|intent| intent.instance == name)
}

/// One instance, before and after.
struct Case<'a> {
    index: usize,
    name: &'a str,
    before: &'a Truth,
    after: &'a Truth,
    journal: &'a [Entry],
    /// Processes in uninterruptible sleep.
    unkillable: &'a [i32],
    /// A listener outlived SIGKILL for as long as it was waited for.
    remains: bool,
}

/// Says what does not hold. `before`: the machine as it was when the plan was made.
pub fn holds(before: &Truth, world: &World, plan: &Plan, execution: &Execution) -> Held {
    let after = world.truth.borrow();
    let journal = world.journal.borrow();
    let unkillable = world.unkillable();
    for (index, managed) in before.instances.iter().enumerate() {
        let name = managed.instance.service.name.as_str();
        let still_running = |step: &StepOutcome| step.result == Err(Failure::StillRunning);
        let remains = execution.of(name).is_some_and(|done| done.steps.iter().any(still_running));
        let case = Case { index, name, before, after: &after, journal: &journal, unkillable: &unkillable, remains };
        let replacement = plan.replacements().find(|(instance, _)| *instance == name).map(|(_, found)| found);
        let held = match (replacement, execution.of(name)) {
            (Some(replacement), Some(done)) => {
                case.replaced(replacement, &done.end).and_then(|()| case.steps(replacement, done))
            }
            (Some(_), None) => Err("nothing is said about it".to_owned()),
            (None, _) => case.untouched().and(case.rescue()),
        };
        held.map_err(|what| format!("{name}: {what}"))?;
    }
    sessions(before, &after)?;
    runtime_directory(before, world, &after)
}

/// What must hold at any moment, also after a crash: for the run that follows it.
pub fn nothing_is_forgotten(before: &Truth, after: &Truth) -> Held {
    for (index, managed) in before.instances.iter().enumerate() {
        let name = &managed.instance.service.name;
        let lost = lost(before, after, index);
        let on_record = of(after.intent.as_ref(), name).is_some_and(|intent| lost.is_subset(&intent.addresses));
        check(lost.is_empty() || on_record, &format!("{name}: {lost:?} is neither served nor on record"))?;
    }
    sessions(before, after)
}

pub fn lost(before: &Truth, after: &Truth, index: usize) -> Addresses {
    let to_others = &after.lost_to_others[index];
    let was: Addresses = before.served(index).difference(to_others).copied().collect();
    unreached(&was, &after.served(index))
}

/// Addresses at which clients reach nobody.
fn unreached(wanted: &Addresses, served: &Addresses) -> Addresses {
    wanted.iter().filter(|address| !served.iter().any(|have| is_reached(*have, **address))).copied().collect()
}

/// I11. A start that has to follow may fail, and end what runs in the unit's control group: that is reported.
fn sessions(before: &Truth, after: &Truth) -> Held {
    let sessions = before.processes.iter().filter(|process| process.facts.connected);
    let survives = |pid: i32| after.processes.iter().any(|process| process.facts.pid == pid);
    let was_interrupted = |index: usize| of(before.intent.as_ref(), before.instances[index].instance.name()).is_some();
    let lost = sessions.filter(|session| !survives(session.facts.pid) && !was_interrupted(session.instance));
    check(lost.count() == 0, "a session was ended")
}

/// (f) Whoever still listens has the directory that each connection needs.
fn runtime_directory(before: &Truth, world: &World, after: &Truth) -> Held {
    let somebody = after.processes.iter().any(|process| !process.facts.sockets.is_empty());
    let refused = world.faults.mkdirs.iter().any(|refused| *refused);
    let expected = before.runtime_directory && somebody && !refused;
    check(after.runtime_directory || !expected, "/run/sshd is missing under a listener")
}

impl Case<'_> {
    fn is_own(&self, unit: &str) -> bool {
        self.before.owner(unit) == Some(self.index)
    }

    /// Events about the instance.
    fn own(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.journal.iter().enumerate().filter(|(_, entry)| match &entry.event {
            Event::Signalled(pid, _) => {
                self.before.processes.iter().any(|p| p.facts.pid == *pid && p.instance == self.index)
            }
            Event::Requested(_, unit) | Event::Aborted(unit) | Event::Cleared(unit) => self.is_own(unit),
            Event::Ended(ended) => ended.instance == self.index,
            Event::NotWritten => false,
        })
    }

    /// (a) Nothing happens to an instance that the plan does not replace.
    fn untouched(&self) -> Held {
        check(self.own().next().is_none(), "a unit or process of an instance that is not replaced was touched")?;
        let lost = lost(self.before, self.after, self.index);
        check(lost.is_empty(), &format!("{lost:?} of an instance that is not replaced is lost"))
    }

    fn replaced(&self, replacement: &Replacement, end: &End) -> Held {
        self.announced()?;
        self.started(replacement)?;
        self.rescue()?;
        self.end(replacement, end)?;
        let lost = lost(self.before, self.after, self.index);
        let intent = of(self.after.intent.as_ref(), self.name);
        let on_record = intent.is_some_and(|intent| lost.is_subset(&intent.addresses));
        check(lost.is_empty() || on_record, &format!("{lost:?} is lost and not on record: {end:?}"))?;
        let admitted = !matches!(end, End::Served | End::Unverified(_) | End::Rescued);
        check(lost.is_empty() || admitted, &format!("{lost:?} is lost: {end:?}"))
    }

    /// (c) and (d): what is said is so.
    fn end(&self, replacement: &Replacement, end: &End) -> Held {
        let now = self.after.served(self.index);
        let intent = of(self.after.intent.as_ref(), self.name);
        let unwritten = self.journal.iter().any(|entry| entry.event == Event::NotWritten);
        match end {
            End::Served | End::Unverified(_) => {
                let replaced =
                    |pid: i32| replacement.end.iter().chain(&replacement.restarted).any(|process| process.pid == pid);
                let afresh = self.after.served_by(self.index, |process| !(process.old && replaced(process.facts.pid)));
                let missing = unreached(&replacement.keep, &afresh);
                check(missing.is_empty(), &format!("{missing:?} is not served by a fresh listener: {end:?}"))?;
                check(intent.is_none() || unwritten, "it serves, and is still on record")
            }
            End::Rescued => {
                let missing = unreached(&replacement.keep, &now);
                check(missing.is_empty(), &format!("{missing:?} is served by no rescue: {end:?}"))?;
                check(self.rescue_is_active(), "no rescue serves")?;
                check(intent.is_some(), "a rescue serves off the record")
            }
            End::Lost(named) => {
                let lost = lost(self.before, self.after, self.index);
                check(lost.is_subset(named), &format!("{lost:?} is lost, but only {named:?} is named"))
            }
            End::Changed | End::Refused(_) => {
                check(self.own().next().is_none(), &format!("something was done although {end:?}"))?;
                let was = of(self.before.intent.as_ref(), self.name);
                check(intent == was || unwritten, &format!("the record is not as it was: {end:?}"))?;
                let files = |truth: &Truth| truth.files.get(self.name).cloned();
                let same = files(self.before) == files(self.after);
                check(same || was.is_some() || unwritten, &format!("units of a rescue are left: {end:?}"))
            }
        }
    }

    /// A restart that left the old listener in place did not succeed, and a dead listener does not serve.
    fn steps(&self, replacement: &Replacement, done: &InstanceExecution) -> Held {
        let is_left = |process: &Process| self.after.processes.iter().any(|left| left.facts == *process);
        let restarted = |step: &StepOutcome| matches!(step.step, Step::RestartUnit { .. }) && step.result.is_ok();
        let succeeded = done.steps.iter().any(restarted);
        check(!(succeeded && replacement.restarted.iter().any(is_left)), "a restart that did nothing is a success")?;
        let dead = done.steps.iter().any(|step| matches!(step.result, Err(Failure::Dead(_))));
        let serves = matches!(done.end, End::Served | End::Unverified(_) | End::Rescued);
        check(!(dead && serves), "a listener that closes every connection counts as serving")
    }

    fn rescue_is_active(&self) -> bool {
        self.after.instances[self.index].instance.rescue.active == ActiveState::Active
    }

    /// (d) Before anything ends, the record names what it serves, and what serves in its place is prepared. Nothing ends
    /// that is not what it was when the plan was made.
    fn announced(&self) -> Held {
        for (_, entry) in self.own() {
            let intent = of(entry.intent.as_ref(), self.name);
            match &entry.event {
                Event::Signalled(_, owner) => {
                    check(intent.is_some(), "a listener was signalled off the record")?;
                    check(owner.is_none(), "a unit's main process was signalled")?;
                }
                Event::Ended(ended) if ended.old => {
                    let pid = ended.facts.pid;
                    let same = self.before.processes.iter().any(|process| process.facts == ended.facts);
                    check(same, &format!("{pid} ended, and is not what it was"))?;
                    let served: Addresses = ended.facts.sockets.iter().flat_map(reached_at).collect();
                    let announced = intent.is_some_and(|intent| served.is_subset(&intent.addresses));
                    check(announced, &format!("{pid} ended, and the record does not name what it serves"))?;
                    let prepared = entry.files.get(self.name).is_some_and(|files| files.fallback);
                    check(prepared, "a listener ended before anything was prepared")?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// (e) After a signal or a stop, a start follows.
    fn started(&self, replacement: &Replacement) -> Held {
        let units = replacement.start.units();
        let stops = |event: &Event| matches!(event, Event::Signalled(..) | Event::Requested(Job::Stop, _));
        let starts = |event: &Event| match event {
            Event::Requested(Job::Start | Job::Restart, unit) => units.contains(unit),
            _ => false,
        };
        let is_left = |pid: i32| self.after.processes.iter().any(|process| process.facts.pid == pid);
        let signalled = self.own().filter_map(|(_, entry)| match entry.event {
            Event::Signalled(pid, _) => Some(pid),
            _ => None,
        });
        let survivors: Vec<i32> = signalled.filter(|pid| is_left(*pid)).collect();
        check(survivors.iter().all(|pid| self.unkillable.contains(pid)), "a listener was signalled and still runs")?;
        // The rescue's own stop is its end, not the unit's.
        let rescue = &self.before.instances[self.index].instance.rescue.name;
        let own = || self.own().filter(|(_, entry)| entry.event != Event::Requested(Job::Stop, rescue.clone()));
        let stopped = own().find(|(_, entry)| stops(&entry.event)).map(|(at, _)| at);
        let started = own().filter(|(_, entry)| starts(&entry.event)).map(|(at, _)| at).last();
        check(
            units.is_empty() || self.remains || !survivors.is_empty() || stopped.is_none() || started > stopped,
            "something was stopped, and no start of the units was requested",
        )
    }

    /// (b) A rescue serves what was terminated, and runs beside no unit.
    fn rescue(&self) -> Held {
        let rescue = &self.before.instances[self.index].instance.rescue;
        let earlier = of(self.before.intent.as_ref(), self.name);
        let of_rescue = self.before.by_systemd.iter().filter(|(unit, _)| *unit == rescue.name);
        let mut allowed: Addresses = of_rescue.flat_map(|(_, socket)| reached_at(socket)).collect();
        allowed.extend(earlier.iter().flat_map(|intent| &intent.addresses));
        for (_, entry) in self.own() {
            match &entry.event {
                Event::Ended(ended) if ended.old => {
                    allowed.extend(ended.facts.sockets.iter().flat_map(reached_at));
                }
                Event::Requested(Job::Start, unit) if *unit == rescue.name => {
                    check(!allowed.is_empty(), "a rescue although nothing was terminated")?;
                }
                _ => {}
            }
        }
        let bound = self.after.by_systemd.iter().filter(|(unit, _)| *unit == rescue.name);
        let opened: Addresses = bound.flat_map(|(_, socket)| reached_at(socket)).collect();
        check(opened.is_subset(&allowed), &format!("a rescue opened {opened:?}, and only {allowed:?} was served"))?;
        let instance = &self.after.instances[self.index].instance;
        let beside = [&instance.service, &instance.socket].iter().any(|unit| unit.active == ActiveState::Active);
        check(!(self.rescue_is_active() && beside), "a rescue runs beside its unit")
    }
}
