//! What the commands print besides findings: repairs, dry runs, JSON, one line with -q, and why nothing was examined.

use crate::machine::{Machine, Output};
use crate::schema::SCHEMA;

#[test]
fn a_repair_shows_what_was_found_and_done() {
    let machine = Machine::with_package("trixie");
    machine.locked_out();
    let repair = machine.sh("sshd-mend repair").ok();
    for (label, line) in [
        ("found", "runs a program that was replaced on disk, and no unit owns this process"),
        ("", "/run/sshd is missing: sshd resets every new connection after the client's KEXINIT"),
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
        "create /run/sshd, after which logins may work again",
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
    assert_eq!(machine.sh("sshd-mend --version").ok().stdout, concat!("sshd-mend ", env!("CARGO_PKG_VERSION"), "\n"));
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
