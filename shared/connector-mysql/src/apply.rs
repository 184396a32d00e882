//! A batch of changes becomes transactions.

use std::sync::Arc;
use std::time::Duration;

use fides_core::port::{Outcome, Write};
use fides_core::{Change, Fault, Op, Value, decode_row_into};
use fides_sql::{Search, Written};

use crate::connect::Sessions;
use crate::layout::Layout;
use crate::transaction::{Row, write as transact};
use crate::{literal, quote};

/// Changes of one transaction.
const CHANGES_MAX: usize = 5_000;

/// Writes changes; one outcome each. `time_max` bounds the search for rows that the target refuses. The flag says
/// that the table is no longer what the layout describes.
pub(crate) async fn apply(
    sessions: &Arc<Sessions>,
    layout: &Layout,
    write: &Write<'_>,
    changes: &[Change],
    time_max: Duration,
) -> (Vec<Outcome>, bool) {
    let mut outcomes = vec![None; changes.len()];
    let rows = encode(layout, changes, &mut outcomes);
    let positions = rows.iter().map(|row| row.at).collect();
    let mut search = Search::new(&write.sink.namespace, positions, outcomes, CHANGES_MAX, time_max);
    while let Some(range) = search.next_rows() {
        let written = attempt(sessions, layout, write, &rows[range.clone()]).await;
        search.written(range, written);
    }
    search.end()
}

async fn attempt(sessions: &Arc<Sessions>, layout: &Layout, write: &Write<'_>, rows: &[Row]) -> Written {
    let mut session = match sessions.take(|| ()).await {
        Ok(session) => session,
        Err(fault) => return Written::Refused(fault),
    };
    let written = transact(session.connection(), layout, write, rows).await;
    // Dropped otherwise, which closes it: the server then rolls back at once.
    match written {
        Written::Done(_) => session.give_back(),
        Written::Data(_) | Written::Refused(_) | Written::Changed(_) | Written::Unknown(_) => session.roll_back().await,
    }
    written
}

/// Rows in the order of their keys, in which locks are taken: two writers then wait for one another, and never both. A
/// change that no row can hold gets its outcome.
fn encode(layout: &Layout, changes: &[Change], outcomes: &mut [Option<Outcome>]) -> Vec<Row> {
    let mut rows = Vec::with_capacity(changes.len());
    let mut values = Vec::new();
    for (at, change) in changes.iter().enumerate() {
        match literals(layout, change, &mut values) {
            Ok(literals) => {
                let version = format!("{:032x}", u128::from_be_bytes(change.version.to_bytes()));
                rows.push(Row { at, key: change.key.clone(), version, literals });
            }
            Err(fault) => outcomes[at] = Some(Outcome::Failed(fault.at(format!("table {}", layout.place)))),
        }
        values = recycled(values);
    }
    rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    rows
}

/// The same allocation, without what it borrowed.
fn recycled<'b>(mut values: Vec<Value<'_>>) -> Vec<Value<'b>> {
    values.clear();
    values.into_iter().map(|_| Value::Null).collect()
}

fn literals<'c>(layout: &Layout, change: &'c Change, values: &mut Vec<Value<'c>>) -> Result<Option<String>, Fault> {
    let document = match &change.op {
        Op::Upsert(document) => document,
        Op::Delete => {
            check_key(layout, change, &change.key.decode()?)?;
            return Ok(None);
        }
        Op::Reject { reason, .. } => return Err(Fault::permanent(reason.clone())),
    };
    decode_row_into(document, values)?;
    if values.len() != layout.fields.len() {
        return Err(Fault::permanent(format!(
            "a document has {} fields where its shape has {}",
            values.len(),
            layout.fields.len()
        )));
    }
    for field in &layout.key {
        if let Some(why) = field.refuses(&values[field.at]) {
            return Err(unfit(layout, change, field.at, &why));
        }
    }
    let mut out = String::from("(");
    for (at, (value, column)) in values.iter().zip(&layout.fields).enumerate() {
        if at > 0 {
            out.push(',');
        }
        literal::put(value, column, &mut out).map_err(|why| unfit(layout, change, at, &why))?;
    }
    if layout.version.is_some() {
        out.push(',');
        quote::put_text(&format!("{:032x}", u128::from_be_bytes(change.version.to_bytes())), &mut out);
    }
    out.push(')');
    if out.len() > layout.row_bytes_max {
        let what = format!("record {}: its {} bytes do not fit max_allowed_packet", change.key, out.len());
        return Err(Fault::permanent(what).advise("raise max_allowed_packet of the server"));
    }
    Ok(Some(out))
}

fn check_key(layout: &Layout, change: &Change, key: &[Value<'_>]) -> Result<(), Fault> {
    if key.len() != layout.key.len() {
        return Err(Fault::permanent(format!("key {} has another number of columns", change.key)));
    }
    match layout.key.iter().zip(key).find_map(|(field, value)| Some((field.at, field.refuses(value)?))) {
        Some((at, why)) => Err(unfit(layout, change, at, &why)),
        None => Ok(()),
    }
}

fn unfit(layout: &Layout, change: &Change, at: usize, why: &str) -> Fault {
    Fault::permanent(format!(
        "record {}, field {} ({}): {why}",
        change.key, layout.fields[at].name, layout.fields[at].native
    ))
    .advise("change the value in the mapping, or the record")
}
