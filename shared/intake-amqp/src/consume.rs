//! Receiving events until a stop.

use std::time::Duration;

use fides_core::{Fault, FaultKind};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use crate::dead::Grave;
use crate::read::key_of;
use crate::session::Session;
use crate::topology::{declare, look, short};
use crate::{Reception, Route, Settings};

/// First and longest pause before a connection is opened anew, or an event offered anew.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often a consumer looks whether it still is one.
const LOOK: Duration = Duration::from_secs(2);

/// Receives the events of a queue until `stop`; whatever goes wrong is said, and tried again after a growing pause. What is
/// under way at `stop` returns to the queue. `reception` says meanwhile whether they are received.
pub async fn consume(settings: Settings, route: Route, reception: &Reception, stop: &CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let Some(Err(fault)) = stop.run_until_cancelled(receive(&settings, &route, reception)).await else { return };
        failures = if began.elapsed() > PAUSE_MAX { 1 } else { failures + 1 };
        let pipeline = route.hints.pipeline();
        tracing::warn!(%pipeline, failures, %fault, "events are not received at present");
        reception.became(Err(fault));
        stop.run_until_cancelled(sleep(pause(failures))).await;
    }
}

/// Grows with every failure, and is never the same for many who failed together.
fn pause(failures: u32) -> Duration {
    let longest = PAUSE_MIN.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Receives over one connection until it fails.
async fn receive(settings: &Settings, route: &Route, reception: &Reception) -> Result<(), Fault> {
    let session = Session::open(settings).await?;
    let channel = session.channel().await?;
    declare(&session, &channel, settings).await?;
    let grave = Grave::open(&session, settings).await?;
    let queue = short(&settings.queue)?;
    let mut consumer = begin(&session, &channel, settings, &queue).await?;
    tracing::info!(pipeline = %route.hints.pipeline(), queue = settings.queue, exchange = settings.exchange, "receiving events");
    reception.became(Ok(()));
    let mut under_way = FuturesUnordered::new();
    let mut looks = interval_at(Instant::now() + LOOK, LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(settled) = under_way.next() => settled?,
            delivery = consumer.next() => {
                let what = || session.at(&format!("receiving events of queue {queue}"));
                let delivery = match delivery {
                    Some(Ok(delivery)) => delivery,
                    Some(Err(error)) => return Err(crate::fault::fault(&what(), &error)),
                    None => return Err(Fault::unavailable(format!("{}: the broker has ended the consumer", what()))),
                };
                under_way.push(settle(&session, &grave, route, delivery));
            }
            // A channel that ends between the answer to its consume and the first delivery tells nobody, and a queue whose
            // leader is being elected may accept a consumer and forget it.
            _ = looks.tick() => match look(&session, &channel, &queue).await? {
                Some(seen) if seen.consumer_count() > 0 => {}
                Some(_) => return Err(Fault::transient(session.at("the broker does not know this consumer"))),
                None => return Err(Fault::unavailable(session.at(&format!("queue {queue} was deleted")))),
            },
        }
    }
}

async fn begin(
    session: &Session,
    channel: &Channel,
    settings: &Settings,
    queue: &ShortString,
) -> Result<Consumer, Fault> {
    let what = format!("consuming queue {queue}");
    // 0 would mean without bound (L10).
    let qos = channel.basic_qos(settings.prefetch.max(1), BasicQosOptions::default());
    session.call(&what, qos).await?;
    let options = BasicConsumeOptions::default();
    let consuming = channel.basic_consume(queue.clone(), ShortString::default(), options, FieldTable::default());
    session.call(&what, consuming).await
}

/// Sees one event through: acknowledged when it is published, or buried, and not before (L3). A fault ends the connection,
/// and what was not acknowledged comes again.
async fn settle(session: &Session, grave: &Grave, route: &Route, delivery: Delivery) -> Result<(), Fault> {
    match key_of(route, &delivery.properties, &delivery.data) {
        Ok(None) => {}
        Ok(Some(key)) => {
            let mut failures = 0;
            while let Err(fault) = route.hints.offer(vec![key.clone()]).await {
                if fault.kind == FaultKind::Permanent {
                    bury(session, grave, route, &delivery, &fault.to_string()).await?;
                    break;
                }
                failures += 1;
                let pipeline = route.hints.pipeline();
                tracing::debug!(%pipeline, failures, %fault, "an event waits");
                sleep(pause(failures)).await;
            }
        }
        Err(malformed) => bury(session, grave, route, &delivery, &malformed.to_string()).await?,
    }
    session.call("acknowledging an event", delivery.acker.ack(BasicAckOptions::default())).await.map(drop)
}

async fn bury(session: &Session, grave: &Grave, route: &Route, delivery: &Delivery, why: &str) -> Result<(), Fault> {
    tracing::warn!(pipeline = %route.hints.pipeline(), routing_key = %delivery.routing_key, why, "a malformed event was put aside");
    grave.bury(session, delivery, why).await
}
