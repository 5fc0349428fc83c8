//! The kernel, systemd and ssh as this program reaches them: pinned processes, commands, the bus, handshakes, the log.
//!
//! Each module wraps one interface and knows its limits. None knows what a listener or an instance is.

pub mod capabilities;
pub mod command;
pub mod deadline;
pub mod handshake;
pub mod interfaces;
pub mod limits;
pub mod log;
pub mod node;
pub mod pid_ref;
pub mod probe;
pub mod proof;
pub mod signals;
pub mod sock_diag;
pub mod systemd;
pub mod watchdog;
