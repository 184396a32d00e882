//! The JSON Schema of commands and answers, with the bounds that the reader keeps.

use serde_json::{Value, json};

use super::bounds::{
    EXPIRES_SECONDS_DEFAULT, EXPIRES_SECONDS_MAX, ID_CHARS_MAX, KEYS_MAX, NAME_BYTES_MAX, PIPELINES_MAX, RANGES_MAX,
    REQUESTER_BYTES_MAX,
};

/// The JSON Schema (draft 2020-12) of a command; `#/$defs/answer` is that of an answer.
///
/// What only the reader can tell is left to it: which pipelines and runs there are, which keys fit them, and the size of the
/// whole in bytes.
pub fn json_schema() -> Value {
    let commands = [reimport(), by_pipelines("pause", PAUSE), by_pipelines("resume", RESUME)];
    let more = [by_pipelines("cleanup", CLEANUP), verify(), approve(), replay(), by_pipelines("cancel", CANCEL)];
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A command to a running Fides",
        "oneOf": commands.into_iter().chain(more).collect::<Vec<_>>(),
        "$defs": {
            "id": {
                "description": "chosen by whoever asks; the same id again is the same command, and is answered again",
                "type": "string", "minLength": 1, "maxLength": ID_CHARS_MAX, "pattern": "^[!-~]+$",
            },
            "requester": {
                "description": "who asks, for the audit trail",
                "type": "string", "minLength": 1, "maxLength": REQUESTER_BYTES_MAX,
            },
            "name": { "type": "string", "minLength": 1, "maxLength": NAME_BYTES_MAX },
            "pipelines": {
                "description": "which pipelines; none for all",
                "type": "array", "maxItems": PIPELINES_MAX, "items": { "$ref": "#/$defs/name" },
            },
            "key": {
                "description": "42, \"de/berlin\", or an array where a part of a composite key holds a /",
                "anyOf": [
                    { "type": ["string", "integer", "boolean"] },
                    { "type": "array", "minItems": 1, "items": { "type": ["string", "integer", "boolean"] } },
                ],
            },
            "keys": { "type": "array", "maxItems": KEYS_MAX, "items": { "$ref": "#/$defs/key" } },
            "range": {
                "type": "object", "additionalProperties": false, "minProperties": 1,
                "properties": {
                    "from": { "description": "the first key", "$ref": "#/$defs/key" },
                    "to": { "description": "the first key that is not meant any more", "$ref": "#/$defs/key" },
                },
            },
            "answer": answer(),
        },
    })
}

const PAUSE: &str = "stop working on pipelines until they are resumed; what is queued stays queued";
const RESUME: &str = "go on with paused pipelines";
const CLEANUP: &str = "delete from the target what the host no longer has";
const CANCEL: &str = "end the import, the clean-up and every other job that is under way or waits; nothing is deleted";

/// A command with the fields that all have and those of its own.
fn command(name: &str, about: &str, required: &[&str], fields: &Value) -> Value {
    let mut properties = json!({
        "id": { "$ref": "#/$defs/id" },
        "requester": { "$ref": "#/$defs/requester" },
        "command": { "const": name },
    });
    if let (Some(all), Some(own)) = (properties.as_object_mut(), fields.as_object()) {
        all.extend(own.clone());
    }
    let required: Vec<&str> = ["id", "requester", "command"].iter().chain(required).copied().collect();
    json!({
        "title": name, "description": about, "type": "object", "additionalProperties": false,
        "required": required, "properties": properties,
    })
}

fn by_pipelines(name: &str, about: &str) -> Value {
    command(name, about, &[], &json!({ "pipelines": { "$ref": "#/$defs/pipelines" } }))
}

fn reimport() -> Value {
    let fields = json!({
        "pipelines": { "$ref": "#/$defs/pipelines" },
        "mode": {
            "description": "what differs from its mark, or everything; with `keys` or `ranges` always everything named",
            "enum": ["delta", "full"],
        },
        "keys": { "description": "only these records, of exactly one pipeline", "$ref": "#/$defs/keys" },
        "ranges": {
            "description": "only these ranges of keys, of exactly one pipeline",
            "type": "array", "maxItems": RANGES_MAX, "items": { "$ref": "#/$defs/range" },
        },
    });
    command("reimport", "import now: whole pipelines, or single keys or ranges of keys of one", &[], &fields)
}

fn verify() -> Value {
    let fields = json!({
        "pipelines": { "$ref": "#/$defs/pipelines" },
        "repair": { "description": "send what differs again", "type": "boolean", "default": false },
    });
    command("verify", "compare both sides", &[], &fields)
}

fn approve() -> Value {
    let fields = json!({
        "pipeline": { "$ref": "#/$defs/name" },
        "run": { "description": "the run whose deletions were refused", "$ref": "#/$defs/name" },
        "deletions_max": {
            "description": "the ceiling: with more candidates than that nothing is deleted",
            "type": "integer", "minimum": 1,
        },
        "expires_seconds": {
            "description": "how long the approval holds",
            "type": "integer", "minimum": 1, "maximum": EXPIRES_SECONDS_MAX, "default": EXPIRES_SECONDS_DEFAULT,
        },
    });
    let about = "let one refused clean-up delete: it searches anew, and may delete so many records, once";
    command("approve", about, &["pipeline", "run", "deletions_max"], &fields)
}

fn replay() -> Value {
    let fields = json!({
        "pipeline": { "$ref": "#/$defs/name" },
        "keys": { "description": "keys of dead letters; none for all of them", "$ref": "#/$defs/keys" },
    });
    command("replay", "send the host's present state of dead letters again", &["pipeline"], &fields)
}

fn answer() -> Value {
    json!({
        "title": "answer", "type": "object", "required": ["id", "status"],
        "properties": {
            "id": { "description": "of the command; empty where it could not be read", "type": "string" },
            "status": {
                "description": "kept and to be carried out; carried out; not, and not going to be",
                "enum": ["accepted", "done", "refused"],
            },
            "reason": { "description": "why it was refused", "type": "string" },
            "detail": { "description": "what was done or is going to be, by pipeline", "type": "object" },
        },
    })
}
