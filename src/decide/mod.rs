//! Decisions, pure: what may be terminated, what is wrong, what is to be done about it or why nothing is.
//!
//! Facts in, a diagnosis and a plan out; no file system, no bus, no clock, no log.

pub mod diagnosis;
mod findings;
mod needs;
pub mod plan;
mod refusals;
mod replacement;
mod rescue;
pub mod role;
pub mod served;
mod unit_findings;
mod would_restart;

pub use diagnosis::diagnose;
pub use plan::{instances_in_service, instances_to_try, judge_trials, needs_first_aid, plan};
