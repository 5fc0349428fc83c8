//! What documents name exists, and what exists is named: tests, files, units, settings, findings, refusals, verdicts, events. Blocks
//! say where they are from. SSHD_MEND_BLESS=1 writes the tables that are made from the code.
#![allow(missing_docs)]

#[path = "support/documents.rs"]
mod documents;
#[path = "documents/tables.rs"]
mod tables;

use documents::{all, here};
use sshd_mend::model::diagnosis::FindingCode;
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::report::Verdict;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Files below a directory of the project.
fn files(below: &str) -> Vec<PathBuf> {
    let (mut pending, mut files) = (vec![here().join(below)], Vec::new());
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { pending.push(path) } else { files.push(path) }
        }
    }
    files
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// All Rust files of the project with their texts.
fn sources() -> Vec<(PathBuf, String)> {
    let rust = ["src", "tests"].into_iter().flat_map(files).filter(|path| path.extension().is_some_and(|e| e == "rs"));
    rust.map(|path| (path.clone(), std::fs::read_to_string(path).expect("a file"))).collect()
}

/// A name as documents have it: `module::test`, `module::*`, or a test with at least four words. `None`: it is something else.
fn is_test(name: &str, sources: &[(PathBuf, String)]) -> Option<bool> {
    let has = |text: &str, test: &str| text.contains(&format!("fn {test}("));
    match name.rsplit_once("::") {
        Some((module, test)) if module.split("::").all(is_name) => {
            let module = module.split("::").next().unwrap_or_default();
            let file = |path: &Path| path.file_stem().is_some_and(|stem| stem == module);
            Some(sources.iter().any(|(path, text)| file(path) && (test == "*" || has(text, test))))
        }
        None if is_name(name) && name.matches('_').count() >= 3 => {
            Some(sources.iter().any(|(_, text)| has(text, name)))
        }
        _ => None,
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let sources = sources();
    let mut named = 0;
    for document in all() {
        for name in document.quoted() {
            let Some(exists) = is_test(&name, &sources) else { continue };
            assert!(exists, "{} names {name}, which is no test", document.name);
            named += 1;
        }
    }
    assert!(named > 100, "only {named} tests are named");
}

/// Each invariant, and each thing that somebody could try, has at least one test.
#[test]
fn every_row_of_the_security_document_names_a_test() {
    let sources = sources();
    let text = std::fs::read_to_string(here().join("SECURITY.md")).expect("SECURITY.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    let cells = |row: &str| row.split(" | ").map(str::to_owned).collect::<Vec<_>>();
    let shown = |row: &&&str| {
        let last = cells(row).pop().unwrap_or_default();
        last.trim_end_matches([' ', '|']).split(", ").all(|name| {
            let name = name.trim_matches('`');
            is_test(name, &sources) == Some(true) || (name.starts_with("tests/") && here().join(name).exists())
        })
    };
    let number =
        |row: &&str| row.strip_prefix("| I").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let invariants: Vec<&&str> = rows.iter().filter(|row| number(row)).collect();
    for (index, row) in invariants.iter().enumerate() {
        assert!(row.starts_with(&format!("| I{} |", index + 1)), "the invariants are not in their order: {row}");
    }
    assert_eq!(invariants.len(), 15);
    let tried: Vec<&&str> = rows.iter().filter(|row| cells(row).len() == 4).skip(1).collect();
    assert!(tried.len() > 20, "{tried:#?}");
    for row in invariants.iter().chain(&tried) {
        assert!(shown(row), "no test, or one that does not exist: {row}");
    }
}

#[test]
fn the_collection_has_the_version_of_the_program() {
    let galaxy = std::fs::read_to_string(here().join("packaging/ansible/galaxy.yml")).expect("the collection");
    assert!(galaxy.contains(concat!("\nversion: ", env!("CARGO_PKG_VERSION"), "\n")), "{galaxy}");
}

#[test]
fn every_file_that_a_document_names_exists() {
    for document in all() {
        for name in document.quoted() {
            let first = name.split(' ').next().unwrap_or_default();
            if ["src/", "tests/", "packaging/", "hooks/", "docs/"].iter().any(|folder| first.starts_with(folder)) {
                assert!(here().join(first).exists(), "{} names {name}, which does not exist", document.name);
            }
        }
        let base = here().join(&document.name);
        for link in document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = base.parent().expect("a directory").join(file);
            assert!(target.is_file(), "{} links to {link}, which does not exist", document.name);
            let headings = std::fs::read_to_string(&target).unwrap_or_default();
            let anchor = |line: &str| {
                let heading = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
                heading.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect::<String>()
            };
            let found = headings.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading);
            assert!(heading.is_empty() || found, "{} links to {link}: no such heading", document.name);
        }
    }
}

/// From the README every page and picture of docs/ can be reached.
#[test]
fn every_page_is_linked() {
    let documents = all();
    for path in files("docs") {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let linked = documents.iter().any(|document| {
            let path = if document.name.starts_with("docs/") { name.clone() } else { format!("docs/{name}") };
            document.text.contains(&format!("]({path}"))
        });
        assert!(linked, "docs/{name} is linked from no document");
    }
}

/// Names of units and settings in any text.
fn words(text: &str, is_word: fn(char) -> bool) -> impl Iterator<Item = &str> {
    text.split(move |c| !is_word(c)).filter(|word| !word.is_empty())
}

#[test]
fn every_unit_is_named_and_every_unit_that_is_named_exists() {
    let is_unit = |name: &str| {
        let kind = [".service", ".socket", ".timer"].iter().any(|kind| name.ends_with(kind));
        name.starts_with("sshd-mend") && kind && !name.starts_with("sshd-mend-rescue-")
    };
    let existing: BTreeSet<String> = files("packaging")
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .filter(|name| is_unit(name))
        .collect();
    let texts: Vec<String> = all().into_iter().map(|document| document.text).collect();
    let word = |c: char| c.is_ascii_alphanumeric() || "-.@".contains(c);
    let named: BTreeSet<String> =
        texts.iter().flat_map(|text| words(text, word)).filter(|name| is_unit(name)).map(str::to_owned).collect();
    assert_eq!(existing, named);
}

/// As the program reads them, as the package installs them, and as docs/settings.md has them.
#[test]
fn every_setting_is_in_its_table_and_every_setting_of_the_table_exists() {
    let is_key = |key: &&str| !key.is_empty() && key.chars().all(|c| c.is_ascii_uppercase());
    let keys = |text: &str, begin: &str, end: char| -> BTreeSet<String> {
        let parts = text.split(begin).skip(1).filter_map(|rest| rest.split(end).next());
        parts.filter(is_key).map(str::to_owned).collect()
    };
    let source = std::fs::read_to_string(here().join("src/settings.rs")).expect("src/settings.rs");
    let parse = source.split("pub fn parse(").nth(1).and_then(|rest| rest.split("\n}").next()).expect("its parser");
    let read = keys(parse, "\"", '"');
    let installed = std::fs::read_to_string(here().join("packaging/sshd-mend.default")).expect("the settings");
    assert_eq!(read, keys(&format!("\n{installed}"), "\n#", '='));
    let page = std::fs::read_to_string(here().join("docs/settings.md")).expect("docs/settings.md");
    assert_eq!(read, keys(&page, "\n| `", '`'));
    for key in &read {
        let line = format!("{key}=nonsense that no key takes");
        let error = sshd_mend::settings::parse(&line).expect_err("no value").to_string();
        assert!(!error.contains("is not a setting"), "{key}: {error}");
    }
}

#[test]
fn every_finding_verdict_refusal_and_action_is_in_its_table() {
    tables::assert_current("findings", &tables::findings());
    tables::assert_current("refusals", &tables::refusals());
    tables::assert_current("verdicts", &tables::verdicts());
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../packaging/outcome.schema.json")).expect("the schema");
    let shapes = schema["$defs"]["step"]["oneOf"].as_array().expect("shapes of a step");
    let of = |shape: &serde_json::Value| {
        let action = &shape["properties"]["action"];
        let several = action["enum"].as_array().cloned().unwrap_or_default();
        several.into_iter().chain(action.get("const").cloned()).collect::<Vec<_>>()
    };
    let actions: BTreeSet<String> =
        shapes.iter().flat_map(of).map(|word| word.as_str().expect("a word").to_owned()).collect();
    let page = std::fs::read_to_string(here().join("docs/findings.md")).expect("docs/findings.md");
    let rows = page.split("## Actions").nth(1).expect("actions").lines().filter(|line| line.starts_with("| `"));
    let named = rows.flat_map(|row| row.split(" | ").next().unwrap_or_default().split('`').skip(1).step_by(2));
    assert_eq!(actions, named.map(str::to_owned).collect());
}

/// A word with a hyphen between backquotes that looks like a finding, a refusal or a verdict, but is none, is a mistake.
#[test]
fn every_code_that_is_spoken_of_exists() {
    let known: BTreeSet<&str> = FindingCode::ALL
        .iter()
        .map(|code| code.as_str())
        .chain(RefusalCode::ALL.iter().map(|code| code.as_str()))
        .chain(Verdict::ALL.iter().map(|verdict| verdict.as_str()))
        .collect();
    for document in all() {
        for name in document.quoted() {
            let like = name.contains('-') && name.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c == '.');
            let other =
                tables::OTHERS.contains(&name.as_str()) || name.starts_with('-') || name.starts_with("sshd-mend");
            assert!(
                !like || other || known.contains(name.as_str()),
                "{} names {name}, which is no code",
                document.name
            );
        }
    }
}

#[test]
fn every_event_is_in_its_table_and_every_id_is_one_of_an_event() {
    let is_id = |word: &&str| word.len() == 32 && word.chars().all(|c| c.is_ascii_hexdigit());
    let ids = |name: &str| -> BTreeSet<String> {
        let text = std::fs::read_to_string(here().join(name)).expect("a file");
        words(&text, |c| c.is_ascii_alphanumeric()).filter(is_id).map(str::to_owned).collect()
    };
    assert_eq!(ids("src/report/events.rs"), ids("docs/journal.md"));
}

/// The properties of the JSON at its top.
#[test]
fn every_property_is_in_the_outline_of_the_json() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../packaging/outcome.schema.json")).expect("the schema");
    let page = std::fs::read_to_string(here().join("docs/json.md")).expect("docs/json.md");
    let outline = page.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the outline");
    let of = |value: &serde_json::Value| value["properties"].as_object().expect("properties").keys().cloned().collect();
    let mut properties: Vec<String> = of(&schema);
    for inner in ["finding", "listener", "instance"] {
        properties.extend::<Vec<String>>(of(&schema["$defs"][inner]));
    }
    assert!(properties.len() > 30, "{properties:?}");
    for property in properties {
        assert!(outline.contains(&format!("\"{property}\"")), "{property} is not in the outline of docs/json.md");
    }
}

/// A block of commands says where a test runs it, one of text where it is from. tests/system/documented.rs runs the commands.
#[test]
fn every_block_is_marked() {
    let mut shown = 0;
    for block in all().iter().flat_map(documents::Document::blocks) {
        let place = format!("{}:{}", block.document, block.line);
        match block.mark.split_once(' ').unwrap_or((&block.mark, "")) {
            ("sh", "" | "console") if block.document == "docs/fleet.md" => {} // fleet_page.rs
            ("sh", at) => assert!(tables::PLACES.contains(&at), "{place}: `sh {at}` is run nowhere"),
            ("text", "" | "logcheck") | ("ini" | "rust", "") => {}
            ("text", screen) => {
                let kept =
                    std::fs::read_to_string(here().join(screen)).unwrap_or_else(|e| panic!("{place}: {screen}: {e}"));
                assert_eq!(block.text, kept, "{place} is not what {screen} has");
                shown += 1;
            }
            other => panic!("{place}: a block of no known kind: {other:?}"),
        }
    }
    assert!(shown > 0, "no screen is shown");
}

/// What a document tells people to type is in a block, where a test runs it.
#[test]
fn no_command_is_hidden_in_a_sentence() {
    let commands: Vec<String> = all().iter().flat_map(documents::Document::blocks).map(|block| block.text).collect();
    // What docs/findings.md advises is the program's own advice.
    for document in all().into_iter().filter(|document| document.name != "docs/findings.md") {
        for name in document.quoted() {
            let program = name.split(' ').next().unwrap_or_default();
            if !tables::PROGRAMS.contains(&program) || !name.contains(' ') || tables::SPOKEN_OF.contains(&name.as_str())
            {
                continue;
            }
            let is_run = commands.iter().any(|block| block.contains(&name));
            assert!(is_run, "{}: `{name}` is in no block, and not among those that are only spoken of", document.name);
        }
    }
}

/// The README is for people who decide, in four minutes.
#[test]
fn the_readme_is_one_page() {
    let document = all().into_iter().find(|document| document.name == "README.md").expect("README.md");
    let words = document.text.split_whitespace().count();
    assert!(words <= 1500, "{words} words");
}

/// The recording shows the demo as it is.
#[test]
fn the_recording_has_each_heading_of_the_demo() {
    let demo = std::fs::read_to_string(here().join("tests/demo")).expect("tests/demo");
    let picture = std::fs::read_to_string(here().join("docs/demo.svg")).expect("docs/demo.svg");
    let shown = picture.lines().filter_map(|line| line.split_once('>')?.1.strip_suffix("</text>"));
    let shown = shown.map(str::trim).collect::<Vec<_>>().join(" ").replace("&amp;", "&");
    let told = demo.lines().filter_map(|line| line.trim().strip_prefix("tell \"")?.strip_suffix('"'));
    let told: Vec<String> =
        told.map(|text| text.replace("\\`", "`")).filter(|text| !text.starts_with("Preparing")).collect();
    assert!(told.len() >= 8, "{told:#?}");
    for heading in told {
        assert!(shown.contains(&heading), "docs/demo.svg has no \"{heading}\": draw it anew with tests/draw");
    }
}
