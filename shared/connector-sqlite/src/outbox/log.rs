//! The port's log: pages of the outbox, each with the present records of the keys that it names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fides_core::port::{Lineage, Log, LogPage, Logged, Opened, What};
use fides_core::{Fault, Key, PipelineId, Selection, Version};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::installed::Installed;
use super::roots::Path;
use super::schema::key_columns;
use super::{Outbox, Place, readers};
use crate::connect::{Database, Mode};
use crate::reading::Reading;

/// How often an idle log looks whether somebody has committed: a look reads a counter in shared memory, or the file's
/// first page, and costs some microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Opens the log of a selection behind a stored place, or at its present end.
pub(crate) async fn open(
    outbox: &Outbox,
    selection: &Selection,
    expected: &Lineage,
    reader: &PipelineId,
    after: Option<u64>,
) -> Result<Opened, Fault> {
    let fault = |error| outbox.writer.fault("its outbox could not be opened", error);
    let mut transaction = outbox.writer.begin_write().await?;
    let installed = Installed::require(&outbox.writer, &mut transaction, selection).await?;
    outbox.require(&mut transaction, expected).await?;
    let after = after.map(Place::of);
    let (place, gap) = readers::enter(&outbox.writer, &mut transaction, reader, installed.since, after).await?;
    transaction.commit().await.map_err(fault)?;

    // Its own connection: it looks for commits all its life, and snapshots have theirs.
    let database = Arc::new(Database::new(outbox.readers.path(), Mode::Read, 1));
    let mut connection = database.acquire().await?;
    let mut transaction = connection.begin().await.map_err(fault)?;
    let tail = Tail::open(database, &mut transaction, selection, installed).await?;
    transaction.rollback().await.map_err(fault)?;
    let from = place.stored();
    let log = OutboxLog { writer: outbox.writer.clone(), reader: reader.clone(), connection, tail, place, part: None };
    Ok(Opened { log: Box::new(log), from, gap })
}

/// An outbox that is being read. Dropping it ends its connection; its place stays.
struct OutboxLog {
    writer: Arc<Database>,
    reader: PipelineId,
    connection: PoolConnection<Sqlite>,
    tail: Tail,
    /// Everything up to here was handed over.
    place: Place,
    /// Of what follows, a part that does not fit one page.
    part: Option<Part>,
}

/// How rows of the outbox become records.
struct Tail {
    database: Arc<Database>,
    reading: Reading,
    installed: Installed,
    /// Ways from included tables to the root.
    paths: Vec<Path>,
    /// The file's schema when it was looked at: when it changes, so may what is watched.
    schema: i64,
}

/// Rows of the outbox that are handed over in several pages, because many roots nest what they tell of.
#[derive(Clone)]
struct Part {
    /// The last of these rows.
    through: Place,
    /// Ways whose roots were not handed over yet, the present one last.
    paths: Vec<usize>,
    /// Of the present one, the last root that was.
    after: Option<Key>,
}

#[async_trait]
impl Log for OutboxLog {
    /// Polls the file's change counter: nobody is told of a commit by SQLite.
    async fn next(&mut self) -> Result<LogPage, Fault> {
        loop {
            // Before the rows: what is committed in between is looked for once more.
            let seen = self.changes().await?;
            if let Some(page) = self.page().await? {
                return Ok(page);
            }
            while self.changes().await? == seen {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn release(&mut self, place: u64) -> Result<(), Fault> {
        readers::release(&self.writer, &self.reader, Place::of(place)).await
    }
}

impl OutboxLog {
    /// A counter that other connections' commits change.
    async fn changes(&mut self) -> Result<i64, Fault> {
        let counter = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut *self.connection).await;
        counter.map_err(|error| self.tail.fault(error))
    }

    /// What follows the place, in one state of the file; `None` where nothing does.
    async fn page(&mut self) -> Result<Option<LogPage>, Fault> {
        let mut transaction = self.connection.begin().await.map_err(|error| self.tail.fault(error))?;
        self.tail.renew(&mut transaction, self.place).await?;
        if !readers::is_kept(&self.tail.database, &mut transaction, &self.reader).await? {
            return Err(readers::forgotten(&self.tail.database, &self.reader));
        }
        let mut keys = BTreeMap::new();
        let part = match self.part.clone() {
            Some(part) => part,
            None => match self.tail.rows(&mut transaction, self.place, &mut keys).await? {
                Some(part) => part,
                None => return Ok(None),
            },
        };
        let (part, through) = self.tail.nested(&mut transaction, self.place, part, &mut keys).await?;
        let place = if part.is_none() { through } else { self.place };
        let page = self.tail.records(&mut transaction, keys, place).await?;
        transaction.rollback().await.map_err(|error| self.tail.fault(error))?;
        (self.part, self.place) = (part, place);
        Ok(Some(page))
    }
}

impl Tail {
    async fn open(
        database: Arc<Database>,
        connection: &mut SqliteConnection,
        selection: &Selection,
        installed: Installed,
    ) -> Result<Self, Fault> {
        let schema = schema(&database, connection).await?;
        let reading = Reading::open(database.clone(), connection, selection).await?;
        let nested = installed.watched.get(1..).unwrap_or_default();
        let paths = Path::all(&reading, nested)?;
        Ok(Self { database, reading, installed, paths, schema })
    }

    fn fault(&self, error: sqlx::Error) -> Fault {
        self.database.fault("its outbox could not be read", error)
    }

    /// Looks again where the schema has changed: a trigger that is gone tells nothing, without a word.
    async fn renew(&mut self, connection: &mut SqliteConnection, place: Place) -> Result<(), Fault> {
        if schema(&self.database, connection).await? == self.schema {
            return Ok(());
        }
        let selection = self.reading.selection.clone();
        let installed = Installed::require(&self.database, connection, &selection).await?;
        if installed.lineage != self.installed.lineage || installed.since > place.sequence {
            let path = self.database.path().display();
            return Err(Fault::transient(format!("{path}: the outbox or its triggers were made anew")));
        }
        *self = Self::open(self.database.clone(), connection, &selection, installed).await?;
        Ok(())
    }

    /// The next rows: puts the roots' keys that they name into `keys`, each with the last row that does.
    async fn rows(
        &self,
        connection: &mut SqliteConnection,
        place: Place,
        keys: &mut BTreeMap<Key, i64>,
    ) -> Result<Option<Part>, Fault> {
        let width = self.reading.key.len();
        let sql = format!(
            "SELECT sequence, nonce, watched, {} FROM main._fides_outbox WHERE sequence > ?1 ORDER BY sequence LIMIT {}",
            key_columns(width),
            self.records_max()
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(place.sequence).fetch_all(connection).await;
        let rows = rows.map_err(|error| self.fault(error))?;
        let root = self.installed.watched.first().copied();
        let (mut through, mut paths) = (None, Vec::new());
        for row in &rows {
            let (at, watched) = self.told(row)?;
            through = Some(at);
            if watched.is_some() && watched == root {
                match self.reading.key_at(row, 3) {
                    Ok(key) => drop(keys.insert(key, at.sequence)),
                    // No target has a record of it; while the row is there, imports say what is wrong.
                    Err(fault) => tracing::warn!(sequence = at.sequence, %fault, "a change of a record without a key"),
                }
            }
            let ways = self.paths.iter().enumerate().filter(|(_, path)| watched == Some(path.watched));
            for (at, _) in ways {
                if !paths.contains(&at) {
                    paths.push(at);
                }
            }
        }
        Ok(through.map(|through| Part { through, paths, after: None }))
    }

    fn told(&self, row: &SqliteRow) -> Result<(Place, Option<i64>), Fault> {
        let told = || {
            let nonce: i64 = row.try_get(1)?;
            Ok((Place { sequence: row.try_get(0)?, nonce: (nonce & 0xffff) as u16 }, row.try_get(2)?))
        };
        told().map_err(|error| self.fault(error))
    }

    /// Adds roots that nest what the rows of `part` tell of, as many as fit; gives what is left of it, and its end.
    async fn nested(
        &self,
        connection: &mut SqliteConnection,
        place: Place,
        mut part: Part,
        keys: &mut BTreeMap<Key, i64>,
    ) -> Result<(Option<Part>, Place), Fault> {
        let between = (place.sequence, part.through.sequence);
        while let Some(&at) = part.paths.last() {
            let room = self.records_max().saturating_sub(keys.len());
            if room == 0 {
                let through = part.through;
                return Ok((Some(part), through));
            }
            let path = &self.paths[at];
            let roots = path.roots(connection, &self.reading, between, part.after.as_ref(), room).await?;
            part.after = roots.last().filter(|_| roots.len() == room).map(|(key, _)| key.clone());
            if part.after.is_none() {
                part.paths.pop();
            }
            for (key, sequence) in roots {
                let last = keys.entry(key).or_insert(sequence);
                *last = sequence.max(*last);
            }
        }
        Ok((None, part.through))
    }

    /// The present records under `keys`. Absent ones are gone: this state has seen the change (L8).
    async fn records(
        &self,
        connection: &mut SqliteConnection,
        keys: BTreeMap<Key, i64>,
        place: Place,
    ) -> Result<LogPage, Fault> {
        let wanted: Vec<Key> = keys.keys().cloned().collect();
        let page = self.reading.fetch(connection, &wanted, Version::default()).await?;
        let logged = |(key, sequence): (Key, i64)| {
            let what = match page.find(key.as_bytes()) {
                Some(at) => What::Row { key, at },
                None => What::Gone(key),
            };
            Logged { position: sequence.cast_unsigned(), sequence: 1, what }
        };
        let mut changes: Vec<Logged> = keys.into_iter().map(logged).collect();
        changes.sort_by_key(|logged| logged.position);
        Ok(LogPage {
            changes,
            rows: page.rows,
            fingerprints: page.fingerprints,
            decoder: page.decoder,
            place: place.stored(),
        })
    }

    fn records_max(&self) -> usize {
        self.reading.selection.page_records_max.max(1)
    }
}

async fn schema(database: &Database, connection: &mut SqliteConnection) -> Result<i64, Fault> {
    let version = sqlx::query_scalar("PRAGMA schema_version").fetch_one(connection).await;
    version.map_err(|error| database.fault("its schema could not be read", error))
}
