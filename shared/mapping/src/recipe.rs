//! A mapping and what it reads as bytes, the same on every platform and build: hashed they are its revision, kept they are
//! what it is made again of (DESIGN §9).

use fides_core::{Arity, Column, Fault, Include, Kind, Namespace, Reader, Value, encode_value};
use fides_core::{put_bytes, put_varint, read_value};

use crate::spec::{Fields, Source, Spec};

/// Rises when this crate maps the same mapping differently than before: an older recipe would then make another mapper.
const FORMAT: u64 = 1;
/// Objects and includes of foreign bytes nest at most this deep.
const DEPTH_MAX: usize = 64;

/// Everything that a document depends on: the mapping as it is written, and what is read of the host.
pub(crate) fn encode(spec: &Spec, columns: &[Column], includes: &[Include]) -> Vec<u8> {
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
    out
}

/// Seeds fingerprints.
pub(crate) fn revision(recipe: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(recipe)
}

/// Reads what [`encode`] wrote. A recipe of another format is a fault: this release would map by it differently.
pub(crate) fn decode(recipe: &[u8]) -> Result<(Spec, Vec<Column>, Vec<Include>), Fault> {
    let mut reader = Reader::new(recipe, "recipe of a mapping");
    let format = reader.varint()?;
    if format != FORMAT {
        return Err(Fault::permanent(format!(
            "the mapping was kept by a release of format {format}; this release maps by format {FORMAT}"
        )));
    }
    let fields = match reader.u8()? {
        0 => Fields::Same(None),
        1 => Fields::Same(Some(names(&mut reader)?)),
        2 => Fields::Mapped(sources(&mut reader, 0)?),
        _ => return Err(reader.corrupt()),
    };
    let when = option(&mut reader)?;
    let key = names(&mut reader)?;
    let columns = columns(&mut reader)?;
    let includes = includes(&mut reader, 0)?;
    let spec = Spec { fields, when, key };
    if reader.is_empty() { Ok((spec, columns, includes)) } else { Err(reader.corrupt()) }
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

fn option(reader: &mut Reader<'_>) -> Result<Option<String>, Fault> {
    let is_some = reader.varint()? == 1;
    let text = reader.str()?;
    Ok(is_some.then(|| text.to_owned()))
}

fn names(reader: &mut Reader<'_>) -> Result<Vec<String>, Fault> {
    let count = reader.count()?;
    (0..count).map(|_| reader.str().map(ToOwned::to_owned)).collect()
}

fn kind(reader: &mut Reader<'_>) -> Result<Kind, Fault> {
    named(reader.str()?).ok_or_else(|| reader.corrupt())
}

fn named(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name)
}

fn sources(reader: &mut Reader<'_>, depth: usize) -> Result<Vec<(String, Source)>, Fault> {
    if depth > DEPTH_MAX {
        return Err(reader.corrupt());
    }
    let count = reader.count()?;
    (0..count).map(|_| Ok((reader.str()?.to_owned(), source(reader, depth)?))).collect()
}

fn source(reader: &mut Reader<'_>, depth: usize) -> Result<Source, Fault> {
    Ok(match reader.u8()? {
        0 => {
            let path = names(reader)?;
            let cast = option(reader)?.map(|name| named(&name).ok_or_else(|| reader.corrupt())).transpose()?;
            let default = Some(read_value(reader)?.into_owned()).filter(|value| *value != Value::Absent);
            Source::Column { path, cast, default }
        }
        1 => Source::Object(sources(reader, depth + 1)?),
        2 => Source::Const(read_value(reader)?.into_owned()),
        3 => Source::Jq { program: reader.str()?.to_owned(), kind: kind(reader)? },
        _ => return Err(reader.corrupt()),
    })
}

fn columns(reader: &mut Reader<'_>) -> Result<Vec<Column>, Fault> {
    let count = reader.count()?;
    let column = |_| {
        let (name, kind) = (reader.str()?.to_owned(), kind(reader)?);
        Ok(Column { name, kind, native: String::new(), nullable: true })
    };
    (0..count).map(column).collect()
}

fn includes(reader: &mut Reader<'_>, depth: usize) -> Result<Vec<Include>, Fault> {
    if depth > DEPTH_MAX {
        return Err(reader.corrupt());
    }
    let count = reader.count()?;
    (0..count).map(|_| include(reader, depth)).collect()
}

fn include(reader: &mut Reader<'_>, depth: usize) -> Result<Include, Fault> {
    let name = reader.str()?.to_owned();
    let namespace = Namespace(names(reader)?);
    let count = reader.count()?;
    let pair = |_| Ok((reader.str()?.to_owned(), reader.str()?.to_owned()));
    let on = (0..count).map(pair).collect::<Result<_, Fault>>()?;
    let arity = match reader.u8()? {
        0 => Arity::One,
        1 => Arity::Many,
        _ => return Err(reader.corrupt()),
    };
    let columns = columns(reader)?;
    let order_by = names(reader)?;
    Ok(Include { name, namespace, on, arity, columns, order_by, includes: includes(reader, depth + 1)? })
}
