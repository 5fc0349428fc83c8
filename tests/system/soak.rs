//! Faults at every instant of a repair, and many incidents one after the other: the shipped program, with strace's
//! injection. Judged by a login, by a session that stays open throughout, and by the state of the units.
//!
//! The numbers are CI's sample; tests/soak raises them.

use crate::machine::Machine;
use std::collections::BTreeMap;
use std::process::Child;

/// A number of the environment, or CI's.
fn number(name: &str, sample: usize) -> usize {
    std::env::var(name).ok().map_or(sample, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// A machine on which one incident follows the other, with a session that stays.
struct Patient {
    machine: Machine,
    session: Child,
}

/// What became of one incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Mended,
    Refused,
    Rescued,
}

impl Patient {
    fn new() -> Self {
        let machine = Machine::with_package("trixie");
        machine.sh("systemctl -q disable ssh.service; systemctl -q enable ssh.socket; echo GRACE=1 >/etc/default/sshd-mend").ok();
        let session = machine.open_session("patient");
        // Injects the fault of /run/fault into the first attempt, and lets a second one be. The unit is confined as it
        // is shipped, but for the one call that strace needs.
        machine
            .sh("cat >/usr/local/sbin/faulty <<'E'
#!/bin/sh
if [ -e /run/fault ]; then
    fault=$(cat /run/fault); mv /run/fault /run/fault.used
    exec $fault /usr/sbin/sshd-mend carry-out
fi
exec /usr/sbin/sshd-mend carry-out
E
chmod 755 /usr/local/sbin/faulty
mkdir -p /etc/systemd/system/sshd-mend-repair.service.d
printf '[Service]\\nSystemCallFilter=ptrace\\nExecStart=\\nExecStart=/usr/local/sbin/faulty\\n' >/etc/systemd/system/sshd-mend-repair.service.d/faulty.conf
systemctl daemon-reload")
            .ok();
        Self { machine, session }
    }

    /// The incident without a package run: the same file under a new inode, and a listener that systemd knows nothing of.
    fn incident(&self) -> i32 {
        let output = self.machine.sh(
            "systemctl stop sshd-mend-repair.service ssh.service ssh.socket sshd-mend-rescue.socket 2>/dev/null
             systemctl reset-failed 2>/dev/null
             rm -f /run/sshd-mend/*; mkdir -p /run/sshd
             systemd-socket-activate --listen='[::]:22' /usr/sbin/sshd -D >/dev/null 2>&1 </dev/null & listener=$!
             until ssh root@127.0.0.1 true 2>/dev/null; do kill -0 $listener; done
             cp -p /usr/sbin/sshd /usr/sbin/sshd.new && mv /usr/sbin/sshd.new /usr/sbin/sshd; echo $listener",
        );
        output.stdout.trim().parse().unwrap_or_else(|_| panic!("{output:?}\n{}", self.machine.state()))
    }

    /// One incident, one fault, and what came of it. Reachable it must be, within 10 s.
    fn goes_through(&mut self, fault: &str) -> Fate {
        let listener = self.incident();
        self.machine.sh(&format!("rm -f /run/fault.used; printf '%s' '{fault}' >/run/fault")).ok();
        let repair = self.machine.sh("timeout 100 sshd-mend repair; echo $?");
        let reachable = self.machine.sh(
            "until ssh -o ConnectTimeout=2 root@127.0.0.1 true 2>/dev/null; do
                 tries=$((tries + 1)); [ $tries -lt 100 ] && [ $(($(date +%s) - ${begun:=$(date +%s)})) -lt 10 ] || exit 1
             done",
        );
        assert_eq!(reachable.status, 0, "not reachable after {fault}\n{repair:#?}\n{}", self.machine.state());
        assert!(
            self.machine.session_is_open("patient", &mut self.session),
            "the session is gone after {fault}\n{repair:#?}"
        );
        assert!(!repair.stdout.ends_with("124\n"), "a hang after {fault}: {repair:#?}");
        let check = self.machine.sh("sshd-mend check --json").json();
        match (self.machine.is_alive(listener), check["verdict"].as_str()) {
            (false, Some("healthy")) => Fate::Mended,
            (false, _) if self.machine.sh("systemctl is-active sshd-mend-rescue.socket").status == 0 => Fate::Rescued,
            (true, _) => Fate::Refused,
            (false, _) => {
                // Interrupted for good: the next one has to finish it.
                let finish = self.machine.sh("sshd-mend repair");
                assert_eq!(finish.status, 0, "{fault}\n{check:#}\n{finish:#?}\n{}", self.machine.state());
                Fate::Mended
            }
        }
    }

    /// The calls of a whole repair, in order: name, and its how-manieth of that name it is.
    fn calls(&mut self) -> Vec<(String, usize)> {
        assert_eq!(self.goes_through("strace -qq -o /run/trace -e trace=all"), Fate::Mended);
        let trace = self.machine.sh("cat /run/trace").ok().stdout;
        let mut seen = BTreeMap::new();
        let names = trace.lines().filter_map(|line| line.split_once('(')).map(|(name, _)| name.trim().to_owned());
        let names = names.filter(|name| {
            name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                && name != "execve"
                && name != "exit_group"
        });
        names
            .map(|name| {
                let count = seen.entry(name.clone()).or_insert(0);
                *count += 1;
                (name, *count)
            })
            .collect()
    }

    fn end(mut self) {
        self.session.kill().expect("the client is ours");
        self.session.wait().expect("the client ends");
    }
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

fn tally(name: &str, fates: &[Fate]) {
    let count = |fate: Fate| fates.iter().filter(|f| **f == fate).count();
    eprintln!(
        "{name}: {} tried, {} mended, {} left alone, {} rescued, all reachable afterwards",
        fates.len(),
        count(Fate::Mended),
        count(Fate::Refused),
        count(Fate::Rescued)
    );
}

/// SIGKILL at the n-th system call. The two halves of the calls go to two machines at a time.
fn killed(half: usize) {
    let mut patient = Patient::new();
    let calls = patient.calls();
    assert!(calls.len() > 200, "a repair makes more calls: {}", calls.len());
    let wanted = number("SSHD_MEND_KILLS", 64);
    let chosen: Vec<_> =
        spread(&calls, wanted).into_iter().enumerate().filter(|(i, _)| i % 2 == half).map(|(_, c)| c).collect();
    let mut fates = Vec::new();
    let mut hits = 0;
    for (number, (name, count)) in chosen.iter().enumerate() {
        progress(number, chosen.len());
        fates.push(patient.goes_through(&format!(
            "strace -qq -o /run/trace -e trace={name} -e inject={name}:signal=SIGKILL:when={count}"
        )));
        hits += usize::from(patient.machine.sh("grep -q 'killed by SIGKILL' /run/trace").status == 0);
    }
    tally(&format!("SIGKILL at the n-th of {} calls", calls.len()), &fates);
    assert!(hits * 10 >= chosen.len() * 8, "only {hits} of {} were killed", chosen.len());
    assert!(
        fates.iter().all(|fate| *fate == Fate::Mended),
        "{:?}",
        chosen.iter().zip(&fates).filter(|(_, f)| **f != Fate::Mended).collect::<Vec<_>>()
    );
    patient.end();
}

#[test]
fn killed_at_any_instant_one() {
    killed(0);
}

#[test]
fn killed_at_any_instant_two() {
    killed(1);
}

#[test]
fn calls_that_fail() {
    let mut patient = Patient::new();
    let calls = patient.calls();
    let errors: &[(&str, &[&str])] = &[
        ("ENOSPC", &["openat", "write", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "memfd_create"]),
        (
            "EMFILE",
            &["openat", "pidfd_open", "socket", "memfd_create", "pipe2", "eventfd2", "socketpair", "dup", "fcntl"],
        ),
        (
            "EACCES",
            &["openat", "readlinkat", "readlink", "statx", "newfstatat", "connect", "bind", "pidfd_open", "mkdir"],
        ),
        ("EIO", &["read", "write", "getdents64", "readlinkat", "sendmsg", "recvmsg", "sendto", "recvfrom", "fstat"]),
        ("EAGAIN", &["clone3", "clone", "vfork", "poll", "flock", "read", "mmap"]),
        ("ECONNREFUSED", &["connect", "sendmsg", "sendto", "recvmsg"]),
        ("EPERM", &["pidfd_send_signal", "openat", "getxattr", "kill"]),
    ];
    let mut all = Vec::new();
    for (error, names) in errors {
        all.extend(
            calls.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(name, count)| (*error, name, *count)),
        );
    }
    let chosen = spread(&all, number("SSHD_MEND_ERRORS", 48));
    let mut fates = Vec::new();
    for (number, (error, name, count)) in chosen.iter().enumerate() {
        progress(number, chosen.len());
        fates.push(patient.goes_through(&format!(
            "strace -qq -o /run/trace -e trace={name} -e inject={name}:error={error}:when={count}"
        )));
    }
    // And from some call on, for good.
    for (error, name) in [
        ("EMFILE", "openat"),
        ("ENOSPC", "write"),
        ("EAGAIN", "clone3"),
        ("ECONNREFUSED", "connect"),
        ("EPERM", "pidfd_send_signal"),
    ] {
        fates.push(patient.goes_through(&format!(
            "strace -f -qq -o /run/trace -e trace={name} -e inject={name}:error={error}:when=1+"
        )));
    }
    tally("calls that fail", &fates);
    patient.end();
}

#[test]
fn no_descriptors_left() {
    let mut patient = Patient::new();
    let limits = [3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 32];
    let fates: Vec<Fate> =
        limits.iter().map(|limit| patient.goes_through(&format!("prlimit --nofile={limit}"))).collect();
    tally("a limit on descriptors", &fates);
    assert!(fates.contains(&Fate::Refused) && fates.contains(&Fate::Mended), "{fates:?}");
    patient.end();
}

#[test]
fn one_incident_after_the_other() {
    let mut patient = Patient::new();
    let calls = patient.calls();
    let leftovers = "ls /run/sshd-mend | sort; systemctl list-units --no-legend --plain 'sshd-mend*' | grep -v slice; pgrep -c sshd-mend; ls /proc/1/fd | wc -l";
    let mut fates = Vec::new();
    let mut before = None;
    let total = number("SSHD_MEND_INCIDENTS", 12);
    // No more random than it has to be: a run that failed can be run again.
    let mut state = number("SSHD_MEND_SEED", 1) as u64;
    for round in 0..=total {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (name, count) = &calls[(state >> 33) as usize % calls.len()];
        let fault = match (state >> 20) % 3 {
            _ if round == 0 || round == total => "strace -qq -o /run/trace -e trace=none".to_owned(),
            0 => "strace -qq -o /run/trace -e trace=none".to_owned(),
            1 => format!("strace -qq -o /run/trace -e trace={name} -e inject={name}:signal=SIGKILL:when={count}"),
            _ => format!("strace -qq -o /run/trace -e trace={name} -e inject={name}:error=EIO:when={count}"),
        };
        fates.push(patient.goes_through(&fault));
        if round == 0 {
            before = Some(patient.machine.sh(leftovers).stdout);
        }
    }
    tally("incidents one after the other", &fates);
    assert_eq!(fates.last(), Some(&Fate::Mended));
    assert_eq!(Some(patient.machine.sh(leftovers).stdout), before, "something is left over");
    patient.end();
}

/// How long nobody is let in, in milliseconds, seen from outside: the longest time without a banner while `action` runs.
fn gap(machine: &Machine, action: &str) -> f64 {
    let watched = machine.sh(&format!(
        "cat >/run/watch.py <<'E'
import socket, sys, time
last, longest, ready = None, 0.0, False
end = time.monotonic() + 60
while time.monotonic() < end:
    try:
        with socket.create_connection(('127.0.0.1', 22), 1) as c:
            c.settimeout(1)
            if c.recv(4):
                now = time.monotonic()
                if last and now - last > longest: longest = now - last
                last = now
                if not ready: ready = True; open('/run/watching', 'w').close()
    except OSError:
        pass
    time.sleep(0.001)
    try:
        open('/run/enough').close()
        if time.monotonic() - last < 0.05: break
    except FileNotFoundError:
        pass
print(longest * 1000)
E
rm -f /run/watching /run/enough
echo 'PerSourcePenalties no' >/etc/ssh/sshd_config.d/bench.conf; echo 'MaxStartups 1000' >>/etc/ssh/sshd_config.d/bench.conf
python3 /run/watch.py & watch=$!
until [ -e /run/watching ]; do kill -0 $watch; done
{action} >/dev/null 2>&1
touch /run/enough; wait $watch"
    ));
    watched.stdout.trim().parse().unwrap_or_else(|_| panic!("{watched:#?}"))
}

#[test]
fn nobody_waits_longer_than_for_a_restart_by_hand() {
    let patient = Patient::new();
    let rounds = number("SSHD_MEND_ROUNDS", 5);
    let (mut by_hand, mut by_us) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let listener = patient.incident();
        by_hand.push(gap(&patient.machine, &format!("kill {listener}; systemctl restart ssh.service")));
        patient.incident();
        by_us.push(gap(&patient.machine, "sshd-mend repair"));
    }
    let median = |all: &mut Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (by_hand, by_us) = (median(&mut by_hand), median(&mut by_us));
    eprintln!(
        "without a banner, median of {rounds}: by hand {by_hand:.0} ms, sshd-mend {by_us:.0} ms, {:.2} times",
        by_us / by_hand
    );
    // Noise of a machine that runs other tests beside it; a guard that sits in the gap would show.
    assert!(by_us < by_hand * 3.0, "{by_us} ms against {by_hand} ms");
    patient.end();
}
