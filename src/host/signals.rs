//! SIGINT, SIGTERM and SIGHUP: noted, and acted on where it is safe to stop.
//!
//! Between the signal to a listener and the end of the restart it never is.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody asked this process to stop.
#[derive(Debug, Clone)]
pub struct Signals(Arc<AtomicBool>);

impl Signals {
    /// From now on the three signals do nothing but leave a note.
    ///
    /// # Errors
    /// sigaction(2) failed.
    pub fn note() -> io::Result<Self> {
        let noted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&noted))?;
        }
        Ok(Self(noted))
    }

    /// One of them came.
    pub fn noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
