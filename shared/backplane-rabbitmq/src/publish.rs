//! Publishing: lane by lane at the same time, within a lane window by window.

use std::collections::HashMap;
use std::time::Duration;

use fides_core::{Envelope, Fault, Lane, Message};
use futures::stream::{FuturesUnordered, StreamExt};

use crate::broker::{Broker, LaneState, Room};
use crate::depth;
use crate::window::{Parcel, Window};

/// First and longest wait for room in a full lane. It is asked about, which costs the broker little; a settlement in this
/// process ends the wait at once.
const WAIT_MS_MIN: u64 = 5;
const WAIT_MS_MAX: u64 = 500;

/// Publishes in order, per lane, and returns when all is confirmed (L3). Cancel-safe: a window that is under way is
/// brought to its end by a task of its own, and the next publisher of the lane waits for it.
pub(crate) async fn publish(broker: &Broker, envelopes: &[Envelope]) -> Result<(), Fault> {
    let mut lanes: Vec<(&Lane, Vec<&Message>)> = Vec::new();
    let mut places: HashMap<&Lane, usize> = HashMap::new();
    for envelope in envelopes {
        let at = *places.entry(&envelope.lane).or_insert_with(|| {
            lanes.push((&envelope.lane, Vec::new()));
            lanes.len() - 1
        });
        lanes[at].1.push(&envelope.message);
    }
    let mut publishing: FuturesUnordered<_> =
        lanes.into_iter().map(|(lane, messages)| publish_lane(broker, lane, messages)).collect();
    while let Some(published) = publishing.next().await {
        published?;
    }
    Ok(())
}

/// Publishes to one lane. What a full lane refuses is sent again before what was not sent yet. Only where another process
/// filled the lane since its room was counted can a message of the same window have been taken after one that was refused;
/// versions make that harmless (L4).
async fn publish_lane(broker: &Broker, lane: &Lane, messages: Vec<&Message>) -> Result<(), Fault> {
    let state = broker.lane(lane);
    let mut fresh = messages.into_iter();
    let mut refused: Vec<Parcel> = Vec::new();
    let mut refusals = 0;
    while !refused.is_empty() || fresh.len() > 0 {
        // Kept while waiting for room: whoever comes later waits behind.
        let mut turn = state.turn.clone().lock_owned().await;
        if turn.0 == 0 {
            turn.0 = wait_for_room(broker, lane, &state, refusals).await?;
        }
        let room = turn.0.min(broker.window());
        let mut parcels: Vec<Parcel> = refused.drain(..room.min(refused.len())).collect();
        parcels.extend(fresh.by_ref().take(room - parcels.len()).map(Parcel::new));
        turn.0 -= parcels.len();
        let window = Window::new(broker, lane, parcels)?;
        let sent = tokio::spawn(async move {
            let again = window.send().await;
            if !again.as_ref().is_ok_and(Vec::is_empty) {
                // Nobody knows how much of it was taken.
                *turn = Room::default();
            }
            again
        });
        let again = sent.await.map_err(|error| {
            Fault::transient(format!("the process ended while lane {lane} was published to")).because(error)
        })??;
        refusals = if again.is_empty() { 0 } else { refusals + 1 };
        refused.splice(..0, again);
    }
    Ok(())
}

/// Waits until a lane has room, and says for how many messages. After a refusal it waits first: the broker
/// takes messages again only when a fifth of the lane is free.
async fn wait_for_room(broker: &Broker, lane: &Lane, state: &LaneState, refusals: u32) -> Result<usize, Fault> {
    let mut waits = refusals;
    loop {
        let drained = state.drained.notified();
        tokio::pin!(drained);
        drained.as_mut().enable();
        // Room that was counted after a refusal, and before a wait, has been refused already.
        if waits == 0 || waits > refusals {
            let depth = depth::depth(broker, lane).await?.unwrap_or(0);
            let room = u64::from(broker.depth_max).saturating_sub(depth);
            if room > 0 {
                return Ok(usize::try_from(room).unwrap_or(usize::MAX));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait(waits)) => {}
            () = drained => {}
        }
        waits = waits.saturating_add(1);
    }
}

/// Growing, and different for everybody who waits.
fn wait(waits: u32) -> Duration {
    let longest = WAIT_MS_MIN.saturating_mul(1 << waits.min(10)).min(WAIT_MS_MAX);
    Duration::from_millis(fastrand::u64(longest / 2..=longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        for waits in [0, 1, 6, 7, 100, u32::MAX] {
            let (wait, longest) = (wait(waits), (WAIT_MS_MIN << waits.min(10)).min(WAIT_MS_MAX));
            assert!((longest / 2..=longest).contains(&(wait.as_millis() as u64)), "{waits}: {wait:?}");
        }
    }
}
