//! Effects, all of them: terminates listeners, starts units, probes, rescues, and keeps the record of it.
//!
//! [`execute`] is the one pass over a plan. What it needs of the machine is the trait [`Machine`]; [`Host`] is the real one.

pub mod execute;
mod host;
mod machine;
mod prove;
pub mod record;
pub mod replace;
pub mod request;
mod rescue;
pub mod rescue_units;
mod start;
mod terminate;
mod work;

pub use execute::execute;
pub use host::Host;
pub use machine::{JobFailure, Machine, Target};
