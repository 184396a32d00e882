//! Many hints, one fetch: never waiting for a full batch.

use std::collections::BTreeSet;
use std::time::Duration;

use fides_core::{Key, Limits};
use tokio::time::{Instant, timeout_at};

use super::offer::{Offer, Offers};

/// How much is gathered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    records: usize,
    bytes: usize,
}

impl Size {
    fn of(keys: &[Key]) -> Self {
        Self { records: keys.len(), bytes: keys.iter().map(|key| key.as_bytes().len()).sum() }
    }

    fn and(self, other: Self) -> Self {
        Self { records: self.records + other.records, bytes: self.bytes + other.bytes }
    }

    fn fits(self, limits: &Limits) -> bool {
        self.records <= limits.batch_records_max && self.bytes <= limits.batch_bytes_max
    }
}

/// Gathers offers into batches.
pub(super) struct Gatherer {
    offers: Offers,
    /// What did not fit any more.
    held: Option<Offer>,
}

impl Gatherer {
    pub(super) fn new(offers: Offers) -> Self {
        Self { offers, held: None }
    }

    /// Waits for a first offer, then gathers until `hint_gather_ms_max` is over or the next one does not fit. An offer that
    /// is too large is a batch of its own. `None` when there will be no more. Who is dropped meanwhile is told that nobody
    /// takes the offer: cancel it only to end.
    pub(super) async fn next(&mut self, limits: &Limits) -> Option<Vec<Offer>> {
        let first = match self.held.take() {
            Some(held) => held,
            None => self.offers.0.recv().await?,
        };
        let deadline = Instant::now() + Duration::from_millis(limits.hint_gather_ms_max);
        let mut size = Size::of(&first.keys);
        let mut batch = vec![first];
        while size.fits(limits) {
            let Ok(Some(offer)) = timeout_at(deadline, self.offers.0.recv()).await else { break };
            let grown = size.and(Size::of(&offer.keys));
            if !grown.fits(limits) {
                self.held = Some(offer);
                break;
            }
            size = grown;
            batch.push(offer);
        }
        Some(batch)
    }

    /// Refuses what comes from now on, and what waits.
    pub(super) fn close(self) {
        drop(self);
    }
}

/// Every key once: many hints of one record are one fetch.
pub(super) fn distinct<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<Key> {
    keys.into_iter().collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fides_core::Value;
    use proptest::prelude::*;
    use tokio::sync::{Semaphore, mpsc, oneshot};

    use super::*;

    fn key(id: i64) -> Key {
        Key::encode(&[Value::I64(id)]).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Every offer is in one batch, in order; no batch is too large but one of a single offer; none waits for more.
        #[test]
        fn batches_are_the_offers_in_order(
            offers in prop::collection::vec(prop::collection::vec(0..9i64, 1..6), 0..20),
            records_max in 1..8usize,
            bytes_max in 1..90usize,
        ) {
            let limits = Limits { batch_records_max: records_max, batch_bytes_max: bytes_max, ..Limits::default() };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let batches = runtime.block_on(async {
                let (sender, receiver) = mpsc::unbounded_channel();
                let room = Arc::new(Semaphore::new(1000));
                for ids in &offers {
                    let keys = ids.iter().map(|&id| key(id)).collect();
                    let room = room.clone().try_acquire_owned().unwrap();
                    assert!(sender.send(Offer { keys, answer: oneshot::channel().0, _room: room }).is_ok());
                }
                drop(sender);
                let mut gatherer = Gatherer::new(Offers(receiver));
                let mut batches = Vec::new();
                while let Some(batch) = gatherer.next(&limits).await {
                    batches.push(batch.into_iter().map(|offer| offer.keys).collect::<Vec<_>>());
                }
                batches
            });
            let expected: Vec<Vec<Key>> = offers.iter().map(|ids| ids.iter().map(|&id| key(id)).collect()).collect();
            prop_assert_eq!(batches.concat(), expected);
            for batch in &batches {
                prop_assert!(batch.len() == 1 || Size::of(&batch.concat()).fits(&limits), "{:?}", batch);
            }
            for pair in batches.windows(2) {
                let with_next = [pair[0].concat(), pair[1][0].clone()].concat();
                prop_assert!(!Size::of(&with_next).fits(&limits), "they could have been one");
            }
        }

        #[test]
        fn every_key_is_fetched_once(ids in prop::collection::vec(0..9i64, 0..20)) {
            let keys: Vec<Key> = ids.iter().map(|&id| key(id)).collect();
            let distinct = distinct(&keys);
            prop_assert!(distinct.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(keys.iter().all(|key| distinct.contains(key)));
            prop_assert!(distinct.iter().all(|key| keys.contains(key)));
        }
    }
}
