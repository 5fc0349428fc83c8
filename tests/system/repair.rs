//! Repairs by hand: what comes back, what survives, what a dry run leaves alone.

use crate::machine::Machine;
use serde_json::Value;

fn plan(json: &Value) -> &Value {
    &json["plan"]
}

#[test]
fn the_incident_is_mended_by_hand() {
    let machine = Machine::with_package("trixie");
    let listener = machine.locked_out();
    let check = machine.sh("sshd-mend check");
    assert_eq!(check.status, 2, "{check:#?}");
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}");
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    let units =
        machine.sh("systemctl is-active ssh.socket ssh.service; systemctl is-enabled ssh.socket ssh.service").stdout;
    assert_eq!(units, "active\nactive\nenabled\ndisabled\n", "what was declared is what comes back");
    assert_eq!(machine.sh("sshd-mend check").status, 0);
    assert_eq!(machine.sh("ls /run/sshd-mend/intent").status, 2, "the intent is off the record");
}

#[test]
fn the_dry_run_changes_nothing_and_its_plan_is_the_plan() {
    let machine = Machine::with_package("trixie");
    let listener = machine.locked_out();
    let state = "systemctl show ssh.service ssh.socket -p ActiveState,SubState,Result,StateChangeTimestampMonotonic; ls -A /run /run/sshd 2>&1; systemctl list-jobs; cat /proc/sys/kernel/ns_last_pid >/dev/null";
    let before = machine.sh(state).stdout;
    let journal_before = machine.sh("journalctl -o cat -t sshd-mend -q").stdout;
    let dry = machine.sh(
        "strace -f -qq -o /lab/trace -e trace=kill,tkill,tgkill,pidfd_send_signal,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2,chmod,fchmod,fchmodat,chown,fchownat,link,linkat,symlink,symlinkat,truncate,ftruncate,mknod,mknodat,open,openat,openat2,creat,sendto,sendmsg \
         sshd-mend repair --dry-run --json",
    );
    assert_eq!(dry.status, 2, "{dry:#?}");
    assert_eq!(machine.sh(state).stdout, before);
    assert_eq!(machine.sh("journalctl -o cat -t sshd-mend -q").stdout, journal_before, "a dry run logs nothing");

    let trace = machine.sh("cat /lab/trace").stdout;
    assert!(trace.lines().count() > 50, "strace saw too little:\n{trace}");
    let words = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"];
    let writing = trace.lines().filter(|line| {
        let writes =
            line.contains("open") && words.iter().any(|word| line.contains(word)) && !line.contains("/dev/null");
        let changes =
            ["mkdir", "unlink", "rename", "chmod", "chown", "link(", "symlink", "truncate", "mknod", "creat("];
        let signals = ["kill(", "pidfd_send_signal("];
        let calls = line.split_whitespace().nth(1).unwrap_or_default();
        writes || changes.iter().any(|call| calls.starts_with(call)) || signals.iter().any(|call| calls.contains(call))
    });
    let writing: Vec<&str> = writing.collect();
    assert!(writing.is_empty(), "{writing:#?}");
    // Jobs are asked for by name.
    assert!(
        !["StartUnit", "StopUnit", "RestartUnit", "ResetFailed"].iter().any(|call| trace.contains(call)),
        "{trace}"
    );
    assert!(machine.is_alive(listener));
    machine.assert_no_login();

    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.status, 0, "{repair:#?}");
    assert_eq!(plan(&dry.json()), plan(&repair.json()));
    assert_eq!(dry.json()["dry_run"], true);
    machine.assert_login();
}

#[test]
fn first_aid_alone_brings_logins_back() {
    let machine = Machine::with_package("trixie");
    machine.sh("rmdir /run/sshd").ok();
    machine.assert_no_login();
    let before = machine.sh("systemctl show -p MainPID ssh.service").stdout;
    let check = machine.sh("sshd-mend check --json");
    assert_eq!((check.status, check.json()["findings"][0]["code"].as_str()), (2, Some("runtime-directory-missing")));
    assert_eq!(machine.sh("ls -d /run/sshd").status, 2, "check creates nothing");
    machine.sh("sshd-mend repair").ok();
    assert_eq!(machine.sh("systemctl show -p MainPID ssh.service").stdout, before, "nothing was ended");
    assert_eq!(machine.sh("stat -c '%a %U' /run/sshd").stdout, "755 root\n");
    machine.assert_login();
}

#[test]
fn a_stale_main_process_is_restarted_through_systemd() {
    let machine = Machine::with_package("trixie");
    machine.sh("cp /usr/sbin/sshd /usr/sbin/sshd.new && mv /usr/sbin/sshd.new /usr/sbin/sshd").ok();
    let old = machine.sh("systemctl show -P MainPID ssh.service").stdout;
    let check = machine.sh("sshd-mend check --json");
    assert_eq!((check.status, check.json()["findings"][0]["code"].as_str()), (1, Some("stale-service")), "{check:#?}");
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!((repair.status, repair.json()["verdict"].as_str()), (0, Some("repaired")), "{repair:#?}");
    assert!(!repair.stdout.contains("terminate"), "systemd ends it: {repair:#?}");
    let new = machine.sh("systemctl show -P MainPID ssh.service").stdout;
    assert_ne!(old, new);
    machine.assert_login();
}

#[test]
fn a_session_that_was_open_before_survives() {
    let machine = Machine::with_package("trixie");
    machine.incident();
    let mut client = machine.open_session("survivor");
    machine.upgrade_without_hook().ok();
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.status, 0, "{repair:#?}");
    assert_eq!(repair.json()["sessions"], serde_json::json!({ "before": 1, "after": 1 }), "{repair:#?}");
    assert!(machine.session_is_open("survivor", &mut client));
    machine.assert_login();
    client.kill().expect("the client is ours");
    client.wait().expect("the client ends");
}

#[test]
fn a_repair_from_inside_an_ssh_session_reaches_its_end() {
    let machine = Machine::with_package("trixie");
    machine.incident();
    machine.upgrade_without_hook().ok();
    let repair = machine.sh("ssh -tt root@127.0.0.1 sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}");
    assert!(repair.stdout.contains("REPAIRED"), "{repair:#?}");
    machine.assert_login();
}

#[test]
fn a_listener_that_ignores_sigterm_is_killed_after_grace() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    machine.sh("echo GRACE=1 >/etc/default/sshd-mend").ok();
    // A stopped process does not act on SIGTERM.
    machine.sh(&format!("kill -STOP {listener}")).ok();
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}");
    assert!(repair.stdout.contains("ended by SIGKILL"), "{repair:#?}");
    machine.assert_login();
}

#[test]
fn without_the_unit_the_command_does_the_work_itself() {
    let machine = Machine::with_package("trixie");
    machine.incident();
    machine.upgrade_without_hook().ok();
    machine.sh("rm /usr/lib/systemd/system/sshd-mend-repair.service && systemctl daemon-reload").ok();
    // On a terminal the log goes to stderr as well as to the journal, once to each.
    let repair = machine.sh("ssh -tt root@127.0.0.1 sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}");
    assert!(repair.stdout.contains("is not installed, so this process did the work itself"), "{repair:#?}");
    let ended = |text: &str| {
        text.lines().filter(|line| line.contains("Listener ") && line.contains("ended by SIGTERM")).count()
    };
    assert_eq!(ended(&repair.stdout), 1, "{repair:#?}");
    machine.sh("journalctl --sync").ok();
    assert_eq!(ended(&machine.sh("journalctl -o cat").stdout), 1);
    machine.assert_login();
}

#[test]
fn a_unit_that_cannot_run_here_is_done_without() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    // As where a container does not let systemd set up what confines the unit: status 226/NAMESPACE.
    machine
        .sh("mkdir -p /etc/systemd/system/sshd-mend-repair.service.d
             printf '[Service]\\nBindPaths=/none\\n' >/etc/systemd/system/sshd-mend-repair.service.d/x.conf; systemctl daemon-reload")
        .ok();
    // A package run has nobody to see to it.
    let hook = machine.sh("sshd-mend hook").ok().stdout;
    assert!(hook.contains("ended without leaving an outcome") && machine.is_alive(listener), "{hook}");
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}");
    assert!(repair.stdout.contains("This process did the work itself"), "{repair:#?}");
    assert!(!machine.is_alive(listener));
    machine.assert_login();
}

#[test]
fn signals_are_acted_on_after_the_restart() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    machine.sh("rm /usr/lib/systemd/system/sshd-mend-repair.service && systemctl daemon-reload; echo GRACE=3 >/etc/default/sshd-mend").ok();
    machine.sh(&format!("kill -STOP {listener}")).ok();
    // While it waits for the listener to end, it gets all three; the restart has to follow all the same.
    let repair = machine.sh("sshd-mend repair >/lab/out 2>&1 & mend=$!
         until journalctl -q -o cat -t sshd-mend | grep -q Found; do kill -0 $mend; done
         until grep -q '^ShdPnd:.*[4-7c-f]...$' /proc/LISTENER/status; do kill -0 $mend; done
         kill -TERM $mend; kill -INT $mend; kill -HUP $mend
         wait $mend; echo $?"
        .replace("LISTENER", &listener.to_string())
        .as_str());
    assert!(!machine.is_alive(listener), "{repair:#?}");
    machine.assert_login();
    let out = machine.sh("cat /lab/out").stdout;
    assert_eq!(repair.stdout, "1\n", "mended, and not verified because it was asked to stop\n{out}");
    assert!(out.contains("asked to stop"), "{out}");
}

#[test]
fn a_terminal_that_went_away_is_no_reason_to_stop() {
    let machine = Machine::with_package("trixie");
    machine.locked_out();
    assert_eq!(
        machine.sh("sshd-mend check >/dev/full 2>/dev/full").status,
        2,
        "the status is told even if nothing can be printed"
    );
    machine.sh("sshd-mend repair | true");
    machine.assert_login();
}

#[test]
fn every_event_is_in_the_journal_with_its_fields() {
    let machine = Machine::with_package("trixie");
    let listener = machine.locked_out();
    machine.sh("sshd-mend repair").ok();
    machine.sh("journalctl --sync").ok();
    let lines = machine.sh("journalctl -o json -t sshd-mend").ok().stdout;
    let events: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON of journalctl")).collect();
    let find = |id: &str| {
        events.iter().find(|event| event["MESSAGE_ID"] == id).unwrap_or_else(|| panic!("no event {id} in {lines}"))
    };
    let field = |event: &Value, name: &str| event[name].as_str().map(str::to_owned).unwrap_or_default();
    let found = find(sshd_mend::report::events::FOUND);
    assert_eq!(field(found, "OBJECT_PID"), listener.to_string());
    assert_eq!(field(found, "EXECUTABLE"), "/usr/sbin/sshd (deleted)");
    assert_eq!(field(found, "ADDRESS"), "[::]:22");
    assert_eq!(field(found, "REASON"), "stale-orphan");
    assert_eq!(field(find(sshd_mend::report::events::FIRST_AID), "REASON"), "created");
    let ended = find(sshd_mend::report::events::ENDED);
    assert_eq!(
        (field(ended, "OBJECT_PID"), field(ended, "REASON")),
        (listener.to_string(), "ended by SIGTERM".to_owned())
    );
    assert!(field(ended, "DURATION_MS").parse::<u64>().is_ok());
    assert_eq!(field(find(sshd_mend::report::events::RESTARTED), "UNIT_NAME"), "ssh.socket");
    assert_eq!(field(find(sshd_mend::report::events::VERIFIED), "ADDRESS"), "[::]:22");
    // A person who looks at ssh.service sees it too.
    assert!(machine.sh("journalctl -o cat -u ssh.service").stdout.contains("ssh.service: started"));
    let explained = machine.sh("journalctl -x -t sshd-mend").stdout;
    assert!(explained.contains("Subject: An old listener was ended"), "{explained}");
}
