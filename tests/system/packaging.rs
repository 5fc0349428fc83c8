//! The package itself: what it contains, and how it is installed, upgraded and removed.

use crate::machine::{Machine, package};
use sshd_mend::report::events;
use std::path::Path;
use std::process::{Command, Stdio};

fn host(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn path() -> String {
    package().to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn lintian_reports_nothing() {
    let report = host("lintian", &["--allow-root", "--fail-on", "warning", "--display-level", ">=warning", &path()]);
    assert_eq!(report, "");
}

/// The newest symbol version of glibc that a program needs, as its minor number.
fn glibc(program: &Path) -> u32 {
    let bytes = std::fs::read(program).expect("a program");
    let text = String::from_utf8_lossy(&bytes);
    let versions = text.split("GLIBC_2.").skip(1);
    let minor = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    versions.filter_map(minor).max().expect("a version")
}

/// Ubuntu 22.04 has glibc 2.35, Debian 12 has 2.36.
#[test]
fn one_program_runs_on_all_supported_systems() {
    let directory = tempfile::tempdir().expect("a directory");
    host("dpkg-deb", &["-x", &path(), directory.path().to_str().expect("UTF-8")]);
    let program = directory.path().join("usr/sbin/sshd-mend");
    assert!(glibc(&program) <= 34, "GLIBC_2.{}", glibc(&program));
    let needed = host("readelf", &["-d", program.to_str().expect("UTF-8")]);
    let needed =
        needed.lines().filter(|line| line.contains("(NEEDED)")).filter_map(|line| line.split(['[', ']']).nth(1));
    let needed: Vec<&str> = needed.filter(|library| !library.starts_with("ld-linux")).collect();
    assert!(!needed.is_empty(), "readelf names no libraries");
    assert!(needed.iter().all(|library| ["libgcc_s.so.1", "libc.so.6", "libm.so.6"].contains(library)), "{needed:?}");
    assert_eq!(host("dpkg-deb", &["-f", &path(), "Depends"]), "libc6 (>= 2.34), libgcc-s1 (>= 4.2)\n");
    for root in ["bookworm", "trixie"] {
        let machine = Machine::with_package(root);
        let version = machine.sh("sshd-mend --version; sshd-mend check").ok().stdout;
        assert!(version.starts_with(concat!("sshd-mend ", env!("CARGO_PKG_VERSION"), " (")), "{version}");
    }
}

#[test]
fn the_manual_names_every_command_and_option() {
    let machine = Machine::with_package("trixie");
    let manual = machine.sh("zcat /usr/share/man/man8/sshd-mend.8.gz").ok().stdout.replace("\\-", "-");
    let help = |command| machine.sh(&format!("sshd-mend {command} --help")).ok().stdout;
    let help: String = ["", "check", "repair", "hook"].map(help).concat();
    let flags = help.split_whitespace().filter(|word| word.starts_with("--"));
    let flags: Vec<&str> = flags.map(|flag| flag.trim_end_matches([',', ']', '.'])).collect();
    assert!(flags.contains(&"--json") && flags.contains(&"--dry-run"), "{flags:?}");
    for flag in flags {
        assert!(manual.contains(flag), "{flag} is not in the manual");
    }
    for command in ["check", "repair", "hook"] {
        assert!(manual.contains(&format!("\\fB{command}\\fR")), "{command} is not in the manual");
    }
    // The repair unit's own command is not for people.
    assert!(!manual.contains("carry-out"));
    machine.sh("bash -c '. /usr/share/bash-completion/completions/sshd-mend; complete -p sshd-mend'").ok();
    machine.sh("grep -q dry-run /usr/share/zsh/vendor-completions/_sshd-mend").ok();
    machine.sh("grep -q dry-run /usr/share/fish/vendor_completions.d/sshd-mend.fish").ok();
}

#[test]
fn the_catalog_explains_every_event() {
    let machine = Machine::with_package("trixie");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/events.rs");
    let source = std::fs::read_to_string(source).expect("the source");
    let ids = source.lines().filter(|line| line.starts_with("pub const")).filter_map(|line| line.split('"').nth(1));
    let ids: Vec<&str> = ids.collect();
    assert!(ids.len() >= 7 && ids.contains(&events::ENDED), "{ids:?}");
    for id in ids {
        let explained = machine.sh(&format!("journalctl --dump-catalog {id}")).ok().stdout;
        assert!(explained.contains("Defined-By: sshd-mend"), "{id}: {explained}");
    }
    let listener = machine.incident();
    machine.upgrade().ok();
    machine.assert_replaced(listener);
    machine.sh("journalctl --sync").ok();
    let explained = machine.sh(&format!("journalctl -q -x --no-pager MESSAGE_ID={}", events::ENDED)).ok().stdout;
    assert!(explained.contains("Defined-By: sshd-mend"), "{explained}");
}

/// Where a file named after the package may be left: it belongs to the tests, to the log or to cron-apt.
const OTHERS: &[&str] = &["/lab/", "/var/log/", "/var/lib/cron-apt/", "/var/tmp/", "/tmp/", "/sys/"];

#[test]
fn it_is_upgraded_removed_and_purged() {
    let machine = Machine::boot("trixie");
    machine.copy_in(&package(), "sshd-mend.deb");
    // The version before has another start limit, and somebody has changed a setting.
    machine.script("another_version.sh", &["/lab/sshd-mend.deb", "0.0.9", "/lab/before.deb"]).ok();
    machine.sh("dpkg -i /lab/before.deb").ok();
    machine.sh("echo GRACE=7 >/etc/default/sshd-mend; systemctl start sshd-mend.timer").ok();
    assert_eq!(machine.number("systemctl show -P StartLimitBurst sshd-mend-repair.service"), 7);
    let upgrade = machine.sh("DEBIAN_FRONTEND=noninteractive dpkg -i /lab/sshd-mend.deb </dev/null 2>&1").ok();
    assert!(!upgrade.stdout.contains("sshd-mend:"), "{upgrade:#?}");
    assert_eq!(machine.sh("cat /etc/default/sshd-mend").ok().stdout, "GRACE=7\n", "a conffile");
    let limit = machine.number("systemctl show -P StartLimitBurst sshd-mend-repair.service");
    assert_eq!(limit, 20, "systemd has read the new unit");
    assert_eq!(machine.active("sshd-mend.timer"), "active");

    let listener = machine.incident();
    machine.upgrade().ok();
    machine.assert_replaced(listener);
    machine.sh("systemctl enable -q sshd-mend.timer; dpkg -r sshd-mend").ok();
    assert_eq!(machine.active("sshd-mend.timer"), "inactive");
    machine.sh("[ ! -e /usr/sbin/sshd-mend ]; [ -e /etc/apt/apt.conf.d/99sshd-mend ]").ok();
    for run in [
        "apt-get install -y --reinstall /opt/lab/openssh-server-newer.deb",
        "dpkg -i /opt/lab/openssh-server-newer.deb",
        "cron-apt -i",
    ] {
        let run = machine.sh(&format!("DEBIAN_FRONTEND=noninteractive {run} 2>&1")).ok();
        assert!(!run.stdout.contains("sshd-mend: not found"), "{run:#?}");
    }
    machine.sh("dpkg -i /lab/sshd-mend.deb").ok();
    assert_eq!(machine.active("sshd-mend.timer"), "active", "enabled before the removal");
    machine.sh("dpkg -r sshd-mend").ok();
    machine.sh("dpkg -P sshd-mend").ok();
    let find = "find / -xdev -path /proc -prune -o -name '*sshd-mend*' -print; find /run -name '*sshd-mend*'";
    let found = machine.sh(find).ok().stdout;
    let left: Vec<&str> = found.lines().filter(|path| !OTHERS.iter().any(|other| path.starts_with(other))).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn it_cannot_be_removed_while_its_rescue_serves() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
    let repair = machine.sh("sshd-mend repair --json");
    repair.assert_verdict("rescued", 2);
    let removal = machine.sh("dpkg -r sshd-mend 2>&1");
    assert!(removal.status != 0 && removal.stdout.contains("sshd-mend repair"), "{removal:#?}");
    machine.assert_login();
    machine.remove_drop_in("ssh.service");
    machine.assert_repair(listener);
    machine.sh("dpkg -r sshd-mend").ok();
    machine.assert_login();
}

/// The old listener has been terminated, and the new one takes its time to start.
#[test]
fn a_removal_waits_for_the_end_of_a_repair() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/sleep 12");
    machine.sh("systemd-run -q sshd-mend repair").ok();
    machine.wait_until("the old listener is gone", |machine| !machine.is_alive(listener));
    machine.sh("dpkg -r sshd-mend").ok();
    assert_eq!(machine.active("ssh.service"), "active");
    machine.assert_login();
}
