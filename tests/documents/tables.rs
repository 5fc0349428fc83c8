//! Tables that are made from the code, and lists of words.

use crate::documents::here;
use sshd_mend::model::diagnosis::FindingCode;
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::report::Verdict;
use std::fmt::Write;

/// Where blocks of commands are run: tests/system/documented.rs.
pub const PLACES: &[&str] = &["machine", "incident", "rescued", "pilot", "build", "repository", "checkout", "ci"];

/// Words with a hyphen that are no codes.
pub const OTHERS: &[&str] = &[
    "apt-get",
    "create-runtime-directory",
    "reset-failed",
    "stop-unit",
    "start-unit",
    "restart-unit",
    "start-rescue",
    "stop-rescue",
    "configuration-only",
    "notify-reload",
    "sshd-unix-local.socket",
];

/// Programs that people type.
pub const PROGRAMS: &[&str] = &[
    "sshd-mend",
    "systemctl",
    "journalctl",
    "apt",
    "apt-get",
    "apt-mark",
    "dpkg",
    "mkdir",
    "rm",
    "ln",
    "sudo",
    "echo",
    "kill",
    "cargo",
    "SSHD_MEND_BLESS=1",
    "ssh",
    "sshd",
    "needrestart",
    "install",
];

/// Commands that nobody is told to type: they are spoken of.
pub const SPOKEN_OF: &[&str] = &[
    // What others do, and what it is compared with.
    "apt full-upgrade",
    "dpkg -i",
    "kill PID; systemctl restart ssh.service",
    "mkdir /run/sshd",
    "needrestart -r a",
    "systemctl show ssh.service",
    // What sshd-mend runs.
    "sshd -i",
    "sshd -t",
    // Parts of a command line, and what units and hooks start.
    "sshd-mend check",
    "sshd-mend check --plugin",
    "sshd-mend hook",
    "sshd-mend hook --full",
    "sshd-mend repair",
    "sshd-mend hook, nothing wrong",
    // Of the tests themselves.
    "cargo test",
    "SSHD_MEND_BLESS=1 cargo test --test documents",
    "SSHD_MEND_BLESS=1 cargo test --test screens",
];

/// The table is in docs/findings.md as it is here. With SSHD_MEND_BLESS=1 it is written.
#[track_caller]
pub fn assert_current(name: &str, table: &str) {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock();
    let path = here().join("docs/findings.md");
    let page = std::fs::read_to_string(&path).expect("docs/findings.md");
    let begin = format!("<!-- {name} -->\n");
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("docs/findings.md has no {begin}"));
    let (kept, after) = rest.split_once("<!-- end -->").expect("its end");
    let table = format!("\n{table}\n");
    if std::env::var_os("SSHD_MEND_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, format!("{before}{begin}{table}<!-- end -->{after}")).expect("docs/findings.md");
        return;
    }
    assert_eq!(kept, table, "SSHD_MEND_BLESS=1 writes the {name} of docs/findings.md");
}

/// A vertical bar would end a cell.
fn cell(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_ascii_lowercase());
    // "SSH works" stays as it is.
    let keeps =
        characters.clone().next().is_none_or(|second| second.is_ascii_uppercase() || text.starts_with("HEALTHY"));
    let text = if keeps { text.to_owned() } else { first.into_iter().chain(characters).collect() };
    text.replace('|', "\\|")
}

pub fn findings() -> String {
    let mut table = "| finding | what | severity | `repair` | the hook |\n|---|---|---|---|---|\n".to_owned();
    for code in FindingCode::ALL {
        let meaning = code.meaning();
        let cells = [meaning.what, meaning.severity, meaning.repair, meaning.hook].map(cell).join(" | ");
        let _ = writeln!(table, "| `{}` | {cells} |", code.as_str());
    }
    table
}

pub fn refusals() -> String {
    let mut table = "| refusal | why | what to do |\n|---|---|---|\n".to_owned();
    for code in RefusalCode::ALL {
        let _ = writeln!(
            table,
            "| `{}` | {} | {} |",
            code.as_str(),
            cell(code.sentence()),
            code.advice().replace('|', "\\|")
        );
    }
    table
}

pub fn verdicts() -> String {
    let mut table = "| verdict | |\n|---|---|\n".to_owned();
    for verdict in Verdict::ALL {
        let _ = writeln!(table, "| `{}` | {} |", verdict.as_str(), cell(verdict.meaning()));
    }
    table
}
