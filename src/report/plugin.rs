//! An outcome as a monitoring plugin prints it (Nagios, Icinga, NRPE): the state, what it is about and performance data on
//! the first line, the rest of the screen below it. <https://www.monitoring-plugins.org/doc/guidelines.html>

use std::fmt::Write;

use super::human::{Style, render};
use super::outcome::{Outcome, Verdict};

/// What a monitoring system is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0 OK, 1 warning, 2 critical, 3 unknown.
    pub exit_status: u8,
    /// With a line break at its end.
    pub text: String,
}

/// The answer of a plugin. `expects_sshd`: a machine on which nobody is meant to listen is critical, too.
pub fn answer(outcome: &Outcome, expects_sshd: bool) -> Answer {
    // It separates text and performance data, wherever it is.
    let screen = render(outcome, Style::default()).replace('|', "/");
    let (first, rest) = screen.split_once('\n').unwrap_or((&screen, ""));
    let is_missing = expects_sshd && outcome.exit_status == 0 && !serves(outcome);
    let (exit_status, first) = match is_missing {
        true => (2, format!("SSHD CRITICAL - {}, and it must have one", missing(outcome))),
        false => (outcome.exit_status, first.to_owned()),
    };
    Answer { exit_status, text: format!("{first} | {}\n{rest}", performance(outcome)) }
}

/// Somebody listens, or systemd does.
fn serves(outcome: &Outcome) -> bool {
    !outcome.listeners.is_empty() || outcome.instances.iter().any(|instance| !instance.addresses.is_empty())
}

fn missing(outcome: &Outcome) -> &'static str {
    match outcome.verdict {
        Verdict::NotApplicable => "there is no OpenSSH server on this machine",
        _ => "no SSH server is enabled on this machine",
    }
}

/// `'label'=value[unit];warning;critical;minimum`. Nothing can be counted on a machine that could not be examined.
fn performance(outcome: &Outcome) -> String {
    let mut text = String::new();
    if outcome.verdict != Verdict::Unknown {
        let _ = write!(text, "'sessions'={};;;0 'listeners'={};;;0 ", outcome.sessions.after, outcome.listeners.len());
        if let Some(started) = outcome.oldest_listener() {
            let age = outcome.origin.time.duration_since(started).unwrap_or_default().as_secs();
            let _ = write!(text, "'oldest_listener'={age}s;;;0 ");
        }
    }
    let _ = write!(text, "'duration'={}.{:03}s;;;0", outcome.duration_ms / 1000, outcome.duration_ms % 1000);
    text
}
