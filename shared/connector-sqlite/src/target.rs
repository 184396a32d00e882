//! SQLite as target.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{Fencing, Outcome, Sink, Snapshot, Target, Write};
use fides_core::{Change, Fault, Lane, Namespace, Selection, Shape, Table, Version};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use crate::connect::{Database, Mode, create};
use crate::describe::{self, Declared};
use crate::kind::Affinity;
use crate::query::{list, quoted, table};
use crate::snapshot::SqliteSnapshot;
use crate::{apply, kind, lane};

/// Names a file as a target: written through one connection, since SQLite has one writer, and read through at most
/// `connections` snapshots at a time. The file may be missing until [`Target::prepare`] with `create`; one that is no
/// database is a fault here already.
///
/// The file's journal becomes a write-ahead log that is synced at every commit.
pub async fn target(path: &Path, connections: u32) -> Result<Arc<dyn Target>, Fault> {
    let writer = Arc::new(Database::new(path, Mode::Write, 1));
    let readers = Arc::new(Database::new(path, Mode::Read, connections));
    let target = SqliteTarget { writer, readers };
    if target.exists() {
        drop(target.readers.begin_read().await?);
    }
    Ok(Arc::new(target))
}

struct SqliteTarget {
    writer: Arc<Database>,
    readers: Arc<Database>,
}

impl SqliteTarget {
    fn exists(&self) -> bool {
        self.writer.path().exists()
    }
}

#[async_trait]
impl Target for SqliteTarget {
    fn fencing(&self) -> Fencing {
        Fencing::LaneToken
    }

    /// A file that is missing has no namespaces.
    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        if !self.exists() {
            return Ok(None);
        }
        describe::table_of(&self.readers, namespace).await
    }

    async fn prepare(&self, sink: &Sink, shape: &Shape, create_missing: bool) -> Result<(), Fault> {
        if !self.exists() {
            if !create_missing {
                return Err(Fault::permanent(format!(
                    "SQLite file {} does not exist, nor table {} in it",
                    self.writer.path().display(),
                    sink.namespace
                ))
                .advise("correct `path`, or set `create: true`"));
            }
            create(self.writer.path()).await?;
        }
        let database = &self.writer;
        let mut transaction = database.begin_write().await?;
        lane::ensure(database, &mut transaction).await?;
        match describe::columns(database, &mut transaction, &sink.namespace).await? {
            Some(declared) => fits(database, &mut transaction, sink, shape, &declared).await?,
            None if create_missing => {
                create_table(database, &mut transaction, sink, shape).await?;
                lane::forget(database, &mut transaction, &sink.pipeline).await?;
            }
            None => {
                return Err(Fault::permanent(format!(
                    "table {} does not exist in {}",
                    sink.namespace,
                    database.path().display()
                ))
                .advise("correct the name, create the table, or set `create: true`"));
            }
        }
        let commit = transaction.commit().await;
        commit.map_err(|error| database.fault(&format!("table {} could not be prepared", sink.namespace), error))
    }

    async fn claim(&self, _: &Sink, lane: &Lane, token: u64) -> Result<(), Fault> {
        lane::claim(&self.writer, lane, token).await
    }

    async fn claimed(&self, _: &Sink, lane: &Lane) -> Result<Option<u64>, Fault> {
        lane::claimed(&self.writer, lane).await
    }

    async fn apply(&self, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        apply::apply(&self.writer, write, changes).await
    }

    async fn snapshot(&self, _: &Sink, selection: &Selection) -> Result<Arc<dyn Snapshot>, Fault> {
        Ok(Arc::new(SqliteSnapshot::open(self.readers.clone(), selection, Version::default()).await?))
    }
}

/// Creates the table: its key as primary key, types that give every value back.
async fn create_table(
    database: &Database,
    connection: &mut SqliteConnection,
    sink: &Sink,
    shape: &Shape,
) -> Result<(), Fault> {
    let is_key = |at: usize| shape.key.contains(&at);
    let field = |(at, field): (usize, &fides_core::Field)| {
        let not_null = if is_key(at) { " NOT NULL" } else { "" };
        format!("{} {}{not_null}", quoted(&field.name), kind::declared(field.kind, is_key(at)))
    };
    let mut columns: Vec<String> = shape.fields.iter().enumerate().map(field).collect();
    columns.extend(sink.version_field.as_ref().map(|name| format!("{} TEXT", quoted(name))));
    let sql = format!(
        "CREATE TABLE {} ({}, PRIMARY KEY ({}))",
        table(&sink.namespace)?,
        columns.join(", "),
        list(shape.key_names(), quoted)
    );
    let created = sqlx::query(AssertSqlSafe(sql)).execute(connection).await;
    created.map(drop).map_err(|error| database.fault(&format!("table {} could not be created", sink.namespace), error))
}

/// Refuses a table that lacks a column, or whose key would not keep two records apart.
async fn fits(
    database: &Database,
    connection: &mut SqliteConnection,
    sink: &Sink,
    shape: &Shape,
    declared: &[Declared],
) -> Result<(), Fault> {
    let fields = shape.fields.iter().map(|field| field.name.as_str());
    describe::require_columns(&sink.namespace, declared, fields.chain(sink.version_field.as_deref()))?;
    let mut key: Vec<&str> = shape.key_names().collect();
    for name in &key {
        if describe::is_collated(database, connection, &sink.namespace, name).await? {
            return Err(Fault::permanent(format!(
                "key column {}.{name} has a collation under which different keys are equal",
                sink.namespace
            ))
            .advise("declare it with COLLATE BINARY"));
        }
    }
    refuse_converted_keys(database, connection, sink, shape, declared).await?;
    let columns = key.join(", ");
    key.sort_unstable();
    let unique = describe::unique_sets(database, connection, &sink.namespace, declared).await?;
    let is_key = |mut set: Vec<String>| {
        set.sort_unstable();
        set == key
    };
    if unique.into_iter().any(is_key) {
        return Ok(());
    }
    Err(Fault::permanent(format!(
        "table {} has no primary key or unique index over exactly ({columns})",
        sink.namespace
    ))
    .advise("create a unique index over the key fields, so that a record can be found and replaced"))
}

/// SQLite converts what is stored by the column's declared type. A key that it converts is read back as another, which a
/// walk over host and target takes for one that only the target has (L8).
async fn refuse_converted_keys(
    database: &Database,
    connection: &mut SqliteConnection,
    sink: &Sink,
    shape: &Shape,
    declared: &[Declared],
) -> Result<(), Fault> {
    let strict = describe::is_strict(database, connection, &sink.namespace).await?;
    let mut wrong = Vec::new();
    for field in shape.key.iter().map(|&at| &shape.fields[at]) {
        let Some(Declared { column, .. }) = declared.iter().find(|other| other.column.name == field.name) else {
            continue;
        };
        let is_any = strict && column.native.eq_ignore_ascii_case("ANY");
        if !is_any && !Affinity::of(&column.native).keeps(field.kind) {
            let needed = match kind::declared(field.kind, true) {
                "" => "without a type".to_owned(),
                native => format!("of type {native}"),
            };
            wrong.push(format!(
                "key column {} is of type {}, which does not give keys of kind {} back as they were written: a column \
                 {needed} is needed",
                column.name, column.native, field.kind
            ));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Fault::permanent(format!("table {}: {}", sink.namespace, wrong.join("; "))).advise("change the table"))
}
