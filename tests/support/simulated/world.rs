//! The simulated machine: its truth, the faults that wait for it, and a journal of what the executor caused.

use super::faults::{Change, Crash, Faults, Stubborn};
use super::truth::{Addresses, Files, Running, Truth};
use crate::facts::{is_reached, reached_at};
use crate::support;
use sshd_mend::model::intent::Intent;
use sshd_mend::model::plan::Job;
use sshd_mend::model::unit::{ActiveState, LoadState};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

/// Something that the executor caused.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A signal to this process, and the active service whose main process it is.
    Signalled(i32, Option<String>),
    Requested(Job, String),
    Aborted(String),
    Cleared(String),
    Ended(Box<Running>),
    /// What is on record could not be changed.
    NotWritten,
}

/// An event, with what was on record and on disk when it happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub event: Event,
    pub intent: Option<Intent>,
    pub files: BTreeMap<String, Files>,
    /// Who served what just before it, by instance.
    pub served: Vec<Addresses>,
}

#[derive(Debug)]
pub struct World {
    pub truth: RefCell<Truth>,
    pub faults: Faults,
    pub journal: RefCell<Vec<Entry>>,
    used: RefCell<BTreeMap<&'static str, usize>>,
    pub(super) stubborn: RefCell<BTreeMap<i32, Stubborn>>,
    /// Who owned a process when the plan was made.
    pub(super) owners: RefCell<BTreeMap<i32, Option<String>>>,
    /// The listener that was pinned last.
    pub(super) pinned: Cell<Option<i32>>,
    pub(super) waits: Cell<Option<(Instant, usize)>>,
    pub calls: Cell<usize>,
}

/// The panic of [`Crash`].
pub struct Crashed;

impl World {
    pub fn new(truth: Truth, faults: Faults) -> Self {
        let held = faults.taker.is_none_or(|taker| {
            let all: Vec<SocketAddr> = truth.sockets().flat_map(|socket| reached_at(&socket)).collect();
            all.iter().any(|have| is_reached(*have, taker.address))
        });
        // What was free before is nothing that ssh would lose.
        let faults = Faults { taker: faults.taker.filter(|_| held), ..faults };
        Self {
            truth: RefCell::new(truth),
            faults,
            journal: RefCell::default(),
            used: RefCell::default(),
            stubborn: RefCell::default(),
            owners: RefCell::default(),
            pinned: Cell::default(),
            waits: Cell::default(),
            calls: Cell::default(),
        }
    }

    /// The next of a list of faults.
    pub fn next<T: Clone + Default>(&self, name: &'static str, list: &[T]) -> T {
        let mut used = self.used.borrow_mut();
        let count = used.entry(name).or_default();
        *count += 1;
        list.get(*count - 1).cloned().unwrap_or_default()
    }

    pub(super) fn count(&self, name: &'static str) -> usize {
        self.next::<()>(name, &[]);
        self.used.borrow()[name]
    }

    pub fn log(&self, event: Event) {
        let truth = self.truth.borrow();
        let (intent, files) = (truth.intent.clone(), truth.files.clone());
        self.journal.borrow_mut().push(Entry { event, intent, files, served: truth.all_served() });
    }

    /// One call of the executor, at which it may die.
    pub fn call<T>(&self, work: impl FnOnce() -> T) -> T {
        let dies = |after| {
            let is_now = |crash: &Crash| crash.call == self.calls.get() && crash.after == after;
            if self.faults.crash.as_ref().is_some_and(is_now) {
                std::panic::panic_any(Crashed);
            }
        };
        self.calls.set(self.calls.get() + 1);
        dies(false);
        let result = work();
        self.take();
        dies(true);
        result
    }

    /// Another program takes the address that it waits for.
    pub(super) fn take(&self) {
        let mut truth = self.truth.borrow_mut();
        let Some(taker) = self.faults.taker.filter(|_| truth.foreign.is_empty()) else { return };
        if truth.is_free(&support::sockets(&[&taker.address.to_string()])[0]) {
            truth.foreign.push(taker);
        }
    }

    /// Ends a process, and with it what it holds.
    pub fn end(&self, pid: i32) {
        let mut truth = self.truth.borrow_mut();
        let Some(position) = truth.processes.iter().position(|process| process.facts.pid == pid) else { return };
        let ended = truth.processes[position].clone();
        drop(truth);
        self.log(Event::Ended(Box::new(ended)));
        truth = self.truth.borrow_mut();
        truth.processes.remove(position);
        for managed in &mut truth.instances {
            let service = &mut managed.instance.service;
            if service.main_pid == Some(pid) {
                // A SIGTERM by hand counts as a clean exit, and systemd does not start it again.
                service.main_pid = None;
                service.active = ActiveState::Inactive;
            }
        }
    }

    /// A moment before the last look at the listeners: somebody else may change one.
    pub(super) fn pause(&self, pid: Option<i32>) {
        let moment = self.count("moments");
        let due = self.faults.change.filter(|(nth, _)| *nth == moment);
        if let (Some((_, change)), Some(pid)) = (due, pid.or(self.pinned.get())) {
            self.change(change, pid);
        }
    }

    fn change(&self, change: Change, pid: i32) {
        let before = self.truth.borrow().all_served();
        let journal = self.journal.borrow().len();
        let Some(running) = self.truth.borrow().processes.iter().find(|p| p.facts.pid == pid).cloned() else { return };
        let index = running.instance;
        let owned = self.truth.borrow().owner_of(pid).is_some();
        match change {
            Change::Exits => self.end(pid),
            Change::Restarted if owned => {
                self.end(pid);
                let mut truth = self.truth.borrow_mut();
                let pid = truth.spawn(index, running.facts.sockets);
                truth.processes.last_mut().expect("the new one").old = true;
                let service = &mut truth.instances[index].instance.service;
                (service.active, service.main_pid) = (ActiveState::Active, Some(pid));
            }
            Change::Restarted => {
                let mut truth = self.truth.borrow_mut();
                let instance = &mut truth.instances[index].instance;
                let service = &mut instance.service;
                // A rescue would have been stopped by it.
                let is_idle = service.main_pid.is_none() && instance.rescue.active != ActiveState::Active;
                if is_idle && service.load == LoadState::Loaded {
                    (service.active, service.main_pid) = (ActiveState::Active, Some(pid));
                }
            }
            Change::Binds => {
                let mut truth = self.truth.borrow_mut();
                let socket = truth.socket("127.0.0.1:9".parse().expect("an address"), true, false);
                let process = truth.processes.iter_mut().find(|process| process.facts.pid == pid);
                process.expect("it is alive").facts.sockets.push(socket);
            }
        }
        let mut truth = self.truth.borrow_mut();
        let after = truth.all_served();
        for (index, before) in before.iter().enumerate() {
            truth.lost_to_others[index].extend(before.difference(&after[index]).copied());
        }
        self.journal.borrow_mut().truncate(journal);
    }

    /// Signalled processes in uninterruptible sleep.
    pub fn unkillable(&self) -> Vec<i32> {
        let stubborn = self.stubborn.borrow();
        stubborn.iter().filter(|(_, stubborn)| **stubborn == Stubborn::Sigkill).map(|(pid, _)| *pid).collect()
    }

    /// An instance's index by its name.
    pub fn index(&self, name: &str) -> usize {
        self.truth.borrow().instances.iter().position(|m| m.instance.service.name == name).expect("an instance")
    }
}
