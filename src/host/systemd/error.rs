//! Why a request to systemd failed: in its words, or because nobody answered.

use crate::model::plan::Job;

pub(super) const fn verb(job: Job) -> &'static str {
    match job {
        Job::Start => "start",
        Job::Stop => "stop",
        Job::Restart => "restart",
    }
}

/// Why a request to systemd failed.
#[derive(Debug)]
pub enum Error {
    /// Neither the bus nor systemctl reached it.
    Unreachable(String),
    /// It said no: its error name, and its text.
    Refused {
        /// The unit.
        unit: String,
        /// D-Bus error name, or systemctl's exit status.
        name: String,
        /// In systemd's words.
        text: String,
    },
    /// The job ended with another result than `done`.
    JobFailed {
        /// The unit.
        unit: String,
        /// What was asked for.
        job: Job,
        /// systemd's result: failed, dependency, timeout, canceled, skipped, …
        result: String,
    },
    /// The job did not end before the deadline.
    JobTimedOut {
        /// The unit.
        unit: String,
        /// What was asked for.
        job: Job,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(why) => {
                write!(f, "systemd did not answer, neither on the system bus nor through systemctl: {why}")
            }
            Self::Refused { unit, name, text } => write!(f, "systemd refused a request for {unit}: {text} ({name})"),
            Self::JobFailed { unit, job, result } => {
                write!(
                    f,
                    "systemd could not {} {unit}: the job ended with \"{result}\". See: journalctl -u {unit}",
                    verb(*job)
                )
            }
            Self::JobTimedOut { unit, job } => write!(f, "systemd did not finish to {} {unit} in time", verb(*job)),
        }
    }
}

impl std::error::Error for Error {}

/// Why one of the two ways failed.
pub(super) enum Failure {
    /// systemd answered, and the answer is no.
    Final(Error),
    /// No answer came. Perhaps it is there again in a moment.
    NoAnswer(String),
}
