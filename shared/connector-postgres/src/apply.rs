//! A batch of changes becomes transactions. A row that the target refuses is found by halving, so that only it fails.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fides_core::port::{Outcome, Write};
use fides_core::{Change, Fault, Op, Value, decode_row_into};
use tokio::time::Instant;

use crate::connect::Sessions;
use crate::copy_text;
use crate::encode::put_field;
use crate::kind::PgType;
use crate::layout::Layout;
use crate::merge::{Merged, Staged, merge};

/// Changes of one transaction.
const CHANGES_MAX: usize = 10_000;

/// The rows of a write that can be sent.
struct Rows {
    lines: Vec<u8>,
    rows: Vec<Row>,
}

struct Row {
    /// Position of its change.
    at: usize,
    /// Where its line ends.
    end: usize,
    is_delete: bool,
}

impl Rows {
    fn staged(&self, range: &Range<usize>) -> Staged<'_> {
        let start = range.start.checked_sub(1).map_or(0, |before| self.rows[before].end);
        let rows = &self.rows[range.clone()];
        Staged {
            lines: &self.lines[start..rows.last().map_or(start, |row| row.end)],
            count: rows.len(),
            deletes: rows.iter().any(|row| row.is_delete),
            upserts: rows.iter().any(|row| !row.is_delete),
        }
    }
}

/// Writes changes; one outcome each. `time_max` bounds the search for rows that the target refuses. The flag says
/// that the table is no longer what the layout describes.
pub(crate) async fn apply(
    sessions: &Arc<Sessions>,
    layout: &Layout,
    write: &Write<'_>,
    changes: &[Change],
    time_max: Duration,
) -> (Vec<Outcome>, bool) {
    let end = Instant::now() + time_max;
    let mut outcomes = vec![None; changes.len()];
    let rows = encode(layout, changes, &mut outcomes);
    let starts = (0..rows.rows.len()).step_by(CHANGES_MAX);
    let mut open: Vec<Range<usize>> =
        starts.map(|start| start..(start + CHANGES_MAX).min(rows.rows.len())).rev().collect();
    let mut settle = |range: Range<usize>, outcome: Outcome| {
        for row in &rows.rows[range] {
            outcomes[row.at] = Some(outcome.clone());
        }
    };
    let (mut stale, mut changed, mut stop) = (Vec::new(), false, None);
    while let Some(range) = open.pop() {
        if let Some(fault) = &stop {
            settle(range, Outcome::Failed(Fault::clone(fault)));
            continue;
        }
        match attempt(sessions, layout, write, &rows.staged(&range)).await {
            Merged::Done(older) => {
                stale.extend(older);
                settle(range, Outcome::Applied);
            }
            Merged::Data(fault) if range.len() == 1 => settle(range, Outcome::Failed(fault)),
            Merged::Data(_) => {
                let middle = range.start + range.len() / 2;
                open.extend([middle..range.end, range.start..middle]);
                if Instant::now() >= end {
                    stop = Some(Fault::transient(format!(
                        "writing table {}: the time for one write ended while refused records were searched for",
                        write.sink.namespace
                    )));
                }
            }
            // Nothing further is tried on a target that is not well: the guard decides when.
            Merged::Refused(fault) => {
                settle(range, Outcome::Failed(fault.clone()));
                stop = Some(fault);
            }
            Merged::Changed(fault) => {
                changed = true;
                settle(range, Outcome::Failed(fault.clone()));
                stop = Some(fault);
            }
            Merged::Unknown(fault) => {
                settle(range, Outcome::Unknown(fault.clone()));
                stop = Some(fault);
            }
        }
    }
    for at in stale {
        outcomes[at] = Some(Outcome::Stale);
    }
    let missed = || Outcome::Unknown(Fault::transient("a change was left without an outcome"));
    (outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missed)).collect(), changed)
}

async fn attempt(sessions: &Arc<Sessions>, layout: &Layout, write: &Write<'_>, staged: &Staged<'_>) -> Merged {
    let mut session = match sessions.take(|| ()).await {
        Ok(session) => session,
        Err(fault) => return Merged::Refused(fault),
    };
    let merged = merge(&mut session, layout, write, staged).await;
    // Dropped otherwise, which closes it: the server then rolls back at once.
    match merged {
        Merged::Done(_) => session.give_back(),
        Merged::Data(_) | Merged::Refused(_) | Merged::Unknown(_) => session.roll_back().await,
        // What the session has prepared is for the table as it was.
        Merged::Changed(_) => drop(session),
    }
    merged
}

/// Lines of COPY: position, whether it is a deletion, version, fields. A change that no line can hold gets its outcome.
fn encode(layout: &Layout, changes: &[Change], outcomes: &mut [Option<Outcome>]) -> Rows {
    let mut rows = Rows { lines: Vec::new(), rows: Vec::with_capacity(changes.len()) };
    let mut values = Vec::new();
    for (at, change) in changes.iter().enumerate() {
        let start = rows.lines.len();
        match encode_change(layout, at, change, &mut values, &mut rows.lines) {
            Ok(is_delete) => rows.rows.push(Row { at, end: rows.lines.len(), is_delete }),
            Err(fault) => {
                rows.lines.truncate(start);
                outcomes[at] = Some(Outcome::Failed(fault.at(format!("table {}", layout.place))));
            }
        }
        values = recycled(values);
    }
    rows
}

/// The same allocation, without what it borrowed.
fn recycled<'b>(mut values: Vec<Value<'_>>) -> Vec<Value<'b>> {
    values.clear();
    values.into_iter().map(|_| Value::Null).collect()
}

fn encode_change<'c>(
    layout: &Layout,
    at: usize,
    change: &'c Change,
    values: &mut Vec<Value<'c>>,
    out: &mut Vec<u8>,
) -> Result<bool, Fault> {
    let is_delete = match &change.op {
        Op::Upsert(document) => {
            decode_row_into(document, values)?;
            if values.len() != layout.types.len() {
                return Err(Fault::permanent(format!(
                    "a document has {} fields where its shape has {}",
                    values.len(),
                    layout.types.len()
                )));
            }
            false
        }
        Op::Delete => {
            let key = change.key.decode()?;
            if key.len() != layout.key.len() {
                return Err(Fault::permanent(format!("key {} has another number of columns", change.key)));
            }
            values.clear();
            values.resize(layout.types.len(), Value::Null);
            for (field, value) in layout.key.iter().zip(key) {
                values[field.at] = value;
            }
            true
        }
        Op::Reject { reason, .. } => return Err(Fault::permanent(reason.clone())),
    };
    for field in &layout.key {
        if let Some(why) = field.refuses(&values[field.at]) {
            return Err(unfit(&change.key, field.at, &layout.types[field.at], &why));
        }
    }
    copy_text::put(&at.to_string(), out);
    out.extend_from_slice(if is_delete { b"\tt\t" } else { b"\tf\t" });
    if layout.is_versioned {
        let version = u128::from_be_bytes(change.version.to_bytes());
        out.extend_from_slice(format!("{version:032x}").as_bytes());
    } else {
        out.extend_from_slice(b"\\N");
    }
    for (field, (value, ty)) in values.iter().zip(&layout.types).enumerate() {
        out.push(b'\t');
        put_field(value, ty, out).map_err(|why| unfit(&change.key, field, ty, &why))?;
    }
    out.push(b'\n');
    Ok(is_delete)
}

fn unfit(key: &fides_core::Key, field: usize, ty: &PgType, why: &str) -> Fault {
    Fault::permanent(format!("record {key}, field {} ({}): {why}", field + 1, ty.kind()))
        .advise("change the value in the mapping, or the record")
}
