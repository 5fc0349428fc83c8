//! packaging/debian/copyright names every crate of the source package with its authors and licence, as its Cargo.toml has them.
//! SSHD_MEND_BLESS=1 writes that part.
#![allow(missing_docs)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

/// What follows this line is written by the test.
const BEGIN: &str = "Comment: What follows is made from Cargo.lock by tests/copyright.rs.\n";

/// Licences whose text every Debian has, and its file there.
const ON_DEBIAN: [(&str, &str); 2] = [("Apache-2.0", "Apache-2.0"), ("LGPL-2.1+", "LGPL-2.1")];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The crates, without this one.
fn crates() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo metadata");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages").iter();
    packages.filter(|package| !package["source"].is_null()).cloned().collect()
}

/// As copyright-format 1.0 has it: `A or B`, `A with B exception`, LGPL-2.1+.
fn licence(package: &Value) -> String {
    let written = text(&package["license"]).replace('/', " OR ").replace("LGPL-2.1-or-later", "LGPL-2.1+");
    let written = written.replace("Apache-2.0 WITH LLVM-exception", "Apache-2.0 with LLVM exception");
    let choices = written.replace(['(', ')'], "").replace(" AND ", " and ");
    let choices: BTreeSet<&str> = choices.split(" OR ").collect();
    choices.into_iter().collect::<Vec<_>>().join(" or ")
}

fn expected() -> String {
    let crates = crates();
    assert!(crates.len() > 100, "{}", crates.len());
    let mut by_licence: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for package in &crates {
        let (files, authors) = by_licence.entry(licence(package)).or_default();
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        files.insert(format!("vendor/{name}/*"));
        // Of two versions, cargo vendor puts one into a directory with its version.
        if crates.iter().filter(|other| other["name"] == package["name"]).count() > 1 {
            files.insert(format!("vendor/{name}-{version}/*"));
        }
        let named: Vec<&str> = package["authors"].as_array().into_iter().flatten().map(text).collect();
        authors.insert(if named.is_empty() { format!("the authors of {name}") } else { named.join(", ") });
    }
    let lines = |lines: &BTreeSet<String>| lines.iter().map(|line| format!("\n {line}")).collect::<String>();
    let mut out = String::new();
    let mut terms = BTreeSet::new();
    for (licence, (files, authors)) in &by_licence {
        out += &format!("\nFiles:{}\nCopyright:{}\nLicense: {licence}\n", lines(files), lines(authors));
        terms.extend(licence.split(" or ").flat_map(|choice| choice.split(" and ")).map(str::to_owned));
    }
    terms.remove("MIT"); // has its text above
    for term in terms {
        let debian = ON_DEBIAN.iter().find(|(name, _)| *name == term);
        let told = debian.map_or_else(
            || " Its text is in a file LICENSE* in the directory of each of these crates.".to_owned(),
            |(_, file)| format!(" On Debian systems its text is in /usr/share/common-licenses/{file}."),
        );
        out += &format!("\nLicense: {term}\n{told}\n");
    }
    out
}

#[test]
fn every_crate_is_in_the_copyright_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/debian/copyright");
    let written = std::fs::read_to_string(&path).expect("the file");
    let (before, after) = written.split_once(BEGIN).expect("the line that begins it");
    let expected = expected();
    if std::env::var_os("SSHD_MEND_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}")).expect("the file");
        return;
    }
    assert!(after == expected, "SSHD_MEND_BLESS=1 writes it anew");
}
