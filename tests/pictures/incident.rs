//! The same package run on three machines in the incident: without sshd-mend, with its hook alone, and as the package installs it.

use super::machine::Machine;
use super::svg::{bar, document, line, text};
use std::path::Path;

/// Milliseconds since the package run began.
type Ms = f64;

/// What happened on one machine.
#[derive(Debug)]
pub struct Run {
    title: &'static str,
    /// From then on a new connection gets through, or does not.
    connection: Vec<(Ms, bool)>,
    /// /usr/sbin/sshd is another file.
    replaced: Ms,
    /// ssh.socket or ssh.service failed.
    failed: Vec<Ms>,
    /// sshd-mend has terminated the old sshd.
    terminated: Option<Ms>,
    ended: Ms,
    /// A login at the end.
    logs_in: bool,
}

/// What apt installs, and needrestart in the mode in which it restarts services by itself.
const PACKAGE_RUN: &str =
    "NEEDRESTART_MODE=a DEBIAN_FRONTEND=noninteractive apt-get install -y /opt/lab/openssh-server-newer.deb";

pub fn measured() -> Vec<Run> {
    vec![
        run("without sshd-mend", &Machine::boot("trixie")),
        run("with its hook alone", &Machine::with_package("trixie")),
        run("with sshd-mend as installed", &Machine::as_installed("trixie")),
    ]
}

fn run(title: &'static str, machine: &Machine) -> Run {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    machine.copy_in(&tests.join("pictures/watch.py"), "watch.py");
    machine.copy_in(&tests.join("support/handshake.py"), "handshake.py");
    machine.incident();
    let out = machine
        .sh(&format!(
            "python3 /lab/watch.py >/run/watched & watching=$!
             until [ -e /run/watching ]; do kill -0 $watching; done
             now() {{ python3 -c 'import time; print(round(time.monotonic() * 1000))'; }}
             begun=$(now); {PACKAGE_RUN} >/run/printed 2>&1; echo $begun begun; echo $(now) ended
             touch /run/stop; wait $watching; journalctl --sync; cat /run/watched
             journalctl -q -o json --output-fields=MESSAGE,MESSAGE_ID,__MONOTONIC_TIMESTAMP |
                 python3 -c '
import json, sys
for line in sys.stdin:
    event = json.loads(line)
    what = \"failed\" if str(event.get(\"MESSAGE\")).startswith((\"ssh.service: Failed with\", \"ssh.socket: Failed with\")) else event.get(\"MESSAGE_ID\", \"other\")
    print(round(int(event[\"__MONOTONIC_TIMESTAMP\"]) / 1000), what)'"
        ))
        .ok()
        .stdout;
    let facts: Vec<(f64, &str, &str)> = out
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?.parse().ok()?, words.next()?, words.next().unwrap_or_default()))
        })
        .collect();
    let all = |wanted: &str| facts.iter().filter(|fact| fact.1 == wanted).map(|fact| fact.0).collect::<Vec<f64>>();
    let [begun, ended] = ["begun", "ended"].map(|what| all(what)[0]);
    let connection = facts.iter().filter(|fact| fact.1 == "connection");
    Run {
        title,
        connection: connection.map(|fact| ((fact.0 - begun).max(0.0), fact.2 == "1")).collect(),
        replaced: all("program").last().expect("the program is watched") - begun,
        failed: all("failed").iter().map(|at| at - begun).filter(|at| *at > 0.0).collect(),
        terminated: all(sshd_mend::report::events::ENDED).first().map(|at| at - begun),
        ended: ended - begun,
        logs_in: machine.login().status == 0,
    }
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 24.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const ROW: f64 = 124.0;
const BAR: f64 = 26.0;

/// One row for each machine, all on one scale.
pub fn svg(runs: &[Run]) -> String {
    let last = runs.iter().map(|run| run.ended).fold(0.0, f64::max);
    // Room for what comes after the package run.
    let end = last * 1.45;
    let x = |ms: f64| LEFT + ms / end * (WIDTH - LEFT - RIGHT);
    let mut body =
        text(LEFT, 30.0, "title", "start", "An upgrade of openssh-server while systemd has lost track of sshd");
    body += &text(
        LEFT,
        48.0,
        "weak",
        "start",
        "Debian 13, apt-get with needrestart -r a; a new connection every few milliseconds; seconds since apt-get began",
    );
    for (index, run) in runs.iter().enumerate() {
        body += &row(run, TOP + index as f64 * ROW, end, &x);
    }
    let bottom = TOP + runs.len() as f64 * ROW;
    for second in 0..=(end / 1000.0) as u32 {
        let at = x(f64::from(second) * 1000.0);
        body += &line((at, bottom), (at, bottom + 5.0), "mark");
        body += &text(at, bottom + 19.0, "weak", "middle", &second.to_string());
    }
    body += &line((LEFT, bottom), (WIDTH - RIGHT, bottom), "mark");
    document(WIDTH, bottom + 30.0, "The incident, with and without sshd-mend", ".name { font-weight: bold }\n", &body)
}

fn row(run: &Run, top: f64, end: f64, x: &impl Fn(f64) -> f64) -> String {
    let bar_top = top + 46.0;
    let bottom = bar_top + BAR;
    let mut body = text(LEFT, top + 14.0, "text name", "start", run.title);
    let ends = run.connection.iter().skip(1).map(|(at, _)| *at).chain([end]);
    for ((from, through), to) in run.connection.iter().zip(ends) {
        let width = (x(to) - x(*from)).max(2.0);
        body += &bar(x(*from), bar_top, width, BAR, if *through { "good" } else { "bad" });
        let label = if *through { "new connections get through" } else { "nobody can log in" };
        if width > 190.0 {
            body += &text(x(*from) + 10.0, bar_top + 18.0, "on", "start", label);
        } else if !through {
            // To its left, for what ends it is told to its right.
            let label = format!("{label} for {:.0} ms", to - from);
            body += &line((x(*from), bottom), (x(*from), bottom + 38.0), "mark");
            body += &text(x(*from) - 6.0, bottom + 36.0, "text", "end", &label);
        }
    }
    for (at, label) in [(run.replaced, "dpkg replaces /usr/sbin/sshd"), (run.ended, "apt-get ends")] {
        body += &line((x(at), bar_top - 7.0), (x(at), bar_top), "mark");
        body += &text(x(at), bar_top - 11.0, "text", "start", label);
    }
    for at in &run.failed {
        body += &line((x(*at), bottom), (x(*at), bottom + 7.0), "mark");
    }
    if let Some(last) = run.failed.last() {
        body += &text(x(*last) - 4.0, bottom + 19.0, "text", "end", "each restart of ssh fails: the port is taken");
    }
    let (at, said) = match (run.terminated, run.logs_in) {
        (Some(at), true) => (at, "sshd-mend replaces the old sshd"),
        (_, true) => (run.ended, "a login works"),
        (_, false) => (run.ended, "until somebody repairs it at the console"),
    };
    body += &line((x(at), bottom), (x(at), bottom + 38.0), "mark");
    body + &text(x(at) + 6.0, bottom + 36.0, "text", "start", said)
}
