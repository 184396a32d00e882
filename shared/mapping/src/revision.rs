use fides_core::{Arity, Column, Include, Value, encode_value, put_bytes, put_varint};

use crate::spec::{Fields, Source, Spec};

/// Rises when this crate maps the same mapping differently than before.
const FORMAT: u64 = 1;

/// Hash of everything that a document depends on, the same on every platform and build: the mapping as it is written,
/// and what is read of the host.
pub(crate) fn revision(spec: &Spec, columns: &[Column], includes: &[Include]) -> u64 {
    let mut out = Vec::new();
    put_varint(&mut out, FORMAT);
    match &spec.fields {
        Fields::Same(None) => out.push(0),
        Fields::Same(Some(names)) => {
            out.push(1);
            put_names(&mut out, names);
        }
        Fields::Mapped(fields) => {
            out.push(2);
            put_sources(&mut out, fields);
        }
    }
    put_option(&mut out, spec.when.as_deref());
    put_names(&mut out, &spec.key);
    put_columns(&mut out, columns);
    put_includes(&mut out, includes);
    xxhash_rust::xxh3::xxh3_64(&out)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_option(out: &mut Vec<u8>, text: Option<&str>) {
    put_varint(out, text.is_some().into());
    put_text(out, text.unwrap_or_default());
}

fn put_names(out: &mut Vec<u8>, names: &[String]) {
    put_varint(out, names.len() as u64);
    for name in names {
        put_text(out, name);
    }
}

fn put_sources(out: &mut Vec<u8>, fields: &[(String, Source)]) {
    put_varint(out, fields.len() as u64);
    for (name, source) in fields {
        put_text(out, name);
        put_source(out, source);
    }
}

fn put_source(out: &mut Vec<u8>, source: &Source) {
    match source {
        Source::Column { path, cast, default } => {
            out.push(0);
            put_names(out, path);
            put_option(out, cast.map(fides_core::Kind::name));
            encode_value(out, default.as_ref().unwrap_or(&Value::Absent));
        }
        Source::Object(fields) => {
            out.push(1);
            put_sources(out, fields);
        }
        Source::Const(value) => {
            out.push(2);
            encode_value(out, value);
        }
        Source::Jq { program, kind } => {
            out.push(3);
            put_text(out, program);
            put_text(out, kind.name());
        }
    }
}

fn put_columns(out: &mut Vec<u8>, columns: &[Column]) {
    put_varint(out, columns.len() as u64);
    for column in columns {
        put_text(out, &column.name);
        put_text(out, column.kind.name());
    }
}

fn put_includes(out: &mut Vec<u8>, includes: &[Include]) {
    put_varint(out, includes.len() as u64);
    for include in includes {
        put_text(out, &include.name);
        put_names(out, &include.namespace.0);
        put_varint(out, include.on.len() as u64);
        for (own, parent) in &include.on {
            put_text(out, own);
            put_text(out, parent);
        }
        out.push(u8::from(include.arity == Arity::Many));
        put_columns(out, &include.columns);
        put_names(out, &include.order_by);
        put_includes(out, &include.includes);
    }
}
