//! The pinned process, against real children: SIGTERM ignored, a stopped one, a zombie, a thread, a pid used again.
//! Needs root, as the program does.
#![allow(missing_docs)]

use sshd_mend::host::deadline::Deadline;
use sshd_mend::host::pid_ref::PidRef;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

fn id(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a pid")
}

/// A child that ends with the test, however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = self.wait();
    }
}

impl std::ops::Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// A shell that runs `script` and has said "ready".
fn ready(script: &str) -> Running {
    let child = Command::new("/bin/sh")
        .args(["-c", &format!("{script}; echo ready; while :; do sleep 0.01; done")])
        .stdout(Stdio::piped())
        .spawn();
    let mut child = Running(child.expect("a shell"));
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    child
}

#[test]
fn sigterm_ends_a_process_and_the_wait_sees_it() {
    let mut child = ready("true");
    let pinned = PidRef::open(id(&child)).expect("pinned").expect("alive");
    assert!(!pinned.has_exited().expect("polled"));
    pinned.terminate().expect("signalled");
    assert!(pinned.wait(soon()).expect("polled"));
    child.wait().expect("reaped");
}

#[test]
fn a_process_that_ignores_sigterm_is_waited_for_and_killed() {
    let mut child = ready("trap '' TERM");
    let pinned = PidRef::open(id(&child)).expect("pinned").expect("alive");
    pinned.terminate().expect("signalled");
    assert!(!pinned.wait(Deadline::after(Duration::from_millis(200))).expect("polled"));
    pinned.kill().expect("signalled");
    assert!(pinned.wait(soon()).expect("polled"));
    child.wait().expect("reaped");
}

/// SIGTERM alone would wait in the queue of a stopped process, as a listener under `kill -STOP` is one.
#[test]
fn a_process_that_was_stopped_is_ended_as_quickly_as_another() {
    let mut child = ready("true");
    let pinned = PidRef::open(id(&child)).expect("pinned").expect("alive");
    stop(&child);
    pinned.terminate().expect("signalled");
    assert!(pinned.wait(soon()).expect("polled"), "it is still stopped");
    child.wait().expect("reaped");
}

fn stop(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("signalled");
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("alive");
    while !state().contains(") T ") {
        std::thread::yield_now();
    }
}

#[test]
fn a_thread_that_leads_no_process_cannot_be_pinned() {
    let pinned = std::thread::spawn(|| PidRef::open(rustix::thread::gettid().as_raw_nonzero().get()));
    assert!(pinned.join().expect("a thread").expect("no error").is_none());
}

#[test]
fn a_zombie_has_exited() {
    let mut child = Command::new("/bin/true").spawn().expect("a child");
    // Not reaped yet, so its number is still taken.
    let begun = std::time::Instant::now();
    while PidRef::open(id(&child)).expect("pinned").is_some() {
        assert!(begun.elapsed() < Duration::from_secs(10), "a zombie counts as alive");
    }
    assert!(std::path::Path::new(&format!("/proc/{}", child.id())).exists());
    child.wait().expect("reaped");
}

#[test]
fn what_never_was_cannot_be_pinned() {
    for pid in [0, -1, i32::MAX] {
        assert!(PidRef::open(pid).expect("no error").is_none(), "{pid}");
    }
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let mut first = ready("true");
    let pid = id(&first);
    let pinned = PidRef::open(pid).expect("pinned").expect("alive");
    first.kill().expect("signalled");
    first.wait().expect("reaped");

    // The kernel gives out the number after the last one (pid_namespaces(7)); others may be quicker.
    let mut second = (0..1000)
        .find_map(|_| {
            std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("root");
            let child = Command::new("/bin/sleep").arg("1000").stdout(Stdio::null()).spawn();
            let child = Running(child.expect("a child"));
            (id(&child) == pid).then_some(child)
        })
        .expect("the number comes round again");

    assert!(pinned.has_exited().expect("polled"));
    assert!(pinned.process().stat().is_err(), "a read through the pin tells of another process");
    assert!(pinned.process().exe().is_err(), "a read through the pin tells of another process");
    assert!(pinned.terminate().is_err());
    assert!(pinned.kill().is_err());
    assert!(second.try_wait().expect("a child").is_none(), "another process was signalled");
    let other = PidRef::open(pid).expect("pinned").expect("alive");
    assert!(other.process().stat().is_ok());
}
