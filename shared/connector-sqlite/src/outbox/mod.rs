//! The log of a host: triggers that write the keys of changed records into a table beside them, the outbox.
//!
//! SQLite has one writer at a time, so that the sequence of the outbox is the order of commits: whoever sees a row of it
//! sees every lower one, and the change that it tells of. A row names a key only. Whoever reads it fetches the present
//! record in the same read transaction: a state that is never older than its label, and in which absence is proven (L8).
//!
//! Positions are sequences. A place, which a reader stores, also carries 16 random bits of its row: a file that was
//! restored and has grown past the place since has another row there.

mod check;
mod install;
mod installed;
mod log;
mod readers;
mod roots;
mod schema;

use std::sync::Arc;

use fides_core::port::Lineage;
use fides_core::{Fault, PipelineId, Selection, Version};
use sqlx::sqlite::SqliteConnection;

use crate::connect::{Database, Mode};
use crate::snapshot::SqliteSnapshot;

pub(crate) use check::check;
pub use install::{install_outbox, remove_outbox};
pub(crate) use log::open;

/// What makes the outbox and its triggers.
const COMMAND: &str = "run: fides init --events";

/// A file whose outbox is read, and its writer: only Fides' own tables are ever written.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    pub(crate) readers: Arc<Database>,
    pub(crate) writer: Arc<Database>,
}

impl Outbox {
    pub(crate) fn new(readers: Arc<Database>) -> Self {
        let writer = Arc::new(Database::new(readers.path(), Mode::Look, 1));
        Self { readers, writer }
    }

    /// Who orders states: the outbox, by its name; without one `None`.
    pub(crate) async fn lineage(&self) -> Result<Option<Lineage>, Fault> {
        let mut connection = self.readers.acquire().await?;
        Ok(installed::id(&self.readers, &mut connection).await?.map(|id| lineage_of(&id)))
    }

    /// A state with its exact position: behind everything that it sees, before everything that it does not (DESIGN §5).
    ///
    /// The sequence is raised first, so that a later state has a higher position even where nothing was told: then an
    /// import still mends what was written while triggers were missing.
    pub(crate) async fn snapshot(
        &self,
        selection: &Selection,
        expected: &Lineage,
        epoch: u32,
    ) -> Result<SqliteSnapshot, Fault> {
        let doing = "the sequence of its outbox could not be raised";
        let mut transaction = self.writer.begin_write().await?;
        let raised = sqlx::query(schema::RAISE).execute(&mut *transaction).await;
        raised.map_err(|error| self.writer.fault(doing, error))?;
        transaction.commit().await.map_err(|error| self.writer.fault(doing, error))?;

        let mut transaction = self.readers.begin_read().await?;
        self.require(&mut transaction, expected).await?;
        let position = readers::last(&self.readers, &mut transaction).await?;
        let position = u64::try_from(position).unwrap_or_default() + 1;
        SqliteSnapshot::within(self.readers.clone(), transaction, selection, Version::scan(epoch, position)).await
    }

    /// Refuses another outbox than the one that the epoch belongs to.
    async fn require(&self, connection: &mut SqliteConnection, expected: &Lineage) -> Result<(), Fault> {
        let found = installed::id(&self.readers, connection).await?.map(|id| lineage_of(&id));
        if found.as_ref() == Some(expected) {
            return Ok(());
        }
        let found = found.map_or_else(|| "no outbox".to_owned(), |found| found.0);
        Err(Fault::transient(format!(
            "{}: found {found}, expected {}: the outbox was removed or made anew",
            self.readers.path().display(),
            expected.0
        )))
    }

    /// Bytes of the rows that wait for `reader`, by the size of the latest ones.
    pub(crate) async fn lag(&self, reader: &PipelineId) -> Result<Option<u64>, Fault> {
        let mut connection = self.readers.acquire().await?;
        if installed::id(&self.readers, &mut connection).await?.is_none() {
            return Ok(None);
        }
        readers::lag(&self.readers, &mut connection, reader).await
    }

    /// Keeps nothing for `reader` any more.
    pub(crate) async fn forget(&self, reader: &PipelineId) -> Result<(), Fault> {
        if self.lineage().await?.is_none() {
            return Ok(());
        }
        readers::forget(&self.writer, reader).await
    }
}

fn lineage_of(id: &str) -> Lineage {
    Lineage(format!("sqlite:outbox:{id}"))
}

/// A place in the outbox: a row, and what tells it from another row of the same sequence in another copy of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    sequence: i64,
    nonce: u16,
}

impl Place {
    fn of(stored: u64) -> Self {
        Self { sequence: i64::try_from(stored >> 16).unwrap_or(i64::MAX), nonce: (stored & 0xffff) as u16 }
    }

    fn stored(self) -> u64 {
        self.sequence.cast_unsigned() << 16 | u64::from(self.nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_what_was_stored() {
        for place in [Place { sequence: 1, nonce: 0 }, Place { sequence: (1 << 47) - 1, nonce: 0xffff }] {
            assert_eq!(Place::of(place.stored()), place);
        }
        assert!(Place { sequence: 2, nonce: 0 }.stored() > Place { sequence: 1, nonce: 9 }.stored());
    }
}
