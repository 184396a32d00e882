//! One record's way from host to target is one trace.

use std::collections::{BTreeMap, BTreeSet};

use fides_core::{Key, Message, Origin, Version};
use fides_engine::import::Mode;
use fides_engine::{current_epoch, establish, publish};
use fides_testkit::fake::{FakeHost, FakeMapper};

use crate::stand::{Process, Stand, upsert};

/// Trace of every record that waits in the lane, which stays as it is.
async fn carried(process: &Process) -> BTreeMap<Key, String> {
    let queue = &process.pipeline.backplane.queue;
    let lane = &process.pipeline.lanes()[0];
    let mut consumer = queue.consume(lane).await.unwrap();
    let mut carried = BTreeMap::new();
    for _ in 0..queue.depth(lane).await.unwrap() {
        if let Message::Changes(batch) = consumer.next().await.unwrap().message {
            let trace = batch.trace.expect("every batch of changes has a trace");
            carried.extend(batch.changes.into_iter().map(|change| (change.key, trace.clone())));
        }
    }
    carried
}

/// Trace of every dead letter.
async fn buried(process: &Process) -> BTreeMap<Key, String> {
    let letters = process.pipeline.backplane.dead.list(&process.pipeline.id, None, 100).await.unwrap();
    letters.into_iter().map(|letter| (letter.key, letter.trace.expect("it knows where it came from"))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_has_the_trace_of_the_message_that_carried_its_record() {
    let stand = Stand::new(0);
    let process = stand.process("a").await;
    establish(&process.pipeline).await.unwrap();
    let version = Version::scan(current_epoch(&process.pipeline).await.unwrap(), 1);
    // Three messages that one round gathers; in each of them one record is poison.
    for ids in [[1, 2], [3, 4], [5, 6]] {
        let change = |id| upsert(id, version, FakeMapper::new(1).document(id, 1).unwrap());
        publish(&process.pipeline, process.pipeline.shape(), Origin::Event, ids.map(change).into()).await.unwrap();
    }
    let poison = [2, 3, 6].map(FakeHost::key);
    process.faults.poison(poison.clone());
    let carried = carried(&process).await;
    assert_eq!(carried.values().collect::<BTreeSet<_>>().len(), 3, "each batch has a trace of its own: {carried:?}");

    let _consumers = process.consume();
    process.settle().await;
    let expected: BTreeMap<Key, String> = poison.into_iter().map(|key| (key.clone(), carried[&key].clone())).collect();
    assert_eq!(buried(&process).await, expected);
}

#[tokio::test(start_paused = true)]
async fn what_an_import_reads_on_one_page_is_one_trace() {
    // Two pages of four rows, each in two messages.
    let stand = Stand::new(8);
    let process = stand.process("a").await;
    process.faults.poison((0..8).map(FakeHost::key));
    let _consumers = process.consume();
    process.import(Mode::Delta).await;
    process.settle().await;
    let traces = buried(&process).await;
    let of = |ids: std::ops::Range<i64>| ids.map(|id| traces[&FakeHost::key(id)].clone()).collect::<BTreeSet<_>>();
    assert_eq!((of(0..4).len(), of(4..8).len(), of(0..8).len()), (1, 1, 2), "{traces:?}");
}
