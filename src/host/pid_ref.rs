//! One process, pinned: a pidfd and an open `/proc/PID`, which both name the same process for ever.
//!
//! The only way in which this program sends a signal. It refuses to look at a process without pinning it first, so a
//! pid that is used again for another process is never mistaken for the one that was judged.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procfs::process::Process;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::deadline::Deadline;

/// A pinned process.
#[derive(Debug)]
pub struct PidRef {
    pidfd: OwnedFd,
    process: Process,
}

impl PidRef {
    /// Pins `pid`. `None`: there is no such process any more.
    ///
    /// The pidfd is opened first, `/proc/PID` second; if the process is still alive after both, then both name it.
    ///
    /// # Errors
    /// Whatever keeps the kernel from opening the two, such as EMFILE.
    pub fn open(pid: i32) -> io::Result<Option<Self>> {
        let Some(number) = (pid > 0).then(|| Pid::from_raw(pid)).flatten() else { return Ok(None) };
        let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            // EINVAL, and ENOENT from Linux 6.16 on: the number belongs to a thread that leads no process.
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let process = match Process::new(pid) {
            Ok(process) => process,
            Err(procfs::ProcError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(io::Error::other(error)),
        };
        let pinned = Self { pidfd, process };
        Ok(if pinned.has_exited()? { None } else { Some(pinned) })
    }

    /// Its pid, for people to read.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// The open `/proc/PID`: reads through it fail once the process is gone, even if the number is in use again.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The process has exited. A zombie has: it takes signal 0 through its pidfd, so polling is the test (pidfd_open(2)).
    ///
    /// # Errors
    /// poll(2) failed.
    pub fn has_exited(&self) -> io::Result<bool> {
        self.wait_ms(0)
    }

    /// Waits for the process to exit, and says whether it did before the deadline.
    ///
    /// # Errors
    /// poll(2) failed.
    pub fn wait(&self, deadline: Deadline) -> io::Result<bool> {
        loop {
            let left = u16::try_from(deadline.remaining().as_millis().min(1000)).unwrap_or(1000);
            if self.wait_ms(left)? {
                return Ok(true);
            }
            if deadline.has_passed() {
                return Ok(false);
            }
        }
    }

    /// Asks the process to terminate: SIGTERM, then SIGCONT, without which a stopped process does not act on it. systemd
    /// does the same (unit_kill_context).
    ///
    /// # Errors
    /// ESRCH if it has been reaped already; EPERM if the kernel forbids it.
    pub fn terminate(&self) -> io::Result<()> {
        pidfd_send_signal(&self.pidfd, Signal::TERM)?;
        // It may be gone by now.
        let _ = pidfd_send_signal(&self.pidfd, Signal::CONT);
        Ok(())
    }

    /// Ends the process (SIGKILL).
    ///
    /// # Errors
    /// As [`Self::terminate`].
    pub fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, Signal::KILL)?)
    }

    fn wait_ms(&self, milliseconds: u16) -> io::Result<bool> {
        let mut polled = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::from(milliseconds)) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
