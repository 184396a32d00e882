//! L11: a Redis that lost its data is noticed by the next call, never answered from.

#![allow(clippy::unwrap_used)] // a fault is the failure of a test

mod common;

use std::sync::Arc;

use common::{OwnRedis, key, present};
use fides_core::port::HashStore;
use fides_core::{Fault, FaultKind, KeyRange, PipelineId};

fn pipeline() -> PipelineId {
    PipelineId::new("p")
}

async fn named(redis: &OwnRedis, name: &str) -> Arc<dyn HashStore> {
    let hashes = common::open(&redis.settings()).await.hashes();
    hashes.create_incarnation(name).await.unwrap();
    hashes
}

fn assert_lost<T: std::fmt::Debug>(answer: Result<T, Fault>) {
    let fault = answer.expect_err("its data was lost");
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    assert!(fault.to_string().contains("new incarnation"), "{fault}");
}

/// Every call on a pipeline's marks.
async fn assert_every_call_fails(hashes: &Arc<dyn HashStore>) {
    let p = pipeline();
    assert_lost(hashes.get(&p, &[key(1)]).await);
    assert_lost(hashes.advance(&p, &[(key(1), present(2))]).await);
    assert_lost(hashes.distrust(&p, &[key(1)]).await);
    assert_lost(hashes.range(&p, &KeyRange::ALL).await);
    assert_lost(hashes.buckets(&p, &KeyRange::ALL).await);
    assert_lost(hashes.size(&p).await);
}

#[tokio::test]
async fn a_flushed_redis_is_noticed_by_every_call() {
    let redis = OwnRedis::start(&[]).await;
    let hashes = named(&redis, "first").await;
    let other = named(&redis, "unheard").await;
    let p = pipeline();
    hashes.advance(&p, &[(key(1), present(1))]).await.unwrap();
    assert_eq!(other.incarnation().await.unwrap().as_deref(), Some("first"));
    redis::cmd("FLUSHALL").exec_async(&mut common::beside(&redis.url()).await).await.unwrap();
    assert_every_call_fails(&hashes).await;

    // Named anew by somebody else, with marks again: still not what this client was told.
    let later = named(&redis, "second").await;
    later.advance(&p, &[(key(1), present(3))]).await.unwrap();
    assert_every_call_fails(&hashes).await;
    assert_every_call_fails(&other).await;
    // A pipeline that the new incarnation has not met.
    assert_lost(hashes.get(&PipelineId::new("q"), &[key(1)]).await);

    assert_eq!(hashes.incarnation().await.unwrap().as_deref(), Some("second"));
    assert_eq!(hashes.get(&p, &[key(1)]).await.unwrap(), [Some(present(3))]);
    assert_every_call_fails(&other).await;
}

#[tokio::test]
async fn a_store_without_a_name_again_is_not_the_one_that_had_one() {
    let redis = OwnRedis::start(&[]).await;
    let hashes = named(&redis, "first").await;
    hashes.advance(&pipeline(), &[(key(1), present(1))]).await.unwrap();
    redis::cmd("FLUSHALL").exec_async(&mut common::beside(&redis.url()).await).await.unwrap();
    assert_eq!(hashes.incarnation().await.unwrap(), None);
    assert_every_call_fails(&hashes).await;
    hashes.create_incarnation("second").await.unwrap();
    assert_eq!(hashes.get(&pipeline(), &[key(1)]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_client_that_did_not_ask_works_with_the_name_that_it_met_first() {
    let redis = OwnRedis::start(&[]).await;
    named(&redis, "first").await.advance(&pipeline(), &[(key(1), present(1))]).await.unwrap();
    let hashes = common::open(&redis.settings()).await.hashes();
    assert_eq!(hashes.get(&pipeline(), &[key(1)]).await.unwrap(), [Some(present(1))]);
    redis::cmd("FLUSHALL").exec_async(&mut common::beside(&redis.url()).await).await.unwrap();
    assert_every_call_fails(&hashes).await;
}

#[tokio::test]
async fn a_store_that_is_named_late_keeps_what_it_holds() {
    let redis = OwnRedis::start(&[]).await;
    let hashes = common::open(&redis.settings()).await.hashes();
    hashes.advance(&pipeline(), &[(key(1), present(1))]).await.unwrap();
    named(&redis, "late").await.advance(&pipeline(), &[(key(2), present(1))]).await.unwrap();
    assert_eq!(hashes.get(&pipeline(), &[key(1), key(2)]).await.unwrap(), [Some(present(1)); 2]);
}

/// Repeats a call over the time in which the connection is made again: what is lost with a connection is told as such.
async fn settled<T: std::fmt::Debug>(call: impl AsyncFn() -> Result<T, Fault>) -> Result<T, Fault> {
    loop {
        match call().await {
            Err(fault) if fault.kind == FaultKind::Transient || fault.to_string().contains("be reached") => {}
            answer => return answer,
        }
    }
}

#[tokio::test]
async fn a_restart_is_survived_with_the_data_and_noticed_without() {
    let mut redis = OwnRedis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let backplane = common::open(&redis.settings()).await;
    let (hashes, state) = (backplane.hashes(), backplane.state());
    hashes.create_incarnation("first").await.unwrap();
    hashes.advance(&pipeline(), &[(key(1), present(1))]).await.unwrap();
    let position = state.next_position(&pipeline()).await.unwrap();

    redis.restart(true).await;
    let marks = settled(async || hashes.get(&pipeline(), &[key(1)]).await).await;
    assert_eq!(marks.unwrap(), [Some(present(1))], "durable when it returned");
    assert!(state.next_position(&pipeline()).await.unwrap() > position);

    redis.restart(false).await;
    assert_lost(settled(async || hashes.get(&pipeline(), &[key(1)]).await).await);
}

#[tokio::test]
async fn a_redis_that_is_gone_is_a_fault_and_comes_back() {
    let mut redis = OwnRedis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let hashes = named(&redis, "first").await;
    redis.kill();
    for _ in 0..3 {
        let fault = hashes.get(&pipeline(), &[key(1)]).await.expect_err("nobody is there");
        assert!(matches!(fault.kind, FaultKind::Transient | FaultKind::Unavailable), "{fault}");
    }
    redis.restart(true).await;
    assert_eq!(settled(async || hashes.get(&pipeline(), &[key(1)]).await).await.unwrap(), [None]);
}
