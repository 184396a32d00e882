//! What the broker has sent to a consumer and the consumer has not settled.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fides_core::Fault;
use lapin::ConsumerDelegate;
use lapin::message::{Delivery, DeliveryResult};
use lapin::types::ShortString;
use tokio::sync::Notify;

use crate::fault::fault;

/// Filled by the driver in the order of the wire: when a later answer on the same channel is there, everything that the
/// broker sent before it is here. Bounded by the prefetch (L10).
pub(crate) struct Inbox {
    /// Which lane, where.
    place: String,
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    /// Not handed out yet.
    ahead: VecDeque<Arrived>,
    /// Handed out and not acknowledged.
    open: BTreeSet<u64>,
    received: u64,
    settled: u64,
    ended: Option<Fault>,
}

/// A message as it came over the wire.
pub(crate) struct Arrived {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) id: Option<ShortString>,
    pub(crate) reply_to: Option<ShortString>,
    pub(crate) correlation_id: Option<ShortString>,
    pub(crate) body: Bytes,
}

impl From<Delivery> for Arrived {
    fn from(delivery: Delivery) -> Self {
        Self {
            tag: delivery.delivery_tag,
            redelivered: delivery.redelivered,
            id: delivery.properties.message_id().clone(),
            reply_to: delivery.properties.reply_to().clone(),
            correlation_id: delivery.properties.correlation_id().clone(),
            body: delivery.data.into(),
        }
    }
}

/// Equal counts mean that nothing was received or settled in between.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    received: u64,
    settled: u64,
    ended: bool,
}

impl Count {
    /// Received and not settled; nothing once the broker has it back.
    pub(crate) fn held(self) -> u64 {
        if self.ended { 0 } else { self.received.saturating_sub(self.settled) }
    }

    /// How many were held at any moment between this count and a later one, at most.
    pub(crate) fn most_until(self, later: Self) -> u64 {
        Self { received: later.received, ..self }.held()
    }
}

impl Inbox {
    pub(crate) fn new(place: String) -> Arc<Self> {
        Arc::new(Self { place, state: Mutex::default(), filled: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> Count {
        let state = self.state();
        Count { received: state.received, settled: state.settled, ended: state.ended.is_some() }
    }

    /// Hands out the first message that `read` can read; waits for one. What it cannot read stays the first. Once the
    /// broker has ended the consumer that is told at once: what is still here is its again.
    pub(crate) async fn next<T>(&self, read: impl Fn(&Arrived) -> Result<T, Fault>) -> Result<T, Fault> {
        loop {
            let filled = self.filled.notified();
            if let Some(next) = self.take(&read) {
                return next;
            }
            filled.await;
        }
    }

    fn take<T>(&self, read: impl Fn(&Arrived) -> Result<T, Fault>) -> Option<Result<T, Fault>> {
        let mut state = self.state();
        if let Some(fault) = &state.ended {
            return Some(Err(fault.clone()));
        }
        let first = state.ahead.front()?;
        let (tag, read) = (first.tag, read(first));
        if read.is_ok() {
            state.ahead.pop_front();
            state.open.insert(tag);
        }
        Some(read)
    }

    /// Which acknowledgements settle these deliveries, as (tag, and all before it). What is settled already, or was never
    /// handed out, is left out.
    pub(crate) fn acknowledgements(&self, tags: &[u64]) -> Vec<(u64, bool)> {
        let state = self.state();
        let tags: BTreeSet<u64> = tags.iter().copied().filter(|tag| state.open.contains(tag)).collect();
        let together = state.open.iter().zip(&tags).take_while(|(open, tag)| open == tag).count();
        let mut tags = tags.into_iter();
        let prefix = (together > 0).then(|| tags.by_ref().nth(together - 1)).flatten();
        prefix.map(|tag| (tag, true)).into_iter().chain(tags.map(|tag| (tag, false))).collect()
    }

    /// An acknowledgement is on its way.
    pub(crate) fn settled(&self, tag: u64, and_before: bool) {
        let mut state = self.state();
        let before = state.open.len();
        if and_before {
            state.open = state.open.split_off(&(tag + 1));
        } else {
            state.open.remove(&tag);
        }
        state.settled += (before - state.open.len()) as u64;
    }

    fn end(&self, why: Fault) {
        self.state().ended.get_or_insert(why);
        self.filled.notify_one();
    }
}

/// The end of an inbox that the driver fills.
pub(crate) struct Feed(pub(crate) Arc<Inbox>);

impl ConsumerDelegate for Feed {
    /// Does its work before it returns: the futures of several deliveries have no order.
    fn on_new_delivery(&self, delivery: DeliveryResult) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let inbox = &self.0;
        match delivery {
            Ok(Some(delivery)) => {
                let mut state = inbox.state();
                state.received += 1;
                state.ahead.push_back(delivery.into());
                drop(state);
                inbox.filled.notify_one();
            }
            Ok(None) => inbox.end(
                Fault::unavailable(format!("{}: the broker has ended the consumer", inbox.place))
                    .advise("its queue was deleted, or its leader is gone; it is declared again by the next attempt"),
            ),
            Err(error) => inbox.end(fault(&inbox.place, &error)),
        }
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(open: impl IntoIterator<Item = u64>) -> Arc<Inbox> {
        let inbox = Inbox::new("here".to_owned());
        inbox.state().open = open.into_iter().collect();
        inbox
    }

    #[test]
    fn a_prefix_is_acknowledged_at_once_and_the_rest_one_by_one() {
        for (tags, expected) in [
            (&[1, 2, 3][..], &[(3, true)][..]),
            (&[3, 1], &[(1, true), (3, false)]),
            (&[4, 2, 1, 1], &[(2, true), (4, false)]),
            (&[2, 3], &[(2, false), (3, false)]),
            (&[9], &[]),
            (&[], &[]),
        ] {
            let inbox = inbox(1..=4);
            assert_eq!(inbox.acknowledgements(tags), expected, "{tags:?}");
        }
    }

    #[test]
    fn what_comes_between_two_counts_may_be_held() {
        let count = |received, settled, ended| Count { received, settled, ended };
        let before = count(10, 4, false);
        for (later, most) in [
            (count(10, 4, false), 6),
            (count(13, 4, false), 9),
            (count(10, 5, false), 6),
            (count(30, 25, false), 26),
            (count(10, 4, true), 6),
        ] {
            assert_eq!(before.most_until(later), most);
        }
        assert_eq!(count(10, 4, true).most_until(count(10, 4, true)), 0, "the broker has it back");
    }

    #[test]
    fn what_is_settled_is_settled_once() {
        let inbox = inbox(1..=4);
        for (tag, and_before) in inbox.acknowledgements(&[3, 1]) {
            inbox.settled(tag, and_before);
        }
        assert_eq!(inbox.count().settled, 2);
        assert_eq!(inbox.acknowledgements(&[1, 2, 3]), [(2, true)], "1 and 3 are gone, so 2 is the first");
    }
}
