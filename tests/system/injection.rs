//! Faults that tests bring about while the product is at work. Each helper returns once its fault is seen to be there.

use crate::machine::{Machine, Output};
use std::process::{Child, Stdio};

/// Stops a process as soon as it has sent its first signal through a pidfd. With -D strace is not the parent of that
/// process, which is therefore still the main process of its unit.
const STRACE: &str = "/usr/bin/strace -D -qq -o /run/held -e trace=pidfd_send_signal \
    -e inject=pidfd_send_signal:signal=SIGSTOP:when=1";

/// A drop-in of the tests' own, beside that of [`Machine::drop_in`].
const REPAIR_UNIT_DROP_IN: &str = "/run/systemd/system/sshd-mend-repair.service.d/held.conf";

/// A repair that has terminated the listener and started nothing yet. It is stopped until [`HeldRepair::finish`].
pub struct HeldRepair<'a> {
    machine: &'a Machine,
    command: Child,
    worker: i32,
}

impl Machine {
    /// Runs a shell command that leads to a repair by sshd-mend-repair.service, and holds the unit's process.
    pub fn hold_repair(&self, listener: i32, command: &str) -> HeldRepair<'_> {
        // The unit as it is shipped, but for the calls that strace needs.
        self.sh(&format!(
            "mkdir -p $(dirname {REPAIR_UNIT_DROP_IN})
             printf '[Service]\\nSystemCallFilter=\\nExecStart=\\nExecStart={STRACE} /usr/sbin/sshd-mend carry-out\\n' >{REPAIR_UNIT_DROP_IN}
             systemctl daemon-reload"
        ))
        .ok();
        let mut held = HeldRepair { machine: self, command: self.caller(command), worker: 0 };
        held.wait_for(listener);
        held.worker = self.main_pid("sshd-mend-repair.service");
        held
    }

    /// As [`Self::hold_repair`], with the unit removed: the command does the work in its own process.
    pub fn hold_repair_without_unit(&self, listener: i32) -> HeldRepair<'_> {
        self.remove_repair_unit();
        let mut held =
            HeldRepair { machine: self, command: self.caller(&format!("{STRACE} sshd-mend repair --json")), worker: 0 };
        held.wait_for(listener);
        held.worker = held.caller();
        held
    }

    fn caller(&self, command: &str) -> Child {
        let command = format!("echo $$ >/run/caller; exec {command}");
        // The shell in between keeps nsenter(1) from stopping itself together with a command that is held.
        self.command(&["/bin/sh", "-c", "/bin/sh -c \"$1\"; exit $?", "sh", &command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tests/system/enter starts")
    }

    /// As where only the program was installed.
    pub fn remove_repair_unit(&self) {
        self.sh("rm /usr/lib/systemd/system/sshd-mend-repair.service; systemctl daemon-reload").ok();
    }

    /// Leaves no byte free in the file system of a directory.
    pub fn fill(&self, directory: &str) {
        // The second program fills what is left of the last block.
        self.sh(&format!("cd {directory}; dd if=/dev/zero of=fill.1 bs=64k || :; dd if=/dev/zero of=fill.2 bs=1 || :"))
            .ok();
        let more = self.sh(&format!("dd if=/dev/zero of={directory}/more bs=1 count=1"));
        let is_full = more.status != 0 && more.stderr.contains("No space left on device");
        assert!(is_full, "{directory} is not full: {more:#?}");
    }

    /// Queues a start of the unit that waits for a job that does not end.
    pub fn queue_start(&self, unit: &str) {
        self.sh(&format!(
            "cd /run/systemd/system; mkdir {unit}.d
             printf '[Service]\\nType=oneshot\\nExecStart=/bin/sleep 3600\\n' >slow.service
             printf '[Unit]\\nAfter=slow.service\\n' >{unit}.d/slow.conf
             systemctl daemon-reload; systemctl start --no-block slow.service {unit}"
        ))
        .ok();
        let jobs = self.sh("systemctl list-jobs --no-legend").ok().stdout;
        let is_queued = |job: &str| job.split_whitespace().skip(1).eq([unit, "start", "waiting"]);
        assert!(jobs.lines().any(is_queued), "no job is queued: {jobs}");
    }

    /// Undoes [`Self::queue_start`].
    pub fn cancel_start(&self, unit: &str) {
        self.sh(&format!(
            "systemctl cancel; systemctl kill -s KILL slow.service || :
             rm -r /run/systemd/system/slow.service /run/systemd/system/{unit}.d
             systemctl daemon-reload; systemctl reset-failed"
        ))
        .ok();
        self.wait_until("no job is queued", |machine| machine.sh("systemctl list-jobs --no-legend").stdout.is_empty());
    }
}

impl HeldRepair<'_> {
    fn wait_for(&self, listener: i32) {
        self.machine.wait_until("the repair is stopped after its first signal", |machine| {
            machine.sh("grep -q 'stopped by SIGSTOP' /run/held").status == 0 && !machine.is_alive(listener)
        });
    }

    /// The process that does the work.
    pub fn worker(&self) -> i32 {
        self.worker
    }

    /// The process that somebody waits for.
    pub fn caller(&self) -> i32 {
        self.machine.number("cat /run/caller")
    }

    /// Lets the repair go on, and returns what the command printed.
    pub fn finish(self) -> Output {
        self.machine.sh(&format!("kill -CONT {}", self.worker)).ok();
        self.wait()
    }

    /// Kills the process that does the work, and each that systemd starts in its place, until systemd gives up and the
    /// fallback has done its work.
    pub fn kill_each_attempt(self) {
        let machine = self.machine;
        machine
            .sh(&format!(
                "cat >{REPAIR_UNIT_DROP_IN} <<'E'
[Service]
ExecStart=
ExecStart=/bin/sh -c \"kill -KILL $$$$\"
E
                 systemctl daemon-reload; systemctl kill -s KILL sshd-mend-repair.service"
            ))
            .ok();
        for (unit, line) in
            [("sshd-mend-repair.service", "restart counter is at 19[.]"), ("sshd-mend-fallback.service", "^Finished")]
        {
            machine.wait_until(line, |machine| {
                machine.sh(&format!("journalctl -o cat -u {unit} | grep '{line}'")).status == 0
            });
        }
        machine.sh(&format!("rm {REPAIR_UNIT_DROP_IN}; systemctl daemon-reload")).ok();
        self.wait();
    }

    /// Waits for the command, whose repair was killed.
    pub fn wait(self) -> Output {
        self.command.wait_with_output().expect("the command ends").into()
    }
}
