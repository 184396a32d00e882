//! The marks under several writers, and how they are stored.

#![allow(clippy::unwrap_used)] // a fault is the failure of a test

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{key, present};
use fides_backplane_redis::Settings;
use fides_core::port::HashStore;
use fides_core::{FaultKind, Fingerprint, Key, KeyRange, Mark, PipelineId, Value, Version};

fn pipeline() -> PipelineId {
    PipelineId::new("shop/items")
}

/// Buckets so small that they are split all the time.
fn small() -> Settings {
    Settings { bucket_marks_max: 8, ..common::settings() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_keep_the_newest_while_buckets_are_split() {
    const WRITERS: u64 = 8;
    const ROUNDS: u64 = 12;
    const KEYS: i64 = 500;
    let settings = small();
    let version_of = |writer: u64, round: u64, id: i64| (round * 31 + writer * 17 + id.unsigned_abs() * 7) % 97;
    let writes_key = |writer: u64, round: u64, id: i64| !(id.unsigned_abs() + writer + round).is_multiple_of(3);
    let write = |writer: u64| {
        let settings = settings.clone();
        tokio::spawn(async move {
            // A client of its own: none knows of the splits of another.
            let hashes = common::open(&settings).await.hashes();
            for round in 0..ROUNDS {
                let marks: Vec<_> = (0..KEYS)
                    .filter(|id| writes_key(writer, round, *id))
                    .map(|id| (key(id), present(version_of(writer, round, id))))
                    .collect();
                for part in marks.chunks(50) {
                    hashes.advance(&pipeline(), part).await.unwrap();
                }
            }
        })
    };
    for writer in (0..WRITERS).map(write).collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let newest = |id: i64| {
        let writes = (0..WRITERS).flat_map(|writer| (0..ROUNDS).map(move |round| (writer, round)));
        let touched = writes.filter(|(writer, round)| writes_key(*writer, *round, id));
        touched.map(|(writer, round)| version_of(writer, round, id)).max()
    };
    let expected: Vec<_> = (0..KEYS).map(|id| (key(id), present(newest(id).unwrap()))).collect();
    let hashes = common::open(&settings).await.hashes();
    assert_eq!(hashes.range(&pipeline(), &KeyRange::ALL).await.unwrap(), expected, "L4");
    let keys: Vec<Key> = (0..KEYS).map(key).collect();
    let marks: Vec<_> = expected.iter().map(|(_, mark)| Some(*mark)).collect();
    assert_eq!(hashes.get(&pipeline(), &keys).await.unwrap(), marks);
    assert_eq!(hashes.size(&pipeline()).await.unwrap().0, KEYS.unsigned_abs());
    let buckets = hashes.buckets(&pipeline(), &KeyRange::ALL).await.unwrap();
    assert!(buckets.len() as i64 >= KEYS / 8, "only {} buckets", buckets.len());
    assert!(buckets.windows(2).all(|pair| pair[0].range.upper == pair[1].range.lower), "no gap, no overlap");
}

#[tokio::test]
async fn a_client_that_knows_old_bounds_finds_the_new_ones() {
    let settings = small();
    let [old, new] = [common::open(&settings).await.hashes(), common::open(&settings).await.hashes()];
    let marks = |position| (0..300).map(|id| (key(id), present(position))).collect::<Vec<_>>();
    old.advance(&pipeline(), &marks(1)[..5]).await.unwrap();
    new.advance(&pipeline(), &marks(1)).await.unwrap();
    old.advance(&pipeline(), &marks(2)).await.unwrap();
    let keys: Vec<Key> = (0..300).map(key).collect();
    for hashes in [&old, &new] {
        assert_eq!(hashes.get(&pipeline(), &keys).await.unwrap(), vec![Some(present(2)); 300]);
    }
    new.distrust(&pipeline(), &keys).await.unwrap();
    let distrusted = Mark { fingerprint: None, ..present(2) };
    assert_eq!(old.get(&pipeline(), &keys).await.unwrap(), vec![Some(distrusted); 300]);
}

/// Many buckets, more than one call reads or writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_many_portions_agree_with_a_map() {
    let settings = small();
    let hashes = common::open(&settings).await.hashes();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut model: BTreeMap<Key, Mark> = BTreeMap::new();
    for position in 0..8 {
        let marks: Vec<_> = (0..6_000).map(|_| (key(random.i64(-9_000..9_000)), present(position))).collect();
        hashes.advance(&pipeline(), &marks).await.unwrap();
        model.extend(marks);
        let distrusted: Vec<_> = (0..500).map(|_| key(random.i64(-9_000..9_000))).collect();
        hashes.distrust(&pipeline(), &distrusted).await.unwrap();
        for key in distrusted {
            model.entry(key).and_modify(|mark| mark.fingerprint = None);
        }
    }
    let keys: Vec<Key> = (0..20_000).map(|_| key(random.i64(-9_100..9_100))).collect();
    let expected: Vec<_> = keys.iter().map(|key| model.get(key).copied()).collect();
    assert_eq!(hashes.get(&pipeline(), &keys).await.unwrap(), expected);
    let buckets = hashes.buckets(&pipeline(), &KeyRange::ALL).await.unwrap();
    assert!(buckets.len() > 1_500, "only {} buckets", buckets.len());
    assert_eq!(hashes.size(&pipeline()).await.unwrap().0, model.len() as u64);
    let summaries: Vec<_> = buckets.into_iter().zip(1..).collect();
    hashes.summarise(&pipeline(), &summaries).await.unwrap();
    let stored = hashes.buckets(&pipeline(), &KeyRange::ALL).await.unwrap();
    assert!(stored.iter().zip(1..).all(|(bucket, summary)| bucket.summary == Some(summary)));
    assert_eq!(hashes.range(&pipeline(), &KeyRange::ALL).await.unwrap(), model.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_merge_alone_keeps_the_summary_of_its_bucket() {
    let settings = Settings { bucket_marks_max: 64, ..common::settings() };
    let hashes = common::open(&settings).await.hashes();
    let mut tail = tail_bytes(&settings).await;
    // One key over and over: the bucket grows by patches alone, until they are merged.
    let mut merges = 0;
    for position in 0..40 {
        hashes.advance(&pipeline(), &[(key(1), present(position))]).await.unwrap();
        let now = tail_bytes(&settings).await;
        merges += u32::from(now < tail);
        tail = now;
        let before = hashes.buckets(&pipeline(), &KeyRange::ALL).await.unwrap();
        assert_eq!(before[0].summary, None, "every write drops it, merged or not");
        hashes.summarise(&pipeline(), &[(before[0].clone(), 5)]).await.unwrap();
        let after = hashes.buckets(&pipeline(), &KeyRange::ALL).await.unwrap();
        assert_eq!((after[0].summary, after[0].writes), (Some(5), before[0].writes));
    }
    assert!(merges > 0, "nothing was merged");
    assert_eq!(hashes.get(&pipeline(), &[key(1)]).await.unwrap(), [Some(present(39))]);
}

async fn tail_bytes(settings: &Settings) -> u64 {
    let tail = format!("{}:{{{}}}:tail:.", settings.prefix, pipeline());
    redis::cmd("STRLEN").arg(tail).query_async(&mut common::beside(&common::url()).await).await.unwrap()
}

#[tokio::test]
async fn foreign_bytes_are_unavailable_and_never_no_mark() {
    let settings = common::settings();
    let hashes = common::open(&settings).await.hashes();
    let mut beside = common::beside(&common::url()).await;
    let named = |what: &str| format!("{}:{{{}}}:{what}", settings.prefix, pipeline());
    hashes.advance(&pipeline(), &[(key(1), present(1))]).await.unwrap();
    hashes.advance(&pipeline(), &[(key(2), present(1))]).await.unwrap();
    let (base, tail): (Vec<u8>, Vec<u8>) =
        redis::pipe().get(named("bucket:.")).get(named("tail:.")).query_async(&mut beside).await.unwrap();
    assert!(!tail.is_empty());
    let mut cases: Vec<(&str, Vec<u8>, Vec<u8>, &str)> = Vec::new();
    let changed = |bytes: &[u8], at: usize, to: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = to;
        bytes
    };
    cases.push(("format of the bucket", changed(&base, 0, 2), tail.clone(), "format 2"));
    cases.push(("format of the marks", changed(&base, 42, 9), tail.clone(), "format 9"));
    cases.push(("format of a patch", base.clone(), changed(&tail, 1, 77), "format 77"));
    cases.push(("a shorter tail", base.clone(), tail[..tail.len() - 1].to_vec(), "lost"));
    cases.push(("no tail", base.clone(), Vec::new(), "lost"));
    cases.push(("no bucket", Vec::new(), tail.clone(), "lost"));
    for (case, base, tail, said) in cases {
        for (name, bytes) in [("bucket:.", base), ("tail:.", tail)] {
            let change =
                if bytes.is_empty() { redis::Cmd::del(named(name)) } else { redis::Cmd::set(named(name), bytes) };
            change.exec_async(&mut beside).await.unwrap();
        }
        let fault = hashes.get(&pipeline(), &[key(1)]).await.expect_err(case);
        assert_eq!(fault.kind, FaultKind::Unavailable, "{case}: {fault}");
        assert!(fault.to_string().contains(said) && fault.advice.is_some(), "{case}: {fault}");
        let fault = hashes.range(&pipeline(), &KeyRange::ALL).await.expect_err(case);
        assert_eq!(fault.kind, FaultKind::Unavailable, "{case}: {fault}");
        let fault = hashes.size(&pipeline()).await.expect_err(case);
        assert_eq!(fault.kind, FaultKind::Unavailable, "{case}: {fault}");
    }
    // Nothing is written into a bucket that is not understood.
    let fault = hashes.advance(&pipeline(), &[(key(1), present(9))]).await.expect_err("the bucket is gone");
    assert!(fault.to_string().contains("lost"), "{fault}");
    redis::Cmd::set(named("bucket:."), changed(&base, 0, 2)).exec_async(&mut beside).await.unwrap();
    let fault = hashes.advance(&pipeline(), &[(key(1), present(9))]).await.expect_err("the format is unknown");
    assert!(fault.to_string().contains("upgrade"), "{fault}");
    redis::Cmd::del(named("buckets")).exec_async(&mut beside).await.unwrap();
    for fault in [
        hashes.get(&pipeline(), &[key(1)]).await.expect_err("the directory is gone"),
        hashes.advance(&pipeline(), &[(key(1), present(9))]).await.expect_err("the directory is gone"),
    ] {
        assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    }
}

#[tokio::test]
async fn scripts_are_loaded_again() {
    let redis = common::OwnRedis::start(&[]).await;
    let hashes = common::open(&redis.settings()).await.hashes();
    hashes.advance(&pipeline(), &[(key(1), present(1))]).await.unwrap();
    let mut beside = common::beside(&redis.url()).await;
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut beside).await.unwrap();
    assert_eq!(hashes.get(&pipeline(), &[key(1)]).await.unwrap(), [Some(present(1))]);
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut beside).await.unwrap();
    hashes.advance(&pipeline(), &[(key(1), present(2))]).await.unwrap();
}

/// Bytes that Redis' memory grows by per mark, everything included.
async fn bytes_per_mark(
    hashes: &Arc<dyn HashStore>,
    url: &str,
    name: &str,
    key: impl Fn(u64) -> Value<'static>,
) -> f64 {
    const MARKS: u64 = 100_000;
    let pipeline = PipelineId::new(name);
    let mut beside = common::beside(url).await;
    let before = used_memory(&mut beside).await;
    let mut random = fastrand::Rng::with_seed(7);
    let mut marks: Vec<_> = (0..MARKS)
        .map(|id| {
            let mark = Mark::present(Version::scan(1_700_000_000, 1 << 40), Fingerprint(random.u128(..)));
            (Key::encode(&[key(id)]).expect("it is a key"), mark)
        })
        .collect();
    marks.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    for part in marks.chunks(4_096) {
        hashes.advance(&pipeline, part).await.unwrap();
    }
    let (present, bytes) = hashes.size(&pipeline).await.unwrap();
    assert_eq!(present, MARKS);
    let grown = used_memory(&mut beside).await - before;
    #[allow(clippy::cast_precision_loss)]
    let [stored, grown] = [bytes, grown].map(|bytes| bytes as f64 / MARKS as f64);
    println!("{name}: {stored:.1} bytes stored, {grown:.1} bytes of memory per mark");
    assert!(grown > stored, "memory holds at least what is stored");
    grown
}

async fn used_memory(beside: &mut redis::aio::MultiplexedConnection) -> u64 {
    // What connections hold is given back by then: only data is of interest.
    redis::cmd("MEMORY").arg("PURGE").exec_async(beside).await.unwrap();
    let stats: BTreeMap<String, redis::Value> = redis::cmd("MEMORY").arg("STATS").query_async(beside).await.unwrap();
    let bytes = |name: &str| redis::from_redis_value::<u64>(stats[name].clone()).unwrap();
    bytes("dataset.bytes") + bytes("overhead.total") - bytes("clients.normal")
}

#[tokio::test]
async fn a_mark_takes_little_memory() {
    let redis = common::OwnRedis::start(&[]).await;
    let hashes = common::open(&redis.settings()).await.hashes();
    let url = redis.url();
    let bigint = bytes_per_mark(&hashes, &url, "bigint", |id| Value::I64(id.cast_signed() * 3)).await;
    let uuid = |id: u64| {
        let mut random = fastrand::Rng::with_seed(id);
        Value::Uuid(random.u128(..).to_be_bytes())
    };
    let uuid = bytes_per_mark(&hashes, &url, "uuid", uuid).await;
    let text = bytes_per_mark(&hashes, &url, "text", |id| Value::String(format!("customer-{id:010}").into())).await;
    assert!(bigint <= 32.0, "{bigint} bytes");
    assert!(uuid <= 48.0, "{uuid} bytes");
    assert!(text <= 40.0, "{text} bytes");
}
