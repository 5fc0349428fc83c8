//! Runs another program: by absolute path, without a shell, in a clean environment, for a bounded time.
//!
//! It takes absolute paths alone, hands nothing of the caller's environment on (apt hands its caller's on to hooks), and
//! ends a program that takes too long.

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::capabilities;
use super::deadline::Deadline;
use super::pid_ref::PidRef;

/// How much of a program's output is read: messages of sshd and dpkg-query are a few lines, `sshd -T` some kilobytes.
const OUTPUT_LIMIT: u64 = 256 * 1024;

/// How long a killed program may take to go.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// A program that has ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Standard output and standard error, in the order in which they were written.
    pub output: String,
}

impl Finished {
    /// It exited with status 0.
    pub fn succeeded(&self) -> bool {
        self.status == Some(0)
    }

    /// What it said last, for a person: its last line that is not empty, else its status.
    pub fn last_words(&self) -> String {
        match self.output.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => line.trim().to_owned(),
            None => {
                self.status.map_or_else(|| "ended by a signal".to_owned(), |status| format!("exit status {status}"))
            }
        }
    }
}

/// A command in the environment that this program gives to others.
pub fn command(path: &Path, arguments: &[&str]) -> Command {
    debug_assert!(path.is_absolute());
    let mut command = Command::new(path);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        // A group of its own: whatever it starts can be ended with it.
        .process_group(0)
        .stdin(Stdio::null());
    command
}

/// Runs a program to its end and returns what it said.
///
/// # Errors
/// It could not be started, or it did not end before the deadline (`TimedOut`; it was killed then).
pub fn run(path: &Path, arguments: &[&str], deadline: Deadline) -> io::Result<Finished> {
    // Capabilities are a thread's, and a child has those of the thread that starts it.
    let spawn = |mut command: Command| -> io::Result<Child> {
        let spawned = std::thread::Builder::new().name("spawn".to_owned()).spawn(move || {
            capabilities::drop_those_for_sshd()?;
            command.spawn()
        });
        spawned?.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts it panicked")))
    };
    finish(command(path, arguments), spawn, deadline)
}

/// The same for what has to see what the real sshd or PID 1 would: it may do what they may.
///
/// # Errors
/// As [`run`].
pub fn run_sshd(path: &Path, arguments: &[&str], deadline: Deadline) -> io::Result<Finished> {
    finish(command(path, arguments), |mut command| command.spawn(), deadline)
}

fn finish(
    mut command: Command,
    spawn: impl FnOnce(Command) -> io::Result<Child>,
    deadline: Deadline,
) -> io::Result<Finished> {
    // A file in memory holds the output: no pipe that could fill up, no thread to read it, no disk that could be full.
    let mut output = memory_file()?;
    command.stdout(output.try_clone()?).stderr(output.try_clone()?);
    let child = spawn(command)?;
    let status = wait(child, deadline)?;
    Ok(Finished { status, output: read_back(&mut output)? })
}

/// Waits for a child of [`command`]; kills it and its process group once the deadline has passed. What a child that ended
/// by itself has left running in its group is killed, too.
///
/// # Errors
/// `TimedOut` if it had to be killed, or waiting failed.
pub fn wait(mut child: Child, deadline: Deadline) -> io::Result<Option<i32>> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let Some(pinned) = PidRef::open(pid)? else { return Ok(child.wait()?.code()) };
    let ended = pinned.wait(deadline)?;
    // The child is not reaped yet, so its number still names its group.
    if let Some(group) = Pid::from_raw(pid) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    if ended {
        return Ok(child.wait()?.code());
    }
    // Only a process in uninterruptible sleep stays, and init reaps it.
    let _ = pinned.wait(Deadline::after(KILL_TIMEOUT));
    let _ = child.try_wait();
    Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end in time and was killed"))
}

/// An unnamed file in memory.
///
/// # Errors
/// memfd_create(2) failed.
pub fn memory_file() -> io::Result<File> {
    let descriptor: OwnedFd = memfd_create("sshd-mend", MemfdFlags::CLOEXEC)?;
    Ok(File::from(descriptor))
}

/// What was written to a [`memory_file`], bounded, as text.
///
/// # Errors
/// Reading failed.
pub fn read_back(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(OUTPUT_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
