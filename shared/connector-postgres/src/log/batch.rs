//! Changes that were read and not handed over yet.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use fides_core::port::{LogPage, Logged, What};
use fides_core::{Fingerprint, Key, Page, Slices, fingerprint};

use crate::copy_text::Lines;

/// One change.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) position: u64,
    pub(super) sequence: u32,
    pub(super) what: Pending,
}

/// What is known of it.
#[derive(Debug)]
pub(super) enum Pending {
    /// All: its row is in the batch.
    Row {
        key: Key,
        at: usize,
    },
    /// The record changed, and is to be fetched.
    Fetch(Key),
    Gone(Key),
    /// The record is gone, unless it is found.
    Deleted(Key),
    Emptied,
    /// The roots that nest a record of an included table changed: those behind `after`.
    Roots(Nested, Option<Key>),
}

/// A record of an included table: its table, the way up, and the values it is joined on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Nested {
    pub(super) table: usize,
    pub(super) path: usize,
    pub(super) values: Vec<String>,
}

/// What was looked up.
pub(super) struct Found {
    pub(super) records: Page,
    /// Position and sequence of the state that it was read from, where that orders it; else of the change that asked for it.
    pub(super) label: Option<(u64, u32)>,
}

/// Changes in the order of the log, and the rows that it carried.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    rows: Vec<u8>,
    ends: Vec<usize>,
    fingerprints: Vec<Fingerprint>,
    /// The transactions whose changes are to be fetched.
    pub(super) transactions: Vec<u32>,
    /// How many entries are to be fetched.
    pub(super) fetches: usize,
}

impl Batch {
    /// Whether a page would be full: of changes, of rows, or of records to fetch.
    pub(super) fn is_full(&self, records_max: usize, bytes_max: usize, fetches_max: usize) -> bool {
        self.entries.len() >= records_max || self.rows.len() >= bytes_max || self.fetches >= fetches_max
    }

    /// Adds a change of a transaction.
    pub(super) fn push(&mut self, transaction: u32, position: u64, sequence: u32, what: Pending) {
        let entry = Entry { position, sequence, what };
        if entry.is_fetched() {
            self.fetches += 1;
            if self.transactions.last() != Some(&transaction) {
                self.transactions.push(transaction);
            }
        }
        self.entries.push(entry);
    }

    /// Adds a row that `write` appends; `None` when it appends none.
    pub(super) fn row(&mut self, seed: u64, write: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<(usize, &[u8])> {
        let start = self.rows.len();
        if !write(&mut self.rows) {
            return None;
        }
        self.ends.push(self.rows.len());
        let row = &self.rows[start..];
        self.fingerprints.push(fingerprint(row, seed));
        Some((self.ends.len() - 1, row))
    }

    /// The keys to fetch among the first `count` changes. What a later one of them says of the same record is newer.
    pub(super) fn wanted(&self, count: usize) -> Vec<Key> {
        let latest = self.latest(count);
        let wanted = self.entries[..count].iter().enumerate().filter_map(|(at, entry)| match &entry.what {
            Pending::Fetch(key) | Pending::Deleted(key) if latest.get(key).is_some_and(|latest| latest.at == at) => {
                Some(key.clone())
            }
            _ => None,
        });
        wanted.collect()
    }

    /// The latest change of each key; empty when nothing is fetched.
    fn latest(&self, count: usize) -> HashMap<&Key, Latest> {
        let mut latest: HashMap<&Key, Latest> = HashMap::new();
        if self.fetches == 0 {
            return latest;
        }
        for (at, entry) in self.entries[..count].iter().enumerate() {
            if let Some(key) = entry.key() {
                let last = latest.entry(key).or_default();
                last.at = at;
                last.was_deleted |= matches!(entry.what, Pending::Deleted(_));
            }
        }
        latest
    }

    /// Hands the first `count` changes over, with what was found of them: each of those records once, at its latest change. A
    /// record that only changed and was not found has its deletion further on in the log.
    pub(super) fn take(&mut self, count: usize, found: Option<&Found>, lines: &Arc<Lines>, place: u64) -> LogPage {
        let fetched: Vec<Fetched> = {
            let latest = self.latest(count);
            let fate = |(at, entry): (usize, &Entry)| match entry.key().and_then(|key| latest.get(key)) {
                Some(latest) if latest.at != at => Fetched::Superseded,
                Some(Latest { was_deleted: true, .. }) => Fetched::OrGone,
                _ => Fetched::OrNothing,
            };
            self.entries[..count].iter().enumerate().map(fate).collect()
        };
        let rest = self.split(count);
        let carried = self.ends.len();
        let records = found.map(|found| &found.records);
        let label = found.and_then(|found| found.label);
        let mut changes = Vec::with_capacity(count);
        for (entry, fetched) in std::mem::take(&mut self.entries).into_iter().zip(fetched) {
            let (position, sequence) = label.filter(|_| entry.is_fetched()).unwrap_or((entry.position, entry.sequence));
            let what = match entry.what {
                Pending::Row { key, at } => What::Row { key, at },
                Pending::Gone(key) => What::Gone(key),
                Pending::Emptied => What::Emptied,
                Pending::Fetch(key) | Pending::Deleted(key) => {
                    if fetched == Fetched::Superseded {
                        continue;
                    }
                    match records.and_then(|page| page.find(key.as_bytes())) {
                        Some(at) => What::Row { key, at: carried + at },
                        None if fetched == Fetched::OrGone => What::Gone(key),
                        None => continue,
                    }
                }
                Pending::Roots(..) => continue,
            };
            changes.push(Logged { position, sequence, what });
        }
        let (mut rows, mut ends) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.ends));
        let mut fingerprints = std::mem::take(&mut self.fingerprints);
        if let Some(page) = records {
            for row in page.rows.iter() {
                rows.extend_from_slice(row);
                ends.push(rows.len());
            }
            fingerprints.extend_from_slice(&page.fingerprints);
        }
        *self = rest;
        LogPage { changes, rows: Slices::new(Bytes::from(rows), ends), fingerprints, decoder: lines.clone(), place }
    }
}

/// Where a key is named last, and whether one of its changes was a deletion.
#[derive(Debug, Default)]
struct Latest {
    at: usize,
    was_deleted: bool,
}

/// What becomes of a change whose record was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetched {
    /// A later change of the record tells it.
    Superseded,
    /// The record, or that it is gone.
    OrGone,
    /// The record, if it was found.
    OrNothing,
}

impl Batch {
    /// Keeps the first `count` changes; the others, with their rows.
    fn split(&mut self, count: usize) -> Self {
        let mut entries = self.entries.split_off(count);
        if entries.is_empty() {
            return Self::default();
        }
        // Rows are in the order of their changes.
        let first = entries.iter().find_map(|entry| match entry.what {
            Pending::Row { at, .. } => Some(at),
            _ => None,
        });
        let first = first.unwrap_or(self.ends.len());
        let start = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        for entry in &mut entries {
            if let Pending::Row { at, .. } = &mut entry.what {
                *at -= first;
            }
        }
        Self {
            fetches: entries.iter().filter(|entry| entry.is_fetched()).count(),
            entries,
            rows: self.rows.split_off(start),
            ends: self.ends.split_off(first).into_iter().map(|end| end - start).collect(),
            fingerprints: self.fingerprints.split_off(first),
            transactions: self.transactions.clone(),
        }
    }
}

impl Entry {
    pub(super) fn is_fetched(&self) -> bool {
        matches!(self.what, Pending::Fetch(_) | Pending::Deleted(_) | Pending::Roots(..))
    }

    fn key(&self) -> Option<&Key> {
        match &self.what {
            Pending::Row { key, .. } | Pending::Fetch(key) | Pending::Gone(key) | Pending::Deleted(key) => Some(key),
            Pending::Emptied | Pending::Roots(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fides_core::{PageBuilder, Value, Version};

    fn key(id: i64) -> Key {
        Key::encode(&[Value::I64(id)]).unwrap()
    }

    fn lines() -> Arc<Lines> {
        Arc::new(Lines { place: "t".to_owned(), columns: Vec::new(), key: 1, includes: Vec::new(), one: false })
    }

    fn row(batch: &mut Batch, sequence: u32, id: i64, text: &[u8]) {
        let (at, _) = batch
            .row(7, |out| {
                out.extend_from_slice(text);
                true
            })
            .unwrap();
        batch.push(9, 1, sequence, Pending::Row { key: key(id), at });
    }

    fn found(rows: &[(i64, &str)], label: Option<(u64, u32)>) -> Found {
        let mut found = PageBuilder::new(7);
        for (id, text) in rows {
            found
                .push(|keys, rows| {
                    keys.extend_from_slice(key(*id).as_bytes());
                    rows.extend_from_slice(text.as_bytes());
                    Ok(())
                })
                .unwrap();
        }
        Found { records: found.finish(Version::default(), lines(), false), label }
    }

    /// The changes of a page: sequence, and the row or the key that is gone.
    fn told(page: &LogPage) -> Vec<(u32, String)> {
        assert_eq!(page.rows.len(), page.fingerprints.len());
        let told = page.changes.iter().map(|change| match &change.what {
            What::Row { at, .. } => {
                assert_eq!(page.fingerprints[*at], fingerprint(page.rows.get(*at), 7));
                (change.sequence, String::from_utf8_lossy(page.rows.get(*at)).into_owned())
            }
            What::Gone(key) => (change.sequence, format!("gone {key}")),
            What::Emptied => (change.sequence, "emptied".to_owned()),
        });
        told.collect()
    }

    fn all(told: &[(u32, &str)]) -> Vec<(u32, String)> {
        told.iter().map(|(sequence, text)| (*sequence, (*text).to_owned())).collect()
    }

    #[test]
    fn a_cut_keeps_the_rows_of_what_is_behind_it() {
        let mut batch = Batch::default();
        row(&mut batch, 1, 1, b"one");
        batch.push(9, 1, 2, Pending::Gone(key(2)));
        row(&mut batch, 3, 3, b"three");
        batch.push(9, 1, 4, Pending::Emptied);
        row(&mut batch, 5, 5, b"");
        assert_eq!(told(&batch.take(2, None, &lines(), 0)), all(&[(1, "one"), (2, "gone 2")]));
        assert_eq!(told(&batch.take(2, None, &lines(), 0)), all(&[(3, "three"), (4, "emptied")]));
        assert_eq!(told(&batch.take(1, None, &lines(), 0)), all(&[(5, "")]));
        assert!(batch.entries.is_empty());
    }

    #[test]
    fn only_the_latest_of_what_is_fetched_comes_and_nothing_older_than_a_deletion() {
        let mut batch = Batch::default();
        for (sequence, what) in [
            Pending::Fetch(key(1)),
            Pending::Fetch(key(2)),
            Pending::Gone(key(2)),
            Pending::Fetch(key(1)),
            Pending::Fetch(key(3)),
            Pending::Fetch(key(4)),
        ]
        .into_iter()
        .enumerate()
        {
            batch.push(9, 1, sequence as u32, what);
        }
        row(&mut batch, 6, 4, b"four");
        assert_eq!(batch.wanted(7), [key(1), key(3)]);
        assert_eq!(batch.transactions, [9]);
        let page = batch.take(7, Some(&found(&[(1, "one"), (2, "two"), (4, "later")], None)), &lines(), 0);
        assert_eq!(told(&page), all(&[(2, "gone 2"), (3, "one"), (6, "four")]));
    }

    #[test]
    fn what_is_ordered_by_its_state_is_told_once_and_has_the_label_of_that() {
        use Pending::{Deleted, Emptied, Fetch};
        let mut batch = Batch::default();
        // Changed; gone; gone and back; gone with what it nested; changed, and gone further on; emptied.
        let deletions =
            [Fetch(key(1)), Deleted(key(2)), Deleted(key(3)), Deleted(key(4)), Fetch(key(3)), Fetch(key(4))];
        for (sequence, what) in (0..).zip(deletions.into_iter().chain([Fetch(key(5)), Emptied])) {
            batch.push(9, 1, sequence, what);
        }
        assert_eq!(batch.wanted(8), [key(1), key(2), key(3), key(4), key(5)]);
        let page = batch.take(8, Some(&found(&[(1, "one"), (3, "three")], Some((70, 5)))), &lines(), 0);
        assert_eq!(told(&page), all(&[(5, "one"), (5, "gone 2"), (5, "three"), (5, "gone 4"), (7, "emptied")]));
        assert!(page.changes.iter().all(|change| change.position == if change.sequence == 5 { 70 } else { 1 }));
    }
}
