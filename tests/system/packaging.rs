//! The package itself: what it brings, and how it comes and goes.

use crate::machine::{Machine, lab, package};
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
fn lintian_has_nothing_to_say() {
    let said = host("lintian", &["--allow-root", "--fail-on", "warning", "--display-level", ">=warning", &path()]);
    assert_eq!(said, "");
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
fn one_program_for_all_supported_systems() {
    let directory = tempfile::tempdir().expect("a directory");
    host("dpkg-deb", &["-x", &path(), directory.path().to_str().expect("UTF-8")]);
    let program = directory.path().join("usr/sbin/sshd-mend");
    assert!(glibc(&program) <= 34, "GLIBC_2.{}", glibc(&program));
    let needed = host("readelf", &["-d", program.to_str().expect("UTF-8")]);
    let needed =
        needed.lines().filter(|line| line.contains("(NEEDED)")).filter_map(|line| line.split(['[', ']']).nth(1));
    let needed: Vec<&str> = needed.filter(|library| !library.starts_with("ld-linux")).collect();
    assert!(needed.iter().all(|library| ["libgcc_s.so.1", "libc.so.6", "libm.so.6"].contains(library)), "{needed:?}");
    assert_eq!(host("dpkg-deb", &["-f", &path(), "Depends"]), "libc6 (>= 2.34), libgcc-s1 (>= 4.2)\n");
    for root in ["bookworm", "trixie"] {
        let machine = Machine::with_package(root);
        machine.sh("sshd-mend --version && sshd-mend check").ok();
    }
}

#[test]
fn manual_completions_and_catalog() {
    let machine = Machine::with_package("trixie");
    let manual = machine.sh("zcat /usr/share/man/man8/sshd-mend.8.gz").ok().stdout.replace("\\-", "-");
    let help: String = ["", "check", "repair", "hook"]
        .iter()
        .map(|c| machine.sh(&format!("sshd-mend {c} --help")).ok().stdout)
        .collect();
    let flags = help.split_whitespace().filter(|word| word.starts_with("--"));
    for flag in flags.map(|flag| flag.trim_end_matches([',', ']', '.'])) {
        assert!(manual.contains(flag), "{flag} is not in the manual");
    }
    for command in ["check", "repair", "hook"] {
        assert!(manual.contains(&format!("\\fB{command}\\fR")), "{command} is not in the manual");
    }
    assert!(!manual.contains("carry-out"));
    machine.sh("bash -c '. /usr/share/bash-completion/completions/sshd-mend'").ok();
    machine.sh("grep -q dry-run /usr/share/zsh/vendor-completions/_sshd-mend /usr/share/fish/vendor_completions.d/sshd-mend.fish").ok();

    let events =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/events.rs")).expect("the source");
    let ids = events.lines().filter(|line| line.starts_with("pub const")).filter_map(|line| line.split('"').nth(1));
    let ids: Vec<&str> = ids.collect();
    assert_eq!(ids.len(), 7);
    for id in ids {
        let explained = machine.sh(&format!("journalctl --dump-catalog {id}")).ok().stdout;
        assert!(explained.contains("Defined-By: sshd-mend"), "{id}: {explained}");
    }
    machine.incident();
    machine.upgrade().ok();
    let explained = machine.sh("journalctl --sync; journalctl -x -t sshd-mend --no-pager").ok().stdout;
    assert!(explained.contains("Subject: An old listener was ended"), "{explained}");
}

/// From the version before, with a setting that somebody changed; away again; and without a trace.
#[test]
fn it_comes_and_goes() {
    let machine = Machine::boot("trixie");
    machine.copy_in(&package(), "sshd-mend.deb");
    machine
        .sh("dpkg-deb -R /lab/sshd-mend.deb /run/before && sed -i 's/^Version: .*/Version: 0.0.9/' /run/before/DEBIAN/control
             sed -i 's/^StartLimitBurst=.*/StartLimitBurst=7/' /run/before/usr/lib/systemd/system/sshd-mend-repair.service
             dpkg-deb -b /run/before /run/before.deb && dpkg -i /run/before.deb && echo GRACE=7 >/etc/default/sshd-mend
             rm -r /run/before /run/before.deb; systemctl start sshd-mend.timer")
        .ok();
    let upgrade = machine.sh("DEBIAN_FRONTEND=noninteractive dpkg -i /lab/sshd-mend.deb </dev/null 2>&1").ok();
    assert!(!upgrade.stdout.contains("sshd-mend:"), "{upgrade:#?}");
    assert_eq!(machine.sh("cat /etc/default/sshd-mend").stdout, "GRACE=7\n", "a conffile");
    assert_eq!(
        machine.sh("systemctl show -P StartLimitBurst sshd-mend-repair.service").stdout,
        "20\n",
        "systemd was told"
    );
    assert_eq!(machine.sh("systemctl is-active sshd-mend.timer").stdout, "active\n");

    let listener = machine.incident();
    machine.upgrade().ok();
    assert!(!machine.is_alive(listener));
    machine.sh("systemctl enable -q sshd-mend.timer; dpkg -r sshd-mend").ok();
    assert_eq!(machine.sh("systemctl is-active sshd-mend.timer").stdout, "inactive\n");
    assert_eq!(machine.sh("ls /usr/sbin/sshd-mend").status, 2);
    for run in [
        "apt-get install -y --reinstall /opt/lab/openssh-server-newer.deb",
        "dpkg -i /opt/lab/openssh-server-newer.deb",
        "cron-apt -i",
    ] {
        let run = machine.sh(&format!("DEBIAN_FRONTEND=noninteractive {run} 2>&1")).ok();
        assert!(!run.stdout.contains("sshd-mend: not found"), "{run:#?}");
    }
    machine.sh("dpkg -P sshd-mend").ok();
    let left = machine.sh("find / -xdev -path /proc -prune -o -name '*sshd-mend*' -print | grep -vE '^/(lab|proc|var/log|var/lib/cron-apt|var/tmp|tmp|sys)'").stdout;
    assert_eq!(left, "");
    assert_eq!(machine.sh("find /run -name '*sshd-mend*'").stdout, "");
}

#[test]
fn it_stays_while_its_rescue_serves() {
    let machine = Machine::with_package("trixie");
    machine.incident();
    machine.upgrade_without_hook().ok();
    machine
        .sh("mkdir -p /etc/systemd/system/ssh.service.d; printf '[Service]\\nExecStartPre=/bin/false\\n' >/etc/systemd/system/ssh.service.d/x.conf; systemctl daemon-reload; sshd-mend repair; [ $? = 2 ]")
        .ok();
    let removal = machine.sh("dpkg -r sshd-mend 2>&1");
    assert!(removal.status != 0 && removal.stdout.contains("sshd-mend repair"), "{removal:#?}");
    machine.assert_login();
    machine
        .sh("rm -r /etc/systemd/system/ssh.service.d; systemctl daemon-reload; sshd-mend repair && dpkg -r sshd-mend")
        .ok();
    machine.assert_login();
}

/// With Debian 13's own cargo and cross compiler, as its machines would build it.
#[test]
fn it_is_built_for_arm64() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = lab().join("trixie-cargo-target");
    crate::build::with_debian_13s_cargo(
        "CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc cargo build --locked --offline --target aarch64-unknown-linux-gnu",
    );
    let program = target.join("aarch64-unknown-linux-gnu/debug/sshd-mend");
    assert!(host("readelf", &["-h", program.to_str().expect("UTF-8")]).contains("AArch64"));
    let build = source.join("packaging/build-deb");
    let deb = host(build.to_str().expect("UTF-8"), &[program.to_str().expect("UTF-8"), "arm64"]);
    let deb = source.join(deb.lines().last().expect("a path"));
    assert_eq!(host("dpkg-deb", &["-f", deb.to_str().expect("UTF-8"), "Architecture"]), "arm64\n");
}
