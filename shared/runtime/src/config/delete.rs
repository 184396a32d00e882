//! `delete`: what happens to a target record whose host record is gone.

use serde_json::{Value, json};

use super::fields::{Fields, Section, section};
use super::form::{Definitions, Form, Reading};
use super::model::{Delete, Literal};
use super::node::{Content, Node, shown_text};
use super::scalar::{AnyValue, Text, Word};

const WORDS: Word<Delete> = Word(&[("hard", Delete::Hard), ("never", Delete::Never)]);
const EXPECTED: &str = "one of hard, never, or `soft: { field: …, value: … }`";

/// `hard`, `never`, or a map with `soft`.
pub(super) struct DeleteChoice;

impl Form for DeleteChoice {
    type Value = Delete;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Delete> {
        match &node.content {
            Content::Map(entries) if !entries.is_empty() => Some(section::<Policy>().read(reading, node)?.0),
            Content::Map(_) | Content::List(_) => reading.refuse(node, EXPECTED),
            Content::Plain(text) | Content::Quoted(text) if text == "soft" => {
                reading.refuse_at(&node.spot, "\"soft\" without a field", "`soft: { field: …, value: … }`")
            }
            Content::Plain(_) | Content::Quoted(_) => WORDS.read(reading, node),
        }
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        json!({ "anyOf": [WORDS.schema(definitions), section::<Policy>().schema(definitions)] })
    }
}

struct Policy(Delete);

impl Section for Policy {
    const NAME: &'static str = "delete";
    const ABOUT: &'static str = "a deletion that leaves the record behind";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "the record stays, and one of its fields says that it is gone";
        let Soft(delete) = fields.required("soft", about, section::<Soft>())?;
        Some(Self(delete))
    }
}

struct Soft(Delete);

impl Section for Soft {
    const NAME: &'static str = "soft";
    const ABOUT: &'static str = "the field that says that a record is gone";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "the target field; of a record that is there it holds nothing, or the other truth value";
        let field = fields.required("field", about, Text("a target field"));
        let value = fields.required("value", "what it holds when the record is gone", Said);
        Some(Self(Delete::Soft { field: field?, value: value? }))
    }
}

/// Text, a whole number or a truth value: what every store can hold in a field and find again.
struct Said;

impl Form for Said {
    type Value = Literal;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Literal> {
        match AnyValue.read(reading, node)? {
            Literal::Number(digits) if digits.parse::<i64>().is_ok() => Some(Literal::Number(digits)),
            value @ (Literal::Bool(_) | Literal::String(_)) => Some(value),
            _ => reading.refuse(node, "text, a whole number, true or false"),
        }
    }

    fn schema(&self, _: &mut Definitions) -> Value {
        json!({ "type": ["string", "integer", "boolean"] })
    }
}

/// The version is written by Fides alone, and not to say that a record is gone.
pub(super) fn leaves_version_alone(
    reading: &mut Reading<'_>,
    node: &Node,
    delete: Option<&Delete>,
    version_field: Option<&str>,
) -> Option<()> {
    match delete {
        Some(Delete::Soft { field, .. }) if Some(field.as_str()) == version_field => {
            let soft = node.get("delete").and_then(|delete| delete.get("soft")).and_then(|soft| soft.get("field"));
            let spot = soft.map_or(&node.spot, |field| &field.spot);
            let found = format!("{}, which is the version field too", shown_text(field));
            reading.refuse_at(spot, found, "a field of its own")
        }
        _ => Some(()),
    }
}
