//! What stands in the way of writing a table, found without writing.

use std::path::Path;

use fides_core::port::{Obstacle, Sink};
use fides_core::{Fault, Shape};
use sqlx::sqlite::SqliteConnection;

use crate::connect::Database;
use crate::describe::{self, Declared};
use crate::kind::{self, Affinity};

/// Of a file that is missing: it may be made, where there is a folder for it.
pub(crate) fn missing_file(path: &Path, create: bool) -> Vec<Obstacle> {
    if !create {
        let missing = Obstacle::new(format!("its file {} does not exist", path.display()));
        return vec![missing.advise("correct `path`, or set `create: true`")];
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Vec::new();
    }
    let missing = Obstacle::new(format!("there is no folder {} to make its file in", folder.display()));
    vec![missing.advise("create the folder, or correct `path`")]
}

/// Of a table: `declared` are its columns, `None` when there is none.
pub(crate) async fn table(
    database: &Database,
    connection: &mut SqliteConnection,
    (sink, shape): (&Sink, &Shape),
    declared: Option<&[Declared]>,
    create: bool,
) -> Result<Vec<Obstacle>, Fault> {
    let Some(declared) = declared else {
        let missing = || {
            Obstacle::new(format!("it does not exist in {}", database.path().display()))
                .advise("correct the name, create the table, or set `create: true`")
        };
        return Ok(Vec::from_iter((!create).then(missing)));
    };
    let strict = describe::is_strict(database, connection, &sink.namespace).await?;
    let mut obstacles = columns(sink, shape, declared);
    obstacles.extend(version(sink, declared, strict));
    obstacles.extend(converted_keys(shape, declared, strict));
    obstacles.extend(key(database, connection, sink, shape, declared).await?);
    Ok(obstacles)
}

/// Every field has a column that can be written, and every other column fills itself.
fn columns(sink: &Sink, shape: &Shape, declared: &[Declared]) -> Vec<Obstacle> {
    let written: Vec<&String> = shape.fields.iter().map(|field| &field.name).chain(&sink.version_field).collect();
    let present = || declared.iter().map(|column| column.column.name.as_str()).collect::<Vec<_>>().join(", ");
    let of_field = |name: &&String| match declared.iter().find(|other| other.column.name == **name) {
        None => Some(
            Obstacle::new(format!("column {name} is missing")).advise(format!("the columns there are: {}", present())),
        ),
        Some(column) if column.generated => {
            Some(Obstacle::new(format!("column {name} is generated: it cannot be written")))
        }
        Some(_) => None,
    };
    let of_rest = |column: &&Declared| {
        let Declared { column, generated, filled, .. } = column;
        !(column.nullable || *generated || *filled || written.contains(&&column.name))
    };
    let unfilled = |column: &Declared| {
        Obstacle::new(format!("column {} is NOT NULL without a default, and no field fills it", column.column.name))
            .advise("map a field to it, or give it a default")
    };
    written.iter().filter_map(of_field).chain(declared.iter().filter(of_rest).map(unfilled)).collect()
}

/// Versions are compared as text. A column of numbers converts hex digits that look like one (`00…1e23`), and then no
/// version is older than any.
fn version(sink: &Sink, declared: &[Declared], strict: bool) -> Option<Obstacle> {
    let column = &declared.iter().find(|other| Some(&other.column.name) == sink.version_field.as_ref())?.column;
    let native = column.native.trim();
    let keeps = Affinity::of(native) == Affinity::Text || native.is_empty() || is_any(native, strict);
    (!keeps).then(|| {
        Obstacle::new(format!(
            "version column {} is of type {native}, which does not give 32 hex digits back as they were written: \
             a column of type TEXT is needed",
            column.name
        ))
    })
}

/// SQLite converts what is stored by the column's declared type. A key that it converts is read back as another, which a
/// walk over host and target takes for one that only the target has (L8).
fn converted_keys(shape: &Shape, declared: &[Declared], strict: bool) -> Vec<Obstacle> {
    let converted = |&at: &usize| {
        let field = &shape.fields[at];
        let column = &declared.iter().find(|other| other.column.name == field.name)?.column;
        if is_any(&column.native, strict) || Affinity::of(&column.native).keeps(field.kind) {
            return None;
        }
        let needed = match kind::declared(field.kind, true) {
            "" => "without a type".to_owned(),
            native => format!("of type {native}"),
        };
        Some(Obstacle::new(format!(
            "key column {} is of type {}, which does not give keys of kind {} back as they were written: a column \
             {needed} is needed",
            column.name, column.native, field.kind
        )))
    };
    shape.key.iter().filter_map(converted).collect()
}

/// A column of a STRICT table that converts nothing.
fn is_any(native: &str, strict: bool) -> bool {
    strict && native.trim().eq_ignore_ascii_case("ANY")
}

/// The key tells any two records apart, and no two spellings of one.
async fn key(
    database: &Database,
    connection: &mut SqliteConnection,
    sink: &Sink,
    shape: &Shape,
    declared: &[Declared],
) -> Result<Vec<Obstacle>, Fault> {
    let mut obstacles = Vec::new();
    let mut key: Vec<&str> = shape.key_names().collect();
    if !key.iter().all(|name| declared.iter().any(|other| other.column.name == *name)) {
        return Ok(obstacles);
    }
    for name in &key {
        if describe::is_collated(database, connection, &sink.namespace, name).await? {
            let what =
                format!("key column {}.{name} has a collation under which different keys are equal", sink.namespace);
            obstacles.push(Obstacle::new(what).advise("declare it with COLLATE BINARY"));
        }
    }
    let columns = key.join(", ");
    key.sort_unstable();
    let is_key = |mut set: Vec<String>| {
        set.sort_unstable();
        set == key
    };
    let unique = describe::unique_sets(database, connection, &sink.namespace, declared).await?;
    if !unique.into_iter().any(is_key) {
        let what = format!("there is no primary key or unique index over exactly ({columns})");
        let advice = "create a unique index over the key fields, so that a record can be found and replaced";
        obstacles.push(Obstacle::new(what).advise(advice));
    }
    Ok(obstacles)
}
