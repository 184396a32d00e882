//! The JSON Schema of the file, made from the same keys that read it.

use serde_json::{Value, json};

use super::form::Definitions;
use super::model::Config;

/// The JSON Schema (draft 2020-12) of a configuration file.
///
/// It knows every key, type and range. What only the reader can tell is left to it: names that refer to each other,
/// variables, cron expressions.
pub fn json_schema() -> Value {
    let mut definitions = Definitions::default();
    let root = definitions.refer::<Config>();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fides.yaml",
        "$ref": root["$ref"],
        "$defs": definitions.0,
    })
}
