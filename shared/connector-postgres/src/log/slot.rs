//! The replication slot of a reader: where the server keeps its place in the log.

use std::fmt::Write;

use fides_core::port::Gap;
use fides_core::{Fault, FaultKind, PipelineId, fingerprint};
use fides_sql::Connect;
use sqlx::{PgConnection, Row};

use super::publication::{self, Lacking};
use crate::authority::{self, SLOT_MS_MAX};
use crate::connect::{Server, run};
use crate::fault::{fault, state};
use crate::quote;

/// Lets slots keep more log.
pub(super) const KEEP_MORE: &str = "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf()";

/// The longest name that Postgres keeps.
const NAME_BYTES_MAX: usize = 63;

/// The name of a reader's slot and publication: readers that differ have names that differ. A slot's name may hold
/// small letters, digits and underscores only; an underscore is doubled, anything else becomes `_<code>_`.
pub(super) fn name(reader: &PipelineId) -> String {
    let mut name = "fides_".to_owned();
    for char in reader.as_str().chars() {
        match char {
            'a'..='z' | '0'..='9' => name.push(char),
            '_' => name.push_str("__"),
            other => {
                // Writing into a String does not fail.
                let _ = write!(name, "_{:x}_", u32::from(other));
            }
        }
    }
    if name.len() > NAME_BYTES_MAX {
        let hash = fingerprint(reader.as_str().as_bytes(), 0).0 as u64;
        name.truncate(NAME_BYTES_MAX - 17);
        let _ = write!(name, "_{hash:016x}");
    }
    name
}

/// What is there in the place of a reader's slot.
pub(super) enum Present {
    Nothing,
    /// It needs log that the server has removed.
    Lost,
    /// It will be, when the server next cleans up.
    Failing,
    Readable,
}

/// What is there under a slot's name; a Permanent fault where it is something else.
pub(super) async fn present(connection: &mut PgConnection, name: &str) -> Result<Present, Fault> {
    const STATUS: &str = "SELECT wal_status FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
    match find(connection, name).await {
        Ok(None) => return Ok(Present::Nothing),
        // Somebody reads it.
        Ok(Some(_)) => {}
        Err(fault) if fault.kind == FaultKind::Transient => {}
        Err(fault) => return Err(fault),
    }
    let status: Option<Option<String>> = sqlx::query_scalar(STATUS)
        .bind(name)
        .fetch_optional(connection)
        .await
        .map_err(|error| fault(&format!("looking up replication slot {name}"), error))?;
    Ok(match status {
        None => Present::Nothing,
        Some(Some(status)) if status == "lost" => Present::Lost,
        Some(Some(status)) if status == "unreserved" => Present::Failing,
        Some(_) => Present::Readable,
    })
}

/// How much log a slot keeps that its reader has not released, in bytes. Of a slot that was lost nothing is kept.
pub(super) async fn lag(connection: &mut PgConnection, name: &str) -> Result<Option<u64>, Fault> {
    const LAG: &str = "SELECT greatest(pg_current_wal_lsn() - confirmed_flush_lsn, 0)::bigint \
        FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND wal_status IS DISTINCT FROM 'lost'";
    let asked = sqlx::query_scalar::<_, Option<i64>>(LAG).bind(name).fetch_optional(connection).await;
    let lag = asked.map_err(|error| fault(&format!("asking how far replication slot {name} is behind"), error))?;
    Ok(lag.flatten().map(i64::unsigned_abs))
}

/// Drops a slot, and ends whoever reads it.
pub(super) async fn forget(connection: &mut PgConnection, name: &str) -> Result<(), Fault> {
    const END: &str = "SELECT bool_and(pg_terminate_backend(active_pid, 5000)) FROM pg_catalog.pg_replication_slots \
        WHERE slot_name = $1 AND active_pid IS NOT NULL";
    let ending = |error| fault(&format!("ending the reader of replication slot {name}"), error);
    sqlx::query(END).bind(name).execute(&mut *connection).await.map_err(ending)?;
    let slot = find(connection, name).await?;
    if slot.is_some() { remove(connection, name).await } else { Ok(()) }
}

/// Where the log begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) from: u64,
    pub(super) gap: Option<Gap>,
}

const FIND: &str = "\
SELECT slot_type::text, plugin::text, database::text, active_pid, wal_status, \
  coalesce((confirmed_flush_lsn - '0/0')::bigint, 0), (pg_current_wal_flush_lsn() - '0/0')::bigint, \
  current_database()::text \
FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";

/// A slot that can be read.
struct Slot {
    is_lost: bool,
    confirmed: u64,
    /// The present end of the log.
    end: u64,
}

/// Makes sure of slot and publication; says where the log begins, and whether that leaves something out behind `after`.
///
/// A slot that was there before what the publication lacked is made anew: with it the server could not decode what was
/// logged before the publication was made, and a reader that ends here would never tell that changes of a table are
/// missing. The gap lasts until a place behind it is stored.
pub(super) async fn ensure(
    server: &Server,
    connection: &mut PgConnection,
    name: &str,
    lacking: Option<Lacking>,
    after: Option<u64>,
) -> Result<Start, Fault> {
    let found = find(connection, name).await?;
    let why = match (&found, &lacking) {
        (Some(slot), None) if !slot.is_lost => return Ok(resume(slot, name, after)),
        (None, _) => format!("there was no replication slot {name}"),
        (Some(_), Some(lacking)) => lacking.why.clone(),
        (Some(_), None) => {
            format!(
                "the server had removed log that replication slot {name} still needed; to let it keep more, run: {KEEP_MORE}"
            )
        }
    };
    tracing::info!(slot = name, why, "a replication slot is made");
    let changing = |error| fault(&format!("changing publication {name}"), error);
    // Nobody may publish: then the slot stays. We end in between: then there is none.
    run(connection, "BEGIN".to_owned()).await.map_err(changing)?;
    if let Some(lacking) = &lacking {
        publication::mend(connection, lacking).await?;
    }
    if found.is_some() {
        remove(connection, name).await?;
    }
    run(connection, "COMMIT".to_owned()).await.map_err(changing)?;
    Ok(Start { from: create(server, name).await?, gap: Some(Gap::Missing(why)) })
}

/// Where a slot that is there is read from.
fn resume(slot: &Slot, name: &str, after: Option<u64>) -> Start {
    match after {
        None => Start {
            from: slot.end.max(slot.confirmed),
            gap: Some(Gap::Missing("no place in the log was stored".to_owned())),
        },
        Some(after) if slot.confirmed > after => Start {
            from: slot.confirmed,
            gap: Some(Gap::Missing(format!(
                "replication slot {name} keeps the log only behind the place that was stored: it was made anew, or read \
                 by somebody else"
            ))),
        },
        // A place of another server, or of one that was restored.
        Some(after) if after > slot.end => Start {
            from: slot.end.max(slot.confirmed),
            gap: Some(Gap::Backward("the log ends before the place that was stored".to_owned())),
        },
        Some(after) => Start { from: after, gap: None },
    }
}

async fn find(connection: &mut PgConnection, name: &str) -> Result<Option<Slot>, Fault> {
    let read = |error| fault(&format!("looking up replication slot {name}"), error);
    let Some(row) = sqlx::query(FIND).bind(name).fetch_optional(connection).await.map_err(read)? else {
        return Ok(None);
    };
    let text = |at: usize| row.try_get::<Option<String>, _>(at).map_err(read);
    let (kind, plugin, database, own) = (text(0)?, text(1)?, text(2)?, text(7)?);
    if kind.as_deref() != Some("logical") || plugin.as_deref() != Some("pgoutput") || database != own {
        let shown = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        return Err(Fault::permanent(format!(
            "replication slot {name} is in use for something else: {} slot, plugin {}, database {}; expected: logical, \
             pgoutput, {}",
            shown(kind),
            shown(plugin),
            shown(database),
            shown(own)
        ))
        .advise(format!(
            "if nobody needs it, run: SELECT pg_drop_replication_slot({}); or give the pipeline another name",
            quote::text(name)
        )));
    }
    if let Some(pid) = row.try_get::<Option<i32>, _>(3).map_err(read)? {
        return Err(Fault::transient(format!("replication slot {name} is being read by process {pid} of the server"))
            .advise(
                "another reader of this pipeline still runs, or the server has not noticed yet that it has ended",
            ));
    }
    let number = |at: usize| row.try_get::<i64, _>(at).map(i64::unsigned_abs).map_err(read);
    Ok(Some(Slot { is_lost: text(4)?.as_deref() == Some("lost"), confirmed: number(5)?, end: number(6)? }))
}

async fn remove(connection: &mut PgConnection, name: &str) -> Result<(), Fault> {
    let dropping = sqlx::query("SELECT pg_drop_replication_slot($1)").bind(name).execute(connection).await;
    dropping.map(drop).map_err(|error| fault(&format!("dropping replication slot {name}"), error))
}

/// A new slot; its consistent point. Waits, boundedly, for transactions that write.
async fn create(server: &Server, name: &str) -> Result<u64, Fault> {
    const CREATE: &str =
        "SELECT (lsn - '0/0')::bigint FROM pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')";
    // The server gives up by itself, also when nobody waits for its answer any more.
    let mut connection = server.with_timeouts(SLOT_MS_MAX, 0).connect().await?;
    match sqlx::query_scalar::<_, i64>(CREATE).bind(name).fetch_one(&mut connection).await {
        Ok(position) => Ok(position.unsigned_abs()),
        Err(error) if matches!(state(&error).as_deref(), Some("57014" | "55P03")) => {
            Err(authority::waited(&mut connection, SLOT_MS_MAX, None)
                .await
                .at(format!("making replication slot {name}")))
        }
        Err(error) => Err(fault(&format!("making replication slot {name}"), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(reader: &str) -> String {
        name(&PipelineId::new(reader))
    }

    #[test]
    fn names_are_readable_and_bounded() {
        assert_eq!(named("orders"), "fides_orders");
        assert_eq!(named("Orders-eu_1"), "fides__4f_rders_2d_eu__1");
        let (long, other) = (named(&"x".repeat(200)), named(&"x".repeat(201)));
        assert_eq!((long.len(), other.len()), (63, 63));
        assert_ne!(long, other);
    }

    proptest! {
        #[test]
        fn readers_that_differ_have_names_that_differ(a in "[a-zA-Z_0-9é-]{0,70}", b in "[a-zA-Z_0-9é-]{0,70}") {
            prop_assert_eq!(named(&a) == named(&b), a == b);
            prop_assert!(named(&a).len() <= 63);
            prop_assert!(named(&a).bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')));
        }
    }

    proptest! {
        #[test]
        fn near_names_differ_too(a in "[_2d-]{0,9}", b in "[_2d-]{0,9}") {
            prop_assert_eq!(named(&a) == named(&b), a == b);
        }
    }

    #[test]
    fn a_slot_that_is_there_leaves_out_what_it_does_not_keep() {
        let slot = Slot { is_lost: false, confirmed: 50, end: 90 };
        let start = |after| resume(&slot, "s", after);
        assert_eq!(start(Some(50)), Start { from: 50, gap: None });
        assert_eq!(start(Some(70)), Start { from: 70, gap: None });
        for (after, from) in [(None, 90), (Some(49), 50), (Some(91), 90)] {
            let start = start(after);
            assert_eq!((start.from, start.gap.is_some()), (from, true), "{after:?}");
            assert_eq!(matches!(start.gap, Some(Gap::Backward(_))), after == Some(91), "{after:?}");
        }
    }
}
