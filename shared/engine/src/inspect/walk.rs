//! Two snapshots, one ordered walk: every key of either side, once.

use std::cmp::Ordering;
use std::sync::Arc;

use fides_core::port::Snapshot;
use fides_core::{Fault, Key, KeyRange, Page};

/// One side of the walk.
pub(crate) struct Side {
    snapshot: Arc<dyn Snapshot>,
    range: KeyRange,
    page: Option<Page>,
    at: usize,
}

/// A record of one side.
pub(crate) type Found<'a> = (&'a Page, usize);

impl Side {
    pub(crate) fn new(snapshot: Arc<dyn Snapshot>, range: &KeyRange) -> Self {
        Self { snapshot, range: range.clone(), page: None, at: 0 }
    }

    /// Makes the next record available, reading a page when the one at hand is through.
    async fn fill(&mut self) -> Result<(), Fault> {
        loop {
            let after: Option<Key> = match &self.page {
                Some(page) if self.at < page.len() || page.next.is_none() => return Ok(()),
                Some(page) => page.next.clone(),
                None => None,
            };
            self.page = None;
            self.page = Some(self.snapshot.scan(&self.range, after.as_ref()).await?);
            self.at = 0;
        }
    }

    fn peek(&self) -> Option<Found<'_>> {
        self.page.as_ref().filter(|page| self.at < page.len()).map(|page| (page, self.at))
    }
}

/// Walks both sides in key order and shows every key with what each side has under it. Holds one page of each.
pub(crate) async fn merge(
    left: &mut Side,
    right: &mut Side,
    mut see: impl FnMut(Option<Found<'_>>, Option<Found<'_>>),
) -> Result<(), Fault> {
    while merge_pages(left, right, &mut see).await? {}
    Ok(())
}

/// One step of [`merge`]: goes on until one of the pages at hand is through. Whether there is more.
pub(crate) async fn merge_pages(
    left: &mut Side,
    right: &mut Side,
    see: &mut impl FnMut(Option<Found<'_>>, Option<Found<'_>>),
) -> Result<bool, Fault> {
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

impl Side {
    fn has_more(&self) -> bool {
        self.page.as_ref().is_none_or(|page| page.next.is_some())
    }

    fn is_through(&self) -> bool {
        self.peek().is_none() && !self.has_more()
    }
}
