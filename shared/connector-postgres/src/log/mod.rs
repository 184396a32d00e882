//! The log of a selection: a logical replication slot and a publication with the reader's name.
//!
//! A row that the log carries whole is made into the very line that COPY would give for it. A value outside the row that an
//! update did not touch, and a generated column, are fetched once their transaction is visible (DESIGN §5): such a row may be
//! newer than its label, never older, and what is newer has a change of its own. All changes of a record that nests others are
//! fetched, and ordered by the states that they were read from: a fetch that saw more than another has a higher label.
//!
//! Not in the log, and so left to imports: TRUNCATE of a single partition, ATTACH and DETACH of one, and what ALTER TABLE
//! does to the values of existing rows.

mod batch;
mod check;
mod collect;
mod columns;
mod fetch;
mod identity;
mod message;
mod pages;
mod path;
mod publication;
mod slot;
mod tables;

use std::sync::Arc;
use std::time::Duration;

use fides_core::port::{Lineage, Opened};
use fides_core::{Fault, PipelineId, Selection, Version};
use fides_sql::{Connect, same_lineage, unfollowed};
use pgwire_replication::{PgWireError, ReplicationClient};

use crate::authority;
use crate::connect::{Server, Sessions};
use crate::fault::of_replication;
use crate::read::Reading;
use crate::stream::Pages;
use collect::Collector;
use fetch::Fetcher;
use pages::PostgresLog;
use tables::Tables;

/// How long the server may take to begin the stream.
const START_MS_MAX: u64 = 30_000;

pub(crate) use check::check;

/// How much log the server keeps for a reader.
pub(crate) async fn lag(sessions: &Arc<Sessions>, reader: &PipelineId) -> Result<Option<u64>, Fault> {
    sessions.with(async |session| slot::lag(session, &slot::name(reader)).await).await
}

/// Drops the slot of a reader.
pub(crate) async fn forget(sessions: &Arc<Sessions>, reader: &PipelineId) -> Result<(), Fault> {
    sessions.with(async |session| slot::forget(session, &slot::name(reader)).await).await
}

/// Opens the log of a selection. What is wrong with the tables is told before anything is made on the server.
pub(crate) async fn open(
    server: &Server,
    expected: &Lineage,
    selection: &Selection,
    reader: &PipelineId,
    after: Option<u64>,
) -> Result<Opened, Fault> {
    let sessions = Sessions::new(server.clone(), 1);
    let mut session = sessions.take(|| ()).await?;
    let connection = session.connection();
    let reading = Reading::open(connection, selection).await?;
    let tables = Tables::open(connection, &reading).await?;
    let name = slot::name(reader);
    let lacking = publication::lacking(connection, &name, &tables).await?;
    let start = slot::ensure(server, connection, &name, lacking, after).await?;
    session.give_back();

    let client = stream(server, expected, &name, start.from).await?;
    let lines = reading.lines.clone();
    let records_max = selection.page_records_max.max(1);
    let pages = Pages {
        version: Version::default(),
        lines: lines.clone(),
        seed: selection.seed,
        page_records_max: records_max,
    };
    let collector = Collector::new(tables, lines, selection.seed, start.from);
    let fetcher = Fetcher { sessions, reading, pages };
    let log = PostgresLog::new(client, collector, fetcher, name, records_max);
    Ok(Opened { log: Box::new(log), from: start.from, gap: start.gap })
}

/// A connection on which the stream has begun, to the server that positions belong to.
async fn stream(server: &Server, expected: &Lineage, name: &str, from: u64) -> Result<ReplicationClient, Fault> {
    let opening = |error: PgWireError| of_replication(&format!("opening replication slot {name}"), &error);
    let starting = async {
        let mut client = ReplicationClient::connect_gated(server.log(name, from)).await.map_err(opening)?;
        let found = authority::identity(&mut client).await.map_err(opening)?;
        same_lineage(expected, &found)?;
        client.start().await.map_err(opening)?;
        client.wait_started().await.map_err(opening)?;
        Ok(client)
    };
    tokio::time::timeout(Duration::from_millis(START_MS_MAX), starting).await.unwrap_or_else(|_| {
        Err(Fault::transient(format!("opening replication slot {name}: no answer after {START_MS_MAX} ms")))
    })
}

/// Why there is no log of this host.
pub(crate) async fn refused(server: &Server, sessions: &Arc<Sessions>, selection: &Selection) -> Fault {
    match sessions.with(async |session| authority::refusal(server, session).await).await {
        Ok(refusal) => unfollowed(&selection.namespace, &server.place(), refusal),
        Err(fault) => fault,
    }
}
