//! sshd-mend finds an OpenSSH listener that runs a program no longer on disk, ends it safely, restarts ssh.service
//! through systemd, and does not call it done before a new connection gets through.
//!
//! One run, told on one page:
//!
//! 1. [`observe`] collects facts about processes, sockets and units: a [`snapshot`]. Processes are pinned while they are
//!    read ([`pid_ref`]), listeners get a new connection as a test ([`probe`]), and systemd is asked in two ways
//!    ([`systemd`]).
//! 2. [`diagnosis`] says what the facts mean. Pure.
//! 3. [`preflight`] collects facts about the replacement, if one is needed: would the program on disk serve?
//! 4. [`plan`] says which steps mend the machine, or why none is taken (a [`refusal`]). Pure. A dry run ends here.
//! 5. [`carry_out`] takes the steps: the only place with effects. It runs in a unit of its own ([`repair_unit`]), and
//!    what it is about to do is on [`record`] first.
//! 6. [`report`] says what came of it, to people and programs; [`events`] to the log, which [`journal`] writes.
//!
//! [`agent`] is this page as code.

// println! panics on a terminal that went away, and nothing that the world can change is a reason to panic.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod address;
pub mod agent;
pub mod capabilities;
pub mod carry_out;
pub mod cli;
pub mod deadline;
pub mod diagnosis;
pub mod events;
pub mod hook;
pub mod journal;
mod json;
pub mod observe;
pub mod pid_ref;
pub mod plan;
pub mod preflight;
pub mod printable;
pub mod probe;
pub mod program;
pub mod record;
pub mod refusal;
pub mod repair_unit;
pub mod report;
pub mod rescue;
pub mod settings;
pub mod signals;
pub mod snapshot;
pub mod systemd;
pub mod target;

/// Every parser of something that this program did not write itself, for tests that feed them anything.
#[doc(hidden)]
pub mod parsers {
    pub use crate::address::parse as address;
    pub use crate::observe::{listening_sockets, unit_of_cgroup};
    pub use crate::preflight::options::{assignment, expand};
    pub use crate::preflight::{listen_addresses, owner};
    pub use crate::probe::handshake;
    pub use crate::settings::parse as settings;
    pub use crate::systemd::parse_shown as shown;
}
