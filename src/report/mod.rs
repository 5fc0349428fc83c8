//! What came of a run, as text: for people, as JSON, for monitoring systems, and as events of the journal.

mod conclusion;
pub mod events;
mod human;
mod metrics;
mod next_step;
pub mod outcome;
mod plugin;

use std::io::Write;

pub use human::{Style, render};
pub use metrics::metrics;
pub use outcome::{Done, InstanceOutcome, Origin, Outcome, Sessions, Tried, UnitState, Verdict};
pub use plugin::answer;

/// Who reads an outcome on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Person(Style),
    /// `--json`
    Program,
    /// `--plugin`
    Monitoring {
        /// A machine without an SSH server is critical.
        expects_sshd: bool,
    },
}

/// Prints an outcome to standard output, and returns the exit status that goes with it. A terminal that went away is no
/// reason to panic, and there is nobody left to tell.
pub fn print(outcome: &Outcome, reader: Reader) -> u8 {
    let (exit_status, text) = match reader {
        Reader::Person(style) => (outcome.exit_status, render(outcome, style)),
        Reader::Program => (outcome.exit_status, serde_json::to_string(outcome).unwrap_or_default() + "\n"),
        Reader::Monitoring { expects_sshd } => {
            let answer = answer(outcome, expects_sshd);
            (answer.exit_status, answer.text)
        }
    };
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
    exit_status
}
