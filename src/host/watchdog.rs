//! Ends this process if it makes no progress. Every wait of the program has a limit, so this is for what has none: a
//! system call that hangs, a fault of this program. Whoever waits for it goes on, and systemd finishes a repair that was
//! announced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Told about progress.
#[derive(Debug, Clone)]
pub struct Watchdog {
    started: Instant,
    /// Milliseconds from `started` to the last progress.
    last: Arc<AtomicU64>,
}

impl Watchdog {
    /// Starts to watch. Without progress for `limit` the process exits with `status`.
    pub fn start(limit: Duration, status: u8) -> Self {
        let watchdog = Self { started: Instant::now(), last: Arc::new(AtomicU64::new(0)) };
        let watching = watchdog.clone();
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            loop {
                let idle = watching.idle();
                if idle >= limit {
                    log::error!("this run has made no progress for {} s and is given up", limit.as_secs());
                    std::process::exit(status.into());
                }
                std::thread::sleep(limit - idle);
            }
        });
        if let Err(error) = thread {
            log::error!("there is no watchdog for this run: {error}");
        }
        watchdog
    }

    /// Something was finished.
    pub fn progress(&self) {
        self.last.store(self.elapsed(), Ordering::Relaxed);
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.elapsed().saturating_sub(self.last.load(Ordering::Relaxed)))
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
