//! After the signal: plans are executed against a model of systemd, kernel and disk in which every step can fail.
#![allow(missing_docs)]

#[path = "support/any_world.rs"]
mod any_world;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/model_systemd.rs"]
mod model_systemd;
#[path = "support/outcome_rules.rs"]
mod outcome_rules;
#[path = "support/sockets.rs"]
mod sockets;
mod support;
#[path = "support/world.rs"]
mod world;

use any_world::some_truth;
use faults::{Faults, some_faults};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sshd_mend::act::execute;
use sshd_mend::act::execute::first_aid;
use sshd_mend::model::execution::{End, Execution};
use sshd_mend::model::plan::{Plan, Trigger};
use world::{Truth, World};

/// Plans and executes, as `agent` does, with one execution.
fn executed(truth: &Truth, faults: &Faults, trigger: Trigger) -> Option<(Truth, World, Plan, Execution)> {
    let world = World::new(truth.clone(), faults.clone());
    let (_, mut plan) = world.assess(trigger);
    if plan.first_aid.is_some() && plan.replaces() {
        first_aid(&&world);
        (_, plan) = world.assess(trigger);
    }
    // What could not be tried is not executed.
    if !plan.replaces() || plan.first_aid.is_some() {
        return None;
    }
    let before = world.truth.borrow().clone();
    let execution = execute(&plan, &&world);
    Some((before, world, plan, execution))
}

#[test]
#[ignore]
fn survey() {
    let mut runner = TestRunner::deterministic();
    let mut tally: std::collections::BTreeMap<String, usize> = Default::default();
    let mut ends: std::collections::BTreeMap<String, usize> = Default::default();
    let mut shown = 0;
    for _ in 0..std::env::var("CASES").map_or(20000, |c| c.parse().unwrap()) {
        let truth = some_truth().new_tree(&mut runner).unwrap().current();
        let faults = some_faults().new_tree(&mut runner).unwrap().current();
        if std::env::var("NODUAL").is_ok()
            && truth
                .instances
                .iter()
                .any(|m| m.instance.socket.reached_at().count() > m.instance.socket.tcp_addresses().count())
        {
            continue;
        }
        for trigger in [Trigger::Repair, Trigger::Hook] {
            let Some((before, world, plan, execution)) = executed(&truth, &faults, trigger) else { continue };
            for instance in &execution.instances {
                let end = format!("{:?}", instance.end);
                *ends.entry(end.split(['(', ' ']).next().unwrap().to_owned()).or_default() += 1;
            }
            if let Err(what) = outcome_rules::holds(&before, &world, &plan, &execution) {
                let what = what.split_once(": ").map_or(what.clone(), |(_, w)| w.to_owned());
                let key: String =
                    what.split(['{', '}']).enumerate().filter(|(i, _)| i % 2 == 0).map(|(_, w)| w).collect();
                let key: String = key.chars().filter(|c| !c.is_ascii_digit()).take(100).collect();
                if std::env::var("SHOW").is_ok_and(|w| key.contains(&w)) && shown < 1 {
                    shown += 1;
                    println!("{trigger:?} {what}\n{faults:?}\nBEFORE {before:#?}\nEND {:#?}", execution);
                    for entry in world.journal.borrow().iter() {
                        println!("{:?} / {:?}", entry.event, entry.intent.as_ref().map(|i| &i.instances));
                    }
                }
                *tally.entry(key).or_default() += 1;
            }
        }
    }
    println!("{ends:?}");
    println!("{tally:#?}");
}

#[test]
#[ignore]
fn crash_survey() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut runner = TestRunner::deterministic();
    let mut tally: std::collections::BTreeMap<String, usize> = Default::default();
    let mut shown = 0;
    let mut crashes = 0;
    for n in 0..std::env::var("CASES").map_or(20000usize, |c| c.parse().unwrap()) {
        let truth = some_truth().new_tree(&mut runner).unwrap().current();
        let faults = some_faults().new_tree(&mut runner).unwrap().current();
        if std::env::var("NODUAL").is_ok()
            && truth
                .instances
                .iter()
                .any(|m| m.instance.socket.reached_at().count() > m.instance.socket.tcp_addresses().count())
        {
            continue;
        }
        let faults = if n % 2 == 0 { Faults::default() } else { faults };
        let faults = Faults {
            crash: Some(faults::Crash { call: 1 + (n * 7919) % 60, after: n % 3 == 0 }),
            change: None,
            ..faults
        };
        let world = World::new(truth.clone(), faults.clone());
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.repair(Trigger::Repair))).is_err();
        if !died {
            continue;
        }
        crashes += 1;
        let mut what =
            outcome_rules::nothing_is_forgotten(&truth, &world.truth.borrow()).map_err(|w| format!("AT CRASH {w}"));
        world.pass_time();
        let mut next = world.truth.borrow().clone();
        next.processes.iter_mut().for_each(|p| p.old = true);
        let again = World::new(next, Faults::default());
        let (_, plan) = again.assess(Trigger::Repair);
        let done = again.repair(Trigger::Repair);
        if what.is_ok() {
            what = outcome_rules::nothing_is_forgotten(&truth, &again.truth.borrow()).map_err(|w| format!("AFTER {w}"));
        }
        if what.is_ok() && faults.taker.is_none() && n % 2 == 0 {
            let after = again.truth.borrow();
            for (i, m) in truth.instances.iter().enumerate() {
                let lost: Vec<_> = outcome_rules::lost(&truth, &after, i).into_iter().collect();
                if !lost.is_empty() {
                    what = Err(format!(
                        "STILL LOST {:?} {:?}",
                        done.of(m.instance.name()).map(|d| &d.end),
                        plan.of(m.instance.name()).map(|p| match &p.decision {
                            sshd_mend::model::plan::Decision::Refuse(r) => format!("{:?}", r.code),
                            sshd_mend::model::plan::Decision::Nothing => "nothing".to_owned(),
                            sshd_mend::model::plan::Decision::Replace(r) =>
                                format!("replace {:?}", r.start.jobs.iter().map(|j| j.job).collect::<Vec<_>>()),
                        })
                    ));
                }
            }
        }
        if let Err(what) = what {
            let key: String = what.split(['{', '}']).enumerate().filter(|(i, _)| i % 2 == 0).map(|(_, w)| w).collect();
            let key: String = key.chars().filter(|c| !c.is_ascii_digit()).take(150).collect();
            if std::env::var("SHOW").is_ok_and(|w| key.contains(&w)) && shown < 1 {
                shown += 1;
                println!(
                    "{what}\n{faults:?}\nBEFORE {truth:#?}\nAT CRASH {:#?} PLAN {:#?} END {:#?}\nAFTER {:#?}",
                    world.truth.borrow(),
                    plan,
                    done,
                    again.truth.borrow().intent
                );
                for entry in world.journal.borrow().iter() {
                    println!("{:?} / {:?}", entry.event, entry.intent.as_ref().map(|i| &i.instances));
                }
            }
            *tally.entry(key).or_default() += 1;
        }
    }
    println!("{crashes}");
    println!("{tally:#?}");
}
