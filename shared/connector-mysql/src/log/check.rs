//! What an operator should know before a log is followed: everything at once, each with what mends it.

use std::sync::Arc;

use fides_core::port::Concern;
use fides_core::{Fault, Selection};
use sqlx::MySqlConnection;

use super::tables::Tables;
use crate::authority::{self, Settings};
use crate::connect::Sessions;
use crate::fault::fault;
use crate::query::{scalar, texts};
use crate::quote;
use crate::reading::Reading;

/// A reader that was away for longer is answered by an import.
const KEPT_S_MIN: u64 = 24 * 3_600;

/// Checks all that following the log of a selection needs; changes nothing.
pub(crate) async fn check(sessions: &Arc<Sessions>, selection: &Selection) -> Result<Vec<Concern>, Fault> {
    let mut session = sessions.take(|| ()).await?;
    let connection = session.connection();
    let refusals = authority::refusals(connection).await?;
    let is_readable = refusals.is_empty();
    let mut concerns: Vec<Concern> = refusals.into_iter().map(|refusal| stops(refusal.reason, refusal.mend)).collect();
    let reading = Reading::open(connection, selection).await?;
    let tables = Tables::find(connection, &reading).await?;
    concerns.extend(tables.refused().into_iter().map(|fault| Concern {
        stops: true,
        what: fault.what,
        mend: fault.advice,
    }));
    concerns.extend(of_engines(&tables));
    concerns.extend(of_cascades(connection, &tables).await?);
    concerns.extend(of_settings(connection).await?);
    if is_readable {
        concerns.extend(of_filters(connection, &tables).await?);
    }
    session.give_back();
    Ok(concerns)
}

fn stops(what: String, mend: String) -> Concern {
    Concern { stops: true, what, mend: Some(mend) }
}

fn warns(what: String, mend: String) -> Concern {
    Concern { stops: false, what, mend: Some(mend) }
}

fn of_engines(tables: &Tables) -> Vec<Concern> {
    let other = tables
        .0
        .iter()
        .filter(|table| table.engine.as_deref().is_none_or(|engine| !engine.eq_ignore_ascii_case("InnoDB")));
    let concern = |table: &super::tables::Followed| {
        let what = match &table.engine {
            Some(engine) => {
                format!("table {} has engine {engine}: no snapshot of it has an exact place", table.place())
            }
            None => format!("{} is a view, which is not in the log", table.place()),
        };
        match table.engine {
            Some(_) => warns(what, format!("run: ALTER TABLE {} ENGINE = InnoDB", table.place())),
            None => stops(what, "name its tables, or leave `events` out of the pipeline".to_owned()),
        }
    };
    other.map(concern).collect()
}

/// InnoDB changes the rows of a child itself, and the log does not tell.
async fn of_cascades(connection: &mut MySqlConnection, tables: &Tables) -> Result<Vec<Concern>, Fault> {
    let mut concerns = Vec::new();
    for table in &tables.0 {
        let sql = format!(
            "SELECT constraint_name, referenced_table_name, delete_rule, update_rule \
             FROM information_schema.referential_constraints \
             WHERE constraint_schema = {} AND table_name = {} \
               AND (delete_rule IN ('CASCADE', 'SET NULL') OR update_rule IN ('CASCADE', 'SET NULL'))",
            quote::text(&table.database),
            quote::text(&table.table)
        );
        let rows = texts(connection, &sql).await.map_err(|error| fault("asking for foreign keys", error))?;
        for row in rows {
            let of = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
            concerns.push(warns(
                format!(
                    "foreign key {} of {} changes its rows with those of {} (ON DELETE {}, ON UPDATE {}), which the log \
                     does not tell",
                    of(0),
                    table.place(),
                    of(1),
                    of(2),
                    of(3)
                ),
                "imports and clean-ups find it; or let the application change these rows itself".to_owned(),
            ));
        }
    }
    Ok(concerns)
}

async fn of_settings(connection: &mut MySqlConnection) -> Result<Vec<Concern>, Fault> {
    let settings = Settings::ask(connection).await?;
    let mut concerns = Vec::new();
    let days = settings.number("expire_logs_days").unwrap_or_default();
    let kept_s = settings.number("binlog_expire_logs_seconds").filter(|seconds| *seconds > 0).unwrap_or(days * 86_400);
    if (1..KEPT_S_MIN).contains(&kept_s) {
        concerns.push(warns(
            format!("the server removes its log after {kept_s} s: whoever was not read for longer needs an import"),
            "run: SET GLOBAL binlog_expire_logs_seconds = 604800; and set it in the server's configuration".to_owned(),
        ));
    }
    if settings.number("sync_binlog").is_some_and(|sync| sync != 1) {
        concerns.push(warns(
            format!(
                "sync_binlog is {}: what was read of the log may be lost by the server when it crashes",
                settings.get("sync_binlog").unwrap_or_default()
            ),
            "run: SET GLOBAL sync_binlog = 1; and set it in the server's configuration".to_owned(),
        ));
    }
    let updates = settings.get("log_slave_updates").or(settings.get("log_replica_updates"));
    if updates.is_some_and(|value| value.eq_ignore_ascii_case("OFF")) {
        let running =
            "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'SLAVES_RUNNING'";
        // Only MariaDB has it.
        let running = scalar(connection, running).await.ok().flatten();
        if running.is_some_and(|count| count != "0") {
            concerns.push(stops(
                "the server is a replica, and log_slave_updates is OFF: its log has nothing of what it replicates"
                    .to_owned(),
                "set log_slave_updates in the server's configuration and restart it, or name the primary in the URL"
                    .to_owned(),
            ));
        }
    }
    Ok(concerns)
}

/// A server may keep databases out of its log.
async fn of_filters(connection: &mut MySqlConnection, tables: &Tables) -> Result<Vec<Concern>, Fault> {
    let asked = texts(connection, "SHOW MASTER STATUS").await;
    let row =
        asked.map_err(|error| fault("asking for the state of the log", error))?.into_iter().next().unwrap_or_default();
    let list = |at: usize| -> Vec<String> {
        let text = row.get(at).cloned().flatten().unwrap_or_default();
        text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let (only, ignored) = (list(2), list(3));
    let is_left_out = |database: &str| {
        let has = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case(database));
        (!only.is_empty() && !has(&only)) || has(&ignored)
    };
    let left_out = tables.0.iter().filter(|table| is_left_out(&table.database));
    let concern = |table: &super::tables::Followed| {
        stops(
            format!("the server keeps database {} out of its log", table.database),
            "change binlog_do_db and binlog_ignore_db in the server's configuration, and restart it".to_owned(),
        )
    };
    Ok(left_out.map(concern).collect())
}
