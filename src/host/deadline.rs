//! The time that a run may take, on the monotonic clock: a jump of the wall clock neither ends it nor makes it hang.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant, SystemTime};

/// A point in time after which nothing is waited for any more.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// `duration` from now.
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    /// This deadline, or `duration` from now if that comes first.
    pub fn at_most(self, duration: Duration) -> Self {
        Self(self.0.min(Instant::now() + duration))
    }

    /// What is left. Zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Nothing is left.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }
}

/// The time that has passed since a moment of CLOCK_MONOTONIC in microseconds, as systemd writes it.
pub fn elapsed_since(micros: u64) -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default()).saturating_sub(Duration::from_micros(micros))
}

/// The same of CLOCK_REALTIME.
pub fn elapsed_since_date(micros: u64) -> Duration {
    let date = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
    SystemTime::now().duration_since(date).unwrap_or_default()
}
