//! The log of a selection: the binary log of the server, in rows, read from a place on.
//!
//! The log says which records changed, by their keys; each is fetched once its transaction is visible (DESIGN §5), by the
//! very statement that a scan reads with: so its fingerprint is that of a scan, whatever its columns hold. Such a row may be
//! newer than its label, never older, and what is newer has a change of its own. A deletion is told when the record is not
//! found: what was rolled back, or came back, is no deletion.
//!
//! The position of a transaction is where it starts in the log. A snapshot's is where the last transaction that it sees
//! ends: so it sees those, and only those, that start before it. Where a file begins that is not so, and waited for
//! (`beginning`).
//!
//! Statements that change rows without telling them, prepared transactions, and whatever defines a table of ours anew are
//! told as an emptied table, the first two once they are visible: an import judges it. Not in the log, and so left to
//! imports: what foreign keys with CASCADE or SET NULL do to the rows of another table.

mod batch;
mod check;
mod collect;
mod columns;
mod decimal;
mod event;
mod fetch;
mod pages;
mod path;
mod prepared;
mod row;
mod spot;
mod start;
mod statement;
mod stream;
mod tables;
mod words;

use std::sync::Arc;

use fides_core::port::{Gap, Lineage, Opened};
use fides_core::{Fault, PipelineId, Selection, fingerprint};
use fides_sql::{Connect, unfollowed};

use crate::authority;
use crate::beginning::Beginning;
use crate::connect::{Server, Sessions};
use crate::reading::Reading;
use collect::Collector;
use fetch::Fetcher;
use pages::MySqlLog;
use spot::Spot;
use start::Files;
use stream::{Began, Events};
use tables::Tables;

/// Where the first event of a file begins.
const FIRST: u32 = 4;

pub(crate) use check::check;

/// Opens the log of a selection. What is wrong with the tables is told before anything is read.
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
    let files = Files::look(connection).await?;
    let number = number(reader);
    let (mut spot, mut gap) = files.resume(after.map(Spot::of));
    let mut began = Began::Nowhere("no event begins there".to_owned());
    if gap.is_none() {
        if let Some(name) = files.name(spot.file)
            && start::is_between_events(connection, name, spot.offset.max(FIRST)).await?
        {
            began = begin(server, expected, number, &files, spot).await?;
        }
        gap = match &began {
            Began::Here(_, mark) if *mark == spot.mark => None,
            Began::Here(..) => {
                Some(Gap::Backward("the log's file is another one under the same number: it was reset".to_owned()))
            }
            Began::Nowhere(why) => Some(Gap::Backward(format!("the server has no log at the stored place: {why}"))),
        };
    }
    if gap.is_some() {
        if matches!(gap, Some(Gap::Missing(_))) {
            // The import that mends it must see all that is not read.
            Beginning::default().wait(connection).await?;
        }
        let files = Files::look(connection).await?;
        spot = files.end;
        began = begin(server, expected, number, &files, spot).await?;
    }
    session.give_back();
    let (events, mark) = match began {
        Began::Here(events, mark) => (events, mark),
        Began::Nowhere(why) => {
            return Err(Fault::transient(format!("the log of MySQL {} cannot be read: {why}", server.place())));
        }
    };
    let from = Spot { mark, ..spot };
    let records_max = selection.page_records_max.max(1);
    let log = MySqlLog::new(events, Collector::new(tables, from), Fetcher::new(sessions, reading), records_max);
    Ok(Opened { log: Box::new(log), from: from.place(), gap })
}

async fn begin(server: &Server, expected: &Lineage, number: u32, files: &Files, spot: Spot) -> Result<Began, Fault> {
    match files.name(spot.file) {
        Some(name) => Events::begin(server, expected, number, name, spot.offset).await,
        None => Ok(Began::Nowhere(format!("there is no file with number {}", spot.file))),
    }
}

/// The number by which the server knows the reader, as it knows a replica: it ends the connection of an earlier one with
/// the same number. High, where nobody numbers servers by hand.
fn number(reader: &PipelineId) -> u32 {
    fingerprint(reader.as_str().as_bytes(), 0).0 as u32 | 0x8000_0000
}

/// Why there is no log of this host.
pub(crate) async fn refused(server: &Server, sessions: &Arc<Sessions>, selection: &Selection) -> Fault {
    match sessions.with(authority::refusals).await {
        Ok(refusals) => unfollowed(&selection.namespace, &server.place(), refusals.into_iter().next()),
        Err(fault) => fault,
    }
}
