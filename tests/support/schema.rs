//! packaging/outcome.schema.json, and what in a value is not as it says.

use jsonschema::Validator;
use serde_json::Value;
use std::sync::LazyLock;

/// The schema as it is installed.
pub static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../packaging/outcome.schema.json")).expect("packaging/outcome.schema.json")
});

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| jsonschema::draft202012::new(&SCHEMA).expect("a schema"));

/// A line for each violation: where, and what.
pub fn violations(value: &Value) -> Vec<String> {
    VALIDATOR.iter_errors(value).map(|error| format!("at \"{}\": {error}", error.instance_path())).collect()
}
