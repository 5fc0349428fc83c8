//! What the hook costs on a machine on which nothing is wrong, beside what other tools cost that look at the same things.

use super::machine::Machine;
use super::statistics::{Spread, spread};
use serde::Serialize;
use std::collections::BTreeMap;

/// What is measured: its name, and the command.
pub const COMMANDS: [(&str, &str); 8] = [
    ("floor", "/lab/floor"),
    ("systemctl show", "systemctl show ssh.service"),
    ("sshd-mend hook", "/usr/sbin/sshd-mend hook"),
    ("sshd-mend check", "/usr/sbin/sshd-mend check"),
    ("ss", "ss -Hltnp"),
    ("lsof", "lsof -nP -iTCP -sTCP:LISTEN"),
    ("checkrestart", "checkrestart"),
    ("needrestart", "needrestart -b -r l"),
];

/// Of one command, at one number of processes.
#[derive(Debug, Serialize)]
pub struct Cost {
    pub milliseconds: Spread,
    pub peak_kib: Spread,
}

/// By the number of processes (and connections), by command.
pub type Costs = BTreeMap<String, BTreeMap<String, Cost>>;

pub fn measured(machine: &Machine, sizes: &[u32], rounds: usize, with_connections: bool) -> Costs {
    for package in ["lsof", "debian-goodies"] {
        machine.install(package);
    }
    let mut costs = Costs::new();
    let mut crowds: Vec<(String, u32, u32)> = sizes.iter().map(|size| (size.to_string(), *size, 0)).collect();
    if with_connections {
        crowds.push(("20000 and 200,000 connections".to_owned(), 20_000, 200_000));
    }
    for (name, processes, connections) in crowds {
        machine
            .sh(&format!(
                "rm -f /run/crowd /run/crowd.out; mkfifo /run/crowd
                 setsid /lab/crowd {processes} {connections} </run/crowd >/run/crowd.out 2>&1 &
                 setsid sleep infinity >/run/crowd 2>/dev/null </dev/null & echo $! >/run/crowd.pid"
            ))
            .ok();
        machine.wait_until("the crowd is there", |machine| {
            let out = machine.sh("cat /run/crowd.out").stdout;
            assert!(out.is_empty() || out == "ready\n", "{out}");
            !out.is_empty()
        });
        costs.insert(name.clone(), of_crowd(machine, rounds, connections > 0));
        table(&name, &costs[&name]);
        machine.sh("kill $(cat /run/crowd.pid)").ok();
        machine.wait_until("the crowd is gone", |machine| machine.sh("pgrep -x 'crowd|sleep'").status == 1);
    }
    costs
}

/// In turns, so that what else the machine does meanwhile falls on all of them.
fn of_crowd(machine: &Machine, rounds: usize, quick_only: bool) -> BTreeMap<String, Cost> {
    let is_quick = |name: &str| ["floor", "systemctl show", "sshd-mend hook"].contains(&name);
    let chosen: Vec<_> = COMMANDS.iter().filter(|(name, _)| !quick_only || is_quick(name)).collect();
    let mut values: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for round in 0..=rounds {
        for (name, command) in &chosen {
            let out = machine.sh(&format!("/lab/measure {command}")).ok().stdout;
            let numbers: Vec<f64> = out.split_whitespace().filter_map(|number| number.parse().ok()).collect();
            let [microseconds, kib, status] = numbers[..] else { panic!("{out}") };
            assert!((0.0..126.0).contains(&status), "{command}: {status}");
            // The first one warms the caches.
            if round > 0 {
                values.entry(name).or_default().push((microseconds / 1000.0, kib));
            }
        }
    }
    let cost = |runs: &Vec<(f64, f64)>| Cost {
        milliseconds: spread(&runs.iter().map(|run| run.0).collect::<Vec<_>>()),
        peak_kib: spread(&runs.iter().map(|run| run.1).collect::<Vec<_>>()),
    };
    values.iter().map(|(name, runs)| ((*name).to_owned(), cost(runs))).collect()
}

fn table(processes: &str, costs: &BTreeMap<String, Cost>) {
    println!("\n{processes} processes{:31}milliseconds      peak KiB", "");
    for (name, _) in COMMANDS {
        let Some(cost) = costs.get(name) else { continue };
        println!("{name:20}{:>36}{:14.0}", cost.milliseconds.to_string(), cost.peak_kib.median);
    }
    let median = |name: &str| costs.get(name).map(|cost| cost.milliseconds.median);
    if let (Some(hook), Some(floor), Some(show)) = (median("sshd-mend hook"), median("floor"), median("systemctl show"))
    {
        println!("the hook less the floor and one systemctl show: {:.1} ms", hook - floor - show);
        if let Some(needrestart) = median("needrestart") {
            println!("needrestart takes {:.0} times as long as the hook", needrestart / hook);
        }
    }
}
