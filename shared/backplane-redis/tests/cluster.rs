//! Behind anything that shards Redis by the hash tags of its keys, every step stays in one shard.

mod common;

use std::sync::Arc;

use common::{OwnRedis, key, present};
use fides_backplane_redis::{RedisBackplane, Settings};
use fides_core::port::{DeadLetter, Expect};
use fides_core::{KeyRange, PipelineId};

/// A server that owns every slot of a cluster: it serves everything, and refuses a step whose keys are in two slots.
async fn cluster() -> OwnRedis {
    let redis = OwnRedis::start(&["--cluster-enabled", "yes"]).await;
    let mut beside = common::beside(&redis.url()).await;
    let mut add = redis::cmd("CLUSTER");
    add.arg("ADDSLOTSRANGE").arg(0).arg(16_383).exec_async(&mut beside).await.expect("they are free");
    // It says that it is up a moment after it has all slots.
    let mut info = String::new();
    for _ in 0..2_000 {
        info = redis::cmd("CLUSTER").arg("INFO").query_async(&mut beside).await.expect("it answers");
        if info.contains("cluster_state:ok") {
            return redis;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("it owns every slot, and is not up after ten seconds: {info}");
}

async fn open(redis: &OwnRedis) -> RedisBackplane {
    common::open(&Settings { bucket_marks_max: 8, ..redis.settings() }).await
}

#[tokio::test]
async fn no_step_touches_keys_of_two_slots() {
    let redis = cluster().await;
    let mut beside = common::beside(&redis.url()).await;
    let refused = redis::cmd("MGET").arg("{a}").arg("{b}").exec_async(&mut beside).await.expect_err("two slots");
    assert_eq!(refused.code(), Some("CROSSSLOT"), "the server judges: {refused}");

    let backplane = open(&redis).await;
    let (hashes, state, dead) = (backplane.hashes(), backplane.state(), backplane.dead_letters());
    let (p, q) = (PipelineId::new("p"), PipelineId::new("q"));
    // Before it has a name, and after.
    assert_eq!(hashes.get(&p, &[key(1)]).await.expect("one slot"), [None]);
    hashes.create_incarnation("one").await.expect("one slot");
    for pipeline in [&p, &q] {
        let marks: Vec<_> = (0..100).map(|id| (key(id), present(1))).collect();
        hashes.advance(pipeline, &marks).await.expect("one slot");
        hashes.distrust(pipeline, &[key(3), key(70)]).await.expect("one slot");
        assert_eq!(hashes.range(pipeline, &KeyRange::ALL).await.expect("one slot").len(), 100);
        let buckets = hashes.buckets(pipeline, &KeyRange::ALL).await.expect("one slot");
        assert!(buckets.len() > 1, "it was split: {}", buckets.len());
        let summaries: Vec<_> = buckets.into_iter().map(|bucket| (bucket, 7)).collect();
        hashes.summarise(pipeline, &summaries).await.expect("one slot");
        assert_eq!(hashes.size(pipeline).await.expect("one slot").0, 100);
        let letter = DeadLetter {
            key: key(1),
            reason: "x".into(),
            record: String::new(),
            attempts: 1,
            first_ms: 1,
            last_ms: 1,
            trace: None,
        };
        dead.put(pipeline, std::slice::from_ref(&letter)).await.expect("one slot");
        dead.put(pipeline, &[letter]).await.expect("one slot");
        assert_eq!(dead.list(pipeline, None, 9).await.expect("one slot").len(), 1);
        dead.remove(pipeline, &[key(1)]).await.expect("one slot");
        state.next_position(pipeline).await.expect("one slot");
    }
    state.put("run/p", b"v", Expect::Absent).await.expect("one slot");
    state.lease("lane/p.lane.0", "me", 1_000).await.expect("one slot");
    state.release("lane/p.lane.0", "me").await.expect("one slot");
    assert_eq!(state.list("run/", None, 9).await.expect("one slot").len(), 1);
    state.remove("run/p").await.expect("one slot");

    // A client that knows nothing yet meets pipelines that others have filled.
    let later = open(&redis).await.hashes();
    assert_eq!(later.incarnation().await.expect("one slot").as_deref(), Some("one"));
    let again = Arc::clone(&later);
    assert_eq!(again.get(&q, &[key(5)]).await.expect("one slot"), [Some(present(1))]);
}
