//! Every command that a document has is run, on the machine that its block is marked with. docs/fleet.md has a test of its own, fleet_page.rs.

use crate::documents::{Block, all, here};
use crate::machine::{Machine, package};
use std::process::{Command, Stdio};

/// The blocks of commands with this mark. A mark that no block has is a mistake in here.
fn blocks(place: &str) -> Vec<Block> {
    let mark = format!("sh {place}");
    let blocks = all().into_iter().filter(|document| document.name != "docs/fleet.md");
    let blocks: Vec<Block> = blocks.flat_map(|document| document.blocks()).filter(|block| block.mark == mark).collect();
    assert!(!blocks.is_empty(), "no block is marked {mark}");
    blocks
}

fn told(block: &Block) -> String {
    format!("{}:{}\n{}", block.document, block.line, block.text)
}

/// On a healthy machine with the package, which stays healthy.
#[test]
fn on_a_machine_with_the_package() {
    for block in blocks("machine") {
        let machine = Machine::as_installed("trixie");
        let run = machine.sh(&block.text);
        assert_eq!(run.status, 0, "{}{run:#?}", told(&block));
        let after = machine.sh("[ ! -x /usr/sbin/sshd-mend ] || sshd-mend check");
        assert_eq!(after.status, 0, "{}{after:#?}", told(&block));
        machine.assert_login();
    }
}

/// Nobody can log in. Where a document repairs that, somebody can.
#[test]
fn on_a_machine_in_the_incident() {
    let blocks = blocks("incident");
    assert!(blocks.iter().any(|block| block.text.contains("repair")), "{blocks:#?}");
    for block in blocks {
        let machine = Machine::with_package("trixie");
        machine.locked_out();
        let run = machine.sh(&block.text);
        assert_eq!(run.status, 0, "{}{run:#?}", told(&block));
        match block.text.contains("repair") {
            true => machine.assert_login(),
            false => machine.assert_no_login(),
        }
    }
}

/// A rescue serves, and the administrator closes SSH.
#[test]
fn on_a_machine_whose_rescue_serves() {
    for block in blocks("rescued") {
        let (machine, _) = Machine::with_stale_orphan("trixie");
        machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
        machine.sh("sshd-mend repair --json").assert_verdict("rescued", 2);
        machine.assert_login();
        let run = machine.sh(&block.text);
        assert_eq!(run.status, 0, "{}{run:#?}", told(&block));
        machine.assert_no_login();
    }
}

/// The package is not there yet, and lies in the directory. What is installed so repairs nothing.
#[test]
fn on_a_machine_before_the_package() {
    for block in blocks("pilot") {
        let machine = Machine::boot("trixie");
        machine.copy_in(&package(), "sshd-mend_0_amd64.deb");
        let run = machine.sh(&format!("cd /lab\n{}", block.text));
        assert_eq!(run.status, 0, "{}{run:#?}", told(&block));
        assert!(run.stdout.contains("SSHD OK - HEALTHY"), "{}{run:#?}", told(&block));
        let listener = machine.incident();
        let upgrade = machine.upgrade().ok();
        assert!(upgrade.stdout.contains("sshd-mend: SSHD WARNING - AT RISK"), "{upgrade:#?}");
        assert!(machine.is_alive(listener), "a package run has repaired something");
        machine.assert_login();
    }
}

/// Those that build the package, and those that install it from a repository, are the README's alone: newcomer.rs and release.rs run them.
#[test]
fn only_the_readme_has_commands_that_install() {
    for place in ["build", "repository"] {
        let documents: Vec<String> = blocks(place).into_iter().map(|block| block.document).collect();
        assert_eq!(documents, ["README.md"], "{place}");
    }
}

/// Where the machines are booted from.
#[test]
fn in_the_checkout() {
    for block in blocks("checkout") {
        let run = Command::new("/bin/bash")
            .args(["-euc", &block.text])
            .current_dir(here())
            .env("SSHD_MEND_DEB", package())
            .stdin(Stdio::null())
            .output()
            .expect("bash starts");
        assert!(run.status.success(), "{}{run:#?}", told(&block));
    }
}

/// What would start this test anew is a line of what CI runs.
#[test]
fn in_ci() {
    let ci = std::fs::read_to_string(here().join(".ci/run")).expect(".ci/run");
    for block in blocks("ci") {
        for command in block.text.lines() {
            assert!(ci.lines().any(|line| line == command), "CI does not run this\n{}", told(&block));
        }
    }
}

/// Paths of ours between backquotes, on a machine with the package.
#[test]
fn every_path_that_a_document_names_is_there() {
    // What people create, and what is there only while a repair is.
    let others = ["/usr/local/", "/etc/systemd/", "/var/lib/prometheus/"];
    let machine = Machine::as_installed("trixie");
    machine.sh("sshd-mend hook").ok();
    let mut seen = 0;
    for document in all() {
        for quoted in document.quoted() {
            let ours = quoted.starts_with('/') && quoted.contains("sshd-mend") && !quoted.contains(' ');
            if ours && !others.iter().any(|other| quoted.starts_with(other)) {
                assert_eq!(machine.sh(&format!("[ -e {quoted} ]")).status, 0, "{} names {quoted}", document.name);
                seen += 1;
            }
        }
    }
    assert!(seen >= 8, "only {seen}");
    // The same of the manual.
    let help = machine.sh("sshd-mend --help").ok().stdout;
    for word in help.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ':'])) {
        if word.starts_with("/usr/share/") {
            assert_eq!(machine.sh(&format!("[ -e {word} ]")).status, 0, "--help names {word}");
        }
    }
}

/// The rules for logcheck cover each line that a probe leaves, also where root is kept out.
#[test]
fn the_rules_for_logcheck_cover_what_probes_leave() {
    let documents = all();
    let rules = documents.iter().flat_map(|document| document.blocks()).find(|block| block.mark == "text logcheck");
    let rules = rules.expect("the rules").text;
    for root in ["trixie", "bookworm"] {
        let machine = Machine::as_installed(root);
        machine.sh(&format!("cat >/run/rules <<'END'\n{rules}END")).ok();
        for setup in ["true", "echo 'DenyUsers root' >>/etc/ssh/sshd_config; systemctl restart ssh.service"] {
            let since =
                machine.sh("journalctl --sync; journalctl -q -n 1 --show-cursor | sed -n 's/^-- cursor: //p'").ok();
            machine.sh(&format!("{setup}\nsshd-mend check")).ok();
            let lines = format!(
                "journalctl --sync; journalctl -q -o short --after-cursor='{}' -t sshd -t sshd-session -t sshd-auth",
                since.stdout.trim()
            );
            let logged = machine.sh(&format!("{lines} | grep -E 'preauth|not allowed'")).ok().stdout;
            assert!(logged.contains("sshd-mend: probe") && logged.contains("root"), "{logged}");
            let uncovered =
                machine.sh(&format!("{lines} | grep -E 'preauth|not allowed' | grep -vE -f /run/rules || :"));
            assert_eq!(uncovered.ok().stdout, "", "{root}, after {setup}:\n{logged}");
        }
    }
}
