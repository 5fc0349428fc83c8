//! How long the lock-out lasts: with the hook, with the line that a person types, and with needrestart, which does not end it.

use super::machine::Machine;
use super::statistics::{Spread, spread};
use serde::Serialize;
use std::collections::BTreeMap;

/// What ends it, with LISTENER for the old sshd.
const WAYS: [(&str, &str); 3] = [
    ("sshd-mend hook", "/usr/sbin/sshd-mend hook"),
    ("typed line", "kill LISTENER; systemctl restart ssh.service"),
    ("needrestart -r a", "needrestart -q -r a"),
];

/// In milliseconds from the start of the command.
#[derive(Debug, Serialize)]
pub struct Lockout {
    /// Until a new connection got through. `None`: none did.
    pub first_connection: Option<Spread>,
    pub whole: Spread,
    /// How long nobody listened.
    pub refused: Spread,
}

pub fn measured(machine: &Machine, rounds: usize) -> BTreeMap<String, Lockout> {
    // What prevents the incident would, and what a failure starts would end it.
    machine
        .sh("for unit in ssh.service ssh.socket; do
                    mkdir -p /etc/systemd/system/$unit.d; ln -sf /dev/null /etc/systemd/system/$unit.d/50-sshd-mend.conf
                done; systemctl daemon-reload")
        .ok();
    let mut runs: BTreeMap<&str, Vec<[f64; 3]>> = BTreeMap::new();
    for _ in 0..rounds {
        for (name, command) in WAYS {
            runs.entry(name).or_default().push(one(machine, command));
            machine.sh("sshd-mend hook; sshd-mend check").ok();
        }
    }
    let lockout = |runs: &Vec<[f64; 3]>| {
        let column = |index: usize| runs.iter().map(|run| run[index]).collect::<Vec<_>>();
        let got_through: Vec<f64> = column(0).into_iter().filter(|at| *at > 0.0).collect();
        Lockout {
            first_connection: (got_through.len() == runs.len()).then(|| spread(&got_through)),
            whole: spread(&column(1)),
            refused: spread(&column(2)),
        }
    };
    let all: BTreeMap<String, Lockout> = runs.iter().map(|(name, runs)| ((*name).to_owned(), lockout(runs))).collect();
    println!("\nthe incident, in milliseconds{:6}first connection{:16}whole command{:18}nobody listens", "", "", "");
    for (name, _) in WAYS {
        let Lockout { first_connection, whole, refused } = &all[name];
        let first = first_connection.map_or("never".to_owned(), |first| first.to_string());
        println!("{name:20}{first:>31}{:>31}{:>31}", whole.to_string(), refused.to_string());
    }
    all
}

/// First connection (0: none), whole command, nobody listens.
fn one(machine: &Machine, command: &str) -> [f64; 3] {
    let listener = machine.incident();
    machine.replace_program("/usr/sbin/sshd");
    assert_ne!(machine.sh("systemctl restart ssh.service").status, 0, "the port is taken");
    machine.assert_no_login();
    let out = machine
        .sh(&format!(
            "rm -f /run/stop /run/watching
             python3 /lab/watch.py >/run/watched & watching=$!
             until [ -e /run/watching ]; do kill -0 $watching; done
             begun=$(python3 -c 'import time; print(time.monotonic() * 1000)')
             {{ {}; }} >/dev/null 2>&1 </dev/null || :
             ended=$(python3 -c 'import time; print(time.monotonic() * 1000)')
             touch /run/stop; wait $watching; echo $begun $ended $(cat /run/watched)",
            command.replace("LISTENER", &listener.to_string())
        ))
        .ok()
        .stdout;
    let numbers: Vec<f64> = out.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [begun, ended, first, refused] = numbers[..] else { panic!("{out}") };
    // The restart that fails creates /run/sshd for a moment.
    let lasts = machine.sh("ssh root@127.0.0.1 true").status == 0;
    [if first > 0.0 && lasts { (first - begun).max(0.1) } else { 0.0 }, ended - begun, refused]
}
