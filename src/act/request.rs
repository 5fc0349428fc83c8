//! Who asks for a repair, on record until the repair unit has accepted it.

use serde::{Deserialize, Serialize};
use std::io;

use super::record::Record;
use crate::model::plan::Trigger;

const REQUEST: &str = "request";

/// Who asks for a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub trigger: Trigger,
    /// The process that waits for the outcome, by its pid.
    pub process: u32,
    /// Its start in clock ticks since boot: another process may have its pid later.
    #[serde(default)]
    started_ticks: u64,
}

impl Request {
    /// A request of this process.
    fn own(trigger: Trigger) -> Self {
        let process = std::process::id();
        Self { trigger, process, started_ticks: started_ticks(process).unwrap_or_default() }
    }

    /// Whoever asked still waits for the outcome.
    fn is_waited_for(&self) -> bool {
        started_ticks(self.process) == Some(self.started_ticks)
    }
}

impl Record {
    /// Says who asks for a repair. A person's request stands until it is accepted; a hook's does not replace it.
    ///
    /// # Errors
    /// It could not be written.
    pub fn write_request(&self, trigger: Trigger) -> io::Result<()> {
        if self.request().is_some_and(|standing| standing.trigger == Trigger::Repair) {
            return Ok(());
        }
        self.write_json(REQUEST, &Request::own(trigger))
    }

    /// Accepts the request that stands now. Later ones stand for themselves.
    ///
    /// Where none stands, nobody asks: systemd has started the unit again after an attempt that was killed or failed. That
    /// completes what was begun, with no more rights than a package run has.
    pub fn accept_request(&self) -> Option<Request> {
        let standing = self.request();
        let removed = self.remove(REQUEST);
        log::debug!("accepted: {standing:?}, {removed:?}");
        // Who does not wait any more is not there to see what is done with a person's rights.
        standing.map(|request| match request.is_waited_for() {
            true => request,
            false => Request { trigger: request.trigger.min(Trigger::Unattended), ..request },
        })
    }

    /// Takes back the request of this process, if it still stands.
    pub fn withdraw_request(&self) {
        if self.request().is_some_and(|standing| standing.process == std::process::id()) {
            let removed = self.remove(REQUEST);
            log::debug!("the request was withdrawn: {removed:?}");
        }
    }

    /// The request that no repair has accepted.
    pub fn request(&self) -> Option<Request> {
        self.read(REQUEST)
    }
}

/// `None`: there is no such process, or its name is no text, as ours is.
fn started_ticks(process: u32) -> Option<u64> {
    let process = procfs::process::Process::new(i32::try_from(process).ok()?).ok()?;
    process.stat().ok().map(|stat| stat.starttime)
}
