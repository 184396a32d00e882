//! Who orders this host's states (DESIGN §5): the binary log, where the server tells the exact place of a snapshot in it,
//! or Fides itself.

use std::collections::HashMap;

use fides_core::port::Lineage;
use fides_core::{Fault, Version};
use fides_sql::{Authority, Connect, Refusal};
use sqlx::MySqlConnection;

use crate::connect::Server;
use crate::fault::{DENIED, fault, number};
use crate::place;
use crate::query::{run, texts};

/// Finds out which way this server and this user allow. A server that does not answer is a fault, not a decision.
pub(crate) async fn decide(server: &Server, connection: &mut MySqlConnection) -> Result<Authority, Fault> {
    let refusal = refusals(connection).await?.into_iter().next();
    Ok(Authority::decide(&server.place(), refusal))
}

/// The variables of the server that say what is in its log, and whose log it is.
pub(crate) const SETTINGS: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', \
    'binlog_row_image', 'binlog_row_metadata', 'server_id', 'server_uid', 'server_uuid', 'log_bin_basename', \
    'expire_logs_days', 'binlog_expire_logs_seconds', 'sync_binlog', 'log_slave_updates', 'log_replica_updates')";

/// The rows of [`SETTINGS`].
pub(crate) struct Settings(HashMap<String, String>);

impl Settings {
    pub(crate) fn new(rows: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(rows.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect())
    }

    pub(crate) async fn ask(connection: &mut MySqlConnection) -> Result<Self, Fault> {
        let rows =
            texts(connection, SETTINGS).await.map_err(|error| fault("asking for the settings of the log", error))?;
        Ok(Self::new(rows.into_iter().filter_map(|row| {
            let mut row = row.into_iter().flatten();
            row.next().zip(row.next())
        })))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        // `expire_logs_days` has a fraction on MariaDB.
        self.get(name)?.split('.').next()?.parse().ok()
    }

    /// Whose positions they are. A server that is replaced by another, or numbers its files anew under another name, has
    /// another lineage.
    pub(crate) fn lineage(&self) -> Lineage {
        let server = [self.get("server_id"), self.get("server_uid").or(self.get("server_uuid"))];
        let server: Vec<&str> = server.into_iter().flatten().collect();
        let files = self.get("log_bin_basename").unwrap_or_default().rsplit('/').next().unwrap_or_default();
        Lineage(format!("mysql:log:{}:{files}", server.join(":")))
    }

    /// What the log would not tell under these settings.
    fn refusals(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if !self.get("log_bin").is_some_and(|value| value.eq_ignore_ascii_case("ON")) {
            refusals.push(Refusal {
                reason: "log_bin is OFF".to_owned(),
                mend: "set log_bin and server_id in the server's configuration, and restart it".to_owned(),
            });
        }
        for (name, expected) in
            [("binlog_format", "ROW"), ("binlog_row_image", "FULL"), ("binlog_row_metadata", "FULL")]
        {
            let found = self.get(name).unwrap_or("unknown to this server");
            if !found.eq_ignore_ascii_case(expected) {
                refusals.push(Refusal {
                    reason: format!("{name} is {found}, not {expected}"),
                    mend: format!("run: SET GLOBAL {name} = '{expected}'; and set it in the server's configuration"),
                });
            }
        }
        if self.number("server_id").is_none_or(|id| id == 0) {
            refusals.push(Refusal {
                reason: "server_id is 0".to_owned(),
                mend: "set server_id in the server's configuration, and restart it".to_owned(),
            });
        }
        refusals
    }
}

/// Everything for which exact positions cannot be had.
pub(crate) async fn refusals(connection: &mut MySqlConnection) -> Result<Vec<Refusal>, Fault> {
    let mut refusals = Settings::ask(connection).await?.refusals();
    refusals.extend(rights(connection).await?);
    if refusals.is_empty() && exact(connection).await?.is_none() {
        refusals.push(Refusal {
            reason: "the server does not tell the place of a snapshot in its log (MariaDB does: binlog_snapshot_file)"
                .to_owned(),
            mend: "leave `events` out of the pipeline: imports find what changed".to_owned(),
        });
    }
    Ok(refusals)
}

/// The rights that reading a log needs.
async fn rights(connection: &mut MySqlConnection) -> Result<Vec<Refusal>, Fault> {
    let mut refusals = Vec::new();
    let mut lacks = |right: &str| {
        refusals.push(Refusal {
            reason: format!("this user has no right {right}"),
            mend: format!("run: GRANT {right} ON *.* TO …;"),
        });
    };
    let grants =
        texts(connection, "SHOW GRANTS").await.map_err(|error| fault("asking for this user's rights", error))?;
    let grants = grants.iter().filter_map(|row| row.first()?.as_deref());
    let global =
        grants.filter_map(|grant| grant.strip_prefix("GRANT ")?.split_once(" ON *.* TO ")).map(|(rights, _)| rights);
    let may_read = |rights: &str| {
        let mut rights = rights.split(',').map(str::trim);
        rights.any(|right| matches!(right, "ALL PRIVILEGES" | "REPLICATION SLAVE" | "REPLICATION REPLICA"))
    };
    if !global.into_iter().any(may_read) {
        lacks("REPLICATION SLAVE");
    }
    // Some who may see the files may not see what is in them.
    let probe = format!("{LOGS}; SHOW BINLOG EVENTS LIMIT 1");
    match texts(connection, &probe).await {
        Ok(_) => {}
        Err(error) if number(&error).is_some_and(|number| DENIED.contains(&number)) => {
            lacks(if crate::catalog::is_mariadb(connection).await.unwrap_or(true) {
                "BINLOG MONITOR"
            } else {
                "REPLICATION CLIENT"
            });
        }
        // There is no log: told already.
        Err(error) if number(&error) == Some(1381) => {}
        Err(error) => return Err(fault("asking for the files of the log", error)),
    }
    Ok(refusals)
}

/// The files of the log.
pub(crate) const LOGS: &str = "SHOW BINARY LOGS";

/// The place of a snapshot that is taken now. It may not be exact: see `beginning`.
pub(crate) async fn exact(connection: &mut MySqlConnection) -> Result<Option<u64>, Fault> {
    let place = place::take(connection).await?.place;
    run(connection, "ROLLBACK").await.map_err(|error| fault("ending a snapshot", error))?;
    Ok(place)
}

/// The version of a snapshot at `place`.
pub(crate) fn version(epoch: u32, place: Option<u64>) -> Result<Version, Fault> {
    place.map(|place| Version::scan(epoch, place)).ok_or_else(|| {
        Fault::transient("the server did not tell the place of a snapshot in its log")
            .advise("is a file of the log larger than 4 GiB? The next one will do; run: FLUSH BINARY LOGS")
    })
}

#[cfg(test)]
mod tests {
    use fides_sql::same_lineage;

    use super::*;

    fn settings(rows: &[(&str, &str)]) -> Settings {
        Settings::new(rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn every_setting_that_is_in_the_way_is_named_with_what_mends_it() {
        let good = [
            ("log_bin", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_metadata", "FULL"),
            ("server_id", "1"),
        ];
        assert!(settings(&good).refusals().is_empty());
        for (at, bad) in ["OFF", "MIXED", "MINIMAL", "NO_LOG", "0"].into_iter().enumerate() {
            let mut rows = good;
            rows[at].1 = bad;
            let refusals = settings(&rows).refusals();
            assert_eq!(refusals.len(), 1, "{}", rows[at].0);
            assert!(refusals[0].reason.starts_with(&format!("{} is {bad}", rows[at].0)), "{}", refusals[0].reason);
            assert!(refusals[0].mend.contains(rows[at].0), "{}", refusals[0].mend);
        }
        assert_eq!(settings(&[]).refusals().len(), 5);
    }

    #[test]
    fn another_server_has_another_lineage() {
        let one = settings(&[("server_id", "1"), ("server_uid", "a="), ("log_bin_basename", "/data/binlog")]).lineage();
        assert_eq!(one.0, "mysql:log:1:a=:binlog");
        let moved =
            settings(&[("server_id", "1"), ("server_uid", "a="), ("log_bin_basename", "/moved/binlog")]).lineage();
        assert!(same_lineage(&one, &moved).is_ok());
        for (id, uid, files) in [("2", "a=", "binlog"), ("1", "b=", "binlog"), ("1", "a=", "mysql-bin")] {
            let other = settings(&[("server_id", id), ("server_uid", uid), ("log_bin_basename", files)]).lineage();
            assert!(same_lineage(&one, &other).is_err(), "{}", other.0);
        }
    }
}
