//! Faults at every instant of a repair, and many incidents one after the other: the shipped program, with strace's
//! injection. Judged by a login, by a session that stays open throughout, and by the state of the units.
//!
//! The numbers are CI's sample; tests/soak raises them.

use crate::machine::Machine;
use crate::soak_machine::{End, Fault, Incident, Soak, count, tally};

/// A number of the environment, or CI's.
pub fn number(name: &str, sample: usize) -> usize {
    std::env::var(name).ok().map_or(sample, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn spread<T: Clone>(all: &[T], wanted: usize) -> Vec<T> {
    if wanted >= all.len() {
        return all.to_vec();
    }
    (0..wanted).map(|i| all[i * all.len() / wanted].clone()).collect()
}

/// For whoever waits for hours.
fn progress(done: usize, of: usize) {
    if done > 0 && done % 50 == 0 {
        eprintln!("{done} of {of}, all reachable afterwards");
    }
}

fn all_go_through(soak: &mut Soak<'_>, faults: &[Fault]) -> Vec<Incident> {
    let each = faults.iter().enumerate();
    each.map(|(number, fault)| {
        progress(number, faults.len());
        soak.goes_through(fault)
    })
    .collect()
}

/// SIGKILL at the n-th system call. The two halves of the calls go to two machines at a time.
fn killed(half: usize) {
    let machine = Machine::with_package("trixie");
    let mut soak = Soak::on(&machine);
    let calls = soak.calls();
    assert!(calls.len() > 200, "a repair makes more calls: {}", calls.len());
    let chosen = spread(&calls, number("SSHD_MEND_KILLS", 64)).into_iter().enumerate().filter(|(i, _)| i % 2 == half);
    let faults: Vec<Fault> = chosen.map(|(_, (name, n))| Fault::Killed(name, n)).collect();
    let incidents = all_go_through(&mut soak, &faults);
    tally(&format!("SIGKILL at the n-th of {} calls", calls.len()), &incidents);
    let repaired = |incident: &&Incident| matches!(incident.end, End::FirstAttempt | End::Retry);
    let others: Vec<&Incident> = incidents.iter().filter(|incident| !repaired(incident)).collect();
    assert!(others.is_empty(), "systemd's retry did not repair it: {others:#?}");
    let killed = incidents.iter().filter(|incident| incident.happened);
    assert!(killed.clone().all(|incident| incident.end == End::Retry), "{:#?}", killed.collect::<Vec<_>>());
}

#[test]
fn killed_at_any_instant_one() {
    killed(0);
}

#[test]
fn killed_at_any_instant_two() {
    killed(1);
}

const ERRORS: &[(&str, &[&str])] = &[
    ("ENOSPC", &["openat", "write", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "memfd_create"]),
    ("EMFILE", &["openat", "pidfd_open", "socket", "memfd_create", "pipe2", "eventfd2", "socketpair", "dup", "fcntl"]),
    ("EACCES", &["openat", "readlinkat", "readlink", "statx", "newfstatat", "connect", "bind", "pidfd_open", "mkdir"]),
    ("EIO", &["read", "write", "getdents64", "readlinkat", "sendmsg", "recvmsg", "sendto", "recvfrom", "fstat"]),
    ("EAGAIN", &["clone3", "clone", "vfork", "poll", "flock", "read", "mmap"]),
    ("ECONNREFUSED", &["connect", "sendmsg", "sendto", "recvmsg"]),
    ("EPERM", &["pidfd_send_signal", "openat", "getxattr", "kill"]),
];

#[test]
fn calls_that_fail() {
    let machine = Machine::with_package("trixie");
    let mut soak = Soak::on(&machine);
    let calls = soak.calls();
    let all = ERRORS.iter().flat_map(|(error, names)| {
        let calls = calls.iter().filter(|(name, _)| names.contains(&name.as_str()));
        calls.map(|(name, n)| Fault::Fails(name.clone(), *n, error))
    });
    let faults = spread(&all.collect::<Vec<_>>(), number("SSHD_MEND_ERRORS", 48));
    let incidents = all_go_through(&mut soak, &faults);
    tally("calls that fail", &incidents);
    assert_eq!(count(&incidents, End::TestsOwnRepair), 0, "{incidents:#?}");
}

#[test]
fn calls_that_always_fail() {
    let machine = Machine::with_package("trixie");
    let mut soak = Soak::on(&machine);
    let faults = [
        Fault::AlwaysFails("openat", "EMFILE"),
        Fault::AlwaysFails("write", "ENOSPC"),
        Fault::AlwaysFails("clone3", "EAGAIN"),
        Fault::AlwaysFails("connect", "ECONNREFUSED"),
        Fault::AlwaysFails("pidfd_send_signal", "EPERM"),
    ];
    let incidents = all_go_through(&mut soak, &faults);
    tally("calls that always fail", &incidents);
    assert_eq!(count(&incidents, End::TestsOwnRepair), 0, "{incidents:#?}");
}

#[test]
fn no_descriptors_left() {
    let machine = Machine::with_package("trixie");
    let mut soak = Soak::on(&machine);
    let faults = [3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 32].map(Fault::Descriptors);
    let incidents = all_go_through(&mut soak, &faults);
    tally("a limit on descriptors", &incidents);
    assert_eq!(count(&incidents, End::TestsOwnRepair), 0, "{incidents:#?}");
    for end in [End::FirstAttempt, End::NothingTerminated] {
        assert!(count(&incidents, end) > 0, "{incidents:#?}");
    }
}

/// What an incident may leave behind: files, units, processes, descriptors of systemd.
const LEFTOVERS: &str = "ls /run/sshd-mend; ls /run/systemd/system
systemctl list-units --no-legend --plain --all 'sshd-mend*'; pgrep -c sshd-mend || :; ls /proc/1/fd | wc -l";

/// No more random than it has to be: a run that failed can be run again.
fn random_faults(calls: &[(String, usize)], total: usize) -> Vec<Fault> {
    let mut state = number("SSHD_MEND_SEED", 1) as u64;
    let random = (0..total).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (name, n) = calls[(state >> 33) as usize % calls.len()].clone();
        match (state >> 20) % 3 {
            0 => Fault::None,
            1 => Fault::Killed(name, n),
            _ => Fault::Fails(name, n, "EIO"),
        }
    });
    random.collect()
}

#[test]
fn one_incident_after_the_other() {
    let machine = Machine::with_package("trixie");
    let mut soak = Soak::on(&machine);
    let calls = soak.calls();
    let without_fault = |soak: &mut Soak<'_>| {
        assert_eq!(soak.goes_through(&Fault::None).end, End::FirstAttempt);
        machine.sh(LEFTOVERS).ok().stdout
    };
    let before = without_fault(&mut soak);
    let incidents = all_go_through(&mut soak, &random_faults(&calls, number("SSHD_MEND_INCIDENTS", 12)));
    let after = without_fault(&mut soak);
    tally("incidents one after the other", &incidents);
    assert_eq!(count(&incidents, End::TestsOwnRepair), 0, "{incidents:#?}");
    assert_eq!(after, before, "something is left over");
}
