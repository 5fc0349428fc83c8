//! A simulated machine for the executor: kernel, systemd and disk, in which every step can fail. It keeps the truth about
//! who serves which address.
//!
//! It knows nothing about plans; agent.rs alone calls `decide` and `act`, as `agent` does on a real machine.

mod agent;
pub mod any;
pub mod faults;
pub mod layout;
mod machine;
mod systemd;
pub mod truth;
pub mod world;
