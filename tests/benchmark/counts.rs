//! What can be counted, and so be judged on any machine: threads, system calls for each process, the program's size. Memory is
//! told, and depends on the kernel.

use super::machine::Machine;
use serde::Serialize;

const THREADS_MAX: u64 = 4;
/// One for its program, and what getdents64(2) takes for many of them.
const CALLS_PER_PROCESS_MAX: f64 = 1.2;
const SIZE_MAX: u64 = 3_000_000;

/// Of the hook on a healthy machine.
#[derive(Debug, Serialize)]
pub struct Counts {
    pub threads: u64,
    pub calls_per_process: f64,
    pub peak_kib: u64,
    pub program_bytes: u64,
}

pub fn measured(machine: &Machine) -> Counts {
    machine.sh("sshd-mend hook").ok();
    let number = |script: &str| -> u64 {
        let out = machine.sh(script).ok().stdout;
        out.trim().parse().unwrap_or_else(|error| panic!("{error}: {out}"))
    };
    let calls = || number("strace -f -o /run/calls sshd-mend hook; grep -c '' /run/calls");
    let few = calls();
    machine.sh("rm -f /run/c; mkfifo /run/c; setsid /lab/crowd 500 0 </run/c >/run/c.out 2>&1 & setsid sleep infinity >/run/c 2>/dev/null </dev/null & echo $! >/run/c.pid").ok();
    machine.wait_until("the crowd is there", |machine| machine.sh("cat /run/c.out").stdout == "ready\n");
    let many = calls();
    machine.sh("kill $(cat /run/c.pid)").ok();
    machine.wait_until("the crowd is gone", |machine| machine.sh("pgrep -x 'crowd|sleep'").status == 1);
    let counts = Counts {
        threads: 1 + number(
            "strace -f -e trace=clone,clone3 -o /run/calls sshd-mend hook; grep -cE ' clone3?\\(' /run/calls",
        ),
        calls_per_process: (many as f64 - few as f64) / 500.0,
        // The median of 15.
        peak_kib: number(
            "for i in $(seq 15); do /lab/measure sshd-mend hook; done | cut -d' ' -f2 | sort -n | sed -n 8p",
        ),
        program_bytes: number("stat -c %s /usr/sbin/sshd-mend"),
    };
    println!(
        "the hook on a healthy machine: {} threads, {:.2} system calls for each process, {} KiB at its peak; the program has {} bytes",
        counts.threads, counts.calls_per_process, counts.peak_kib, counts.program_bytes
    );
    counts
}

pub fn judge(counts: &Counts) {
    assert!(counts.threads <= THREADS_MAX, "{counts:?}");
    assert!(counts.calls_per_process <= CALLS_PER_PROCESS_MAX, "{counts:?}");
    assert!(counts.program_bytes <= SIZE_MAX, "{counts:?}");
}
