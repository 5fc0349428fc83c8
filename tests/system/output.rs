//! What the commands print besides findings: repairs, dry runs, JSON, one line with -q, and why nothing was examined; and
//! what they leave in the journal.

use crate::machine::{Machine, Output};
use crate::schema::SCHEMA;
use serde_json::Value;
use sshd_mend::report::events;

#[test]
fn a_repair_shows_what_was_found_and_done() {
    let machine = Machine::with_package("trixie");
    machine.locked_out();
    let repair = machine.sh("sshd-mend repair").ok();
    for (label, line) in [
        ("", "runs a program that was replaced on disk, and no unit owns this process"),
        ("found", "/run/sshd is missing, so sshd closes every new connection in the middle of the key exchange"),
        ("done", "/run/sshd: created"),
        ("", "terminated by SIGTERM"),
        ("", "ssh.socket: started"),
        ("", "ssh.service: started"),
        ("", "[::]:22: a client gets as far as authentication (publickey, password)"),
        ("SSHD OK - REPAIRED: ", "new connections get through again; SSH did not answer for "),
    ] {
        let shown = repair.stdout.lines().any(|shown| shown.starts_with(label) && shown.contains(line));
        assert!(shown, "no line \"{label} … {line}\" in {repair:#?}");
    }
    assert_eq!(repair.stdout.lines().filter(|line| line.starts_with("found")).count(), 1, "{repair:#?}");
}

#[test]
fn a_repair_shows_how_many_sessions_survived() {
    let (machine, _) = Machine::with_stale_orphan("trixie");
    machine.sh("mkdir -p /run/sshd").ok();
    let _one = machine.open_session("one");
    let _two = machine.open_session("two");
    let repair = machine.sh("sshd-mend repair").ok();
    assert!(repair.stdout.contains("new connections get through again; 2 of 2 open sessions survived"), "{repair:#?}");
}

#[test]
fn a_dry_run_shows_each_step_in_order() {
    let machine = Machine::with_package("trixie");
    let listener = machine.locked_out();
    let dry = machine.sh("sshd-mend repair --dry-run");
    assert_eq!(dry.status, 2, "{dry:#?}");
    let first = dry.stdout.lines().position(|line| line.starts_with("would")).unwrap_or_else(|| panic!("{dry:#?}"));
    let steps: Vec<&str> = dry.stdout.lines().skip(first).map(|line| line[12..].trim_start()).collect();
    let terminate = format!("terminate sshd {listener} (open sessions survive)");
    let expected = [
        "create /run/sshd, after which new connections may get through again",
        terminate.as_str(),
        "clear the failed state of ssh.socket",
        "clear the failed state of ssh.service",
        "start ssh.socket",
        "start ssh.service",
        "probe [::]:22 with a new connection",
    ];
    assert_eq!(steps[..expected.len()], expected, "{dry:#?}");
    assert!(machine.is_alive(listener));
}

#[test]
fn quiet_is_the_verdict_and_what_to_do() {
    let machine = Machine::with_package("trixie");
    let check = machine.sh("sshd-mend check -q").ok().stdout;
    assert_eq!(check, "SSHD OK - HEALTHY: new connections get through\n");
    machine.replace_program("/usr/sbin/sshd");
    let check = machine.sh("sshd-mend -q check");
    let lines: Vec<&str> = check.stdout.lines().collect();
    assert!(check.status == 1 && lines.len() == 2, "{check:#?}");
    assert!(
        lines[0].starts_with("SSHD WARNING - AT RISK: ") && lines[1].contains("sudo sshd-mend repair"),
        "{check:#?}"
    );
}

/// Status 3: nothing was examined, and this is why.
#[track_caller]
fn assert_unknown(output: &Output, why: &str) {
    assert_eq!(output.status, 3, "{output:#?}");
    assert!(output.stdout.contains(why) && output.stdout.contains("UNKNOWN"), "{output:#?}");
}

#[test]
fn whoever_cannot_examine_gets_status_3() {
    let machine = Machine::with_package("trixie");
    assert_unknown(&machine.sh("setpriv --reuid=user --clear-groups sshd-mend check"), "only root can see");
    assert_unknown(&machine.sh("unshare --net sshd-mend check"), "another network namespace");
}

#[test]
fn wrong_usage_is_status_3_and_help_is_0() {
    let machine = Machine::with_package("trixie");
    for mistake in ["chekc", "check --dry-run", "check -q -v", ""] {
        let output = machine.sh(&format!("sshd-mend {mistake}"));
        assert_eq!((output.status, output.stdout.as_str()), (3, ""), "{mistake}: {output:#?}");
        assert!(output.stderr.contains("Usage:"), "{mistake}: {output:#?}");
    }
    assert!(machine.sh("sshd-mend --help").ok().stdout.contains("Usage:"));
    // sshd-mend 1.0.0 (0123456789ab 2026-11-29)
    let version = machine.sh("sshd-mend --version").ok().stdout;
    let words: Vec<&str> = version.split_whitespace().collect();
    assert_eq!(words[..2], ["sshd-mend", env!("CARGO_PKG_VERSION")], "{version}");
    assert!(words.len() == 4 && words[2].starts_with('(') && words[3].ends_with(')'), "{version}");
    let date = words[3].trim_end_matches(')');
    assert!(date.len() == 10 && date.matches('-').count() == 2, "{version}");
}

/// `Output::json` fails if there is anything else on stdout, or a property more or less than in the installed schema.
#[test]
fn json_says_what_the_screen_shows() {
    let machine = Machine::with_package("trixie");
    machine.locked_out();
    let check = machine.sh("sshd-mend check --json").json();
    let installed = machine.sh("cat /usr/share/sshd-mend/outcome.schema.json").ok().value();
    assert_eq!(installed, *SCHEMA);
    let host = machine.sh("uname -n").ok().stdout;
    let begun = machine.sh("date -u -d '1 minute ago' +%FT%TZ").ok().stdout;
    assert!(check["time"].as_str().is_some_and(|time| time >= begun.trim()), "{check:#}");

    let expected = [
        ("/schema", serde_json::json!(2)),
        ("/version", env!("CARGO_PKG_VERSION").into()),
        ("/host", host.trim().into()),
        ("/verdict", "broken".into()),
        ("/exit_status", 2.into()),
        ("/listeners/0/probe", "dead".into()),
        ("/listeners/0/stale", true.into()),
        ("/listeners/0/orphan", true.into()),
        ("/listeners/0/instance", "ssh.service".into()),
        ("/units/ssh.socket/listen", serde_json::json!(["[::]:22"])),
        ("/instances/0/instance", "ssh.service".into()),
        ("/instances/0/verdict", "broken".into()),
        ("/plan/0/action", "create-runtime-directory".into()),
        ("/plan/1/action", "terminate".into()),
    ];
    for (pointer, value) in expected {
        assert_eq!(check.pointer(pointer), Some(&value), "{pointer} in {check:#}");
    }
}

/// What sshd-mend has written to the journal, as journald keeps it.
fn journal(machine: &Machine) -> Vec<Value> {
    machine.wait_for_end_of_repair();
    let lines = machine.sh("journalctl --sync; journalctl -q -o json -t sshd-mend || :").ok().stdout;
    lines.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
}

/// The only event of its kind since there were `before`, and the last of all.
#[track_caller]
fn conclusion(machine: &Machine, before: usize) -> Value {
    let events = journal(machine);
    let of_run = &events[before..];
    let conclusions = of_run.iter().filter(|event| event["MESSAGE_ID"] == events::CONCLUDED);
    assert_eq!(conclusions.count(), 1, "{of_run:#?}\n{}", machine.state());
    let last = of_run.last().expect("an event");
    assert_eq!(last["MESSAGE_ID"], events::CONCLUDED, "{of_run:#?}");
    last.clone()
}

#[track_caller]
fn assert_fields(event: &Value, expected: &[(&str, &str)]) {
    for (field, value) in expected {
        assert_eq!(event[field], *value, "{field} in {event:#}");
    }
}

/// What `journalctl -x` says about the events of a kind.
#[track_caller]
fn explained(machine: &Machine, id: &str) -> String {
    let text = machine.sh(&format!("journalctl -q -x --no-pager -t sshd-mend MESSAGE_ID={id}")).ok().stdout;
    assert!(text.contains("Subject: ") && !text.contains('@'), "{text}");
    text
}

#[test]
fn the_journal_of_a_repair_ends_with_what_came_of_it() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    let _session = machine.open_session("bystander");
    machine.upgrade_without_hook().ok();
    assert_ne!(machine.sh("systemctl restart ssh.service").status, 0, "needrestart's restart fails");
    machine.assert_no_login();
    let before = journal(&machine).len();
    let json = machine.sh("sshd-mend repair --json").ok().json();
    let last = conclusion(&machine, before);
    let unreachable = json["unreachable_ms"].to_string();
    assert_fields(
        &last,
        &[
            ("VERDICT", "repaired"),
            ("EXIT_STATUS", "0"),
            ("UNREACHABLE_MS", unreachable.as_str()),
            ("SESSIONS_BEFORE", "1"),
            ("SESSIONS_AFTER", "1"),
            ("TRIGGER", "repair"),
            ("PRIORITY", "5"),
            ("_SYSTEMD_UNIT", "sshd-mend-repair.service"),
        ],
    );
    assert!(last["DURATION_MS"].as_str().is_some_and(|ms| ms.parse::<u64>().is_ok_and(|ms| ms > 0)), "{last:#}");
    assert!(last.get("REASON").is_none(), "{last:#}");
    let message = last["MESSAGE"].as_str().unwrap_or_default();
    assert!(message.starts_with("REPAIRED: new connections get through again; "), "{message}");

    let events = journal(&machine);
    let mut notices = 0;
    for event in &events[before..] {
        let found = event["MESSAGE_ID"] == events::FOUND;
        assert_eq!(event["PRIORITY"], if found { "4" } else { "5" }, "{event:#}");
        notices += usize::from(!found);
    }
    assert!(notices >= 5, "{events:#?}");
    let terminated = explained(&machine, events::ENDED);
    for text in [format!("The process {listener} listened"), "ran /usr/sbin/sshd (deleted)".to_owned()] {
        assert!(terminated.contains(&text), "{terminated}");
    }
    assert!(explained(&machine, events::CONCLUDED).contains("The verdict of sshd-mend: repaired"));
    assert!(explained(&machine, events::RESTARTED).contains("The unit ssh.socket was started or restarted"));

    // Examining leaves no trace, and nor does a package run on a machine on which nothing is wrong.
    for command in ["check", "check --json", "repair --dry-run", "repair", "hook"] {
        machine.sh(&format!("sshd-mend {command}")).ok();
        assert_eq!(journal(&machine).len(), events.len(), "{command} has written to the journal");
    }
}

#[test]
fn the_journal_of_a_refusal_ends_with_its_reason() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh("mkdir -p /run/sshd; echo Nonsense >>/etc/ssh/sshd_config").ok();
    let begin = || journal(&machine).len();
    for (command, trigger, reason, verdict) in [
        ("sshd-mend -v repair", "repair", Some("config-invalid"), "refused"),
        ("sshd-mend hook", "hook", Some("config-invalid"), "refused"),
        ("SSHD_MEND_SUSPEND=1 sshd-mend hook", "hook", Some("suspended"), "refused"),
        (
            "sed -i /Nonsense/d /etc/ssh/sshd_config; SSHD_MEND_SUSPEND=1 sshd-mend hook",
            "hook",
            Some("suspended"),
            "refused",
        ),
        ("echo HOOK=report >/etc/default/sshd-mend; sshd-mend hook", "hook", None, "at-risk"),
    ] {
        let before = begin();
        let output = machine.sh(command);
        let last = conclusion(&machine, before);
        let expected = [("VERDICT", verdict), ("EXIT_STATUS", "1"), ("TRIGGER", trigger), ("PRIORITY", "4")];
        assert_fields(&last, &expected);
        assert_eq!(last.get("REASON").and_then(Value::as_str), reason, "{command}: {last:#}");
        assert!(last.get("UNREACHABLE_MS").is_none(), "{command}: {last:#}");
        // A terminal, or with -v anybody, sees what was found as it happens, and then the outcome; not the event.
        let message = last["MESSAGE"].as_str().expect("a message");
        assert!(!output.stderr.contains(message), "{command}: {output:#?}");
        assert!(!command.contains("-v") || output.stderr.contains("sshd-mend: Found: "), "{command}: {output:#?}");
    }
    assert!(machine.is_alive(listener));
    let refused = explained(&machine, events::REFUSED);
    assert!(refused.contains("Nothing was done about a fault of ssh.service: config-invalid"), "{refused}");
    let before = begin();
    machine.sh("echo HOOK=off >/etc/default/sshd-mend; sshd-mend hook; sshd-mend check || :").ok();
    assert_eq!(begin(), before);
    // Where a new connection does not get through, the same refusal is an error.
    machine.sh("rm -r /run/sshd; rm /etc/default/sshd-mend; SSHD_MEND_SUSPEND=1 sshd-mend hook").ok();
    assert_fields(&conclusion(&machine, before), &[("VERDICT", "refused"), ("EXIT_STATUS", "2"), ("PRIORITY", "3")]);
}

/// systemd cannot run the repair unit's program: the process that was asked writes the last event, whoever did the work.
#[test]
fn without_the_repair_unit_the_journal_ends_with_one_event_too() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.drop_in("sshd-mend-repair.service", "[Service]\nBindPaths=/none");
    let before = journal(&machine).len();
    machine.sh("sshd-mend hook").ok();
    let unknown = conclusion(&machine, before);
    assert_fields(&unknown, &[("VERDICT", "unverified"), ("EXIT_STATUS", "1"), ("TRIGGER", "hook"), ("PRIORITY", "4")]);
    assert!(explained(&machine, events::UNFOLLOWED).contains("ended without leaving an outcome"));
    assert!(machine.is_alive(listener));

    let before = journal(&machine).len();
    machine.assert_repair(listener);
    let last = conclusion(&machine, before);
    assert_fields(&last, &[("VERDICT", "repaired"), ("TRIGGER", "repair"), ("PRIORITY", "5")]);
    assert_ne!(last["_SYSTEMD_UNIT"], "sshd-mend-repair.service", "{last:#}");
}

#[test]
fn a_rescue_that_is_stopped_is_not_explained_as_started() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
    let before = journal(&machine).len();
    machine.sh("sshd-mend repair --json").assert_verdict("rescued", 2);
    assert_fields(&conclusion(&machine, before), &[("VERDICT", "rescued"), ("EXIT_STATUS", "2"), ("PRIORITY", "3")]);
    let rescued = explained(&machine, events::RESCUED);
    let rescue = "sshd-mend-rescue-ssh.socket";
    assert!(
        rescued.contains(&format!("{rescue} serves [::]:22")) && rescued.contains("before the next reboot"),
        "{rescued}"
    );
    assert!(explained(&machine, events::FAILED).contains("the job ended with"), "{}", machine.state());

    machine.remove_drop_in("ssh.service");
    let before = journal(&machine).len();
    machine.assert_repair(listener);
    assert_fields(&conclusion(&machine, before), &[("VERDICT", "repaired"), ("PRIORITY", "5")]);
    let events = journal(&machine);
    let stopped: Vec<_> =
        events[before..].iter().filter(|event| event["UNIT_NAME"] == rescue && event["REASON"] == "stopped").collect();
    assert_eq!(stopped.len(), 1, "{events:#?}");
    assert_fields(stopped[0], &[("MESSAGE_ID", events::STOPPED), ("PRIORITY", "5")]);
    let stopped = explained(&machine, events::STOPPED);
    assert!(
        stopped.contains(&format!("The unit {rescue} was stopped")) && !stopped.contains("was started or restarted"),
        "{stopped}"
    );
    let started = explained(&machine, events::RESTARTED);
    assert!(!started.contains(&format!("The unit {rescue} ")), "{started}");
}
