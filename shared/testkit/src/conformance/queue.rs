//! The suite of [`Queue`].

use std::sync::Arc;

use fides_core::port::{Consumer, Delivery, Queue};
use fides_core::{Batch, Change, Envelope, FenceId, Field, Kind, Lane, Message, Op, Origin, PipelineId, Shape};
use futures::FutureExt;

use super::{LANE_DEPTH_MAX, Stores, fingerprint, key, suite, until, version};

suite![
    messages_arrive_in_order_and_whole,
    lanes_do_not_mix,
    what_is_settled_is_gone_and_the_rest_returns_in_order,
    a_lane_has_one_consumer_and_the_next_one_waits,
    a_dropped_consumer_returns_its_deliveries_before_newer_ones,
    a_cancelled_next_loses_nothing,
    a_consumer_waits_for_a_message,
    a_full_lane_makes_publishers_wait_until_something_is_settled,
    a_cancelled_publish_leaves_the_lane_usable,
    a_cancelled_settle_leaves_the_lane_usable,
    many_publishers_keep_their_own_order,
    a_killed_process_loses_nothing_that_was_confirmed,
];

fn lane(index: u16) -> Lane {
    Lane { pipeline: PipelineId::new("queue"), index }
}

/// A message that says `number` and nothing else.
fn numbered(lane: &Lane, number: u64) -> Envelope {
    let change = Change {
        key: key(number.cast_signed()),
        version: version(number),
        fingerprint: None,
        op: Op::Delete,
        forced: false,
    };
    let shape = Arc::new(Shape { fields: Vec::new(), key: Vec::new() });
    let batch = Batch { origin: Origin::Import, trace: None, shape, changes: vec![change] };
    Envelope { lane: lane.clone(), message: Message::Changes(batch) }
}

fn numbers(lane: &Lane, numbers: impl IntoIterator<Item = u64>) -> Vec<Envelope> {
    numbers.into_iter().map(|number| numbered(lane, number)).collect()
}

fn number(delivery: &Delivery) -> u64 {
    match &delivery.message {
        Message::Changes(batch) => batch.changes[0].version.position,
        Message::Fence(fence) => fence.number,
    }
}

async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut deliveries: Vec<Delivery> = Vec::new();
    for _ in 0..count {
        let delivery = consumer.next().await.unwrap();
        assert!(deliveries.last().is_none_or(|before| before.tag < delivery.tag), "tags ascend");
        deliveries.push(delivery);
    }
    deliveries
}

fn told(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(number).collect()
}

async fn settle(consumer: &mut Box<dyn Consumer>, deliveries: &[Delivery]) {
    let tags: Vec<u64> = deliveries.iter().map(|delivery| delivery.tag).collect();
    consumer.settle(&tags).await.unwrap();
}

async fn messages_arrive_in_order_and_whole(stores: &mut dyn Stores) {
    let queue = stores.open().await.queue;
    let lane = lane(0);
    let field = |name: &str, kind| Field { name: name.into(), kind };
    let change = |number: u64, op| Change {
        key: key(number.cast_signed()),
        version: version(number),
        fingerprint: Some(fingerprint(number)),
        op,
        forced: number.is_multiple_of(2),
    };
    let batch = Batch {
        origin: Origin::Event,
        trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        shape: Arc::new(Shape { fields: vec![field("grüße", Kind::I64), field("b", Kind::Json)], key: vec![0] }),
        changes: vec![
            change(1, Op::Upsert(vec![0, 255, 10, 13].into())),
            change(2, Op::Delete),
            change(3, Op::Reject { reason: "für \0 nichts".into(), record: "{}".into() }),
        ],
    };
    let sent = [Message::Changes(batch), Message::Fence(FenceId { epoch: u32::MAX, number: u64::MAX })];
    for message in &sent {
        queue.publish(&[Envelope { lane: lane.clone(), message: message.clone() }]).await.unwrap();
    }
    queue.publish(&[]).await.unwrap();
    let mut consumer = queue.consume(&lane).await.unwrap();
    let met = take(&mut consumer, 2).await;
    assert!(met.iter().all(|delivery| !delivery.redelivered), "nobody had them before");
    assert_eq!(met.into_iter().map(|delivery| delivery.message).collect::<Vec<_>>(), sent);
}

async fn lanes_do_not_mix(stores: &mut dyn Stores) {
    let queue = stores.open().await.queue;
    let lanes = [lane(0), lane(1), Lane { pipeline: PipelineId::new("queue.lane.0"), index: 0 }];
    let mixed: Vec<_> = (0..3)
        .flat_map(|round| lanes.iter().zip([0, 10, 20]).map(move |(lane, base)| (lane, base + round)))
        .map(|(lane, number)| numbered(lane, number))
        .collect();
    queue.publish(&mixed).await.unwrap();
    let mut consumers = Vec::new();
    for (lane, base) in lanes.iter().zip([0, 10, 20]) {
        let mut consumer = queue.consume(lane).await.unwrap();
        let met = take(&mut consumer, 3).await;
        assert_eq!(told(&met), [base, base + 1, base + 2]);
        settle(&mut consumer, &met[..1]).await;
        consumers.push(consumer);
    }
    for lane in &lanes {
        assert_eq!(queue.depth(lane).await.unwrap(), 2, "depth counts what is unsettled too");
    }
    assert_eq!(queue.depth(&self::lane(9)).await.unwrap(), 0);
}

async fn what_is_settled_is_gone_and_the_rest_returns_in_order(stores: &mut dyn Stores) {
    let queue = stores.open().await.queue;
    let lane = lane(0);
    queue.publish(&numbers(&lane, 1..=4)).await.unwrap();
    let mut consumer = queue.consume(&lane).await.unwrap();
    let met = take(&mut consumer, 4).await;
    settle(&mut consumer, &[met[2].clone(), met[0].clone()]).await;
    consumer.settle(&[]).await.unwrap();
    assert_eq!(queue.depth(&lane).await.unwrap(), 2);
    drop((consumer, queue));
    let queue = stores.open().await.queue;
    let mut consumer = queue.consume(&lane).await.unwrap();
    let met = take(&mut consumer, 2).await;
    assert_eq!(told(&met), [2, 4]);
    assert!(met.iter().all(|delivery| delivery.redelivered));
    settle(&mut consumer, &met).await;
    assert_eq!(queue.depth(&lane).await.unwrap(), 0);
}

async fn a_lane_has_one_consumer_and_the_next_one_waits(stores: &mut dyn Stores) {
    let queue = stores.open().await.queue;
    let lane = lane(0);
    queue.publish(&numbers(&lane, 1..=2)).await.unwrap();
    let mut first = queue.consume(&lane).await.unwrap();
    take(&mut first, 1).await;
    let waiting = tokio::spawn({
        let (queue, lane) = (queue.clone(), lane.clone());
        async move { queue.consume(&lane).await }
    });
    // Given up while it waits: it must not stand in the way of the one behind it.
    let given_up = tokio::spawn({
        let (queue, lane) = (queue.clone(), lane.clone());
        async move { queue.consume(&lane).await.map(drop) }
    });
    for _ in 0..20 {
        assert_eq!(queue.depth(&lane).await.unwrap(), 2);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished() && !given_up.is_finished(), "a lane has one active consumer (L6)");
    }
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    drop(first);
    let mut second = waiting.await.unwrap().unwrap();
    let met = take(&mut second, 2).await;
    assert_eq!(told(&met), [1, 2]);
    assert!(met[0].redelivered);
}

async fn a_dropped_consumer_returns_its_deliveries_before_newer_ones(stores: &mut dyn Stores) {
    let queue = stores.open().await.queue;
    let lane = lane(0);
    queue.publish(&numbers(&lane, 1..=2)).await.unwrap();
    let mut consumer = queue.consume(&lane).await.unwrap();
    take(&mut consumer, 2).await;
    drop(consumer);
    queue.publish(&numbers(&lane, 3..=3)).await.unwrap();
    let mut consumer = queue.consume(&lane).await.unwrap();
    let met = take(&mut consumer, 3).await;
    assert_eq!(told(&met), [1, 2, 3]);
    // The third may have reached the consumer that was going away.
    assert!(met[0].redelivered && met[1].redelivered);
}

async fn a_cancelled_next_loses_nothing(stores: &mut dyn Stores) {
    let queue = stores.open().await.queue;
    let lane = lane(0);
    let mut consumer = queue.consume(&lane).await.unwrap();
    assert!(consumer.next().now_or_never().is_none(), "nothing was published");
    let publisher = tokio::spawn({
        let (queue, lane) = (queue.clone(), lane.clone());
        async move { queue.publish(&numbers(&lane, 0..50)).await }
    });
    let mut expected = 0;
    let mut cancelled = 0;
    while expected < 50 {
        // Dropped after one, two, three … polls, wherever it stands then.
        let got = polled(1 + cancelled % 4, consumer.next()).await;
        let Some(delivery) = got else {
            cancelled += 1;
            continue;
        };
        let delivery = delivery.unwrap();
        assert_eq!((number(&delivery), delivery.redelivered), (expected, false));
        consumer.settle(&[delivery.tag]).await.unwrap();
        expected += 1;
    }
    publisher.await.unwrap().unwrap();
}

async fn a_consumer_waits_for_a_message(stores: &mut dyn Stores) {
    let queue = stores.open().await.queue;
    let lane = lane(0);
    let mut consumer = queue.consume(&lane).await.unwrap();
    for round in 0..20 {
        let waiting = tokio::spawn(async move {
            let delivery = consumer.next().await.unwrap();
            (consumer, delivery)
        });
        // In some rounds it waits already, in others it is still on its way.
        for _ in 0..round % 4 {
            assert_eq!(queue.depth(&lane).await.unwrap(), 0);
        }
        assert!(!waiting.is_finished());
        queue.publish(&numbers(&lane, [round])).await.unwrap();
        let delivery;
        (consumer, delivery) = waiting.await.unwrap();
        assert_eq!(number(&delivery), round);
        settle(&mut consumer, &[delivery]).await;
    }
}

async fn a_full_lane_makes_publishers_wait_until_something_is_settled(stores: &mut dyn Stores) {
    let queue = stores.open().await.queue;
    let lane = lane(0);
    let depth_max = u64::from(LANE_DEPTH_MAX);
    let all = depth_max * 5;
    let publisher = tokio::spawn({
        let (queue, lane) = (queue.clone(), lane.clone());
        async move { queue.publish(&numbers(&lane, 0..all)).await }
    });
    until(async || queue.depth(&lane).await.unwrap() >= depth_max).await;
    let mut consumer = queue.consume(&lane).await.unwrap();
    for expected in 0..all {
        let delivery = consumer.next().await.unwrap();
        assert_eq!(number(&delivery), expected);
        // Taken but not settled: the place is not free.
        for _ in 0..5 {
            tokio::task::yield_now().await;
            assert!(queue.depth(&lane).await.unwrap() <= depth_max, "the lane is bounded (L10)");
        }
        assert!(expected + depth_max >= all || !publisher.is_finished(), "the publisher waits while the lane is full");
        consumer.settle(&[delivery.tag]).await.unwrap();
    }
    publisher.await.unwrap().unwrap();
    assert_eq!(queue.depth(&lane).await.unwrap(), 0);
}

/// Polls a future up to `polls` times and drops it, wherever it stands then.
async fn polled<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(future);
    for _ in 0..polls {
        let ready = future.as_mut().now_or_never();
        if ready.is_some() {
            return ready;
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Takes and settles everything that is or arrives in a lane, up to the message that says `last`.
async fn drain(queue: &Arc<dyn Queue>, lane: &Lane, last: u64) -> Vec<u64> {
    let mut consumer = queue.consume(lane).await.unwrap();
    let mut met = Vec::new();
    while met.last() != Some(&last) {
        let delivery = consumer.next().await.unwrap();
        met.push(number(&delivery));
        settle(&mut consumer, &[delivery]).await;
    }
    met
}

async fn a_cancelled_publish_leaves_the_lane_usable(stores: &mut dyn Stores) {
    let queue = stores.open().await.queue;
    let lane = lane(0);
    for polls in 0..30 {
        let cut = numbers(&lane, [1, 2]);
        polled(polls, queue.publish(&cut)).await;
        // The lane still takes as much as before, still wakes its consumer, and what did arrive is in order.
        let behind = numbers(&lane, 3..=10);
        let (published, met) = tokio::join!(queue.publish(&behind), drain(&queue, &lane, 10));
        published.unwrap();
        let whole: Vec<u64> = met.iter().copied().filter(|number| *number > 2).collect();
        assert_eq!(whole, (3..=10).collect::<Vec<_>>(), "after {polls} polls");
        let cut: Vec<u64> = met.iter().copied().filter(|number| *number <= 2).collect();
        assert!([1, 2].starts_with(&cut), "after {polls} polls: {met:?}");
        assert_eq!(queue.depth(&lane).await.unwrap(), 0);
    }
}

async fn a_cancelled_settle_leaves_the_lane_usable(stores: &mut dyn Stores) {
    let queue = stores.open().await.queue;
    let lane = lane(0);
    for polls in 0..30 {
        queue.publish(&numbers(&lane, [1, 2])).await.unwrap();
        let mut consumer = queue.consume(&lane).await.unwrap();
        let tags: Vec<u64> = take(&mut consumer, 2).await.iter().map(|delivery| delivery.tag).collect();
        polled(polls, consumer.settle(&tags)).await;
        drop(consumer);
        let behind = numbers(&lane, 3..=10);
        let (published, met) = tokio::join!(queue.publish(&behind), drain(&queue, &lane, 10));
        published.unwrap();
        let whole: Vec<u64> = met.iter().copied().filter(|number| *number > 2).collect();
        assert_eq!(whole, (3..=10).collect::<Vec<_>>(), "after {polls} polls");
        assert_eq!(queue.depth(&lane).await.unwrap(), 0);
    }
}

async fn many_publishers_keep_their_own_order(stores: &mut dyn Stores) {
    let queue = stores.open().await.queue;
    let lane = lane(0);
    let publishers: Vec<_> = (0..5)
        .map(|publisher| {
            let (queue, lane) = (queue.clone(), lane.clone());
            tokio::spawn(async move {
                for round in 0..5 {
                    let from = publisher * 100 + round * 3;
                    queue.publish(&numbers(&lane, from..from + 3)).await.unwrap();
                }
            })
        })
        .collect();
    let mut consumer = queue.consume(&lane).await.unwrap();
    let mut met = vec![Vec::new(); 5];
    for _ in 0..5 * 15 {
        let delivery = consumer.next().await.unwrap();
        met[number(&delivery) as usize / 100].push(number(&delivery) % 100);
        settle(&mut consumer, &[delivery]).await;
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    assert_eq!(met, vec![(0..15).collect::<Vec<_>>(); 5]);
    assert_eq!(queue.depth(&lane).await.unwrap(), 0);
}

async fn a_killed_process_loses_nothing_that_was_confirmed(stores: &mut dyn Stores) {
    let lane = lane(0);
    let queue = stores.open().await.queue;
    queue.publish(&numbers(&lane, 1..=3)).await.unwrap();
    drop(queue);
    let queue = stores.open().await.queue;
    assert_eq!(queue.depth(&lane).await.unwrap(), 3);
    // The depth that was there before counts against the bound, and new messages come behind.
    let behind = numbers(&lane, 4..=10);
    let (published, met) = tokio::join!(queue.publish(&behind), drain(&queue, &lane, 10));
    published.unwrap();
    assert_eq!(met, (1..=10).collect::<Vec<_>>());
}
