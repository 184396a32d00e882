//! `mapping`: where the value of each target field comes from.

use serde_json::{Value, json};

use super::collection::{DottedPath, NameRule, Named, WithNode, complete};
use super::fields::{Fields, Section, section};
use super::form::{Definitions, Form, Reading};
use super::model::{Kind, Literal, Source};
use super::node::{Content, Node};
use super::scalar::{AnyValue, Text, Word};
use crate::convert;

const KINDS: Word<Kind> = Word(&[
    ("bool", Kind::Bool),
    ("i64", Kind::I64),
    ("u64", Kind::U64),
    ("decimal", Kind::Decimal),
    ("f64", Kind::F64),
    ("string", Kind::String),
    ("bytes", Kind::Bytes),
    ("uuid", Kind::Uuid),
    ("date", Kind::Date),
    ("time", Kind::Time),
    ("timestamp", Kind::Timestamp),
    ("timestamptz", Kind::TimestampTz),
    ("json", Kind::Json),
]);

const PATH: DottedPath = DottedPath("a column, or a path into an included record or a JSON column");

/// Target fields by name.
pub(super) const fn mapping() -> Named<AnySource> {
    Named { names: NameRule::Field, of: AnySource, expected: "a map of target fields" }
}

/// A path in short, or a section told by the key that only it has.
pub(super) struct AnySource;

/// One kind of section: the key that tells it, how it is read, its schema.
type KindOfSource = (&'static str, fn(&mut Reading<'_>, &Node) -> Option<Source>, fn(&mut Definitions) -> Value);

const SOURCES: &[KindOfSource] = &[
    ("from", |reading, node| Some(section::<Column>().read(reading, node)?.0), Definitions::refer::<Column>),
    ("object", |reading, node| Some(section::<Object>().read(reading, node)?.0), Definitions::refer::<Object>),
    ("const", |reading, node| Some(section::<Const>().read(reading, node)?.0), Definitions::refer::<Const>),
    ("jq", |reading, node| Some(section::<Jq>().read(reading, node)?.0), Definitions::refer::<Jq>),
];

impl Form for AnySource {
    type Value = Source;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Source> {
        let Content::Map(entries) = &node.content else {
            return Some(Source::Column { path: PATH.read(reading, node)?, cast: None, default: None });
        };
        if let Some((_, read, _)) = SOURCES.iter().find(|(key, ..)| node.get(key).is_some()) {
            return read(reading, node);
        }
        let keys: Vec<_> = SOURCES.iter().map(|(key, ..)| *key).collect();
        for entry in entries {
            reading.refuse_key(entry, &keys);
        }
        if entries.is_empty() {
            reading.refuse_at::<()>(&node.spot, "an empty map", format!("one of the keys {}", keys.join(", ")));
        }
        None
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        let mut forms = vec![PATH.schema(definitions)];
        forms.extend(SOURCES.iter().map(|(_, _, schema)| schema(definitions)));
        json!({ "anyOf": forms })
    }
}

struct Column(Source);

impl Section for Column {
    const NAME: &'static str = "column";
    const ABOUT: &'static str = "the value of a host column";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let path = fields.required("from", "the column, or a path into an included record or a JSON column", PATH);
        let cast = fields.optional("cast", "the kind it is converted to", KINDS);
        let about = "what stands in for NULL or an absent value";
        let default = fields.optional("default", about, WithNode(AnyValue));
        let default = fields.check(|reading, _| default_of_kind(reading, default?, cast.as_ref().copied()?));
        Some(Self(Source::Column { path: path?, cast: cast?, default: default? }))
    }
}

/// A default is converted like a value of the host; without `cast` only the host tells of which kind it has to be.
#[expect(clippy::option_option, reason = "as the caller read it: refused, absent, or there")]
fn default_of_kind(
    reading: &mut Reading<'_>,
    default: Option<(Literal, Node)>,
    cast: Option<Kind>,
) -> Option<Option<Literal>> {
    let Some((literal, node)) = default else { return Some(None) };
    let Some(kind) = cast.map(convert::kind) else { return Some(Some(literal)) };
    match fides_mapping::literal(&convert::value(&literal), kind) {
        Ok(_) => Some(Some(literal)),
        Err(_) => reading.refuse(&node, format!("a value that can be cast to {kind}")),
    }
}

struct Object(Source);

impl Section for Object {
    const NAME: &'static str = "object";
    const ABOUT: &'static str = "an object of fields of its own";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let object = fields.required("object", "the fields, each with where its value comes from", mapping());
        Some(Self(Source::Object(complete(object?)?)))
    }
}

struct Const(Source);

impl Section for Const {
    const NAME: &'static str = "const";
    const ABOUT: &'static str = "the same value in every document";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let value = fields.required_or_null("const", "the value", AnyValue);
        Some(Self(Source::Const(value?)))
    }
}

struct Jq(Source);

impl Section for Jq {
    const NAME: &'static str = "jq";
    const ABOUT: &'static str = "the result of a jq program on the host record";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let program = fields.required("jq", "the program", Program("a jq program"));
        let kind = fields.defaulted("type", "the kind of its result", KINDS, "json");
        Some(Self(Source::Jq { program: program?, kind: kind? }))
    }
}

/// A jq program without mistakes in its text; the words say what it is for.
pub(super) struct Program(pub &'static str);

impl Form for Program {
    type Value = String;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<String> {
        let text = Text(self.0).read(reading, node)?;
        match fides_mapping::check_program(&text) {
            Ok(()) => Some(text),
            // What a variable made of it may be secret.
            Err(_) if node.scalar() != Some(text.as_str()) => reading.refuse(node, self.0),
            Err(found) => reading.refuse_at(&node.spot, found, self.0),
        }
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        Text(self.0).schema(definitions)
    }
}
