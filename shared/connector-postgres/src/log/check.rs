//! What an operator should know before a log is followed: everything at once, each with what mends it.

use std::sync::Arc;

use fides_core::port::Concern;
use fides_core::{Fault, FaultKind, PipelineId, Selection};
use sqlx::{PgConnection, Row};

use super::publication;
use super::slot::{self, KEEP_MORE, Present};
use super::tables::Tables;
use crate::authority;
use crate::connect::{Server, Sessions};
use crate::fault::fault;
use crate::read::Reading;

/// A snapshot takes a slot and a WAL sender for a moment.
const FOR_SNAPSHOTS: i64 = 1;

// Whoever may not look at the other sessions still sees how many there are.
const SETTINGS: &str = "\
SELECT current_setting('max_replication_slots')::bigint, (SELECT count(*) FROM pg_catalog.pg_replication_slots), \
  current_setting('max_wal_senders')::bigint, (SELECT count(*) FROM pg_catalog.pg_stat_get_wal_senders()), \
  (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size')";

/// Checks all that following the log of a selection needs; makes nothing.
pub(crate) async fn check(
    server: &Server,
    sessions: &Arc<Sessions>,
    selection: &Selection,
    reader: &PipelineId,
) -> Result<Vec<Concern>, Fault> {
    let mut session = sessions.take(|| ()).await?;
    let connection = session.connection();
    let refusals = authority::refusals(server, connection).await?;
    let mut concerns: Vec<Concern> =
        refusals.into_iter().map(|refusal| stops(refusal.reason, Some(refusal.mend))).collect();
    let reading = Reading::open(connection, selection).await?;
    let tables = Tables::find(connection, &reading).await?;
    concerns.extend(tables.refused(connection).await?.iter().map(of_fault));
    let name = slot::name(reader);
    concerns.extend(of_publication(connection, &name, &tables).await?);
    concerns.extend(of_slot(connection, &name).await?);
    session.give_back();
    Ok(concerns)
}

fn stops(what: String, mend: Option<String>) -> Concern {
    Concern { stops: true, what, mend }
}

fn warns(what: String, mend: String) -> Concern {
    Concern { stops: false, what, mend: Some(mend) }
}

fn of_fault(fault: &Fault) -> Concern {
    stops(fault.what.clone(), fault.advice.clone())
}

async fn of_publication(connection: &mut PgConnection, name: &str, tables: &Tables) -> Result<Option<Concern>, Fault> {
    let lacking = match publication::lacking(connection, name, tables).await {
        Ok(None) => return Ok(None),
        Ok(Some(lacking)) => lacking,
        Err(fault) if fault.kind == FaultKind::Permanent => return Ok(Some(of_fault(&fault))),
        Err(fault) => return Err(fault),
    };
    let statements = lacking.statements.join("; ");
    if publication::is_mendable(connection, name, tables).await? {
        let mend = format!("it is mended when the log is next opened, and an import follows; or run: {statements}");
        return Ok(Some(warns(lacking.why, mend)));
    }
    let what = format!("{}, and this user may not publish the tables that are followed", lacking.why);
    Ok(Some(stops(what, Some(format!("let the owner of the tables run: {statements}")))))
}

async fn of_slot(connection: &mut PgConnection, name: &str) -> Result<Vec<Concern>, Fault> {
    let present = match slot::present(connection, name).await {
        Ok(present) => present,
        Err(fault) if fault.kind == FaultKind::Permanent => return Ok(vec![of_fault(&fault)]),
        Err(fault) => return Err(fault),
    };
    let asking = |error| fault("asking PostgreSQL for its replication slots", error);
    let row = sqlx::query(SETTINGS).fetch_one(connection).await.map_err(asking)?;
    let number = |at: usize| row.try_get::<i64, _>(at).map_err(asking);
    let (slots_max, slots, senders_max, senders) = (number(0)?, number(1)?, number(2)?, number(3)?);
    let kept_mib: Option<i64> = row.try_get(4).map_err(asking)?;

    let mut concerns = Vec::new();
    let anew = "it is made when the log is next opened, and an import follows";
    match present {
        Present::Nothing => concerns.push(warns(
            format!("there is no replication slot {name}"),
            format!("{anew}; or run: SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"),
        )),
        Present::Lost => concerns.push(warns(
            format!("the server has removed log that replication slot {name} still needs"),
            format!("{anew}; to let it keep more, run: {KEEP_MORE}"),
        )),
        Present::Failing => concerns.push(warns(
            format!("the server is about to remove log that replication slot {name} still needs"),
            format!("start the event-handler, or run: {KEEP_MORE}"),
        )),
        Present::Readable => {}
    }
    let wanted = FOR_SNAPSHOTS + i64::from(matches!(present, Present::Nothing));
    if slots_max > 0 && slots_max - slots < wanted {
        concerns.push(stops(
            format!("{slots} of {slots_max} replication slots are in use; expected: {wanted} that are free"),
            Some(format!(
                "drop those that nobody reads: SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                 WHERE slot_name = '…'; or run: ALTER SYSTEM SET max_replication_slots = {}; and restart the server",
                slots + wanted
            )),
        ));
    }
    if senders_max > 0 && senders_max - senders < FOR_SNAPSHOTS {
        concerns.push(stops(
            format!("{senders} of {senders_max} WAL senders are in use; expected: {FOR_SNAPSHOTS} that is free"),
            Some(format!("run: ALTER SYSTEM SET max_wal_senders = {}; and restart the server", senders + 2)),
        ));
    }
    if kept_mib == Some(-1) {
        concerns.push(warns(
            "max_slot_wal_keep_size is -1: while the log is not read it fills the server's disk".to_owned(),
            format!("run: {KEEP_MORE}"),
        ));
    }
    Ok(concerns)
}
