//! Draws docs/incident.svg and docs/demo.svg from real runs on booted machines, see tests/draw.
#![allow(missing_docs, dead_code)]

mod demo;
mod incident;
#[path = "../system/machine.rs"]
mod machine;
#[path = "../system/network.rs"]
mod network;
#[path = "../support/schema.rs"]
mod schema;
mod svg;

use std::path::Path;

fn main() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    std::fs::write(docs.join("incident.svg"), incident::svg(&incident::measured())).expect("docs/incident.svg");
    std::fs::write(docs.join("demo.svg"), demo::svg(&demo::recorded())).expect("docs/demo.svg");
}
