//! State, dead letters, faults and Redis' own settings.

#![allow(clippy::unwrap_used)] // a fault is the failure of a test

mod common;

use std::time::Duration;

use common::{OwnRedis, key};
use fides_backplane_redis::{Settings, connect};
use fides_core::port::{DeadLetter, Expect, Lease};
use fides_core::{Fault, FaultKind, Limits, PipelineId};

fn pipeline() -> PipelineId {
    PipelineId::new("p")
}

fn letter(id: i64) -> DeadLetter {
    let (reason, record) = ("too long".to_owned(), "{}".to_owned());
    DeadLetter { key: key(id), reason, record, attempts: 1, first_ms: 5, last_ms: 5, trace: None }
}

#[tokio::test]
async fn full_dead_letters_take_no_new_ones_and_say_so() {
    let dead = common::open(&Settings { dead_letters_max: 3, ..common::settings() }).await.dead_letters();
    let put = async |ids: &[i64]| {
        let letters: Vec<_> = ids.iter().map(|&id| letter(id)).collect();
        dead.put(&pipeline(), &letters).await
    };
    let refused = |answer: Result<(), Fault>| {
        let fault = answer.expect_err("there is no room");
        assert_eq!(fault.kind, FaultKind::Unavailable);
        assert!(fault.to_string().contains("dead letters are full (") && fault.advice.is_some(), "{fault}");
    };
    put(&[1, 2]).await.unwrap();
    refused(put(&[2, 3, 4]).await);
    assert_eq!(dead.count(&pipeline()).await.unwrap(), 2);
    assert_eq!(dead.get(&pipeline(), &key(2)).await.unwrap(), Some(letter(2)), "nothing of that call was stored");
    put(&[3, 3, 3]).await.unwrap();
    refused(put(&[4]).await);
    put(&[1, 2, 3]).await.unwrap();
    let attempts = dead.get(&pipeline(), &key(3)).await.unwrap().map(|letter| letter.attempts);
    assert_eq!(attempts, Some(4), "known keys are updated");
    dead.put(&PipelineId::new("q"), &[letter(4)]).await.unwrap();
    dead.remove(&pipeline(), &[key(1)]).await.unwrap();
    put(&[4]).await.unwrap();
}

#[tokio::test]
async fn many_dead_letters_are_stored_and_listed_in_portions() {
    let dead = common::open(&Settings { dead_letters_max: 1_000, ..common::settings() }).await.dead_letters();
    let letters = |from: i64, to: i64| (from..to).map(letter).collect::<Vec<_>>();
    let fault = dead.put(&pipeline(), &letters(0, 1_001)).await.expect_err("there is no room");
    assert!(fault.to_string().contains("dead letters are full (0)"), "{fault}");
    assert_eq!(dead.count(&pipeline()).await.unwrap(), 0, "nothing of that call was stored");
    dead.put(&pipeline(), &letters(0, 1_000)).await.unwrap();
    dead.put(&pipeline(), &letters(0, 1_000)).await.unwrap();
    let listed = dead.list(&pipeline(), None, 700).await.unwrap();
    assert_eq!(listed.len(), 700);
    assert!(listed.iter().zip(0..).all(|(letter, id)| letter.key == key(id) && letter.attempts == 2));
    let rest = dead.list(&pipeline(), Some(&key(699)), usize::MAX).await.unwrap();
    assert_eq!(rest.len(), 300);
    assert!(rest.iter().zip(700..).all(|(letter, id)| letter.key == key(id)));
    dead.remove(&pipeline(), &(0..1_000).map(key).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(dead.list(&pipeline(), None, 9).await.unwrap(), []);
}

#[tokio::test]
async fn state_is_listed_in_portions_and_outlives_long_leases() {
    let state = common::open(&common::settings()).await.state();
    for id in 0..600 {
        state.put(&format!("run/{id:04}"), b"v", Expect::Absent).await.unwrap().unwrap();
    }
    let all = state.list("run/", None, usize::MAX).await.unwrap();
    assert_eq!(all.len(), 600);
    assert!(all.iter().zip(0..).all(|((key, _), id)| *key == format!("run/{id:04}")));
    assert_eq!(state.list("run/", Some("run/0299"), 257).await.unwrap(), all[300..557]);
    let lease = state.lease("l", "a", u64::MAX).await.unwrap();
    assert!(matches!(lease, Some(Lease { token }) if token > 0));
    assert_eq!(state.lease("l", "b", 1).await.unwrap(), None, "a life beyond all clocks does not overflow");
}

#[tokio::test]
async fn two_prefixes_on_one_redis_do_not_meet() {
    let [a, b] = [common::open(&common::settings()).await, common::open(&common::settings()).await];
    a.hashes().create_incarnation("a").await.unwrap();
    assert_eq!(b.hashes().incarnation().await.unwrap(), None);
    a.state().put("k", b"v", Expect::Any).await.unwrap();
    assert_eq!(b.state().get("k").await.unwrap(), None);
    for prefix in ["", "a{b}"] {
        let settings = Settings { prefix: prefix.to_owned(), ..common::settings() };
        let Err(fault) = connect(settings, &Limits::default()).await else { panic!("'{prefix}' was taken") };
        assert_eq!(fault.kind, FaultKind::Permanent);
    }
}

async fn refused(url: &str) -> Fault {
    let settings = Settings { connect_timeout: Duration::from_millis(500), ..Settings::new(url.to_owned().into()) };
    let Err(fault) = connect(settings, &Limits::default()).await else { panic!("it was let in") };
    assert!(!format!("{fault:?}").contains("s3cret"), "{fault:?}");
    fault
}

#[tokio::test]
async fn faults_have_their_kind_and_hide_the_password() {
    let settings = Settings::new("redis://u:s3cret@h:1/0".to_owned().into());
    assert!(!format!("{settings:?}").contains("s3cret"));

    let redis = OwnRedis::start(&["--requirepass", "right"]).await;
    let place = redis.url().replace("redis://", "").replace("/0", "");
    let fault = refused(&format!("redis://default:s3cret@{place}/0")).await;
    assert!(fault.kind == FaultKind::Unavailable && fault.to_string().contains("refuses us"), "{fault}");
    let fault = refused(&format!("rediss://default:s3cret@{place}/0")).await;
    assert!(matches!(fault.kind, FaultKind::Unavailable | FaultKind::Transient), "{fault:?}");
    drop(redis);
    let fault = refused(&format!("redis://default:s3cret@{place}/0")).await;
    assert!(fault.kind == FaultKind::Unavailable && fault.to_string().contains("cannot be reached"), "{fault}");
    for url in ["http://u:s3cret@h", "s3cret", ""] {
        assert_eq!(refused(url).await.kind, FaultKind::Permanent);
    }
}

#[tokio::test]
async fn what_redis_refuses_is_unavailable_with_advice() {
    let redis = OwnRedis::start(&[]).await;
    let state = common::open(&redis.settings()).await.state();
    let mut beside = common::beside(&redis.url()).await;
    let mut config = async |setting: &str, value: &str| {
        redis::cmd("CONFIG").arg("SET").arg(setting).arg(value).exec_async(&mut beside).await.unwrap();
    };
    config("maxmemory", "1").await;
    let fault = state.put("k", b"v", Expect::Any).await.expect_err("no memory");
    assert!(fault.kind == FaultKind::Unavailable && fault.to_string().contains("maxmemory"), "{fault}");
    assert_eq!(state.get("k").await.unwrap(), None, "reading goes on");
    config("maxmemory", "0").await;
    state.put("k", b"v", Expect::Any).await.unwrap();

    redis::cmd("SET").arg("fides:{fides}:leases").arg("text").exec_async(&mut beside).await.unwrap();
    let fault = state.lease("l", "a", 1).await.expect_err("another type");
    assert!(fault.kind == FaultKind::Unavailable && fault.to_string().contains("another type"), "{fault}");

    redis::cmd("REPLICAOF").arg("127.0.0.1").arg("1").exec_async(&mut beside).await.unwrap();
    let fault = state.put("k", b"w", Expect::Any).await.expect_err("a replica");
    assert!(fault.kind == FaultKind::Unavailable && fault.advice.is_some(), "{fault}");
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec_async(&mut beside).await.unwrap();
    state.put("k", b"w", Expect::Any).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_hangs_is_a_transient_fault_and_comes_back() {
    let redis = OwnRedis::start(&[]).await;
    let settings = Settings { response_timeout: Duration::from_millis(200), ..redis.settings() };
    let state = common::open(&settings).await.state();
    redis.pause();
    let fault = state.put("k", b"v", Expect::Absent).await.expect_err("it hangs");
    assert!(fault.kind == FaultKind::Transient && fault.to_string().contains("in time"), "{fault}");
    redis.resume();
    let put = loop {
        match state.put("k", b"v", Expect::Absent).await {
            Ok(put) => break put,
            Err(fault) => assert!(matches!(fault.kind, FaultKind::Transient | FaultKind::Unavailable), "{fault}"),
        }
    };
    let entry = state.get("k").await.unwrap().expect("one of the two has put it");
    assert!(put.is_none_or(|revision| revision == entry.revision), "no answer, or that of the entry");
}

#[tokio::test]
async fn a_redis_that_may_lose_marks_is_found() {
    let good = ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];
    let redis = OwnRedis::start(&good).await;
    let backplane = common::open(&redis.settings()).await;
    assert_eq!(backplane.check().await.unwrap(), []);
    let mut beside = common::beside(&redis.url()).await;
    for (setting, value) in [
        ("maxmemory-policy", "allkeys-lru"),
        ("appendfsync", "everysec"),
        ("appendonly", "no"),
        ("no-appendfsync-on-rewrite", "yes"),
    ] {
        redis::cmd("CONFIG").arg("SET").arg(setting).arg(value).exec_async(&mut beside).await.unwrap();
    }
    let findings = backplane.check().await.unwrap();
    assert_eq!(findings.len(), 4, "{findings:?}");
    let told = ["allkeys-lru", "appendonly no", "everysec", "no-appendfsync-on-rewrite yes"];
    for (finding, what) in findings.iter().zip(told) {
        assert!(finding.what.contains(what) && finding.advice.contains("CONFIG SET"), "{finding:?}");
    }
    redis::cmd("ACL").arg("SETUSER").arg("default").arg("-config").exec_async(&mut beside).await.unwrap();
    let findings = backplane.check().await.unwrap();
    assert!(matches!(&findings[..], [finding] if finding.what.contains("CONFIG GET")), "{findings:?}");
}
