//! The benchmark, see tests/bench: whole processes on a booted machine, in turns, medians. Timings are for reading, and compared
//! within one run; what fails is a count.
#![allow(missing_docs, dead_code)]

mod cost;
mod counts;
mod incident;
#[path = "../system/machine.rs"]
mod machine;
#[path = "../system/network.rs"]
mod network;
mod plot;
#[path = "../support/schema.rs"]
mod schema;
mod statistics;

use serde_json::json;
use std::path::Path;
use std::process::Command;

const HELPERS: [&str; 3] = ["floor", "measure", "crowd"];

/// Builds a helper of this directory into the machine, at /lab.
fn helper(machine: &machine::Machine, name: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/benchmark/{name}.c"));
    let built = std::env::temp_dir().join(format!("sshd-mend-{}-{name}", std::process::id()));
    let compiled = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&built).arg(source).status();
    assert!(compiled.expect("cc").success(), "{name}.c");
    machine.copy_in(&built, name);
    std::fs::remove_file(built).expect("it is a copy");
}

fn main() {
    let small = std::env::args().any(|argument| argument == "--small");
    let machine = machine::Machine::as_installed("trixie");
    HELPERS.iter().for_each(|name| helper(&machine, name));
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    machine.copy_in(&tests.join("benchmark/watch.py"), "watch.py");
    machine.copy_in(&tests.join("support/handshake.py"), "handshake.py");
    let counts = counts::measured(&machine);
    let rounds = if small { 3 } else { 15 };
    let sizes = if small { &[200][..] } else { &[200, 2_000, 20_000] };
    // First, since the kernel takes its time to forget many connections.
    let incident = incident::measured(&machine, rounds);
    let cost = cost::measured(&machine, sizes, rounds, !small);
    let all = json!({ "counts": counts, "cost": cost, "incident": incident });
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Where the build is elsewhere, it is not there.
    std::fs::create_dir_all(root.join("target")).expect("a directory");
    std::fs::write(root.join("target/benchmark.json"), format!("{all:#}\n")).expect("target/benchmark.json");
    if !small {
        std::fs::write(root.join("docs/benchmark.svg"), plot::svg(&cost)).expect("docs/benchmark.svg");
    }
    counts::judge(&counts);
}
