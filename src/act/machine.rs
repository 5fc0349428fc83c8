//! What an execution needs of the machine. [`super::Host`] is the real one; the tests have a model of systemd in which
//! every step can fail.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::intent::Intent;
use crate::model::plan::{Job, Rescue, Start};
use crate::model::probe::Probe;
use crate::model::process::Process;

/// Why a job did not lead to the state that was requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobFailure {
    /// It did not end in time. A second attempt would take as long.
    TimedOut(String),
    /// systemd refused it, it failed, or the unit is not in the requested state: in systemd's words.
    Failed(String),
}

/// A listener that was pinned when it was judged for the last time.
pub trait Target {
    /// The facts by which it was judged.
    fn judged(&self) -> &Process;
    /// It is still what it was when it was judged, and the unit that owns it is still the same.
    fn is_unchanged(&self) -> bool;
    /// It has exited.
    fn has_exited(&self) -> bool;
}

/// A machine on which a plan is executed.
pub trait Machine {
    /// A pinned listener.
    type Target: Target;

    /// Pins a listener. `None`: there is no such process any more.
    fn pin(&self, process: &Process) -> Option<Self::Target>;

    /// Asks a listener to terminate.
    ///
    /// # Errors
    /// The kernel refused.
    fn terminate(&self, target: &Self::Target) -> io::Result<()>;

    /// Kills a listener.
    ///
    /// # Errors
    /// The kernel refused.
    fn kill(&self, target: &Self::Target) -> io::Result<()>;

    /// Waits until all have exited, for at most `limit`.
    fn wait(&self, targets: &[&Self::Target], limit: Duration);

    /// Between SIGTERM and SIGKILL.
    fn grace(&self) -> Duration;

    /// `/run/sshd` is there.
    fn has_runtime_directory(&self) -> bool;

    /// Creates `/run/sshd`.
    ///
    /// # Errors
    /// The kernel refused.
    fn create_runtime_directory(&self) -> io::Result<()>;

    /// What is on record.
    fn intent(&self) -> Option<Intent>;

    /// Puts intents on record, or takes them off it if there are none.
    ///
    /// # Errors
    /// They could not be written.
    fn write_intent(&self, intent: Intent) -> io::Result<()>;

    /// Writes the units of a rescue and of the fallback, and makes sure that systemd accepts them.
    ///
    /// # Errors
    /// They could not be written, or systemd does not accept them.
    fn write_rescue(&self, rescue: &Rescue) -> io::Result<()>;

    /// Writes the fallback of an instance that has no rescue.
    ///
    /// # Errors
    /// It could not be written.
    fn write_fallback(&self, instance: &str, start: &Start) -> io::Result<()>;

    /// Removes what [`Self::write_rescue`] and [`Self::write_fallback`] have written.
    fn remove_rescue(&self, instance: &str);

    /// Clears a unit's failed state and start counter.
    ///
    /// # Errors
    /// systemd did not answer, or refused.
    fn reset_failed(&self, unit: &str) -> Result<(), JobFailure>;

    /// Requests a job and waits until the unit is in the state that it is for.
    ///
    /// # Errors
    /// It is not.
    fn run(&self, job: Job, unit: &str) -> Result<(), JobFailure>;

    /// Stops a unit in place of whatever job is queued for it, and waits until it is at rest.
    fn abort(&self, unit: &str);

    /// systemd says that the unit is active. Not while it is being started.
    fn is_active(&self, unit: &str) -> bool;

    /// The unit has failed, and systemd is starting it again or is about to.
    fn is_restarting(&self, unit: &str) -> bool;

    /// Waits a moment for a unit to come to rest. False once that has taken too long.
    fn wait_for_rest(&self, since: std::time::Instant) -> bool;

    /// A stop of an instance's service would end none but these processes.
    fn ends_only(&self, instance: &str, processes: &BTreeSet<i32>) -> bool;

    /// Waits for the end of a job for the unit that is not this process's own, or of its reload. False: there is none.
    fn wait_for_others(&self, unit: &str) -> bool;

    /// Whether a new connection gets through to an address.
    fn probe(&self, address: SocketAddr) -> Probe;

    /// Adds to a probe that got through how far a client gets.
    fn prove(&self, address: SocketAddr, probe: Probe) -> Probe;

    /// Addresses at which clients reach a process of an instance's service, or systemd for its socket or its rescue.
    fn served_by(&self, instance: &str) -> BTreeSet<SocketAddr>;

    /// Waits a moment for a listener to bind its address. False once that has taken too long.
    fn wait_for_listener(&self, since: std::time::Instant) -> bool;

    /// Somebody asked this process to stop.
    fn is_asked_to_stop(&self) -> bool;
}
