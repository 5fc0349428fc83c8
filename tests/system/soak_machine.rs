//! A machine on which one incident follows the other, each with a fault in the first attempt to repair it, and who
//! repaired it in the end.

use crate::machine::Machine;
use crate::session::Session;
use std::collections::BTreeMap;

/// A fault in the worker of sshd-mend-repair.service, which is otherwise the shipped one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Its main thread's calls are recorded.
    Recorded,
    /// SIGKILL at the n-th call of this name.
    Killed(String, usize),
    /// The n-th call of this name fails with this error.
    Fails(String, usize, &'static str),
    /// Every call of this name fails with this error, in every thread and child.
    AlwaysFails(&'static str, &'static str),
    /// A limit on its descriptors.
    Descriptors(usize),
}

impl Fault {
    /// The command that brings it about.
    fn command(&self) -> String {
        let strace = "strace -qq -o /run/trace";
        match self {
            Self::None => String::new(),
            Self::Recorded => format!("{strace} -e trace=all"),
            Self::Killed(call, n) => format!("{strace} -e trace={call} -e inject={call}:signal=SIGKILL:when={n}"),
            Self::Fails(call, n, error) => format!("{strace} -e trace={call} -e inject={call}:error={error}:when={n}"),
            Self::AlwaysFails(call, error) => {
                format!("{strace} -f -e trace={call} -e inject={call}:error={error}:when=1+")
            }
            Self::Descriptors(limit) => format!("prlimit --nofile={limit}"),
        }
    }

    /// What /run/trace has if it happened.
    fn trace(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Recorded => "capset(".to_owned(),
            Self::Killed(..) => "killed by SIGKILL".to_owned(),
            Self::Fails(..) | Self::AlwaysFails(..) => "(INJECTED)".to_owned(),
            Self::Descriptors(3) => "Error 24".to_owned(),
            Self::Descriptors(limit) => format!("Max open files            {limit} "),
        }
    }
}

/// How an incident ended. The machine was reachable in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The attempt that had the fault finished the repair.
    FirstAttempt,
    /// systemd's automatic retry did.
    Retry,
    /// The command that waited for the unit did, by a second request or in its own process.
    Command,
    /// The fallback did, which systemd starts after the last retry.
    Fallback,
    /// Nobody did: it took another repair, which the test started.
    TestsOwnRepair,
    /// The rescue serves in place of the unit.
    Rescued,
    /// Nothing was terminated: the old listener serves as before.
    NothingTerminated,
}

impl End {
    const ALL: [(Self, &'static str); 7] = [
        (Self::FirstAttempt, "finished by the attempt itself"),
        (Self::Retry, "finished by systemd's retry"),
        (Self::Command, "finished by the command that waited"),
        (Self::Fallback, "finished by the fallback"),
        (Self::TestsOwnRepair, "finished by a repair that the test started"),
        (Self::Rescued, "rescued"),
        (Self::NothingTerminated, "nothing terminated"),
    ];
}

/// What became of one incident.
#[derive(Debug, Clone)]
pub struct Incident {
    pub fault: Fault,
    /// The fault happened.
    pub happened: bool,
    pub end: End,
}

/// See the module.
pub struct Soak<'a> {
    pub machine: &'a Machine,
    session: Session<'a>,
    /// The last incident ended with the declared units serving.
    repaired: bool,
}

impl<'a> Soak<'a> {
    /// The unit is confined as it is shipped, but for the one call that strace needs.
    pub fn on(machine: &'a Machine) -> Self {
        machine
            .sh("systemctl -q disable ssh.service; systemctl -q enable ssh.socket; echo GRACE=1 >/etc/default/sshd-mend")
            .ok();
        machine.copy_script("faulty");
        machine.sh("install -m 755 /lab/faulty /usr/local/sbin/").ok();
        machine.drop_in(
            "sshd-mend-repair.service",
            "[Service]\nSystemCallFilter=ptrace\nExecStart=\nExecStart=/usr/local/sbin/faulty",
        );
        for fallback in ["sshd-mend-fallback.service", "sshd-mend-fallback-ssh.service"] {
            machine.drop_in(fallback, "[Service]\nExecStartPre=/usr/bin/touch /run/fallback-ran");
        }
        Self { machine, session: machine.open_session("bystander"), repaired: true }
    }

    /// Brings about an incident, and returns the listener's pid.
    pub fn incident(&self, fault: &Fault) -> i32 {
        let output =
            self.machine.script("soak-incident.sh", &[&fault.command(), if self.repaired { "" } else { "clean" }]);
        output.stdout.trim().parse().unwrap_or_else(|_| panic!("{output:#?}\n{}", self.machine.state()))
    }

    /// One incident, one fault, one `sshd-mend repair`, and how it ended. Afterwards the machine is reachable within 10 s,
    /// and the session is open.
    pub fn goes_through(&mut self, fault: &Fault) -> Incident {
        let machine = self.machine;
        let listener = self.incident(fault);
        let repair = machine.sh("timeout 100 sshd-mend repair --json 2>&1");
        let seen = |machine: &Machine| format!("{fault:?}\n{repair:#?}\n{}", machine.state());
        assert_ne!(repair.status, 124, "a hang after {}", seen(machine));
        let login = "ssh -o ConnectTimeout=2 root@127.0.0.1 true 2>/dev/null </dev/null";
        let reachable = machine
            .sh(&format!("end=$(($(date +%s) + 10)); until {login}; do [ $(date +%s) -lt $end ] || exit 1; done"));
        assert_eq!(reachable.status, 0, "not reachable after {}", seen(machine));
        self.session.assert_open();
        machine.wait_for_end_of_repair();
        let attempts = machine.sh("cat /run/attempts").ok().stdout;
        let attempts: Vec<&str> = attempts.lines().collect();
        let happened = *fault == Fault::None
            || machine.sh(&format!("touch /run/trace; grep -qF '{}' /run/trace", fault.trace())).status == 0;
        let healthy = |machine: &Machine| machine.sh("sshd-mend check && [ ! -e /run/sshd-mend/intent ]").status == 0;
        let end = if machine.is_alive(listener) {
            End::NothingTerminated
        } else if machine.active("sshd-mend-rescue-ssh.socket") == "active" {
            End::Rescued
        } else if !healthy(machine) {
            let repair = machine.sh("sshd-mend repair");
            assert!(repair.status == 0 && healthy(machine), "{repair:#?}\nafter {}", seen(machine));
            End::TestsOwnRepair
        } else if machine.sh("[ -e /run/fallback-ran ]").status == 0 {
            End::Fallback
        } else if repair.stdout.contains("did the work itself") {
            End::Command
        } else {
            match attempts.as_slice() {
                ["0"] => End::FirstAttempt,
                [.., "0"] => End::Command,
                _ => End::Retry,
            }
        };
        self.repaired = !matches!(end, End::Rescued | End::NothingTerminated);
        Incident { fault: fault.clone(), happened, end }
    }

    /// The calls of a whole repair, in order: name, and how many of that name came before, plus one. Those that another
    /// repair does not make are left out: waits differ.
    pub fn calls(&mut self) -> Vec<(String, usize)> {
        let [first, second] = [self.recorded(), self.recorded()];
        first.into_iter().filter(|call| second.contains(call)).collect()
    }

    fn recorded(&mut self) -> Vec<(String, usize)> {
        assert_eq!(self.goes_through(&Fault::Recorded).end, End::FirstAttempt);
        let trace = self.machine.sh("cat /run/trace").ok().stdout;
        let mut seen = BTreeMap::new();
        let names = trace.lines().filter_map(|line| line.split_once('(')).map(|(name, _)| name.trim().to_owned());
        // strace starts the program by the first execve.
        let is_call = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let names = names.filter(|name| name.chars().all(is_call) && name != "execve");
        names
            .map(|name| {
                let count = seen.entry(name.clone()).or_insert(0);
                *count += 1;
                (name, *count)
            })
            .collect()
    }
}

/// Prints how many incidents ended in which way. Fails if more than one fault of each twenty begun did not happen: how often a repair calls
/// futex(2) is up to the scheduler.
pub fn tally(name: &str, incidents: &[Incident]) {
    let missed: Vec<&Fault> = incidents.iter().filter(|each| !each.happened).map(|each| &each.fault).collect();
    let ends = End::ALL.iter().map(|(end, text)| (count(incidents, *end), text)).filter(|(count, _)| *count > 0);
    let ends: Vec<String> = ends.map(|(count, text)| format!("{count} {text}")).collect();
    let (total, ends) = (incidents.len(), ends.join(", "));
    eprintln!("{name}: {total} tried, all reachable afterwards: {ends}; {} faults did not happen", missed.len());
    assert!(missed.len() <= total.div_ceil(20), "of {total} faults these did not happen: {missed:?}");
}

/// How many ended in this way.
pub fn count(incidents: &[Incident], end: End) -> usize {
    incidents.iter().filter(|incident| incident.end == end).count()
}
