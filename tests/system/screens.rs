//! What a person sees.

use crate::machine::Machine;

/// Pids, dates and versions differ from run to run.
fn normalised(text: &str) -> String {
    let words = |line: &str| {
        let mut result = Vec::new();
        let mut previous = "";
        for word in line.split(' ') {
            let digits = word.chars().filter(char::is_ascii_digit).count();
            let word = if previous == "sshd" && digits > 0 {
                word.replace(|c: char| c.is_ascii_digit(), "").replacen("", "PID", 1)
            } else if previous == "since" {
                word.replace(|c: char| c.is_ascii_digit(), "0")
            } else if word.starts_with("(SSH-2.0-") || word.starts_with("Debian-") {
                "BANNER".to_owned()
            } else {
                word.to_owned()
            };
            previous = line.split(' ').nth(result.len()).unwrap_or_default();
            result.push(word);
        }
        result.join(" ").replace("BANNER BANNER", "(BANNER)")
    };
    text.lines().map(words).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_healthy_machine() {
    let machine = Machine::with_package("trixie");
    let check = machine.sh("sshd-mend check").ok();
    assert_eq!(
        normalised(&check.stdout),
        "ssh.service  active (running), enabled   ssh.socket  inactive (dead), disabled\n\
         0.0.0.0:22   sshd PID, running since 0000-00-00 (ssh.service)\n\
         [::]:22      a new connection gets through (BANNER)\n\
         HEALTHY  new connections get through, and nothing is wrong"
    );
    assert_eq!(
        machine.sh("sshd-mend check -q").ok().stdout,
        "HEALTHY  new connections get through, and nothing is wrong\n"
    );
}

#[test]
fn the_lock_out() {
    let machine = Machine::with_package("trixie");
    machine.locked_out();
    let check = machine.sh("sshd-mend check");
    assert_eq!(check.status, 2);
    assert_eq!(
        normalised(&check.stdout),
        "ssh.service  failed (exit-code), disabled   ssh.socket  failed (resources), enabled\n\
         [::]:22      sshd PID, running since 0000-00-00: /usr/sbin/sshd was replaced on disk, and no unit owns this process\n             \
         new connections are closed after the client's KEXINIT: /run/sshd is missing\n\
         BROKEN  nobody can log in. To mend it: sudo sshd-mend repair"
    );
}

#[test]
fn whoever_cannot_look_gets_status_3() {
    let machine = Machine::with_package("trixie");
    let check = machine.sh("setpriv --reuid=user --clear-groups sshd-mend check");
    assert_eq!(check.status, 3, "{check:#?}");
    assert!(check.stdout.contains("only root can see"), "{check:#?}");
    let check = machine.sh("unshare --net sshd-mend check");
    assert_eq!(check.status, 3, "{check:#?}");
    assert!(check.stdout.contains("another network namespace"), "{check:#?}");
    assert_eq!(machine.sh("sshd-mend chekc").status, 3);
    assert_eq!(machine.sh("sshd-mend check --dry-run").status, 3);
    assert_eq!(machine.sh("sshd-mend --help").status, 0);
    assert_eq!(machine.sh("sshd-mend --version").status, 0);
}

#[test]
fn json_is_the_only_thing_on_stdout() {
    let machine = Machine::with_package("trixie");
    machine.locked_out();
    let check = machine.sh("sshd-mend check --json").json();
    let keys = [
        "schema",
        "command",
        "dry_run",
        "verdict",
        "exit_status",
        "findings",
        "listeners",
        "units",
        "plan",
        "refusal",
        "sessions",
        "unreachable_ms",
        "duration_ms",
    ];
    for key in keys {
        assert!(check.get(key).is_some(), "{key} is missing in {check:#}");
    }
    let listener = &check["listeners"][0];
    for key in ["pid", "started", "exe", "stale", "orphan", "unit", "addresses", "probe", "probe_detail"] {
        assert!(listener.get(key).is_some(), "{key} is missing in {listener:#}");
    }
    assert_eq!(
        (&listener["probe"], &listener["stale"], &listener["orphan"]),
        (&"dead".into(), &true.into(), &true.into())
    );
    assert_eq!(check["units"]["ssh.socket"]["listen"], serde_json::json!(["[::]:22"]));
    assert_eq!((&check["verdict"], &check["exit_status"]), (&"broken".into(), &2.into()));
}
