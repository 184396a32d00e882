//! What an operator should know before an outbox is followed.

use fides_core::port::Concern;
use fides_core::{Fault, FaultKind, Selection};

use super::installed::{self, Installed, missing, unguarded, uniques};
use super::schema::Watch;
use super::{COMMAND, Outbox};
use crate::connect::write_lock;

/// Checks all that following the log of a selection needs; makes nothing.
pub(crate) async fn check(outbox: &Outbox, selection: &Selection) -> Result<Vec<Concern>, Fault> {
    let database = &*outbox.readers;
    let mut connection = database.acquire().await?;
    let mut concerns = Vec::new();
    match Installed::require(database, &mut connection, selection).await {
        Ok(_) => {}
        Err(fault) if fault.kind == FaultKind::Permanent => {
            return Ok(vec![Concern { stops: true, what: fault.what, mend: fault.advice }]);
        }
        Err(fault) => return Err(fault),
    }
    for watch in Watch::all(selection)? {
        let Some(found) = installed::find(database, &mut connection, &watch).await? else { continue };
        let guards = found.watch.guards(found.id, &uniques(database, &mut connection, &found.watch.table).await?);
        if let Some(name) = missing(database, &mut connection, &guards).await? {
            concerns.push(Concern {
                stops: false,
                what: format!("trigger {name} is missing, or another one: what OR REPLACE deletes is not told"),
                mend: Some(COMMAND.to_owned()),
            });
        }
        for index in unguarded(database, &mut connection, &found.watch.table).await? {
            concerns.push(Concern {
                stops: false,
                what: format!(
                    "unique index {index} of table {} is partial or over an expression: a row that OR REPLACE deletes \
                     because of it is told only where `recursive_triggers` is on",
                    found.watch.table
                ),
                mend: Some("let imports run by a schedule: they find it".to_owned()),
            });
        }
    }
    drop(connection);
    if let Err(fault) = write_lock(database.path()).await {
        let what = format!("{}: what was read cannot be removed from the outbox", fault.what);
        concerns.push(Concern { stops: true, what, mend: fault.advice });
    }
    Ok(concerns)
}
