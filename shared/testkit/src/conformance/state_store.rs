//! The suite of [`StateStore`].

use std::sync::Arc;
use std::time::Duration;

use fides_core::PipelineId;
use fides_core::port::{Entry, Expect, StateStore};

use super::{Stores, suite};

suite![
    an_entry_comes_back_whole,
    a_put_whose_precondition_fails_changes_nothing,
    a_revision_is_never_used_twice,
    concurrent_compare_and_set_loses_no_update,
    entries_are_listed_by_prefix_in_key_order,
    entries_survive_a_kill,
    a_lease_has_one_holder,
    a_lease_ends_by_itself,
    a_token_is_never_used_twice,
    one_of_many_gets_a_lease,
    positions_rise,
    the_clock_does_not_go_backward,
];

const LONG_MS: u64 = 3_600_000;

async fn an_entry_comes_back_whole(stores: &mut dyn Stores) {
    let state = stores.open().await.state;
    assert_eq!(state.get("run/1").await.unwrap(), None);
    for value in [&b""[..], &[0, 255, 10, 0], &vec![7; 1 << 20]] {
        let revision = state.put("run/1", value, Expect::Any).await.unwrap().unwrap();
        assert_eq!(state.get("run/1").await.unwrap(), Some(Entry { revision, value: value.to_vec() }));
    }
    assert_eq!(state.get("run/").await.unwrap(), None);
    assert_eq!(state.get("RUN/1").await.unwrap(), None, "case matters");
    state.remove("run/1").await.unwrap();
    state.remove("run/1").await.unwrap();
    assert_eq!(state.get("run/1").await.unwrap(), None);
}

async fn a_put_whose_precondition_fails_changes_nothing(stores: &mut dyn Stores) {
    let state = stores.open().await.state;
    assert_eq!(state.put("k", b"a", Expect::Revision(1)).await.unwrap(), None, "there is no entry");
    assert_eq!(state.get("k").await.unwrap(), None);
    let first = state.put("k", b"a", Expect::Absent).await.unwrap().unwrap();
    assert_eq!(state.put("k", b"b", Expect::Absent).await.unwrap(), None);
    let second = state.put("k", b"b", Expect::Revision(first)).await.unwrap().unwrap();
    assert!(second > first);
    assert_eq!(state.put("k", b"c", Expect::Revision(first)).await.unwrap(), None);
    assert_eq!(state.put("k", b"c", Expect::Revision(second + 1)).await.unwrap(), None);
    assert_eq!(state.get("k").await.unwrap(), Some(Entry { revision: second, value: b"b".to_vec() }));
}

async fn a_revision_is_never_used_twice(stores: &mut dyn Stores) {
    let mut last = 0;
    for _ in 0..3 {
        let state = stores.open().await.state;
        for _ in 0..3 {
            let revision = state.put("k", b"", Expect::Absent).await.unwrap().unwrap();
            assert!(revision > last, "also after the entry was removed");
            last = revision;
            state.remove("k").await.unwrap();
        }
    }
}

async fn concurrent_compare_and_set_loses_no_update(stores: &mut dyn Stores) {
    let state = stores.open().await.state;
    let tasks: Vec<_> = (0..4).map(|_| tokio::spawn(add_ones(state.clone(), 10))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(state.get("sum").await.unwrap().map(|entry| entry.value), Some(vec![40]));
}

async fn add_ones(state: Arc<dyn StateStore>, ones: u8) {
    for _ in 0..ones {
        loop {
            let stored = state.get("sum").await.unwrap();
            let expect = stored.as_ref().map_or(Expect::Absent, |entry| Expect::Revision(entry.revision));
            let sum = stored.map_or(0, |entry| entry.value[0]) + 1;
            if state.put("sum", &[sum], expect).await.unwrap().is_some() {
                break;
            }
        }
    }
}

async fn entries_are_listed_by_prefix_in_key_order(stores: &mut dyn Stores) {
    let state = stores.open().await.state;
    let keys = [
        "a",
        "a%b/1",
        "a_b/1",
        "ab/",
        "ab/1",
        "ab/10",
        "ab/2",
        "ab/ü",
        "ab/\u{10ffff}",
        "ab/\u{10ffff}x",
        "ab0",
        "AB/1",
    ];
    for key in keys {
        state.put(key, key.as_bytes(), Expect::Any).await.unwrap();
    }
    let list = async |prefix: &str, after: Option<&str>, limit: usize| {
        let found = state.list(prefix, after, limit).await.unwrap();
        assert!(found.iter().all(|(key, entry)| entry.value == key.as_bytes() && entry.revision > 0));
        found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    let below = ["ab/", "ab/1", "ab/10", "ab/2", "ab/ü", "ab/\u{10ffff}", "ab/\u{10ffff}x"];
    assert_eq!(list("ab/", None, 99).await, below);
    assert_eq!(list("ab/", None, 2).await, below[..2]);
    assert_eq!(list("ab/", Some("ab/1"), 2).await, below[2..4]);
    assert_eq!(list("ab/", Some("ab/11"), 99).await, below[3..], "after a key that is not there");
    assert_eq!(list("ab/", Some("a"), 99).await, below, "after a key before the prefix");
    assert!(list("ab/", Some("ab0"), 99).await.is_empty(), "after a key behind the prefix");
    assert_eq!(list("ab/\u{10ffff}", None, 99).await, below[5..]);
    assert_eq!(list("a_b/", None, 99).await, ["a_b/1"], "no wildcard");
    assert_eq!(list("a%", None, 99).await, ["a%b/1"], "no wildcard");
    let mut all = keys.to_vec();
    all.sort_unstable();
    assert_eq!(list("", None, 99).await, all);
    assert!(list("ab/", None, 0).await.is_empty() && list("zz", None, 9).await.is_empty());
}

async fn entries_survive_a_kill(stores: &mut dyn Stores) {
    let state = stores.open().await.state;
    let revision = state.put("k", b"v", Expect::Absent).await.unwrap().unwrap();
    state.put("gone", b"v", Expect::Any).await.unwrap();
    state.remove("gone").await.unwrap();
    drop(state);
    let state = stores.open().await.state;
    let entry = Entry { revision, value: b"v".to_vec() };
    assert_eq!(state.list("", None, 9).await.unwrap(), [("k".to_owned(), entry)]);
    assert!(state.put("k", b"w", Expect::Revision(revision)).await.unwrap().is_some());
}

async fn a_lease_has_one_holder(stores: &mut dyn Stores) {
    let state = stores.open().await.state;
    let first = state.lease("l", "a", LONG_MS).await.unwrap().unwrap();
    assert_eq!(state.lease("l", "a", LONG_MS).await.unwrap(), Some(first), "renewed under its token");
    assert_eq!(state.lease("l", "b", LONG_MS).await.unwrap(), None);
    assert!(state.lease("other", "b", LONG_MS).await.unwrap().is_some());
    state.release("l", "b").await.unwrap();
    assert_eq!(state.lease("l", "b", LONG_MS).await.unwrap(), None, "only its holder gives a lease back");
    state.release("l", "a").await.unwrap();
    state.release("l", "a").await.unwrap();
    let second = state.lease("l", "b", LONG_MS).await.unwrap().unwrap();
    assert!(second.token > first.token);
    assert_eq!(state.lease("l", "a", LONG_MS).await.unwrap(), None);
}

async fn a_lease_ends_by_itself(stores: &mut dyn Stores) {
    let state = stores.open().await.state;
    let before_ms = state.now_ms().await.unwrap();
    let first = state.lease("l", "a", 50).await.unwrap().unwrap();
    let second = loop {
        match state.lease("l", "b", LONG_MS).await.unwrap() {
            Some(lease) => break lease,
            // What is awaited here is the passing of time itself.
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(state.now_ms().await.unwrap() >= before_ms + 50, "not before its time on the store's clock");
    assert!(second.token > first.token);
    state.release("l", "a").await.unwrap();
    assert_eq!(state.lease("l", "a", LONG_MS).await.unwrap(), None, "the former holder has nothing to say");
}

async fn a_token_is_never_used_twice(stores: &mut dyn Stores) {
    let mut last = 0;
    for _ in 0..3 {
        let state = stores.open().await.state;
        for holder in ["a", "b", "b"] {
            let lease = state.lease("l", holder, LONG_MS).await.unwrap().unwrap();
            assert!(lease.token > last);
            last = lease.token;
            state.release("l", holder).await.unwrap();
        }
    }
}

async fn one_of_many_gets_a_lease(stores: &mut dyn Stores) {
    let state = stores.open().await.state;
    let ask = |holder: u32| {
        let state = state.clone();
        tokio::spawn(async move { state.lease("l", &holder.to_string(), LONG_MS).await.unwrap() })
    };
    let asked: Vec<_> = (0..8).map(ask).collect();
    let mut held = 0;
    for lease in asked {
        held += usize::from(lease.await.unwrap().is_some());
    }
    assert_eq!(held, 1);
}

async fn positions_rise(stores: &mut dyn Stores) {
    let (pipeline, other) = (PipelineId::new("p"), PipelineId::new("p/2"));
    let state = stores.open().await.state;
    let draw = |_| {
        let (state, pipeline) = (state.clone(), pipeline.clone());
        tokio::spawn(async move {
            let first = state.next_position(&pipeline).await.unwrap();
            let second = state.next_position(&pipeline).await.unwrap();
            assert!(second > first);
            [first, second]
        })
    };
    let draws: Vec<_> = (0..4).map(draw).collect();
    let mut drawn = Vec::new();
    for pair in draws {
        drawn.extend(pair.await.unwrap());
    }
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), 8, "nobody draws what another one drew");
    assert!(state.next_position(&other).await.unwrap() > 0);
    drop(state);
    let state = stores.open().await.state;
    assert!(state.next_position(&pipeline).await.unwrap() > drawn[7], "also after a kill");
}

async fn the_clock_does_not_go_backward(stores: &mut dyn Stores) {
    let state = stores.open().await.state;
    let mut last = 1_600_000_000_000; // in the year 2020: milliseconds since 1970
    for _ in 0..100 {
        let now = state.now_ms().await.unwrap();
        assert!(now >= last);
        last = now;
    }
}
