//! What is on record under `/run/sshd-mend`: the intent of a repair, its outcome, who asked for it, and the lock.
//!
//! /run is root's, so nobody else can put anything there first; the directory is looked at all the same before it is
//! used. It is gone after a reboot, and so is every listener that it speaks of.

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::plan::Trigger;

/// The directory.
pub const DIRECTORY: &str = "/run/sshd-mend";
const INTENT: &str = "intent";
const LOCK: &str = "lock";
const OUTCOME: &str = "outcome";
const REQUEST: &str = "request";
const SAID: &str = "said";
/// None of the files comes near it.
const LIMIT: u64 = 1024 * 1024;

/// Written before a listener is signalled: after a crash the facts alone could not tell an interrupted repair from a
/// service that somebody stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    /// Addresses that the listeners serve.
    pub addresses: BTreeSet<SocketAddr>,
    /// Units to be started.
    pub units: Vec<String>,
}

/// The directory, open.
#[derive(Debug)]
pub struct Record(OwnedFd);

/// Held while effects are carried out. Ends with the process at the latest.
#[derive(Debug)]
#[must_use]
pub struct Lock {
    _file: OwnedFd,
}

impl Record {
    /// Opens the directory, and creates it if need be.
    ///
    /// # Errors
    /// It cannot be created, or it is not a directory of root's alone.
    pub fn open() -> io::Result<Self> {
        match rustix::fs::mkdir(DIRECTORY, Mode::RWXU) {
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
            DIRECTORY,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let facts = rustix::fs::fstat(&directory)?;
        if facts.st_uid != 0 || facts.st_mode & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{DIRECTORY} does not belong to root alone"),
            ));
        }
        Ok(Self(directory))
    }

    /// Waits until nobody else carries out effects.
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
                Err(rustix::io::Errno::WOULDBLOCK) if !deadline.has_passed() => {
                    std::thread::sleep(Duration::from_millis(50))
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Puts the intent on record.
    ///
    /// # Errors
    /// It could not be written.
    pub fn write_intent(&self, intent: &Intent) -> io::Result<()> {
        self.write(INTENT, intent)
    }

    /// The intent that is on record for this boot.
    #[must_use]
    pub fn intent(&self) -> Option<Intent> {
        self.read::<Intent>(INTENT).filter(|intent| boot_id().is_ok_and(|boot_id| boot_id == intent.boot_id))
    }

    /// Takes the intent off the record: what it announced is done.
    ///
    /// # Errors
    /// The file is there and could not be removed.
    pub fn clear_intent(&self) -> io::Result<()> {
        self.remove(INTENT)
    }

    /// Leaves an outcome for those who wait for it.
    ///
    /// # Errors
    /// It could not be written.
    pub fn write_outcome(&self, outcome: &impl Serialize) -> io::Result<()> {
        self.write(OUTCOME, outcome)
    }

    /// The outcome that was left last, if it can be read.
    #[must_use]
    pub fn outcome<T: DeserializeOwned>(&self) -> Option<T> {
        self.read(OUTCOME)
    }

    /// Says who asks for a repair. A person's request stands until it was taken up; a hook's never replaces it.
    ///
    /// # Errors
    /// It could not be written.
    pub fn write_request(&self, trigger: Trigger) -> io::Result<()> {
        if self.read(REQUEST) == Some(Trigger::Repair) {
            return Ok(());
        }
        self.write(REQUEST, &trigger)
    }

    /// Who asked. Nobody on record means a person who started the unit by hand.
    #[must_use]
    pub fn request(&self) -> Trigger {
        self.read(REQUEST).unwrap_or(Trigger::Repair)
    }

    /// What a package run was told last, if it can be read.
    #[must_use]
    pub fn said<T: DeserializeOwned>(&self) -> Option<T> {
        self.read(SAID)
    }

    /// Remembers what a package run was told.
    ///
    /// # Errors
    /// It could not be written.
    pub fn write_said(&self, said: &impl Serialize) -> io::Result<()> {
        self.write(SAID, said)
    }

    /// Takes the request off the record.
    ///
    /// # Errors
    /// The file is there and could not be removed.
    pub fn clear_request(&self) -> io::Result<()> {
        self.remove(REQUEST)
    }

    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let new = format!("{name}.{}", std::process::id());
        let text = serde_json::to_vec(value)?;
        let written = (|| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&self.0, &new, flags, Mode::RUSR | Mode::WUSR)?;
            File::from(file).write_all(&text)?;
            rustix::fs::renameat(&self.0, &new, &self.0, name)?;
            Ok(())
        })();
        if written.is_err() {
            let _ = self.remove(&new);
        }
        written
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let file = rustix::fs::openat(
            self.0.as_fd(),
            name,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()?;
        let mut bytes = Vec::new();
        File::from(file).take(LIMIT).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Somebody carries out effects right now.
#[must_use]
pub fn is_at_work() -> bool {
    Record::open_existing().is_ok_and(|record| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::openat(&record.0, LOCK, flags, Mode::empty());
        lock.is_ok_and(|lock| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
    })
}

/// The intent of a repair that nobody carries on. Looks without creating anything.
#[must_use]
pub fn left_behind() -> Option<Intent> {
    let record = Record::open_existing().ok()?;
    let intent = record.intent()?;
    // Looked at in this order: who ends in between has taken the intent off the record.
    if is_at_work() { None } else { record.intent().filter(|again| *again == intent) }
}

/// Names this boot.
///
/// # Errors
/// /proc is not what it should be.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
