//! Compiled mappings on records, as their users see them.

mod documents;
mod jq;
mod mistakes;
mod properties;
mod recall;

use fides_core::port::Mapped;
use fides_core::{Arity, Column, Fault, Include, Kind, Namespace, Table, Value, decode_row};
use fides_format::document_to_json;

use crate::{Compiled, Fields, MappingError, Source, Spec, compile};

fn column(name: &str, kind: Kind) -> Column {
    Column { name: name.into(), kind, native: format!("native {kind}"), nullable: true }
}

/// A table with a column of each kind, named after it, and the key `id`.
fn table() -> Table {
    let kinds = Kind::ALL.into_iter().map(|kind| column(kind.name(), kind));
    Table {
        columns: [column("id", Kind::I64), column("a.b", Kind::String)].into_iter().chain(kinds).collect(),
        primary_key: vec!["id".into()],
        references: Vec::new(),
        unique: vec![vec!["id".into()]],
        contested: Vec::new(),
        records_estimate: 1,
        warnings: Vec::new(),
        store_warnings: Vec::new(),
    }
}

/// `country` (one) with `continent` (one) in it, and `lines` (many).
fn includes() -> Vec<Include> {
    let include = |name: &str, arity, columns: Vec<Column>, includes| Include {
        name: name.into(),
        namespace: Namespace(vec![name.into()]),
        on: vec![("id".into(), "i64".into())],
        arity,
        columns,
        order_by: Vec::new(),
        includes,
    };
    let continent = include("continent", Arity::One, vec![column("name", Kind::String)], Vec::new());
    let country = vec![
        column("name", Kind::String),
        column("population", Kind::I64),
        column("since", Kind::TimestampTz),
        column("area", Kind::Decimal),
        column("flag", Kind::Bytes),
        column("facts", Kind::Json),
    ];
    vec![
        include("country", Arity::One, country, vec![continent]),
        include("lines", Arity::Many, vec![column("price", Kind::Decimal)], Vec::new()),
    ]
}

fn text(text: &str) -> Value<'_> {
    Value::String(text.into())
}

fn path(path: &[&str], cast: Option<Kind>, default: Option<Value<'static>>) -> Source {
    Source::Column { path: path.iter().map(|&name| name.to_owned()).collect(), cast, default }
}

fn program(program: &str, kind: Kind) -> Source {
    Source::Jq { program: program.to_owned(), kind }
}

/// A mapping of `id` and these fields.
fn spec(fields: Vec<(&str, Source)>) -> Spec {
    let fields = fields.into_iter().map(|(name, source)| (name.to_owned(), source));
    let id = ("id".to_owned(), Source::column("id"));
    Spec { fields: Fields::Mapped([id].into_iter().chain(fields).collect()), when: None, key: vec!["id".into()] }
}

fn mistakes(spec: &Spec) -> Vec<String> {
    let Err(errors) = compile(spec, &table(), &includes()) else { panic!("a mistake was accepted: {spec:?}") };
    errors.iter().map(MappingError::to_string).collect()
}

fn compiled(spec: &Spec) -> Compiled {
    compile(spec, &table(), &includes()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn reads(compiled: &Compiled) -> Vec<&str> {
    let columns = compiled.columns.iter().map(|column| column.name.as_str());
    columns.chain(compiled.includes.iter().map(|include| include.name.as_str())).collect()
}

/// The selected values of a record that has these and is NULL otherwise; its id is 1.
fn record<'v>(compiled: &Compiled, values: &[(&str, Value<'v>)]) -> Vec<Value<'v>> {
    let value = |name: &str| {
        let given = values.iter().find(|(given, _)| *given == name).map(|(_, value)| value.clone());
        given.unwrap_or(if name == "id" { Value::I64(1) } else { Value::Null })
    };
    reads(compiled).into_iter().map(value).collect()
}

/// The document as JSON, `-` where there is none.
fn map(spec: &Spec, values: &[(&str, Value<'_>)]) -> Result<String, Fault> {
    let compiled = compiled(spec);
    let mut out = Vec::new();
    let mapped = compiled.mapper.map(&record(&compiled, values), &mut out)?;
    if mapped == Mapped::Excluded {
        assert!(out.is_empty());
        return Ok("-".to_owned());
    }
    Ok(document_to_json(compiled.mapper.shape(), &decode_row(&out)?))
}

/// The value of one field.
fn field(source: Source, values: &[(&str, Value<'_>)]) -> Result<Value<'static>, Fault> {
    let compiled = compiled(&spec(vec![("x", source)]));
    let mut out = b"before".to_vec();
    if let Err(fault) = compiled.mapper.map(&record(&compiled, values), &mut out) {
        assert_eq!(out, b"before", "a fault leaves the document out");
        assert_eq!(fault.kind, fides_core::FaultKind::Permanent);
        return Err(fault);
    }
    let row = decode_row(&out[b"before".len()..])?;
    Ok(row[1].clone().into_owned())
}
