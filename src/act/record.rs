//! What is on record under `/run/sshd-mend`: intents, the last outcome, what a package run was told, and the lock. Who asked
//! for a repair: [`super::request`].
//!
//! /run is root's, so nobody else can put anything there first; the directory is checked all the same before it is used.
//! It is gone after a reboot, and so is every listener that it names.

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use crate::host::deadline::Deadline;
use crate::model::intent::Intent;
use crate::model::names::{self, RECORD};

const INTENT: &str = "intent";
/// The packaged fallback unit reads it: which units it has to start.
const FALLBACK: &str = "fallback";
/// Of each instance that is being replaced: while it exists, the instance's fallback does not start what the repair stops on
/// purpose.
const EXECUTING: &str = "executing";
/// Of an instance that its fallback has started, see [`crate::model::intent::InstanceIntent::resumed`].
const RESUMED: &str = "resumed";
const LOCK: &str = "lock";
const OUTCOME: &str = "outcome";
/// None of the files comes near it.
const SIZE_LIMIT: u64 = 1024 * 1024;
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What the hook leaves for its next run. Nothing depends on it but what is said or tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// What a package run was told last.
    Notice,
    /// Of what the programs were made that passed their trial.
    Passed,
    /// What `NOTIFY=` was told last, or is about to be.
    Notification,
}

impl Remembered {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Passed => "passed",
            Self::Notification => "notification",
        }
    }
}

/// The directory, open.
#[derive(Debug)]
pub struct Record(OwnedFd);

/// Held while a repair is running. Ends with the process at the latest.
#[derive(Debug)]
pub struct Lock {
    _file: OwnedFd,
}

impl Record {
    /// Opens the directory, and creates it if need be.
    ///
    /// # Errors
    /// It cannot be created, or it is not a directory of root's alone.
    pub fn open() -> io::Result<Self> {
        match rustix::fs::mkdir(RECORD, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Self::open_existing()
    }

    /// Opens the directory if it is there.
    ///
    /// # Errors
    /// It is not there, or it is not a directory of root's alone.
    pub fn open_existing() -> io::Result<Self> {
        let directory = rustix::fs::open(
            RECORD,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let facts = rustix::fs::fstat(&directory)?;
        if facts.st_uid != 0 || facts.st_mode & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{RECORD} does not belong to root alone"),
            ));
        }
        Ok(Self(directory))
    }

    /// Waits until no other repair is running.
    ///
    /// # Errors
    /// Somebody else still does at the deadline (`WouldBlock`), or the file could not be made.
    pub fn lock(&self, deadline: Deadline) -> io::Result<Lock> {
        let file = rustix::fs::openat(
            &self.0,
            LOCK,
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::RUSR | Mode::WUSR,
        )?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if !deadline.has_passed() => std::thread::sleep(LOCK_POLL_INTERVAL),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Puts intents on record, and the units that the fallback would have to start.
    ///
    /// # Errors
    /// They could not be written. What was on record before still is.
    pub fn write_intent(&self, intent: &Intent) -> io::Result<()> {
        // Where nothing was terminated, somebody else serves: a start in vain would take /run/sshd from him.
        let terminated = intent.instances.iter().filter(|intent| !intent.stopped);
        let units: Vec<String> = terminated.map(|intent| names::fallback(&intent.instance)).collect();
        // systemd reads a backslash as the beginning of an escape (load_env_file).
        let units = units.join(" ").replace('\\', "\\\\");
        self.write(FALLBACK, format!("UNITS={units}\n").as_bytes())?;
        self.write_json(INTENT, intent)?;
        // What they said has been written with the intent.
        self.remove_each(RESUMED)
    }

    /// The intents that are on record for this boot.
    pub fn intent(&self) -> Option<Intent> {
        let of_this_boot = |intent: &Intent| boot_id().is_ok_and(|boot_id| boot_id == intent.boot_id);
        let mut intent = self.read(INTENT).filter(of_this_boot)?;
        for announced in &mut intent.instances {
            let mark = format!("{RESUMED}.{}", announced.instance);
            announced.resumed |= rustix::fs::statat(&self.0, mark, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
        }
        Some(intent)
    }

    /// Takes the intents off the record: what they announced is done.
    ///
    /// # Errors
    /// A file is there and could not be removed.
    pub fn clear_intent(&self) -> io::Result<()> {
        self.remove(INTENT)?;
        self.remove(FALLBACK)?;
        self.remove_each(RESUMED)
    }

    /// Keeps the fallback of an instance from starting until [`Self::end_executions`].
    ///
    /// # Errors
    /// It could not be written.
    pub fn begin_execution(&self, instance: &str) -> io::Result<()> {
        self.write(&format!("{EXECUTING}.{instance}"), b"")
    }

    /// See [`Self::begin_execution`].
    ///
    /// # Errors
    /// A file could not be removed.
    pub fn end_executions(&self) -> io::Result<()> {
        self.remove_each(EXECUTING)
    }

    /// Leaves an outcome for those who wait for it. The process that asked for it, if it still waits, gets one of its own:
    /// the next run may replace the other before it has been read.
    ///
    /// # Errors
    /// It could not be written.
    pub fn write_outcome(&self, asked_by: Option<u32>, outcome: &impl Serialize) -> io::Result<()> {
        if let Some(process) = asked_by.filter(|process| Path::new("/proc").join(process.to_string()).exists()) {
            self.write_json(&format!("{OUTCOME}.{process}"), outcome)?;
        }
        self.write_json(OUTCOME, outcome)
    }

    /// The outcome that was left last, if it can be read.
    pub fn outcome<T: DeserializeOwned>(&self) -> Option<T> {
        self.read(OUTCOME)
    }

    /// The outcome that was left for this process.
    pub fn own_outcome<T: DeserializeOwned>(&self) -> Option<T> {
        self.read(&format!("{OUTCOME}.{}", std::process::id()))
    }

    /// The outcome for this process has been read, or is not waited for any more.
    pub fn discard_own_outcome(&self) {
        let removed = self.remove(&format!("{OUTCOME}.{}", std::process::id()));
        log::debug!("the outcome for this process was discarded: {removed:?}");
    }

    /// What an earlier run left for a later one under this name, if it can be read.
    pub fn remembered<T: DeserializeOwned>(&self, name: Remembered) -> Option<T> {
        self.read(name.as_str())
    }

    /// Leaves something for a later run.
    ///
    /// # Errors
    /// It could not be written.
    pub fn remember(&self, name: Remembered, value: &impl Serialize) -> io::Result<()> {
        self.write_json(name.as_str(), value)
    }

    pub(super) fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.write(name, &serde_json::to_vec(value)?)
    }

    fn write(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let new = format!("{name}.{}", std::process::id());
        let written = (|| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&self.0, &new, flags, Mode::RUSR | Mode::WUSR)?;
            File::from(file).write_all(text)?;
            rustix::fs::renameat(&self.0, &new, &self.0, name)?;
            Ok(())
        })();
        if written.is_err() {
            let _ = self.remove(&new);
        }
        written
    }

    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let file = rustix::fs::openat(
            self.0.as_fd(),
            name,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()?;
        let mut bytes = Vec::new();
        File::from(file).take(SIZE_LIMIT).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Removes what is kept of this kind, for whatever instance.
    fn remove_each(&self, kind: &str) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('.')) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A repair is running right now.
fn is_repair_running() -> bool {
    Record::open_existing().is_ok_and(|record| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::openat(&record.0, LOCK, flags, Mode::empty());
        lock.is_ok_and(|lock| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
    })
}

/// Waits until no repair is running. False: one still is at the deadline.
pub fn wait_for_repair(deadline: Deadline) -> bool {
    while is_repair_running() {
        if deadline.has_passed() {
            return false;
        }
        std::thread::sleep(LOCK_POLL_INTERVAL);
    }
    true
}

/// The intents on record: those of an interrupted repair, or of one that is running. Creates nothing.
pub fn intent() -> Option<Intent> {
    Record::open_existing().ok()?.intent()
}

/// Intents are on record, perhaps of an earlier boot. Needs no descriptor, which is what may be missing to read them.
pub fn is_intent_there() -> bool {
    Path::new(RECORD).join(INTENT).exists()
}

/// Names this boot, as PID 1 sees it: systemd-nspawn mounts a file of its own over `boot_id`, which is missing in the
/// mount namespace that the repair unit gets from systemd 252.
///
/// # Errors
/// /proc is not what it should be.
pub fn boot_id() -> io::Result<String> {
    let read = |path: &str| std::fs::read_to_string(path);
    let text =
        read("/proc/1/root/proc/sys/kernel/random/boot_id").or_else(|_| read("/proc/sys/kernel/random/boot_id"))?;
    Ok(text.trim().to_owned())
}
