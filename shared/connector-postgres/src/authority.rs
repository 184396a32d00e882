//! Who orders this host's states (DESIGN §5): the log, through the consistent point of a logical slot, or Fides itself.

use std::time::Duration;

use fides_core::port::Lineage;
use fides_core::{Fault, Version};
use fides_sql::{Authority, Connect, Refusal, same_lineage};
use pgwire_replication::{Lsn, PgWireError, ReplicationClient};
use sqlx::{PgConnection, Row};

use crate::connect::{Server, run};
use crate::fault::{fault, of_replication};
use crate::quote;
use crate::snapshot::Coordinator;

/// How long making a slot waits for transactions that write. Below the guard's usual timeout, so that its reason is told.
pub(crate) const SLOT_MS_MAX: u64 = 20_000;

const ABILITIES: &str = "\
SELECT current_setting('wal_level'), pg_is_in_recovery(), current_setting('max_replication_slots')::int, \
  current_setting('max_wal_senders')::int, current_setting('server_version_num')::int, \
  coalesce((SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), false), \
  current_user::text";

/// Finds out which way this server and this user allow. A server that does not answer is a fault, not a decision.
pub(crate) async fn decide(server: &Server, connection: &mut PgConnection) -> Result<Authority, Fault> {
    let refusal = refusal(server, connection).await?;
    Ok(Authority::decide(&server.place(), refusal))
}

/// Why exact positions cannot be had.
pub(crate) async fn refusal(server: &Server, connection: &mut PgConnection) -> Result<Option<Refusal>, Fault> {
    Ok(refusals(server, connection).await?.into_iter().next())
}

/// The same, and everything else that is in the way.
pub(crate) async fn refusals(server: &Server, connection: &mut PgConnection) -> Result<Vec<Refusal>, Fault> {
    let asking = |error| fault("asking PostgreSQL for its abilities", error);
    let row = sqlx::query(ABILITIES).fetch_one(connection).await.map_err(asking)?;
    let wal_level: String = row.try_get(0).map_err(asking)?;
    let number = |at: usize| row.try_get::<i32, _>(at).map_err(asking);
    let mut refusals = Vec::new();
    let mut refuse = |reason: &str, mend: &str| refusals.push(Refusal { reason: reason.into(), mend: mend.into() });
    if wal_level != "logical" {
        refuse(
            &format!("wal_level is {wal_level}, not logical"),
            "run: ALTER SYSTEM SET wal_level = logical; and restart the server",
        );
    }
    if row.try_get(1).map_err(asking)? {
        refuse("the server is a standby", "name the primary in the URL");
    }
    if number(2)? == 0 || number(3)? == 0 {
        refuse(
            "max_replication_slots or max_wal_senders is 0",
            "run: ALTER SYSTEM SET max_replication_slots = 10; ALTER SYSTEM SET max_wal_senders = 10; and restart the server",
        );
    }
    if number(4)? < 140_000 {
        refuse("the server is older than PostgreSQL 14", "upgrade the server");
    }
    if !row.try_get::<bool, _>(5).map_err(asking)? {
        let user = quote::name(&row.try_get::<String, _>(6).map_err(asking)?);
        refuse("the user lacks the attribute REPLICATION", &format!("run: ALTER ROLE {user} REPLICATION"));
    }
    if refusals.is_empty() {
        refusals.extend(unreachable(server).await?);
    }
    Ok(refusals)
}

/// Why the server takes no replication connection: `pg_hba.conf` may refuse it, or the URL may not hold what it asks for.
async fn unreachable(server: &Server) -> Result<Option<Refusal>, Fault> {
    let reachable = |reason: String| {
        let mend = "check pg_hba.conf of the server (logical replication matches the database's name) and the URL";
        Ok(Some(Refusal { reason, mend: mend.to_owned() }))
    };
    match identify(server).await {
        Ok(_) => Ok(None),
        Err(error @ (PgWireError::Auth(_) | PgWireError::Tls(_))) => reachable(error.to_string()),
        Err(PgWireError::Server(text)) if ["28000", "28P01", "42501"].iter().any(|code| text.contains(code)) => {
            reachable(text)
        }
        Err(error) => Err(of_replication("opening a replication connection", &error)),
    }
}

async fn connect(server: &Server, lock_timeout_ms: u64) -> Result<ReplicationClient, PgWireError> {
    ReplicationClient::connect_gated(server.replication(lock_timeout_ms)).await
}

async fn identify(server: &Server) -> Result<Lineage, PgWireError> {
    let mut client = connect(server, SLOT_MS_MAX).await?;
    identity(&mut client).await
}

pub(crate) async fn identity(client: &mut ReplicationClient) -> Result<Lineage, PgWireError> {
    let system = client.identify_system().await?;
    Ok(Lineage(format!("postgres:{}:{}:lsn", system.system_id, system.timeline)))
}

/// The authority's name now: after a failover the timeline is another one.
pub(crate) async fn lineage(
    authority: Authority,
    server: &Server,
    connection: &mut PgConnection,
) -> Result<Lineage, Fault> {
    if authority == Authority::Log {
        return identify(server).await.map_err(|error| of_replication("identifying the server", &error));
    }
    let asking = |error| fault("identifying the server", error);
    let system = sqlx::query_scalar("SELECT system_identifier::text FROM pg_control_system()");
    let system: String = match system.fetch_one(&mut *connection).await {
        Err(error) if crate::fault::state(&error).as_deref() == Some("42501") => {
            const DATABASE: &str =
                "SELECT oid::text || '-' || datname FROM pg_database WHERE datname = current_database()";
            sqlx::query_scalar(DATABASE).fetch_one(connection).await.map_err(asking)?
        }
        other => other.map_err(asking)?,
    };
    Ok(Lineage(format!("postgres:{system}:drawn")))
}

/// A snapshot whose position in the log is exact: that of a slot's consistent point. The slot is gone when this returns.
/// Fails after `slot_ms_max` when transactions that write do not end.
pub(crate) async fn exact(
    server: &Server,
    epoch: u32,
    expected: &Lineage,
    slot_ms_max: u64,
) -> Result<(Coordinator, Version), Fault> {
    let making = |error: PgWireError| of_replication("making a logical slot for a snapshot", &error);
    let mut coordinator = server.connect().await?;
    let mut client = connect(server, slot_ms_max).await.map_err(making)?;
    let found = identity(&mut client).await.map_err(making)?;
    same_lineage(expected, &found)?;
    let pid = single(client.simple_query("SELECT pg_backend_pid()").await.map_err(making)?)
        .and_then(|mut row| row.pop())
        .ok_or_else(|| damaged("pg_backend_pid"))?;
    let slot = format!("fides_snapshot_{pid}");
    let create = format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT");
    let creating = tokio::time::timeout(Duration::from_millis(slot_ms_max), client.simple_query(&create));
    let created = match creating.await {
        Ok(Err(PgWireError::Server(text))) if text.contains("55P03") => None,
        Ok(created) => Some(created.map_err(making)?),
        Err(_) => None,
    };
    let Some(created) = created else {
        // The server waits on without us, holding a slot, unless it is told to stop.
        client.abort();
        let stop = run(&mut coordinator, format!("SELECT pg_terminate_backend({pid})")).await;
        return Err(waited(&mut coordinator, slot_ms_max, stop.err()).await);
    };
    let row = single(created).filter(|row| row.len() >= 3).ok_or_else(|| damaged("CREATE_REPLICATION_SLOT"))?;
    let position = Lsn::parse(&row[1]).map_err(|_| damaged("CREATE_REPLICATION_SLOT"))?;
    let coordinator = Coordinator::begin(coordinator, Some(&row[2])).await?;
    // Imported: neither the slot nor its snapshot is needed any more, and the slot would hold the log.
    client.simple_query(&format!("DROP_REPLICATION_SLOT {slot}")).await.map_err(making)?;
    Ok((coordinator, Version::scan(epoch, position.as_u64())))
}

fn single(rows: Vec<Vec<Option<bytes::Bytes>>>) -> Option<Vec<String>> {
    let row = rows.into_iter().next()?;
    row.into_iter().map(|field| Some(String::from_utf8_lossy(&field.unwrap_or_default()).into_owned())).collect()
}

fn damaged(of: &str) -> Fault {
    Fault::transient(format!("the server's answer to {of} makes no sense"))
}

/// The fault of a slot that was not made in time; names the transaction that is to blame where it can be seen.
pub(crate) async fn waited(connection: &mut PgConnection, slot_ms_max: u64, unstopped: Option<sqlx::Error>) -> Fault {
    const OLDEST: &str = "SELECT pid, extract(epoch FROM now() - xact_start)::bigint FROM pg_stat_activity \
        WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1";
    let oldest: Option<(i32, Option<i64>)> = sqlx::query_as(OLDEST).fetch_optional(connection).await.unwrap_or(None);
    let blamed = match oldest {
        Some((pid, Some(seconds))) => format!("; the oldest is that of process {pid}, {seconds} s old"),
        _ => String::new(),
    };
    if let Some(error) = unstopped {
        tracing::warn!(%error, "the session that makes a slot could not be stopped");
    }
    Fault::transient(format!(
        "a new slot waits until transactions that write have ended; some did not within {slot_ms_max} ms{blamed}"
    ))
    .advise("end them: SELECT * FROM pg_stat_activity WHERE backend_xid IS NOT NULL")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::Connection;

    #[tokio::test]
    async fn a_writer_that_does_not_end_is_named_and_no_slot_is_left() {
        let url = std::env::var("FIDES_TEST_POSTGRES_URL").expect(
            "FIDES_TEST_POSTGRES_URL is not set: run the test as `tests/parts/postgres cargo test -p fides-connector-postgres`",
        );
        let server = Server::parse(&url).unwrap();
        let mut writer = server.connect().await.unwrap();
        run(&mut writer, "BEGIN; SELECT pg_current_xact_id()".to_owned()).await.unwrap();
        let expected = identify(&server).await.unwrap();
        let fault = exact(&server, 1, &expected, 300).await.map(drop).unwrap_err();
        assert_eq!(fault.kind, fides_core::FaultKind::Transient, "{fault}");
        assert!(fault.to_string().contains("waits until transactions that write have ended"), "{fault}");
        assert!(fault.to_string().contains("the oldest is that of process"), "{fault}");
        writer.close().await.unwrap();
        let (coordinator, version) = exact(&server, 7, &expected, 20_000).await.unwrap();
        assert_eq!(version.epoch, 7);
        drop(coordinator);
        let other = Lineage("postgres:1:1:lsn".to_owned());
        let fault = exact(&server, 1, &other, 300).await.map(drop).unwrap_err();
        assert!(fault.to_string().contains("lineage changed"), "{fault}");
    }
}
