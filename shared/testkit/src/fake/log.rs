use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{Gap, Lineage, Log, LogPage, Logged as Change, Opened, What};
use fides_core::{Fault, RowCodec, Selection, Slices, fingerprint};
use tokio::sync::watch;

use super::host::{Commit, FakeHost, Logged, Order, raw_row};

/// Follows a [`FakeHost`], at most so many changes at a time: small, so that transactions come in parts.
const PAGE_CHANGES_MAX: usize = 3;

/// A reader of a fake host's log.
struct FakeLog {
    host: FakeHost,
    /// Of the server that the connection goes to.
    lineage: Lineage,
    selection: Selection,
    /// Ticks with every commit.
    ticks: watch::Receiver<u64>,
    /// Transactions that are not through, the first perhaps in part.
    waiting: VecDeque<Commit>,
    /// Of the first one, changes that are through.
    taken: usize,
    /// The last transaction that is through.
    place: u64,
}

/// Opens the log of `host`, which begins anew where it was not `kept` for this reader.
pub(super) fn open(
    host: &FakeHost,
    selection: &Selection,
    after: Option<u64>,
    kept: bool,
    ticks: watch::Receiver<u64>,
) -> Opened {
    let (from, gap) = match after {
        Some(after) if after > host.position() => {
            (host.position(), Some(Gap::Backward(format!("the log ends before {after}"))))
        }
        Some(after) if kept => (after, None),
        Some(after) => (host.position(), Some(Gap::Missing(format!("what follows {after} was not kept")))),
        None => (host.position(), Some(Gap::Missing("it is read for the first time".to_owned()))),
    };
    let waiting = host.log_from(from).into();
    let log = FakeLog {
        host: host.clone(),
        lineage: host.lineage_now(),
        selection: selection.clone(),
        ticks,
        waiting,
        taken: 0,
        place: from,
    };
    Opened { log: Box::new(log), from, gap }
}

impl FakeLog {
    /// The next changes, in their order; the place moves behind every transaction that is through.
    fn take(&mut self) -> Vec<(u64, Told)> {
        let mut taken = Vec::new();
        while taken.len() < PAGE_CHANGES_MAX
            && let Some(commit) = self.waiting.front()
        {
            if commit.emptied && self.taken == 0 {
                taken.push((commit.position, Told::Emptied));
            }
            if let Some(logged) = commit.changes.get(self.taken) {
                taken.push((commit.position, Told::Changed(logged.clone())));
                self.taken += 1;
            }
            if self.taken >= commit.changes.len() {
                (self.place, self.taken) = (commit.position, 0);
                self.waiting.pop_front();
            }
        }
        taken
    }

    fn page(&mut self) -> Result<LogPage, Fault> {
        let taken = self.take();
        let seen = match self.host.order() {
            Order::Fetched => taken.last().map(|&(position, _)| self.host.seen(position)),
            Order::Host | Order::Fides => None,
        };
        let (mut changes, mut rows, mut ends, mut fingerprints) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (at, (position, told)) in taken.iter().enumerate() {
            let Told::Changed(logged) = told else {
                changes.push(Change { position: *position, sequence: 0, what: What::Emptied });
                continue;
            };
            let (value, (position, sequence)) = match &seen {
                None => (logged.value, (*position, logged.sequence)),
                // The latest change of a record tells it as it is. One that is not there has its deletion further on, or here.
                Some(seen) => match seen.rows.get(&logged.key) {
                    _ if changes_of(logged.key, &taken[at + 1..]).next().is_some() => continue,
                    None if changes_of(logged.key, &taken).all(|change| change.value.is_some()) => continue,
                    value => (value.copied(), seen.label),
                },
            };
            let key = FakeHost::key(logged.key);
            let what = match value {
                None => What::Gone(key),
                Some(value) => {
                    let row = raw_row(&self.selection, logged.key, value)?;
                    fingerprints.push(fingerprint(&row, self.selection.seed));
                    rows.extend_from_slice(&row);
                    ends.push(rows.len());
                    What::Row { key, at: ends.len() - 1 }
                }
            };
            changes.push(Change { position, sequence, what });
        }
        let rows = Slices::new(rows.into(), ends);
        Ok(LogPage { changes, rows, fingerprints, decoder: Arc::new(RowCodec), place: self.place })
    }
}

/// What the log tells.
enum Told {
    Emptied,
    Changed(Logged),
}

fn changes_of(key: i64, told: &[(u64, Told)]) -> impl Iterator<Item = &Logged> {
    told.iter().filter_map(move |(_, told)| match told {
        Told::Changed(logged) if logged.key == key => Some(logged),
        _ => None,
    })
}

#[async_trait]
impl Log for FakeLog {
    async fn next(&mut self) -> Result<LogPage, Fault> {
        if self.host.lineage_now() != self.lineage {
            return Err(Fault::transient("the connection is lost: another server answers now"));
        }
        while self.waiting.is_empty() {
            self.ticks.mark_unchanged();
            self.waiting = self.host.log_from(self.place).into();
            if self.waiting.is_empty() && self.ticks.changed().await.is_err() {
                return Err(Fault::unavailable("the host is gone"));
            }
        }
        self.page()
    }

    async fn release(&mut self, _place: u64) -> Result<(), Fault> {
        Ok(())
    }
}
