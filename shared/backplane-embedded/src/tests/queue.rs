use std::sync::Arc;

use fides_core::{Batch, Change, Envelope, Message, Op, Origin, Shape, Version};
use futures::FutureExt;

use super::{Place, fence, key, lane};

/// Messages with changes, which wait for a place; each of about `bytes`.
pub(super) fn batches(count: u64, bytes: usize) -> Vec<Envelope> {
    let shape = Arc::new(Shape { fields: Vec::new(), key: Vec::new() });
    let batch = |number: u64| {
        let change = Change {
            key: key(number.cast_signed()),
            version: Version::scan(1, number),
            fingerprint: None,
            op: Op::Upsert(vec![7; bytes].into()),
            forced: false,
        };
        Batch { origin: Origin::Import, trace: None, shape: shape.clone(), changes: vec![change] }
    };
    (0..count).map(|number| Envelope { lane: lane(), message: Message::Changes(batch(number)) }).collect()
}

#[tokio::test]
async fn a_publisher_waits_for_a_place_and_a_fence_does_not() {
    let place = Place::new();
    let queue = place.backplane().await.queue;
    queue.publish(&batches(2, 1)).await.unwrap();
    let third = batches(1, 1);
    let mut waiting = queue.publish(&third);
    for _ in 0..50 {
        assert!(waiting.as_mut().now_or_never().is_none());
        // A whole write in between: the publisher had time for its own.
        assert_eq!(queue.depth(&lane()).await.unwrap(), 2);
        tokio::task::yield_now().await;
    }
    queue.publish(&[fence(1), fence(2)]).await.unwrap();
    assert_eq!(queue.depth(&lane()).await.unwrap(), 4, "fences always get in");
    let mut consumer = queue.consume(&lane()).await.unwrap();
    let mut tags = Vec::new();
    for _ in 0..3 {
        tags.push(consumer.next().await.unwrap().tag);
    }
    // Four wait and two may: one place is free when three are gone.
    consumer.settle(&tags[..2]).await.unwrap();
    assert!(waiting.as_mut().now_or_never().is_none());
    consumer.settle(&tags[2..]).await.unwrap();
    waiting.await.unwrap();
    assert_eq!(consumer.next().await.unwrap().message, fence(2).message);
    assert_eq!(consumer.next().await.unwrap().message, third[0].message);
}

#[tokio::test]
async fn what_was_there_when_the_file_was_opened_may_have_been_delivered_before() {
    let place = Place::new();
    place.backplane().await.queue.publish(&[fence(1)]).await.unwrap();
    let queue = place.backplane().await.queue;
    queue.publish(&[fence(2)]).await.unwrap();
    let mut consumer = queue.consume(&lane()).await.unwrap();
    assert!(consumer.next().await.unwrap().redelivered);
    assert!(!consumer.next().await.unwrap().redelivered);
}

#[tokio::test]
async fn an_identifier_is_not_used_again_by_an_emptied_lane() {
    let place = Place::new();
    let mut last = 0;
    for id in 0..3 {
        let queue = place.backplane().await.queue;
        queue.publish(&[fence(id)]).await.unwrap();
        let mut consumer = queue.consume(&lane()).await.unwrap();
        let tag = consumer.next().await.unwrap().tag;
        assert!(tag > last);
        last = tag;
        consumer.settle(&[tag]).await.unwrap();
    }
}
