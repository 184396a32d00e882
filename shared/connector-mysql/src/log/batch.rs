//! Changes that were read and not handed over yet.

use std::collections::HashMap;

use fides_core::port::{LogPage, Logged, What};
use fides_core::{Key, Page};

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
    /// The record is to be fetched.
    Changed(Key),
    /// The record is gone, unless it is found: it may have come back, or the deletion was rolled back.
    Deleted(Key),
    /// A table was defined anew, or emptied.
    Emptied,
    /// A transaction changed rows, and the log does not tell which. It is waited for, as any other: an import that does not
    /// see it has not found what changed.
    Untold,
    /// The roots that nest a record of an included table changed: those behind `after`.
    Roots(Nested, Option<Key>),
}

/// A record of an included table: its table, the way up, and the values it is joined on, as literals.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Nested {
    pub(super) table: usize,
    pub(super) path: usize,
    pub(super) values: Vec<String>,
}

/// Changes in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
}

impl Batch {
    pub(super) fn push(&mut self, position: u64, sequence: u32, what: Pending) {
        self.entries.push(Entry { position, sequence, what });
    }

    /// Whether anything has to be looked up, or waited for.
    pub(super) fn needs_look(&self) -> bool {
        self.entries.iter().any(Entry::is_awaited)
    }

    /// The position of the latest transaction that must be visible. What only defines tables need not move a snapshot's place.
    pub(super) fn latest(&self) -> u64 {
        self.entries.iter().rev().find(|entry| entry.is_awaited()).map_or(0, |entry| entry.position)
    }

    /// The keys that the first `count` changes name, ascending, each once.
    pub(super) fn wanted(&self, count: usize) -> Vec<&Key> {
        let mut keys: Vec<&Key> = self.entries[..count].iter().filter_map(|entry| entry.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Hands the first `count` changes over, with what was found of them: each key once, at its latest change, because what
    /// is found has seen them all. A record that only changed and was not found has its deletion further on in the log.
    ///
    /// What was looked up is as new as the state at `seen`, and labelled so (L1): under the position of its event, which may be
    /// much older, a page of an import between the two would take the record back for a while. It is labelled just before that
    /// place, where no transaction ends: an import of the same place wins, which may have seen what the log never tells.
    pub(super) fn take(&mut self, count: usize, found: Page, seen: u64, place: u64) -> LogPage {
        let mut latest: HashMap<&Key, (usize, bool)> = HashMap::new();
        for (at, entry) in self.entries[..count].iter().enumerate() {
            if let Some(key) = entry.key() {
                let (last, was_deleted) = latest.entry(key).or_default();
                *last = at;
                *was_deleted |= matches!(entry.what, Pending::Deleted(_));
            }
        }
        let what = |at: usize, entry: &Entry| {
            let Some(key) = entry.key() else {
                return (!entry.is_fetched()).then_some(What::Emptied);
            };
            match latest.get(key) {
                Some((last, _)) if *last != at => None,
                Some((_, was_deleted)) => match found.find(key.as_bytes()) {
                    Some(row) => Some(What::Row { key: key.clone(), at: row }),
                    None => was_deleted.then(|| What::Gone(key.clone())),
                },
                None => None,
            }
        };
        let label = seen.saturating_sub(1);
        let changes = self.entries[..count].iter().enumerate();
        let changes = changes.filter_map(|(at, entry)| {
            let (position, sequence) = if entry.is_fetched() { (label, 0) } else { (entry.position, entry.sequence) };
            Some(Logged { position, sequence, what: what(at, entry)? })
        });
        let changes = changes.collect();
        self.entries.drain(..count);
        LogPage { changes, rows: found.rows, fingerprints: found.fingerprints, decoder: found.decoder, place }
    }
}

impl Entry {
    fn is_fetched(&self) -> bool {
        !matches!(self.what, Pending::Emptied | Pending::Untold)
    }

    fn is_awaited(&self) -> bool {
        !matches!(self.what, Pending::Emptied)
    }

    /// Whether an import that this asks for is all that `what` asks for, of the same transaction.
    pub(super) fn covers(&self, what: &Pending) -> bool {
        match self.what {
            Pending::Untold => matches!(what, Pending::Untold | Pending::Emptied),
            Pending::Emptied => matches!(what, Pending::Emptied),
            _ => false,
        }
    }

    fn key(&self) -> Option<&Key> {
        match &self.what {
            Pending::Changed(key) | Pending::Deleted(key) => Some(key),
            Pending::Emptied | Pending::Untold | Pending::Roots(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use fides_core::{PageBuilder, RowCodec, Value, Version};

    fn key(id: i64) -> Key {
        Key::encode(&[Value::I64(id)]).unwrap()
    }

    fn found(rows: &[(i64, &[u8])]) -> Page {
        let mut page = PageBuilder::new(7);
        for (id, text) in rows {
            let pushed = page.push(|keys, rows| {
                keys.extend_from_slice(key(*id).as_bytes());
                rows.extend_from_slice(text);
                Ok(())
            });
            pushed.unwrap();
        }
        page.finish(Version::default(), Arc::new(RowCodec), false)
    }

    fn batch(all: Vec<Pending>) -> Batch {
        let mut batch = Batch::default();
        for (sequence, what) in all.into_iter().enumerate() {
            batch.push(1, sequence as u32, what);
        }
        batch
    }

    fn told(page: &LogPage) -> Vec<(u64, u32, String)> {
        let what = |what: &What| match what {
            What::Row { at, .. } => String::from_utf8_lossy(page.rows.get(*at)).into_owned(),
            What::Gone(key) => format!("gone {key}"),
            What::Emptied => "emptied".to_owned(),
        };
        page.changes.iter().map(|change| (change.position, change.sequence, what(&change.what))).collect()
    }

    fn all(told: &[(u64, u32, &str)]) -> Vec<(u64, u32, String)> {
        told.iter().map(|(position, sequence, text)| (*position, *sequence, (*text).to_owned())).collect()
    }

    #[test]
    fn each_record_comes_once_at_its_latest_change() {
        use Pending::{Changed, Deleted};
        let mut batch = batch(vec![
            Changed(key(1)),
            Deleted(key(2)),
            Changed(key(1)),
            // It came back.
            Deleted(key(3)),
            // A cascade behind a deletion must not hide it.
            Deleted(key(4)),
            Changed(key(4)),
            // Its deletion is further on.
            Changed(key(5)),
        ]);
        assert_eq!(batch.wanted(7), [&key(1), &key(2), &key(3), &key(4), &key(5)]);
        let page = batch.take(7, found(&[(1, b"one"), (3, b"three")]), 9, 0);
        assert_eq!(told(&page), all(&[(8, 0, "gone 2"), (8, 0, "one"), (8, 0, "three"), (8, 0, "gone 4")]));
        assert!(batch.entries.is_empty());
    }

    #[test]
    fn a_cut_keeps_what_is_behind_it() {
        use Pending::{Changed, Deleted, Emptied};
        let mut batch = batch(vec![Changed(key(1)), Emptied, Deleted(key(1))]);
        assert_eq!(batch.wanted(1), [&key(1)]);
        assert_eq!(told(&batch.take(1, found(&[(1, b"one")]), 9, 0)), all(&[(8, 0, "one")]));
        assert!(batch.needs_look());
        assert_eq!(told(&batch.take(2, found(&[]), 9, 0)), all(&[(1, 1, "emptied"), (8, 0, "gone 1")]));
        assert!(!batch.needs_look());
    }

    #[test]
    fn what_is_not_told_is_waited_for_and_a_definition_is_not() {
        use Pending::{Changed, Emptied, Untold};
        let mut batch = batch(vec![Emptied]);
        assert!(!batch.needs_look());
        batch.push(3, 1, Untold);
        batch.push(5, 1, Emptied);
        assert!(batch.needs_look());
        assert_eq!(batch.latest(), 3);
        assert!(batch.wanted(3).is_empty());
        assert!(batch.entries[1].covers(&Untold) && batch.entries[1].covers(&Emptied));
        assert!(batch.entries[2].covers(&Emptied) && !batch.entries[2].covers(&Untold));
        assert!(!batch.entries[1].covers(&Changed(key(1))));
        let emptied = all(&[(1, 0, "emptied"), (3, 1, "emptied"), (5, 1, "emptied")]);
        assert_eq!(told(&batch.take(3, found(&[]), 9, 0)), emptied);
    }
}
