//! What came of a run, as text: for people, as JSON, and as events of the journal.

mod conclusion;
pub mod events;
mod human;
mod next_step;
pub mod outcome;

use std::io::Write;

pub use human::{Style, render};
pub use outcome::{Done, InstanceOutcome, Origin, Outcome, Sessions, Tried, UnitState, Verdict};

/// Prints an outcome to standard output, for a program or for a person. A terminal that went away is no reason to
/// panic, and there is nobody left to tell.
pub fn print(outcome: &Outcome, json: bool, style: Style) {
    let mut out = std::io::stdout().lock();
    let _ = if json {
        serde_json::to_writer(&mut out, outcome).map_err(Into::into).and_then(|()| writeln!(out))
    } else {
        out.write_all(render(outcome, style).as_bytes())
    };
    let _ = out.flush();
}
