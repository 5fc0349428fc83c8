//! The end of an instance's old listeners: all are signalled, then all are waited for.

use std::time::{Duration, Instant};

use super::machine::{Machine, Target};
use super::work::Work;
use crate::model::execution::{Failure, Success};
use crate::model::plan::Step;

/// After SIGKILL. Only a process in uninterruptible sleep takes longer.
const KILL_TIMEOUT: Duration = Duration::from_secs(3);

impl<M: Machine> Work<'_, M> {
    /// Terminates the listeners that no unit owns. False: one of them is still there.
    pub(super) fn terminate(&mut self) -> bool {
        let count = self.replacement.end.len();
        if count == 0 {
            return true;
        }
        let begun = Instant::now();
        self.unreachable_since.get_or_insert(begun);
        let machine = self.machine;
        let targets: Vec<&M::Target> = self.old.iter().take(count).collect();
        let refused: Vec<Option<String>> =
            targets.iter().map(|target| machine.terminate(target).err().map(|error| error.to_string())).collect();
        machine.wait(&targets, machine.grace());
        let survived: Vec<bool> = targets.iter().map(|target| !target.has_exited()).collect();
        let remaining: Vec<&M::Target> = targets.iter().copied().filter(|target| !target.has_exited()).collect();
        if !remaining.is_empty() {
            for target in &remaining {
                if let Err(error) = machine.kill(target) {
                    log::error!("listener {} could not be killed: {error}", target.judged().pid);
                }
            }
            machine.wait(&remaining, KILL_TIMEOUT);
        }
        let results: Vec<_> = targets
            .iter()
            .zip(survived)
            .zip(refused)
            .map(|((target, survived), refused)| {
                let result = match (target.has_exited(), survived, refused) {
                    (true, false, None) => Ok(Success::Terminated),
                    (true, false, Some(_)) => Ok(Success::HadExited),
                    (true, true, _) => Ok(Success::Killed),
                    (false, _, Some(error)) => Err(Failure::System(error)),
                    (false, _, None) => Err(Failure::StillRunning),
                };
                (Step::terminate(target.judged()), result)
            })
            .collect();
        let mut gone = true;
        for (step, result) in results {
            gone &= self.note(step, begun, result);
        }
        gone
    }
}
