//! The sessions that were open when a repair began, pinned, so that it can tell which of them it has cost.

use rustix::time::{ClockId, clock_gettime};

use crate::host::pid_ref::PidRef;

/// Over a connection as young as this nobody need have authenticated yet, and the kernel does not tell: before sshd has
/// started the child without rights, it looks like a session of root. On a busy machine that takes a while.
const YOUNG_SECS: u64 = 5;

/// See above. Each with whether it was young.
pub(super) struct PinnedSessions(Vec<(PidRef, bool)>);

impl PinnedSessions {
    pub(super) fn pin(pids: &[i32]) -> Self {
        let pinned = pids.iter().filter_map(|pid| PidRef::open(*pid).ok().flatten());
        Self(pinned.map(|session| (is_young(&session), session)).map(|(young, session)| (session, young)).collect())
    }

    /// Forgets those that have ended before anything was done.
    pub(super) fn forget_ended(&mut self) {
        self.0.retain(|(session, _)| is_open(session));
    }

    /// How many were open, and how many of them still are. One that was young and is gone may have been none.
    pub(super) fn survivors(&self) -> (usize, usize) {
        let open = self.0.iter().filter(|(session, _)| is_open(session)).count();
        let lost = self.0.iter().filter(|(session, young)| !young && !is_open(session)).count();
        (open + lost, open)
    }
}

fn is_open(session: &PidRef) -> bool {
    session.has_exited().is_ok_and(|exited| !exited)
}

fn is_young(session: &PidRef) -> bool {
    let now = u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or_default();
    let started = session.process().stat().map(|stat| stat.starttime / procfs::ticks_per_second().max(1));
    started.is_ok_and(|started| now.saturating_sub(started) < YOUNG_SECS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn process() -> Child {
        Command::new("/usr/bin/sleep").arg("60").spawn().expect("a process")
    }

    #[test]
    fn a_connection_that_was_young_and_is_gone_was_perhaps_none() {
        let [mut lost, mut kept, mut ended] = [process(), process(), process()];
        let pids = [&lost, &kept, &ended].map(|child| i32::try_from(child.id()).expect("a pid"));
        let mut sessions = PinnedSessions::pin(&pids);
        assert!(sessions.0.iter().all(|(_, young)| *young));
        sessions.0[0].1 = false;
        ended.kill().and_then(|()| ended.wait()).expect("it has ended");
        sessions.forget_ended();
        assert_eq!(sessions.survivors(), (2, 2));
        lost.kill().and_then(|()| lost.wait()).expect("it has ended");
        assert_eq!(sessions.survivors(), (2, 1));
        kept.kill().and_then(|()| kept.wait()).expect("it has ended");
        assert_eq!(sessions.survivors(), (1, 0));
    }

    #[test]
    fn the_first_process_is_not_young() {
        assert!(PidRef::open(1).expect("PID 1").is_some_and(|init| !is_young(&init)));
    }
}
