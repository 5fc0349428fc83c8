//! Repairs by hand: what comes back, what survives, what a dry run leaves alone.

use crate::machine::Machine;
use sshd_mend::report::events;
use std::collections::BTreeSet;

#[test]
fn the_incident_is_repaired_by_hand() {
    let machine = Machine::with_package("trixie");
    let listener = machine.locked_out();
    let check = machine.sh("sshd-mend check");
    assert_eq!(check.status, 2, "{check:#?}");
    let repair = machine.assert_repair(listener);
    assert!(repair.json()["unreachable_ms"].is_u64(), "{repair:#?}");
    machine.assert_declared_units_are_back();
}

/// Calls that change something, whatever their arguments.
const CHANGING_CALLS: &[&str] = &[
    "mkdir",
    "mkdirat",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "fchownat",
    "lchown",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "truncate",
    "ftruncate",
    "mknod",
    "mknodat",
    "creat",
    "kill",
    "tkill",
    "tgkill",
    "pidfd_send_signal",
];

#[test]
fn a_dry_run_changes_nothing_and_its_plan_is_the_plan_of_the_repair() {
    let machine = Machine::with_package("trixie");
    let listener = machine.locked_out();
    let state = || {
        machine
            .sh("systemctl show ssh.service ssh.socket -p ActiveState,SubState,Result,StateChangeTimestampMonotonic
                 ls -A /run /run/sshd 2>&1 || :
                 systemctl list-jobs; journalctl -q -o cat -t sshd-mend || :")
            .ok()
            .stdout
    };
    let before = state();
    let calls = CHANGING_CALLS.join(",");
    let dry = machine.sh(&format!(
        "strace -f -qq -s 8192 -o /lab/trace -e trace={calls},open,openat,openat2,sendto,sendmsg sshd-mend repair --dry-run --json"
    ));
    assert_eq!(dry.status, 2, "{dry:#?}");
    assert_eq!(state(), before);

    let trace = machine.sh("cat /lab/trace").ok().stdout;
    assert_eq!(changes(&trace), [""; 0]);
    // Jobs are requested by these names; how units are read shows that the trace has the names of methods.
    assert!(trace.contains("org.freedesktop.systemd1") && trace.contains("GetAll"), "{trace}");
    let job = ["StartUnit", "StopUnit", "RestartUnit", "ResetFailed"].iter().find(|call| trace.contains(**call));
    assert_eq!(job, None, "{trace}");
    assert!(machine.is_alive(listener));
    machine.assert_no_login();

    let repair = machine.assert_repair(listener);
    assert_eq!(dry.json()["plan"], repair.json()["plan"]);
    assert_eq!((&dry.json()["dry_run"], &repair.json()["dry_run"]), (&true.into(), &false.into()));
}

/// Lines of strace -f with calls that change something. The program may kill what it has started itself: the process
/// group of a command that it ran.
fn changes(trace: &str) -> Vec<&str> {
    let calls = || trace.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let started: BTreeSet<&str> = calls().map(|(pid, _)| pid).collect();
    let is_own_group = |call: &str| {
        let group = call.strip_prefix("kill(-").and_then(|rest| rest.split(',').next());
        group.is_some_and(|group| started.contains(group))
    };
    let is_change = |call: &str| {
        let name = call.split('(').next().unwrap_or_default();
        let opens_for_writing = name.starts_with("open")
            && ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|flag| call.contains(flag))
            && !call.contains("\"/dev/null\"");
        opens_for_writing || (CHANGING_CALLS.contains(&name) && !is_own_group(call))
    };
    calls().map(|(_, call)| call.trim_start()).filter(|call| is_change(call)).collect()
}

#[test]
fn first_aid_alone_restores_logins() {
    let machine = Machine::with_package("trixie");
    machine.sh("rmdir /run/sshd").ok();
    machine.assert_no_login();
    let listener = machine.main_pid("ssh.service");
    let check = machine.sh("sshd-mend check --json");
    check.assert_finding("runtime-directory-missing");
    assert_eq!(check.status, 2);
    machine.sh("[ ! -e /run/sshd ]").ok();
    let repair = machine.sh("sshd-mend repair --json");
    repair.assert_verdict("repaired", 0);
    let actions: BTreeSet<String> = repair.steps().iter().map(|step| step["action"].to_string()).collect();
    assert_eq!(actions.into_iter().collect::<Vec<_>>(), ["\"create-runtime-directory\"", "\"probe\""]);
    assert_eq!(machine.main_pid("ssh.service"), listener, "nothing was terminated");
    assert_eq!(machine.sh("stat -c '%a %U' /run/sshd").stdout, "755 root\n");
    machine.assert_login();
}

#[test]
fn a_stale_main_process_is_restarted_by_systemd() {
    let machine = Machine::with_package("trixie");
    machine.replace_program("/usr/sbin/sshd");
    let listener = machine.main_pid("ssh.service");
    let check = machine.sh("sshd-mend check --json");
    check.assert_finding("stale-service");
    assert_eq!(check.status, 1);
    let repair = machine.assert_repair(listener);
    assert!(repair.step("terminate").is_none(), "systemd terminates it: {repair:#?}");
    assert!(repair.step("restart-unit").is_some_and(|step| step["unit"] == "ssh.service"), "{repair:#?}");
    assert!(machine.main_pid("ssh.service") > 0);
}

#[test]
fn a_session_that_was_open_before_survives() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    let mut session = machine.open_session("survivor");
    machine.upgrade_without_hook().ok();
    let repair = machine.assert_repair(listener);
    assert_eq!(repair.json()["sessions"], serde_json::json!({ "before": 1, "after": 1 }), "{repair:#?}");
    session.assert_open();
}

#[test]
fn a_repair_from_inside_an_ssh_session_is_complete() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let repair = machine.sh("ssh -tt root@127.0.0.1 sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}");
    assert!(
        repair.stdout.contains("REPAIRED") && repair.stdout.contains("1 of 1 open sessions survived"),
        "{repair:#?}"
    );
    machine.assert_replaced(listener);
}

#[test]
fn a_stopped_listener_acts_on_sigterm_at_once() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh(&format!("kill -STOP {listener}")).ok();
    machine.wait_until("the listener is stopped", |machine| {
        machine.sh(&format!("grep -q '^State:.*stopped' /proc/{listener}/status")).status == 0
    });
    let terminate = machine.assert_repair(listener).step("terminate").expect("the step");
    assert_eq!(terminate["result"], "terminated by SIGTERM", "{terminate:#}");
    assert!(terminate["duration_ms"].as_u64().is_some_and(|ms| ms < 1000), "{terminate:#}");
}

#[test]
fn a_listener_that_does_not_act_on_sigterm_is_killed_after_grace() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh("echo GRACE=2 >/etc/default/sshd-mend").ok();
    machine.freeze(listener);
    let terminate = machine.assert_repair(listener).step("terminate").expect("the step");
    assert_eq!(terminate["result"], "terminated by SIGKILL", "{terminate:#}");
    assert!(terminate["duration_ms"].as_u64().is_some_and(|ms| (2000..4000).contains(&ms)), "{terminate:#}");
}

#[test]
fn without_the_unit_the_command_repairs_in_its_own_process() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.remove_repair_unit();
    // On a terminal the log goes to stderr as well as to the journal, once to each.
    let repair = machine.sh("ssh -tt root@127.0.0.1 sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}");
    assert!(repair.stdout.contains("is not installed, so this process did the work itself"), "{repair:#?}");
    let line = format!("Listener {listener} (/usr/sbin/sshd (deleted)): terminated by SIGTERM");
    assert_eq!(repair.stdout.matches(&line).count(), 1, "{repair:#?}");
    let journal = machine.sh("journalctl --sync; journalctl -o cat").ok().stdout;
    assert_eq!(journal.matches(&line).count(), 1, "{journal}");
    machine.assert_replaced(listener);
}

#[test]
fn where_the_unit_cannot_run_the_command_repairs_in_its_own_process() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    // As in a container that does not let systemd set up the unit's sandbox.
    machine.drop_in("sshd-mend-repair.service", "[Service]\nBindPaths=/none");
    // Nobody watches a package run.
    let hook = machine.sh("sshd-mend hook").ok().stdout;
    assert!(hook.contains("ended without leaving an outcome"), "{hook}");
    let status = machine.number("systemctl show -P ExecMainStatus sshd-mend-repair.service");
    assert_eq!(status, 226, "EXIT_NAMESPACE of systemd.exec(5)");
    assert!(machine.is_alive(listener));
    machine.assert_login();
    let repair = machine.assert_repair(listener);
    assert!(repair.stdout.contains("This process did the work itself"), "{repair:#?}");
}

#[test]
fn a_repair_that_is_asked_to_stop_starts_the_units_first() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    let held = machine.hold_repair_without_unit(listener);
    let worker = held.worker();
    machine.sh(&format!("kill -TERM {worker}; kill -INT {worker}; kill -HUP {worker}")).ok();
    // Bits of ShdPnd in proc_pid_status(5).
    let pending =
        machine.number(&format!("echo $((0x$(sed -n 's/^ShdPnd:[^0-9a-f]*//p' /proc/{worker}/status) & 0x4003))"));
    assert_eq!(pending, 0x4003, "SIGHUP, SIGINT and SIGTERM");
    let repair = held.finish();
    repair.assert_verdict("unverified", 1);
    let probe = repair.step("probe").expect("the step");
    assert!(
        probe["ok"] == false && probe["result"].as_str().is_some_and(|text| text.contains("asked to stop")),
        "{probe:#}"
    );
    machine.assert_replaced(listener);
}

#[test]
fn output_that_cannot_be_written_changes_neither_the_repair_nor_its_status() {
    let machine = Machine::with_package("trixie");
    let listener = machine.locked_out();
    assert_eq!(machine.sh("sshd-mend check >/dev/full 2>/dev/full").status, 2);
    // As on a terminal that went away: nobody reads what is written.
    let command = "import os, subprocess, sys
reader, writer = os.pipe()
os.close(reader)
sys.exit(subprocess.call(['sshd-mend', 'repair'], stdout=writer, stderr=writer))";
    let repair = machine.sh(&format!("python3 -c \"{command}\""));
    assert_eq!(repair.status, 0, "{repair:#?}");
    machine.assert_replaced(listener);
}

#[test]
fn every_event_is_in_the_journal_with_its_fields() {
    let machine = Machine::with_package("trixie");
    let listener = machine.locked_out();
    machine.assert_repair(listener);
    machine.sh("journalctl --sync").ok();
    let event = |id: &str, field: &str| -> serde_json::Value {
        let line = machine.sh(&format!("journalctl -q -o json -n 1 -t sshd-mend MESSAGE_ID={id} {field}")).ok();
        assert!(!line.stdout.is_empty(), "no event {id} with {field}\n{}", machine.state());
        line.value()
    };
    let found = event(events::FOUND, &format!("OBJECT_PID={listener}"));
    assert_eq!(found["EXECUTABLE"], "/usr/sbin/sshd (deleted)");
    assert_eq!(found["ADDRESS"], "[::]:22");
    assert_eq!(found["REASON"], "stale-orphan");
    event(events::FIRST_AID, "REASON=created");
    let terminated = event(events::ENDED, &format!("OBJECT_PID={listener}"));
    assert_eq!(terminated["REASON"], "terminated by SIGTERM");
    assert!(terminated["DURATION_MS"].as_str().is_some_and(|ms| ms.parse::<u64>().is_ok()), "{terminated:#}");
    event(events::VERIFIED, "ADDRESS=[::]:22");
    for unit in ["ssh.socket", "ssh.service"] {
        assert_eq!(event(events::RESTARTED, &format!("UNIT_NAME={unit}"))["REASON"], "started");
    }
    // A person who looks at ssh.service sees it too.
    assert!(machine.sh("journalctl -o cat -u ssh.service").ok().stdout.contains("ssh.service: started"));
    let explained = machine.sh(&format!("journalctl -x -t sshd-mend MESSAGE_ID={}", events::ENDED)).ok().stdout;
    assert!(explained.contains("Subject: ") && explained.contains("Defined-By: sshd-mend"), "{explained}");
}

/// systemd listens, and what it starts for each connection relies on others for /run/sshd.
#[test]
fn first_aid_restores_logins_through_a_socket() {
    for command in ["sshd-mend repair", "sshd-mend hook"] {
        let machine = Machine::with_package("trixie");
        machine
            .sh("systemctl -q disable --now ssh.service
                 printf '[Socket]\\nAccept=yes\\n' >/run/accept.conf
                 install -D -m 0644 /run/accept.conf /etc/systemd/system/ssh.socket.d/accept.conf
                 printf '[Service]\\nExecStart=-/usr/sbin/sshd -i\\nStandardInput=socket\\nKillMode=process\\n' >/etc/systemd/system/ssh@.service
                 systemctl daemon-reload; mkdir -p /run/sshd; systemctl start ssh.socket; rm -r /run/sshd")
            .ok();
        machine.assert_no_login();
        let check = machine.sh("sshd-mend check --json");
        check.assert_finding("runtime-directory-missing");
        assert_eq!(check.status, 2, "{check:#?}");
        let repair = machine.sh(command).ok();
        assert!(repair.stdout.contains("REPAIRED"), "{repair:#?}");
        machine.assert_login();
        machine.sh("sshd-mend check").ok();
    }
}
