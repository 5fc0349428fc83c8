//! What documents name exists, and what exists is named: tests, findings, refusals, verdicts, files.
#![allow(missing_docs)]

use std::path::{Path, PathBuf};

use sshd_mend::model::refusal::RefusalCode;

const DOCUMENTS: [(&str, &str); 3] = [
    ("README.md", include_str!("../README.md")),
    ("SECURITY.md", include_str!("../SECURITY.md")),
    ("CONTRIBUTING.md", include_str!("../CONTRIBUTING.md")),
];

/// All Rust files of the project with their texts.
fn sources() -> Vec<(PathBuf, String)> {
    let mut pending = vec![here().join("src"), here().join("tests")];
    let mut files = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((path.clone(), std::fs::read_to_string(path).expect("a file")));
            }
        }
    }
    files
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands between backquotes, outside of indented blocks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with("    ")).flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[test]
fn every_test_that_a_document_names_exists() {
    let sources = sources();
    let is_test = |text: &str, name: &str| text.contains(&format!("fn {name}("));
    let mut named = 0;
    for (document, text) in DOCUMENTS {
        for name in quoted(text) {
            let exists = match name.rsplit_once("::") {
                Some((module, test)) if module.split("::").all(is_name) => {
                    let module = module.split("::").next().unwrap_or_default();
                    let file = |path: &Path| path.file_stem().is_some_and(|stem| stem == module);
                    sources.iter().any(|(path, text)| file(path) && (test == "*" || is_test(text, test)))
                }
                None if is_name(name) && name.matches('_').count() >= 3 => {
                    sources.iter().any(|(_, text)| is_test(text, name))
                }
                _ => continue,
            };
            assert!(exists, "{document} names {name}, which is no test");
            named += 1;
        }
    }
    assert!(named > 40, "only {named} tests are named");
}

#[test]
fn every_file_that_a_document_names_exists() {
    for (document, text) in DOCUMENTS {
        for name in quoted(text) {
            let first = name.split(' ').next().unwrap_or_default();
            if ["src/", "tests/", "packaging/", "hooks/"].iter().any(|folder| first.starts_with(folder)) {
                assert!(here().join(first).exists(), "{document} names {name}, which does not exist");
            }
        }
    }
}

/// The words of an enum as serde writes them: from the source, which lists them all.
fn words(source: &str, after: &str) -> Vec<String> {
    let from = source.split(after).nth(1).expect("the list");
    let list = from.split("\n    }\n").next().expect("its end");
    list.lines().filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

#[test]
fn the_readme_names_every_finding_verdict_and_refusal() {
    let readme = DOCUMENTS[0].1;
    let findings = words(include_str!("../src/model/diagnosis.rs"), "pub const fn as_str(self)");
    assert!(findings.len() >= 15, "{findings:?}");
    let refusals = RefusalCode::ALL.iter().map(|code| code.as_str().to_owned());
    for word in findings.into_iter().chain(refusals) {
        assert!(readme.contains(&format!("`{word}`")), "{word} is not in README.md");
    }
    let verdicts = include_str!("../src/report/outcome.rs").split("pub enum Verdict {").nth(1).expect("the list");
    let verdicts = verdicts.split('}').next().expect("its end").lines().map(str::trim);
    let verdicts: Vec<&str> =
        verdicts.filter(|line| line.ends_with(',')).map(|line| line.trim_end_matches(',')).collect();
    assert!(verdicts.len() >= 11, "{verdicts:?}");
    for verdict in verdicts {
        let mut word = String::new();
        for (index, c) in verdict.chars().enumerate() {
            if c.is_ascii_uppercase() && index > 0 {
                word.push('-');
            }
            word.push(c.to_ascii_lowercase());
        }
        assert!(readme.contains(&format!("`{word}`")), "{word} is not in README.md");
    }
}
