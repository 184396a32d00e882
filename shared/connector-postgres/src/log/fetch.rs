//! What the log does not carry, read from the tables, in a state that has seen the changes.

use std::sync::Arc;
use std::time::Duration;

use fides_core::{Fault, Key, Page, PageBuilder};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio::time::timeout;

use super::columns::{Found, Mismatch};
use crate::connect::{Session, Sessions, run};
use crate::fault::fault;
use crate::quote;
use crate::read::Reading;
use crate::stream::{Pages, Rows};

/// How long a transaction that is in the log may stay invisible.
const VISIBLE_MS_MAX: u64 = 20_000;
/// The longest pause between two looks.
const PAUSE_MS_MAX: u64 = 100;

/// Reads records on a connection of its own.
pub(super) struct Fetcher {
    pub(super) sessions: Arc<Sessions>,
    pub(super) reading: Reading,
    pub(super) pages: Pages,
}

impl Fetcher {
    pub(super) async fn session(&self) -> Result<Session, Fault> {
        self.sessions.take(|| ()).await
    }

    /// Begins a transaction that sees these ones; returns the label of the state that it reads. In the log a transaction comes
    /// before it is visible: by little, or by long where a synchronous standby does not answer. They become visible in any order.
    pub(super) async fn begin(&self, session: &mut Session, transactions: &[u32]) -> Result<(u64, u32), Fault> {
        let looking = async {
            let mut pause_ms = 1;
            loop {
                let (label, lacking) = look(session.connection(), transactions).await?;
                let Some(id) = lacking else { return Ok(label) };
                tracing::trace!(id, "a transaction of the log is not visible yet");
                let ending = |error| fault("asking which transactions are visible", error);
                run(session.connection(), "ROLLBACK".to_owned()).await.map_err(ending)?;
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
            }
        };
        timeout(Duration::from_millis(VISIBLE_MS_MAX), looking).await.unwrap_or_else(|_| Err(self.waited()))
    }

    fn waited(&self) -> Fault {
        Fault::transient(format!(
            "table {}: a transaction is in the log and was not visible within {VISIBLE_MS_MAX} ms",
            self.reading.lines.place
        ))
        .advise("does a synchronous standby not answer? SELECT * FROM pg_stat_replication")
    }

    /// The keys of roots under a condition, behind `after`, at most `keys_max`.
    pub(super) async fn roots(
        &self,
        session: &mut Session,
        condition: &str,
        after: Option<&Key>,
        keys_max: usize,
    ) -> Result<Vec<Key>, Fault> {
        let sql = self.reading.roots(condition, after, keys_max)?;
        let mut rows = Rows::open(session, &sql, &self.reading.lines.place).await?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next().await? {
            keys.push(super::columns::key(&self.reading.lines, &row)?);
        }
        Ok(keys)
    }

    /// The records under `keys` that there are.
    pub(super) async fn fetch(&self, session: &mut Session, mut keys: Vec<Key>) -> Result<Page, Fault> {
        keys.sort();
        let mut page = PageBuilder::new(self.pages.seed);
        if let Some(sql) = self.reading.keys(keys.iter())? {
            self.pages.read_all(session, &sql, &mut page).await?;
        }
        Ok(page.finish(self.pages.version, self.pages.lines.clone(), false))
    }

    /// The fault of a table that is not what it was.
    pub(super) async fn explain(&self, mismatch: &Mismatch, slot: &str) -> Fault {
        let Mismatch { place, column, expected, found } = mismatch;
        let text = match found {
            Found::Table(name) => format!("table {place} is called {name} in the log"),
            Found::Nothing => format!("table {place}: column {column} is not in the log; expected: {expected}"),
            Found::NoIdentity => format!("table {place}: column {column} is not part of the replica identity any more"),
            Found::Type(oid) => {
                let found = self.type_name(*oid).await.unwrap_or_else(|_| format!("the type with OID {oid}"));
                format!("table {place}: column {column} is {found} in the log; expected: {expected}")
            }
        };
        Fault::permanent(text).advise(format!(
            "the table was changed. If the configuration fits it as it is now, what the log still has of the time before \
             is in the way; run: SELECT pg_drop_replication_slot({}): an import finds what it missed",
            quote::text(slot)
        ))
    }

    async fn type_name(&self, oid: u32) -> Result<String, Fault> {
        let mut session = self.session().await?;
        let name = sqlx::query_scalar("SELECT pg_catalog.format_type($1::oid, NULL)").bind(i64::from(oid));
        let name = name.fetch_one(session.connection()).await.map_err(|error| fault("looking up a type", error))?;
        session.give_back();
        Ok(name)
    }
}

/// Begins a transaction and takes its snapshot. Its label, and one of the transactions that it does not see.
///
/// The label is where the log ends on disk, and how many transactions have ended: of two snapshots one after the other the later
/// has the higher label, unless both see the same. In one message: a plan that is asked for first would take the snapshot, and
/// the end of the log would be found whenever this process goes on.
///
/// The log has the lower half of a transaction's id. The upper one is that of the nearest whole id to the next one that this
/// snapshot knows, which may be the smaller of the two: it counts what is visible.
async fn look(connection: &mut PgConnection, transactions: &[u32]) -> Result<((u64, u32), Option<i64>), Fault> {
    let ids: Vec<String> = transactions.iter().map(u32::to_string).collect();
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
        SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint, \
          (next - (SELECT count(*) FROM pg_snapshot_xip(s))) % 4294967296, \
          (SELECT x FROM unnest('{{{}}}'::bigint[]) AS x WHERE NOT pg_visible_in_snapshot( \
            greatest(next + (x - next % 4294967296 + 6442450944) % 4294967296 - 2147483648, 3)::text::xid8, s) LIMIT 1) \
        FROM (SELECT s, pg_snapshot_xmax(s)::text::bigint AS next FROM pg_current_snapshot() AS s) AS n",
        ids.join(",")
    );
    let looking = |error| fault("asking which transactions are visible", error);
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(connection).await.map_err(looking)?;
    let (end, ended): (i64, i64) = (row.try_get(0).map_err(looking)?, row.try_get(1).map_err(looking)?);
    // The lower half is enough: it tells states apart between which nothing was written to disk. A crash, after which numbers may
    // come again, is followed by a word in the log.
    Ok(((end.unsigned_abs(), ended as u32), row.try_get(2).map_err(looking)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fides_sql::Connect;

    use crate::connect::Server;

    async fn begun(server: &Server) -> (PgConnection, u32) {
        let mut writer = server.connect().await.unwrap();
        run(&mut writer, "BEGIN".to_owned()).await.unwrap();
        let id: i64 =
            sqlx::query_scalar("SELECT pg_current_xact_id()::text::bigint").fetch_one(&mut writer).await.unwrap();
        (writer, id as u32)
    }

    async fn connect() -> (Server, PgConnection) {
        let url = std::env::var("FIDES_TEST_POSTGRES_URL").expect(
            "FIDES_TEST_POSTGRES_URL is not set: run the test as `tests/parts/postgres cargo test -p fides-connector-postgres`",
        );
        let server = Server::parse(&url).unwrap();
        let looking = server.connect().await.unwrap();
        (server, looking)
    }

    /// The label of a snapshot, and what it does not see.
    async fn seen(connection: &mut PgConnection, transactions: &[u32]) -> ((u64, u32), Option<i64>) {
        let seen = look(connection, transactions).await.unwrap();
        run(connection, "ROLLBACK".to_owned()).await.unwrap();
        seen
    }

    #[tokio::test]
    async fn a_transaction_is_invisible_until_its_end_whatever_ended_before() {
        let (server, mut looking) = connect().await;
        // Both are beyond what a snapshot counts, when nobody else writes.
        let (mut first, one) = begun(&server).await;
        let (mut second, two) = begun(&server).await;
        for ids in [&[one][..], &[two], &[one, two]] {
            assert!(seen(&mut looking, ids).await.1.is_some(), "{ids:?}");
        }
        run(&mut second, "COMMIT".to_owned()).await.unwrap();
        assert_eq!(seen(&mut looking, &[two]).await.1, None);
        assert_eq!(seen(&mut looking, &[two, one]).await.1, Some(i64::from(one)));
        run(&mut first, "ROLLBACK".to_owned()).await.unwrap();
        assert_eq!(seen(&mut looking, &[one, two]).await.1, None);
        assert_eq!(seen(&mut looking, &[3]).await.1, None, "of long ago");
        assert_eq!(seen(&mut looking, &[]).await.1, None);
    }

    #[tokio::test]
    async fn a_state_that_sees_more_has_a_higher_label_though_the_log_got_no_longer() {
        let (server, mut looking) = connect().await;
        // A transaction that is rolled back ends without anything on disk. Others may write beside it.
        for _ in 0..1_000 {
            let (mut writer, _) = begun(&server).await;
            let (before, _) = seen(&mut looking, &[]).await;
            run(&mut writer, "ROLLBACK".to_owned()).await.unwrap();
            let (after, _) = seen(&mut looking, &[]).await;
            assert!(before < after, "{before:?} {after:?}");
            if before.0 == after.0 {
                return;
            }
        }
        panic!("the log got longer each time");
    }
}
