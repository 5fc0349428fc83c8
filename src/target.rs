//! A listener that is to be replaced: pinned, looked at again, and ended.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::address::collide;
use crate::deadline::Deadline;
use crate::diagnosis::{Diagnosis, is_listener};
use crate::observe::look_again;
use crate::pid_ref::PidRef;
use crate::plan::{Action, Plan};
use crate::printable::printable;
use crate::snapshot::{Process, Snapshot};

/// After SIGKILL. Only a process in uninterruptible sleep takes longer.
const KILLED: Duration = Duration::from_secs(3);

/// A listener, pinned, and what it was when it was judged.
#[derive(Debug)]
pub struct Target<'a> {
    pinned: PidRef,
    judged: &'a Process,
}

/// Pins the listeners that the plan ends or restarts. `None`: one of them is no longer what it was.
#[must_use]
pub fn pin<'a>(plan: &Plan, snapshot: &'a Snapshot, diagnosis: &Diagnosis) -> Option<Vec<Target<'a>>> {
    let restarted =
        |name: &str| plan.actions.iter().any(|action| matches!(action, Action::RestartUnit { unit } if unit == name));
    let ended = |target: i32| {
        plan.actions.iter().any(|action| matches!(action, Action::Terminate { pid, .. } if *pid == target))
    };
    let affected = diagnosis.listeners.iter().filter(|l| ended(l.pid) || l.unit.as_deref().is_some_and(restarted));
    let mut targets = Vec::new();
    for listener in affected {
        let judged = snapshot.processes.iter().find(|process| process.pid == listener.pid)?;
        let target = Target { pinned: PidRef::open(listener.pid).ok().flatten()?, judged };
        if !target.is_unchanged(&snapshot.program.path) {
            return None;
        }
        targets.push(target);
    }
    Some(targets)
}

impl Target<'_> {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pinned.pid()
    }

    /// Its program, printable.
    #[must_use]
    pub fn exe(&self) -> String {
        printable(&self.judged.exe.to_string_lossy())
    }

    /// Who connects there reached it when it was judged.
    #[must_use]
    pub fn serves(&self, address: SocketAddr) -> bool {
        self.judged.listening.iter().any(|held| collide(*held, address))
    }

    /// It is gone.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        self.pinned.has_exited().unwrap_or(false)
    }

    /// It is still what it was when it was judged.
    #[must_use]
    pub fn is_unchanged(&self, program: &Path) -> bool {
        look_again(&self.pinned, program).ok().flatten().is_some_and(|now| {
            is_listener(&now)
                && !now.traced
                && now.started_ticks == self.judged.started_ticks
                && now.stale() == self.judged.stale()
                && now.image == self.judged.image
                && now.listening == self.judged.listening
        })
    }

    /// SIGTERM, a wait, SIGKILL. SIGTERM frees the port at once, and sessions go on.
    ///
    /// # Errors
    /// It is still there, and why.
    pub fn end(&self, grace: Duration) -> Result<String, String> {
        let gone =
            |error: io::Error| if self.has_exited() { Ok("had exited".to_owned()) } else { Err(error.to_string()) };
        if let Err(error) = self.pinned.terminate() {
            return gone(error);
        }
        if self.pinned.wait(Deadline::after(grace)).unwrap_or(false) {
            return Ok("ended by SIGTERM".to_owned());
        }
        if let Err(error) = self.pinned.kill() {
            return gone(error);
        }
        if self.pinned.wait(Deadline::after(KILLED)).unwrap_or(false) {
            return Ok("ended by SIGKILL".to_owned());
        }
        Err("it is still there after SIGKILL, in uninterruptible sleep".to_owned())
    }
}
