//! sshd-mend finds an OpenSSH listener that runs a program no longer on disk, ends it safely, restarts ssh.service
//! through systemd, and does not call it done before a new connection gets through.
//!
//! One run, on one page. Each folder uses only those below it (tests/layout.rs checks that):
//!
//! 1. [`agent`] is one run from start to finish: assess, execute, conclude. Effects run in a unit of systemd, which
//!    supervises them.
//! 2. [`act`] has every effect: it carries out a plan instance by instance (terminate, start, prove, rescue), and records
//!    first what it is about to do. A dry run ends before it.
//! 3. [`report`] makes text of an outcome: for people, as JSON, as events of the journal.
//! 4. [`decide`] is pure: what may be terminated, what the facts mean, the plan for each instance, and refusals.
//! 5. [`observe`] collects the facts: processes, sockets, instances, and what the program on disk can do.
//! 6. [`host`] wraps the kernel, systemd and ssh: pidfds, commands, the bus, handshakes, the log, deadlines.
//! 7. [`model`] is plain data: snapshot, diagnosis, plan, results of steps.

// println! panics on a terminal that went away, and nothing that the world can change is a reason to panic.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod act;
pub mod agent;
pub mod cli;
pub mod decide;
pub mod host;
pub mod model;
pub mod observe;
pub mod report;
pub mod settings;

/// Every parser of text or bytes that this program did not write itself, for tests that feed them anything.
#[doc(hidden)]
pub mod parsers {
    pub use crate::host::handshake::handshake;
    pub use crate::host::sock_diag::parse as sock_diag;
    pub use crate::host::systemd::parse_shown as shown;
    pub use crate::model::address::parse as address;
    pub use crate::observe::control_group::{of_process as control_group, unit as unit_of_control_group};
    pub use crate::observe::options::{assignment, expand};
    pub use crate::observe::package::owner;
    pub use crate::observe::server::listen_addresses;
    pub use crate::settings::parse as settings;
}
