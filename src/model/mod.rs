//! Plain data: the facts about a machine, what they mean, the steps to take and their results.
//!
//! Nothing in here reads the machine, decides, or changes anything. Text of systemd and the kernel becomes a type here on
//! its way in, and text again on its way out.

pub mod address;
pub mod coverage;
pub mod diagnosis;
pub mod execution;
pub mod intent;
pub(crate) mod json;
pub mod meaning;
pub mod names;
pub mod plan;
pub mod printable;
pub mod probe;
pub mod process;
pub mod refusal;
pub mod snapshot;
pub mod trial;
pub mod unit;
pub mod words;
