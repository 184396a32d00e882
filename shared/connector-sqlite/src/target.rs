//! SQLite as target.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{Fencing, Obstacle, Outcome, Sink, Snapshot, Target, Write};
use fides_core::{Change, Fault, Lane, Namespace, Selection, Shape, Table, Version};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use crate::connect::{Database, Mode, create, write_lock};
use crate::describe;
use crate::query::{list, quoted, table};
use crate::snapshot::SqliteSnapshot;
use crate::{apply, inspect, kind, lane};

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

    async fn inspect(&self, sink: &Sink, shape: &Shape, create_missing: bool) -> Result<Vec<Obstacle>, Fault> {
        let database = &self.readers;
        if !self.exists() {
            return Ok(inspect::missing_file(database.path(), create_missing));
        }
        let mut connection = database.begin_read().await?;
        let declared = describe::columns(database, &mut connection, &sink.namespace).await?;
        let found = inspect::table(database, &mut connection, (sink, shape), declared.as_deref(), create_missing);
        let found = found.await?;
        write_lock(database.path()).await?;
        Ok(found)
    }

    async fn prepare(&self, sink: &Sink, shape: &Shape, create_missing: bool) -> Result<(), Fault> {
        if !self.exists() {
            Obstacle::refuse(&sink.namespace, &inspect::missing_file(self.writer.path(), create_missing))?;
            create(self.writer.path()).await?;
        }
        let database = &self.writer;
        let mut transaction = database.begin_write().await?;
        let declared = describe::columns(database, &mut transaction, &sink.namespace).await?;
        let found = inspect::table(database, &mut transaction, (sink, shape), declared.as_deref(), create_missing);
        Obstacle::refuse(&sink.namespace, &found.await?)?;
        lane::ensure(database, &mut transaction).await?;
        if declared.is_none() {
            create_table(database, &mut transaction, sink, shape).await?;
            lane::forget(database, &mut transaction, &sink.pipeline).await?;
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
