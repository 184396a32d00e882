//! Two stores, one ordered walk: every key of either side, once.

use std::cmp::Ordering;
use std::sync::Arc;

use fides_core::port::Snapshot;
use fides_core::{Fault, Key, KeyRange, Page};

use crate::Pipeline;
use crate::snapshot::Renewed;

/// Which store is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Store {
    Host,
    Target,
}

/// The snapshots of one side. Nothing is drawn: their versions label nothing.
pub(crate) struct Source {
    pipeline: Pipeline,
    store: Store,
    open: Renewed,
}

impl Source {
    fn new(pipeline: &Pipeline, store: Store) -> Self {
        Self { pipeline: pipeline.clone(), store, open: Renewed::default() }
    }

    /// A snapshot that is young enough.
    pub(crate) async fn current(&self) -> Result<Arc<dyn Snapshot>, Fault> {
        let opening = async {
            match self.store {
                Store::Host => self.pipeline.peek_host().await,
                Store::Target => self.pipeline.open_target().await,
            }
        };
        self.open.current(&self.pipeline.limits, opening).await
    }
}

/// Both sides of a walk.
pub(crate) struct Sources {
    pub(crate) host: Source,
    pub(crate) target: Source,
}

impl Sources {
    /// Opens nothing yet.
    pub(crate) fn new(pipeline: &Pipeline) -> Self {
        Self { host: Source::new(pipeline, Store::Host), target: Source::new(pipeline, Store::Target) }
    }

    /// Opens both, and splits the host into up to `host_partitions` ranges.
    pub(crate) async fn plan(&self) -> Result<Vec<KeyRange>, Fault> {
        let (host, _) = futures::try_join!(self.host.current(), self.target.current())?;
        host.plan(self.host.pipeline.limits.host_partitions.max(1)).await
    }

    /// The walk over one range, from its beginning or behind a key that was reached before.
    pub(crate) fn walk(&self, range: &KeyRange, after: Option<&Key>) -> Walk<'_> {
        Walk { left: Side::new(&self.host, range, after), right: Side::new(&self.target, range, after) }
    }
}

/// A record of one side.
pub(crate) type Found<'a> = (&'a Page, usize);

/// A walk over one range of both sides. Holds one page of each.
pub(crate) struct Walk<'s> {
    left: Side<'s>,
    right: Side<'s>,
}

/// One side of the walk.
struct Side<'s> {
    source: &'s Source,
    range: KeyRange,
    /// Where the first page begins.
    after: Option<Key>,
    page: Option<Page>,
    at: usize,
}

impl<'s> Side<'s> {
    fn new(source: &'s Source, range: &KeyRange, after: Option<&Key>) -> Self {
        Self { source, range: range.clone(), after: after.cloned(), page: None, at: 0 }
    }

    /// Makes the next record available, reading a page when the one at hand is through.
    async fn fill(&mut self) -> Result<(), Fault> {
        loop {
            let after: Option<Key> = match &self.page {
                Some(page) if self.at < page.len() || page.next.is_none() => return Ok(()),
                Some(page) => page.next.clone(),
                None => self.after.take(),
            };
            self.page = None;
            self.page = Some(self.source.current().await?.scan(&self.range, after.as_ref()).await?);
            self.at = 0;
        }
    }

    fn peek(&self) -> Option<Found<'_>> {
        self.page.as_ref().filter(|page| self.at < page.len()).map(|page| (page, self.at))
    }

    /// The last key of the page at hand that was shown.
    fn shown(&self) -> Option<&[u8]> {
        Some(self.page.as_ref()?.keys.get(self.at.checked_sub(1)?))
    }

    fn has_more(&self) -> bool {
        self.page.as_ref().is_none_or(|page| page.next.is_some())
    }

    fn is_through(&self) -> bool {
        self.peek().is_none() && !self.has_more()
    }
}

impl Walk<'_> {
    /// The last key that was shown, of both sides; `None` where the last step showed none. Behind it the walk can go on
    /// another time.
    pub(crate) fn reached(&self) -> Option<Key> {
        self.left.shown().max(self.right.shown()).map(Key::from_bytes)
    }

    /// Goes on until one of the pages at hand is through, and shows every key with what host and target have under it.
    /// Whether there is more.
    pub(crate) async fn step(
        &mut self,
        mut see: impl FnMut(Option<Found<'_>>, Option<Found<'_>>),
    ) -> Result<bool, Fault> {
        let Self { left, right } = self;
        // Pages are loaded side by side: two stores, two waits at once.
        futures::try_join!(left.fill(), right.fill())?;
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, i)), Some((b, j))) => a.keys.get(i).cmp(b.keys.get(j)),
            };
            // A side whose page is through but whose range is not must be filled before it is passed over.
            match order {
                Ordering::Less if right.peek().is_none() && right.has_more() => break,
                Ordering::Greater if left.peek().is_none() && left.has_more() => break,
                _ => {}
            }
            see(left.peek().filter(|_| order != Ordering::Greater), right.peek().filter(|_| order != Ordering::Less));
            left.at += usize::from(order != Ordering::Greater);
            right.at += usize::from(order != Ordering::Less);
        }
        Ok(!(left.is_through() && right.is_through()))
    }
}
