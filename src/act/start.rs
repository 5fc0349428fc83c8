//! The start of what was declared, a second attempt with a cleared state, and the service without its socket.

use std::time::Instant;

use super::machine::{JobFailure, Machine};
use super::work::Work;
use crate::model::execution::{Failure, Success};
use crate::model::plan::{Job, Step, UnitJob};

impl<M: Machine> Work<'_, M> {
    /// Starts the instance's units. True: the unit that serves is active.
    pub(super) fn start(&mut self) -> bool {
        let start = &self.replacement.start;
        if let Some(rescue) = &start.stop_rescue {
            let begun = Instant::now();
            self.unreachable_since.get_or_insert(begun);
            let result = self.machine.run(Job::Stop, rescue);
            let result = result.map(|()| Success::Stopped).map_err(Failure::from);
            self.note(Step::StopRescue { unit: rescue.clone() }, begun, result);
        }
        for unit in &start.reset {
            let begun = Instant::now();
            let result = self.machine.reset_failed(unit).map(|()| Success::Cleared).map_err(Failure::from);
            self.note(Step::ResetFailed { unit: unit.clone() }, begun, result);
        }
        for job in &start.jobs {
            let begun = Instant::now();
            if job.job == Job::Restart || job.job == Job::Stop {
                self.unreachable_since.get_or_insert(begun);
            }
            let result = self.run(job);
            if !self.note(job.step(), begun, result) {
                self.restore_runtime_directory();
                // What comes next may work all the same, and has to be tried.
                if job.job == Job::Stop {
                    continue;
                }
                self.start_service_alone(job);
                break;
            }
        }
        self.machine.is_active(&start.serves)
    }

    /// The socket could not be started, but perhaps the service can be.
    fn start_service_alone(&mut self, failed: &UnitJob) {
        let Some(service) = self.replacement.start.service_alone.clone().filter(|service| *service != failed.unit)
        else {
            return;
        };
        self.machine.abort(&failed.unit);
        if let Err(error) = self.machine.reset_failed(&service) {
            log::debug!("{service}: {error:?}");
        }
        let begun = Instant::now();
        let job = UnitJob { job: Job::Start, unit: service };
        let result = self.machine.run(Job::Start, &job.unit).map(|()| Success::Started).map_err(Failure::from);
        let started = self.note(job.step(), begun, result);
        if !started {
            self.restore_runtime_directory();
        }
    }

    /// Runs a job, and once more with a cleared state: the start limit may have been used up, or somebody else's job may
    /// have been in the way.
    fn run(&self, UnitJob { job, unit }: &UnitJob) -> Result<Success, Failure> {
        let machine = self.machine;
        let first = match machine.run(*job, unit) {
            Ok(()) => return Ok(achieved(*job)),
            // Do not retry a job that timed out.
            Err(error @ JobFailure::TimedOut(_)) => return Err(error.into()),
            Err(error) => error,
        };
        log::debug!("{first:?}; once more");
        if let Err(error) = machine.reset_failed(unit) {
            log::debug!("{unit}: {error:?}");
        }
        // A unit that was not even stopped still runs its old listener: to start it would look like success.
        if *job == Job::Restart && machine.is_active(unit) {
            return Err(first.into());
        }
        // The failed attempt has removed the directory that other instances need.
        if !machine.has_runtime_directory() {
            let _ = machine.create_runtime_directory();
        }
        let again = if *job == Job::Stop { Job::Stop } else { Job::Start };
        match machine.run(again, unit) {
            Ok(()) if again == Job::Stop => Ok(Success::Stopped),
            Ok(()) => Ok(Success::StartedAtSecondAttempt),
            Err(_) => Err(first.into()),
        }
    }
}

const fn achieved(job: Job) -> Success {
    match job {
        Job::Start => Success::Started,
        Job::Stop => Success::Stopped,
        Job::Restart => Success::Restarted,
    }
}

impl From<JobFailure> for Failure {
    fn from(failure: JobFailure) -> Self {
        match failure {
            JobFailure::TimedOut(text) | JobFailure::Failed(text) => Self::Systemd(text),
        }
    }
}
