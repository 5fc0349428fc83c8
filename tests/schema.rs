//! packaging/outcome.schema.json describes what `--json` prints: nothing more, nothing less, every word of it.
#![allow(missing_docs)]

#[path = "screens/examinations.rs"]
mod examinations;
#[path = "screens/outcomes.rs"]
mod outcomes;
#[path = "screens/repairs.rs"]
mod repairs;
#[path = "support/schema.rs"]
mod schema;
mod support;

use schema::{SCHEMA, violations};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sshd_mend::model::diagnosis::{FindingCode, Severity};
use sshd_mend::model::plan::Step;
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::report::outcome::{SCHEMA as NUMBER, Tried};
use sshd_mend::report::{Outcome, Style, Verdict};
use std::collections::BTreeSet;

const PLAIN: Style = Style { colour: false, verbose: false, quiet: false };
const COLOUR: Style = Style { colour: true, ..PLAIN };
const VERBOSE: Style = Style { verbose: true, ..PLAIN };
const QUIET: Style = Style { quiet: true, ..PLAIN };

type Screen = (&'static str, Outcome, Style);

/// Outcomes of every kind, by the names of their screens.
fn all() -> Vec<(&'static str, Outcome)> {
    let screens = examinations::screens().into_iter().chain(repairs::screens());
    screens.map(|(name, outcome, _)| (name, outcome)).collect()
}

/// As `--json` prints it.
fn printed(outcome: &Outcome) -> Value {
    serde_json::to_value(outcome).expect("JSON")
}

#[test]
fn every_outcome_is_as_the_schema_says() {
    for (name, outcome) in all() {
        let value = printed(&outcome);
        assert_eq!(violations(&value), Vec::<String>::new(), "{name}: {value:#}");
    }
    assert_eq!(SCHEMA["properties"]["schema"]["const"], NUMBER);
}

/// The record under /run is this JSON, read back by whoever waited for the repair.
#[test]
fn an_outcome_survives_the_record() {
    let now = Outcome::unknown("repair", "why");
    assert_eq!(now.origin.version, env!("CARGO_PKG_VERSION"));
    assert!(now.origin.time.elapsed().is_ok_and(|age| age.as_secs() < 60), "{now:?}");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("the node name");
    assert_eq!(now.origin.host, host.trim_end());
    for (name, outcome) in all().into_iter().chain([("now", now)]) {
        let text = serde_json::to_string(&outcome).expect("JSON");
        let again: Outcome = serde_json::from_str(&text).expect("an outcome");
        assert_eq!(again, Outcome { others: Vec::new(), ..outcome }, "{name}");
    }
}

/// The head comes first, for people who look at it.
#[test]
fn the_head_of_the_json() {
    let text = serde_json::to_string(&outcomes::check(&support::healthy())).expect("JSON");
    let head = r#"{"schema":2,"version":"0.1.0","host":"web","time":"2025-06-01T00:01:00Z","command":"check","dry_run":false,"#;
    assert!(text.starts_with(head), "{text}");
}

/// Every value of the schema that has `properties`.
fn objects<'a>(value: &'a Value, path: String, found: &mut Vec<(String, &'a Map<String, Value>)>) {
    match value {
        Value::Object(map) => {
            if map.get("properties").is_some_and(Value::is_object) && !path.ends_with("/properties") {
                found.push((path.clone(), map));
            }
            for (key, inner) in map {
                objects(inner, format!("{path}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                objects(inner, format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_object_is_closed_and_every_property_is_described() {
    let mut found = Vec::new();
    objects(&SCHEMA, String::new(), &mut found);
    assert!(found.len() > 15, "{found:?}");
    for (path, object) in found {
        assert_eq!(object.get("additionalProperties"), Some(&Value::Bool(false)), "{path}");
        let properties = object["properties"].as_object().expect("properties");
        for (name, property) in properties {
            let referred = property["$ref"].as_str().and_then(|path| SCHEMA.pointer(path.trim_start_matches('#')));
            let description = [Some(property), referred].into_iter().flatten().find_map(|p| p["description"].as_str());
            assert!(description.is_some_and(|text| text.ends_with('.')), "{path}/{name} is not described");
        }
        for name in object["required"].as_array().expect("required") {
            let name = name.as_str().expect("a name");
            assert!(properties.contains_key(name), "{path} requires {name}, which is no property of it");
        }
    }
}

/// The words that a type is written with: serde names all of them to who comes with another one.
fn words<T: DeserializeOwned>(stranger: Value) -> BTreeSet<String> {
    let Err(error) = serde_json::from_value::<T>(stranger) else { panic!("a strange word is taken") };
    let error = error.to_string();
    assert!(error.starts_with("unknown variant"), "{error}");
    error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

fn named(pointer: &str) -> BTreeSet<String> {
    let list = SCHEMA.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("no list at {pointer}"));
    let list: Vec<&Value> = list.iter().filter(|word| !word.is_null()).collect();
    let names: BTreeSet<String> = list.iter().map(|word| word.as_str().expect("a word").to_owned()).collect();
    assert_eq!(names.len(), list.len(), "one is there twice at {pointer}");
    names
}

/// What of each shape of a step the schema names as its action.
fn actions(pointer: &str) -> BTreeSet<String> {
    let shapes = SCHEMA.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("no list at {pointer}"));
    let of = |shape: &Value| match &shape["properties"]["action"]["const"] {
        Value::String(one) => vec![one.clone()],
        _ => {
            let several = shape["properties"]["action"]["enum"].as_array().expect("actions");
            several.iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
        }
    };
    shapes.iter().flat_map(of).collect()
}

#[test]
fn the_schema_names_every_word_of_the_program_and_no_other() {
    let strange = || json!("?");
    assert_eq!(named("/$defs/verdict/enum"), words::<Verdict>(strange()));
    assert_eq!(named("/$defs/severity/enum"), words::<Severity>(strange()));
    assert_eq!(named("/$defs/finding/properties/code/enum"), words::<FindingCode>(strange()));
    assert_eq!(named("/$defs/refusal/properties/code/enum"), words::<RefusalCode>(strange()));
    assert_eq!(named("/$defs/listener/properties/probe/enum"), words::<ProbeResult>(strange()));
    let tried = "/$defs/instance/properties/tried/enum";
    let not_tried = SCHEMA.pointer(tried).and_then(Value::as_array).and_then(|words| words.last());
    assert_eq!((named(tried), not_tried), (words::<Tried>(strange()), Some(&Value::Null)));
    for shapes in ["/$defs/step/oneOf", "/$defs/taken_step/oneOf"] {
        assert_eq!(actions(shapes), words::<Step>(json!({ "action": "?" })), "{shapes}");
    }
}

/// A list, its words as the program writes them elsewhere, and those that serde writes.
#[track_caller]
fn assert_complete<T: Copy + Serialize + DeserializeOwned>(list: &[T], word: impl Fn(T) -> &'static str) {
    for each in list {
        assert_eq!(serde_json::to_value(each).expect("JSON"), word(*each));
    }
    let listed: BTreeSet<String> = list.iter().map(|each| word(*each).to_owned()).collect();
    assert_eq!(listed, words::<T>(json!("?")));
    assert_eq!(listed.len(), list.len(), "one is there twice");
}

#[test]
fn nothing_is_missing_from_the_lists_of_the_program() {
    assert_complete(FindingCode::ALL, FindingCode::as_str);
    assert_complete(Verdict::ALL, Verdict::as_str);
    assert_complete(RefusalCode::ALL, RefusalCode::as_str);
}

/// Every object in a value, by its pointer.
fn objects_of(value: &Value, pointer: String, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            found.push(pointer.clone());
            map.iter().map(|(key, inner)| (key.clone(), inner)).collect()
        }
        Value::Array(list) => list.iter().enumerate().map(|(index, inner)| (index.to_string(), inner)).collect(),
        _ => Vec::new(),
    };
    for (key, inner) in inner {
        objects_of(inner, format!("{pointer}/{key}"), found);
    }
}

/// What is there only where there is something to say.
#[test]
fn a_listener_may_have_old_libraries_and_methods_of_authentication() {
    let good = printed(&outcomes::check(&support::healthy()));
    let with = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed["listeners"][0][key] = value;
        violations(&changed)
    };
    for (key, value) in [
        ("stale_libraries", json!(["libcrypto.so.3"])),
        ("authentication", json!(["publickey", "password"])),
        ("authentication", Value::Null),
    ] {
        assert_eq!(with(key, value), Vec::<String>::new(), "{key}");
        assert!(!with(key, json!([1])).is_empty(), "{key}");
    }
}

/// Properties that are not always there, as the schema has them: all others are required.
const OPTIONAL: &[&str] = &["notes", "advice", "stale_libraries", "authentication", "proof_detail"];

#[test]
fn one_property_more_or_less_is_a_violation() {
    let mut spoilt = 0;
    for (name, outcome) in all() {
        let good = printed(&outcome);
        let mut pointers = Vec::new();
        objects_of(&good, String::new(), &mut pointers);
        for pointer in pointers {
            let object = |value: &mut Value| -> Map<String, Value> {
                value.pointer_mut(&pointer).and_then(Value::as_object_mut).map(std::mem::take).expect("an object")
            };
            let with = |map: Map<String, Value>| {
                let mut value = good.clone();
                *value.pointer_mut(&pointer).expect("an object") = Value::Object(map);
                value
            };
            let map = object(&mut good.clone());
            let mut more = map.clone();
            more.insert("unheard_of".to_owned(), Value::Null);
            assert!(!violations(&with(more)).is_empty(), "{name}: one more at \"{pointer}\"");
            let optional_here = |key: &str| OPTIONAL.contains(&key) && !pointer.contains("refusal");
            for key in map.keys().filter(|key| !optional_here(key)) {
                let mut less = map.clone();
                less.remove(key);
                assert!(!violations(&with(less)).is_empty(), "{name}: without {key} at \"{pointer}\"");
                spoilt += 1;
            }
        }
    }
    assert!(spoilt > 1000, "{spoilt}");
}
