//! The product's own way: changes are published to their lanes, and consumed by lanes whose target costs nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fides_backplane_rabbitmq::Settings;
use fides_core::decide::lane_of;
use fides_core::port::{Backplane, Mapper, Outcome, Queue, Sink};
use fides_core::{
    Batch, Change, Fingerprint, Key, Lane, Limits, Message, Namespace, Op, Origin, PipelineId, Value, Version,
    encode_row,
};
use fides_engine::publishing::{Worker, consume_lanes};
use fides_engine::{DeletePolicy, ForeignPolicy, Pipeline, Progress, current_epoch, establish, publish};
use fides_testkit::fake::{FakeHost, FakeMapper, Hollow, Order};
use futures::future::join_all;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::{Seconds, timed};

pub const RECORDS: usize = 1_000_000;
pub const LANES: u16 = 4;
/// What an import publishes at a time: two full messages a lane.
const PORTION: usize = 2 * 512 * LANES as usize;

fn settings(url: &str) -> Settings {
    Settings::new(SecretString::from(url.to_owned()))
}

/// Messages of a lane that are sent before their confirms are awaited.
pub fn window() -> usize {
    usize::from(settings("amqp://localhost").publish_window)
}

fn limits() -> Limits {
    // All is published before anybody consumes.
    Limits { lanes: LANES, lane_depth_batches_max: 100_000, ..Limits::default() }
}

/// Records of about 200 bytes, in the portions of an import. Of epoch 0, which is set when they are published.
pub fn portions() -> Vec<Vec<Change>> {
    let change = |number: usize| {
        let number = i64::try_from(number).unwrap();
        let mut document = Vec::new();
        let label = Value::String("x".repeat(170).into());
        encode_row(&mut document, &[Value::I64(number), Value::I64(number), label]);
        Change {
            key: Key::encode(&[Value::I64(number)]).unwrap(),
            version: Version { epoch: 0, position: 1, sequence: 0 },
            fingerprint: Some(Fingerprint(number.unsigned_abs().into())),
            op: Op::Upsert(Bytes::from(document)),
            forced: false,
        }
    };
    let starts = (0..RECORDS).step_by(PORTION);
    starts.map(|start| (start..RECORDS.min(start + PORTION)).map(change).collect()).collect()
}

/// The messages that these portions become: lane and bytes.
pub fn messages(portions: &[Vec<Change>]) -> Vec<(u16, Vec<u8>)> {
    let mapper = FakeMapper::new(1);
    let mut messages = Vec::new();
    for portion in portions {
        for lane in 0..LANES {
            let own = portion.iter().filter(|change| lane_of(change.key.as_bytes(), LANES) == lane);
            for changes in own.cloned().collect::<Vec<_>>().chunks(limits().batch_records_max) {
                let shape = mapper.shape().clone();
                let batch = Batch { origin: Origin::Import, trace: None, shape, changes: changes.to_vec() };
                messages.push((lane, Message::Changes(batch).encode()));
            }
        }
    }
    messages
}

pub struct Rates {
    pub queue: Seconds,
    pub lane: Seconds,
}

pub async fn rates(amqp: &str, redis: &str, portions: Vec<Vec<Change>>) -> Rates {
    let queue = fides_backplane_rabbitmq::connect(settings(amqp), &limits()).await.unwrap().queue();
    let store = fides_backplane_redis::Settings::new(SecretString::from(redis.to_owned()));
    let store = fides_backplane_redis::connect(store, &limits()).await.unwrap();
    let backplane = Backplane { queue, hashes: store.hashes(), state: store.state(), dead: store.dead_letters() };

    let first = pipeline(&backplane).await;
    let ((), published) = timed(publish_all(&first, portions.clone())).await;
    let ((), consumed) = timed(drain(&first)).await;
    let queue = Seconds { published: Some(published), consumed };

    let second = pipeline(&backplane).await;
    publish_all(&second, portions).await;
    let ((), consumed) = timed(work(&second)).await;
    Rates { queue, lane: Seconds { published: None, consumed } }
}

/// A pipeline that nobody has used.
async fn pipeline(backplane: &Backplane) -> Pipeline {
    let mapper = FakeMapper::new(1);
    let id = PipelineId::new(&format!("bench-{}", uuid::Uuid::now_v7().simple()));
    let selection = FakeHost::selection(1, limits().page_records_max);
    let pipeline = Pipeline {
        host: Arc::new(FakeHost::new(Order::Fides)),
        target: Arc::new(Hollow(|changes| (0..changes).map(|_| Outcome::Applied).collect())),
        sink: Sink { pipeline: id.clone(), namespace: Namespace(vec!["nothing".into()]), version_field: None },
        target_selection: selection.clone(),
        selection,
        mapper: Arc::new(mapper),
        limits: limits(),
        delete: DeletePolicy::Hard,
        foreign: ForeignPolicy::Keep,
        backplane: backplane.clone(),
        id,
    };
    establish(&pipeline).await.unwrap();
    pipeline
}

async fn publish_all(pipeline: &Pipeline, portions: Vec<Vec<Change>>) {
    let epoch = current_epoch(pipeline).await.unwrap();
    for mut portion in portions {
        for change in &mut portion {
            change.version.epoch = epoch;
        }
        publish(pipeline, pipeline.shape(), Origin::Import, portion).await.unwrap();
    }
}

/// Consumes as a lane does, and does nothing with it: what was gathered for one write is settled together.
async fn drain(pipeline: &Pipeline) {
    join_all(pipeline.lanes().iter().map(|lane| drain_lane(&*pipeline.backplane.queue, lane))).await;
}

async fn drain_lane(queue: &dyn Queue, lane: &Lane) {
    let mut left = queue.depth(lane).await.unwrap();
    let mut consumer = queue.consume(lane).await.unwrap();
    let mut tags = Vec::new();
    while left > 0 {
        tags.push(consumer.next().await.unwrap().tag);
        left -= 1;
        if tags.len() == 20 || left == 0 {
            consumer.settle(&tags).await.unwrap();
            tags.clear();
        }
    }
}

/// Consumes as a publishing-consumer does, marks in Redis included, until everything is written.
async fn work(pipeline: &Pipeline) {
    let progress = Arc::new(Progress::default());
    let worker = Worker { holder: "bench".into(), progress: progress.clone() };
    let stop = CancellationToken::new();
    let written = async {
        while Progress::get(&progress.written) < RECORDS as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    tokio::join!(consume_lanes(pipeline, &worker, &stop), written);
}
