//! The suite of [`HashStore`].

use std::collections::BTreeMap;
use std::sync::Arc;

use fides_core::port::{BucketInfo, HashStore, Relabel};
use fides_core::{Held, Key, KeyRange, Mark, PipelineId, Value, bucket};

use super::{Stores, fingerprint, key, suite, version};

suite![
    marks_come_back_aligned,
    a_mark_never_goes_backward,
    the_newest_of_one_call_wins,
    distrust_forgets_fingerprints_only,
    a_relabelled_mark_is_the_one_that_was_compared,
    buckets_tile_the_keys_and_ranges_are_exact,
    every_kind_of_key_keeps_its_order,
    marks_agree_with_a_map,
    concurrent_advances_keep_the_newest,
    a_summary_stays_until_its_bucket_changes,
    a_summary_of_an_older_state_is_not_stored,
    a_split_does_not_revive_a_summary,
    size_counts_what_may_exist,
    pipelines_do_not_mix,
    marks_survive_a_kill,
    an_incarnation_is_named_once,
];

/// Enough marks for several buckets in every store.
const MANY: i64 = 3 * bucket::BUCKET_MARKS_MAX as i64;

fn pipeline() -> PipelineId {
    PipelineId::new("hashes")
}

fn present(position: u64) -> Mark {
    Mark::present(version(position), fingerprint(position))
}

fn range(lower: Option<i64>, upper: Option<i64>) -> KeyRange {
    KeyRange { lower: lower.map(key), upper: upper.map(key) }
}

fn many(position: u64) -> Vec<(Key, Mark)> {
    (0..MANY).map(|id| (key(id), present(position))).collect()
}

async fn marks_come_back_aligned(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    assert_eq!(hashes.get(&p, &[key(1)]).await.unwrap(), [None]);
    assert_eq!(hashes.range(&p, &KeyRange::ALL).await.unwrap(), []);
    let dead = Mark { version: version(7), fingerprint: Some(fingerprint(1)), held: Held::Dead };
    let excluded = Mark { version: version(u64::MAX), fingerprint: Some(fingerprint(u64::MAX)), held: Held::Absent };
    let marks =
        [(key(3), dead), (key(1), present(5)), (key(i64::MIN), excluded), (key(2), Mark::tombstone(version(6)))];
    hashes.advance(&p, &marks).await.unwrap();
    let asked = [key(2), key(9), key(1), key(i64::MIN), key(2), key(3), key(0)];
    let tombstone = Some(Mark::tombstone(version(6)));
    let expected = [tombstone, None, Some(present(5)), Some(excluded), tombstone, Some(dead), None];
    assert_eq!(hashes.get(&p, &asked).await.unwrap(), expected);
    assert_eq!(hashes.get(&p, &[]).await.unwrap(), []);
    hashes.advance(&p, &[]).await.unwrap();
    hashes.distrust(&p, &[]).await.unwrap();
    hashes.summarise(&p, &[]).await.unwrap();
}

async fn a_mark_never_goes_backward(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    let held = async || hashes.get(&p, &[key(1)]).await.unwrap()[0];
    hashes.advance(&p, &[(key(1), present(5))]).await.unwrap();
    hashes.advance(&p, &[(key(1), present(4))]).await.unwrap();
    assert_eq!(held().await, Some(present(5)), "L4");
    hashes.advance(&p, &[(key(1), Mark::tombstone(version(5)))]).await.unwrap();
    assert_eq!(held().await, Some(Mark::tombstone(version(5))), "as new is new enough");
    hashes.advance(&p, &[(key(1), present(4)), (key(2), present(1))]).await.unwrap();
    assert_eq!(held().await, Some(Mark::tombstone(version(5))), "a tombstone is a mark too");
    let mut later = present(1);
    later.version.epoch = 2;
    hashes.advance(&p, &[(key(1), later)]).await.unwrap();
    hashes.advance(&p, &[(key(1), present(u64::MAX))]).await.unwrap();
    assert_eq!(held().await, Some(later), "the epoch comes first");
    let mut last = later;
    last.version.sequence = 1;
    hashes.advance(&p, &[(key(1), last)]).await.unwrap();
    hashes.advance(&p, &[(key(1), later)]).await.unwrap();
    assert_eq!(held().await, Some(last), "the sequence comes last");
}

async fn the_newest_of_one_call_wins(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    let equal = Mark::tombstone(version(3));
    let marks =
        [(key(1), present(2)), (key(2), present(1)), (key(1), present(3)), (key(1), present(1)), (key(1), equal)];
    hashes.advance(&p, &marks).await.unwrap();
    assert_eq!(hashes.get(&p, &[key(1), key(2)]).await.unwrap(), [Some(equal), Some(present(1))]);
}

async fn distrust_forgets_fingerprints_only(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    let dead = Mark { held: Held::Dead, ..present(4) };
    hashes.distrust(&p, &[key(1)]).await.unwrap();
    hashes.advance(&p, &[(key(1), present(3)), (key(2), dead), (key(3), present(5))]).await.unwrap();
    hashes.distrust(&p, &[key(9), key(2), key(1), key(1)]).await.unwrap();
    let expected = [
        Some(Mark { fingerprint: None, ..present(3) }),
        Some(Mark { fingerprint: None, ..dead }),
        Some(present(5)),
        None,
    ];
    assert_eq!(hashes.get(&p, &[key(1), key(2), key(3), key(9)]).await.unwrap(), expected);
    hashes.advance(&p, &[(key(1), present(2))]).await.unwrap();
    assert_eq!(hashes.get(&p, &[key(1)]).await.unwrap(), expected[..1], "the version still counts");
    hashes.advance(&p, &[(key(1), present(3))]).await.unwrap();
    assert_eq!(hashes.get(&p, &[key(1)]).await.unwrap(), [Some(present(3))]);
}

async fn a_relabelled_mark_is_the_one_that_was_compared(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    let label = |at: i64, before: Mark| Relabel { key: key(at), before, fingerprint: fingerprint(77) };
    hashes.relabel(&p, &[label(1, present(3))]).await.unwrap();
    assert_eq!(hashes.get(&p, &[key(1)]).await.unwrap(), [None], "what has no mark gets none");
    let excluded = Mark { held: Held::Absent, ..present(3) };
    hashes
        .advance(&p, &[(key(1), present(3)), (key(2), excluded), (key(3), present(3)), (key(4), present(3))])
        .await
        .unwrap();
    hashes.advance(&p, &[(key(3), present(4))]).await.unwrap();
    hashes.distrust(&p, &[key(4)]).await.unwrap();
    let labels =
        [label(9, present(3)), label(4, present(3)), label(3, present(3)), label(2, excluded), label(1, present(3))];
    // A call whose answer was lost is repeated.
    for _ in 0..2 {
        hashes.relabel(&p, &labels).await.unwrap();
        let expected = [
            Some(labels[4].after()),
            Some(labels[3].after()),
            Some(present(4)),
            Some(Mark { fingerprint: None, ..present(3) }),
            None,
        ];
        let found = hashes.get(&p, &[key(1), key(2), key(3), key(4), key(9)]).await.unwrap();
        assert_eq!(found, expected, "L4: not what came in between; L5: not what was distrusted in between");
    }
    assert_eq!(labels[4].after().version, version(3), "the version stays");
}

fn assert_tiled(buckets: &[BucketInfo]) {
    assert_eq!(buckets.first().map(|first| &first.range.lower), Some(&None));
    assert_eq!(buckets.last().map(|last| &last.range.upper), Some(&None));
    for pair in buckets.windows(2) {
        assert!(pair[0].range.upper.is_some() && pair[0].range.upper == pair[1].range.lower, "no gap, no overlap");
    }
}

async fn buckets_tile_the_keys_and_ranges_are_exact(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    let mut marks = many(1);
    hashes.advance(&p, &marks).await.unwrap();
    // Between the others, before and behind them.
    let more: Vec<_> = (-300..0).chain(MANY..MANY + 300).map(|id| (key(id), present(2))).collect();
    for part in more.chunks(100) {
        hashes.advance(&p, part).await.unwrap();
    }
    marks.extend(more);
    marks.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let buckets = hashes.buckets(&p, &KeyRange::ALL).await.unwrap();
    assert!(buckets.len() > 2, "{} buckets", buckets.len());
    assert_tiled(&buckets);
    let mut met = Vec::new();
    for bucket in &buckets {
        let held = hashes.range(&p, &bucket.range).await.unwrap();
        assert!(held.len() <= bucket::BUCKET_MARKS_MAX);
        met.extend(held);
    }
    assert_eq!(met, marks);
    assert_eq!(hashes.range(&p, &KeyRange::ALL).await.unwrap(), marks);
    for (lower, upper) in [(None, Some(5)), (Some(-7), Some(1)), (Some(1_000), Some(2_500)), (Some(MANY), None)] {
        let range = range(lower, upper);
        let inside = |held: &&(Key, Mark)| range.contains(held.0.as_bytes());
        let expected: Vec<_> = marks.iter().filter(inside).cloned().collect();
        assert_eq!(hashes.range(&p, &range).await.unwrap(), expected);
        let overlapping = hashes.buckets(&p, &range).await.unwrap();
        let overlaps = |bucket: &&BucketInfo| {
            bucket.range.upper.as_ref().zip(range.lower.as_ref()).is_none_or(|(upper, lower)| upper > lower)
                && bucket.range.lower.as_ref().zip(range.upper.as_ref()).is_none_or(|(lower, upper)| lower < upper)
        };
        assert_eq!(overlapping, buckets.iter().filter(overlaps).cloned().collect::<Vec<_>>());
    }
    // A range that begins and ends where a bucket does holds that bucket alone.
    assert_eq!(hashes.buckets(&p, &buckets[1].range).await.unwrap(), buckets[1..2]);
}

async fn every_kind_of_key_keeps_its_order(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let texts = ["", "\0", "a", "a\0", "a\0b", "ab", "ä", "\u{10ffff}"];
    let composite = |text: &str, id| vec![Value::String(text.to_owned().into()), Value::I64(id)];
    let kinds: [Vec<Vec<Value<'static>>>; 4] = [
        texts.iter().flat_map(|text| [-1, 0, 1].map(|id| composite(text, id))).collect(),
        vec![vec![Value::I64(i64::MIN)], vec![Value::I64(-1)], vec![Value::I64(0)], vec![Value::U64(u64::MAX)]],
        [[0; 16], [0xff; 16]].map(|uuid| vec![Value::Uuid(uuid)]).into(),
        vec![vec![Value::Bytes(vec![].into())], vec![Value::Bytes(vec![0xff; 9].into())]],
    ];
    for (at, columns) in kinds.iter().enumerate() {
        let p = PipelineId::new(&format!("kind{at}"));
        let keys: Vec<Key> = columns.iter().map(|columns| Key::encode(columns).expect("they are keys")).collect();
        let marks: Vec<_> = keys.iter().map(|key| (key.clone(), present(1))).collect();
        hashes.advance(&p, &marks.iter().rev().cloned().collect::<Vec<_>>()).await.unwrap();
        assert_eq!(hashes.range(&p, &KeyRange::ALL).await.unwrap(), marks);
        assert_eq!(hashes.get(&p, &keys).await.unwrap(), vec![Some(present(1)); keys.len()]);
    }
}

/// What [`HashStore`] says of itself, without buckets.
fn advance(model: &mut BTreeMap<Key, Mark>, marks: &[(Key, Mark)]) {
    for (key, mark) in marks {
        let held = model.entry(key.clone()).or_insert(*mark);
        if mark.version >= held.version {
            *held = *mark;
        }
    }
}

async fn marks_agree_with_a_map(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut model = BTreeMap::new();
    for round in 0..60 {
        let near = random.i64(0..MANY);
        let id = |random: &mut fastrand::Rng| {
            key(if round % 3 == 0 { random.i64(0..MANY) } else { near + random.i64(0..200) })
        };
        let size = random.usize(1..400);
        if random.u8(..4) > 0 {
            let mark = |random: &mut fastrand::Rng| {
                let mark = present(random.u64(0..20));
                if random.bool() { mark } else { Mark::tombstone(mark.version) }
            };
            let marks: Vec<_> = (0..size).map(|_| (id(&mut random), mark(&mut random))).collect();
            hashes.advance(&p, &marks).await.unwrap();
            advance(&mut model, &marks);
        } else {
            let keys: Vec<_> = (0..size).map(|_| id(&mut random)).collect();
            hashes.distrust(&p, &keys).await.unwrap();
            for key in &keys {
                if let Some(mark) = model.get_mut(key) {
                    mark.fingerprint = None;
                }
            }
        }
        let asked: Vec<_> = (0..300).map(|_| id(&mut random)).collect();
        let expected: Vec<_> = asked.iter().map(|key| model.get(key).copied()).collect();
        assert_eq!(hashes.get(&p, &asked).await.unwrap(), expected, "round {round}");
    }
    let all: Vec<_> = model.into_iter().collect();
    assert_eq!(hashes.range(&p, &KeyRange::ALL).await.unwrap(), all);
    let exist = all.iter().filter(|(_, mark)| mark.may_exist()).count() as u64;
    assert_eq!(hashes.size(&p).await.unwrap().0, exist);
    assert_tiled(&hashes.buckets(&p, &KeyRange::ALL).await.unwrap());
}

async fn concurrent_advances_keep_the_newest(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    // Lanes are by hash and buckets by range: writers of different keys meet in every bucket, and here also in keys.
    let write = |writer: u64| {
        let (hashes, p) = (hashes.clone(), p.clone());
        tokio::spawn(async move {
            for round in 0..5 {
                let position = (round * 7 + writer * 3) % 20;
                let mine: Vec<_> = (0..400).map(|id| (key(id * 5 + writer.cast_signed()), present(round))).collect();
                let shared: Vec<_> = (0..100).map(|id| (key(-1 - id), present(position))).collect();
                hashes.advance(&p, &mine).await.unwrap();
                hashes.advance(&p, &shared).await.unwrap();
            }
        })
    };
    for writer in (0..5).map(write).collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let newest = (0..5).flat_map(|writer| (0..5).map(move |round| (round * 7 + writer * 3) % 20)).max();
    let held = hashes.range(&p, &range(None, Some(0))).await.unwrap();
    assert_eq!(held.len(), 100);
    assert!(held.iter().all(|(_, mark)| Some(mark.version.position) == newest), "L4");
    let held = hashes.range(&p, &range(Some(0), None)).await.unwrap();
    assert_eq!(held, (0..2_000).map(|id| (key(id), present(4))).collect::<Vec<_>>());
}

/// Summarises every bucket by its place.
async fn summarise(hashes: &Arc<dyn HashStore>, buckets: &[BucketInfo]) {
    let summaries: Vec<_> = buckets.iter().cloned().zip(100..).collect();
    hashes.summarise(&pipeline(), &summaries).await.unwrap();
}

async fn summaries(hashes: &Arc<dyn HashStore>) -> Vec<Option<u128>> {
    let buckets = hashes.buckets(&pipeline(), &KeyRange::ALL).await.unwrap();
    buckets.iter().map(|bucket| bucket.summary).collect()
}

async fn a_summary_stays_until_its_bucket_changes(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    hashes.advance(&p, &many(5)).await.unwrap();
    let buckets = hashes.buckets(&p, &KeyRange::ALL).await.unwrap();
    assert!(buckets.iter().all(|bucket| bucket.summary.is_none()));
    summarise(&hashes, &buckets).await;
    let mut expected: Vec<_> = (100..).take(buckets.len()).map(Some).collect();
    assert_eq!(summaries(&hashes).await, expected);
    let summarised = hashes.buckets(&p, &KeyRange::ALL).await.unwrap();
    assert!(
        summarised.iter().zip(&buckets).all(|(now, before)| (&now.range, now.writes) == (&before.range, before.writes))
    );
    let first_of = |at: usize| buckets[at].range.lower.clone().expect("not the first bucket");
    hashes.advance(&p, &[(first_of(1), present(6))]).await.unwrap();
    expected[1] = None;
    assert_eq!(summaries(&hashes).await, expected);
    hashes.distrust(&p, &[first_of(2)]).await.unwrap();
    expected[2] = None;
    assert_eq!(summaries(&hashes).await, expected);
    let relabelled = hashes.range(&p, &buckets[3].range).await.unwrap()[0].clone();
    let label = Relabel { key: relabelled.0, before: relabelled.1, fingerprint: fingerprint(77) };
    hashes.relabel(&p, &[label]).await.unwrap();
    expected[3] = None;
    assert_eq!(summaries(&hashes).await, expected);
    let now = hashes.buckets(&p, &KeyRange::ALL).await.unwrap();
    for (at, (now, before)) in now.iter().zip(&buckets).enumerate() {
        assert_eq!(now.writes == before.writes, !(1..=3).contains(&at), "every write counts, in its own bucket");
    }
}

async fn a_summary_of_an_older_state_is_not_stored(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    hashes.advance(&p, &[(key(1), present(5))]).await.unwrap();
    let before = hashes.buckets(&p, &KeyRange::ALL).await.unwrap();
    // The same mark again: nobody can tell, so it must not matter.
    hashes.advance(&p, &[(key(1), present(6))]).await.unwrap();
    summarise(&hashes, &before).await;
    assert_eq!(summaries(&hashes).await, [None]);
    let before = hashes.buckets(&p, &KeyRange::ALL).await.unwrap();
    hashes.distrust(&p, &[key(1)]).await.unwrap();
    summarise(&hashes, &before).await;
    assert_eq!(summaries(&hashes).await, [None]);
    drop(hashes);
    let hashes = stores.open().await.hashes;
    hashes.advance(&p, &[(key(2), present(1))]).await.unwrap();
    summarise(&hashes, &before).await;
    assert_eq!(summaries(&hashes).await, [None], "write counters do not begin anew after a kill");
    let now = hashes.buckets(&p, &KeyRange::ALL).await.unwrap();
    summarise(&hashes, &now).await;
    assert_eq!(summaries(&hashes).await, [Some(100)]);
}

async fn a_split_does_not_revive_a_summary(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    hashes.advance(&p, &[(key(0), present(1))]).await.unwrap();
    let before = hashes.buckets(&p, &KeyRange::ALL).await.unwrap();
    summarise(&hashes, &before).await;
    hashes.advance(&p, &many(2)).await.unwrap();
    assert!(summaries(&hashes).await.iter().all(Option::is_none));
    summarise(&hashes, &before).await;
    assert!(summaries(&hashes).await.iter().all(Option::is_none), "it spoke of a larger range");
    let split = hashes.buckets(&p, &KeyRange::ALL).await.unwrap();
    let grown: Vec<_> = (0..MANY).map(|id| (key(id), present(3))).collect();
    hashes.advance(&p, &grown).await.unwrap();
    summarise(&hashes, &split).await;
    assert!(summaries(&hashes).await.iter().all(Option::is_none));
}

async fn size_counts_what_may_exist(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    assert_eq!(hashes.size(&p).await.unwrap().0, 0);
    hashes.advance(&p, &many(1)).await.unwrap();
    let (exist, bytes) = hashes.size(&p).await.unwrap();
    assert_eq!(exist, MANY as u64);
    assert!(bytes > exist * 16, "a fingerprint alone takes 16 bytes, and here are {bytes}");
    let dead = Mark { held: Held::Dead, ..present(2) };
    hashes.advance(&p, &[(key(0), Mark::tombstone(version(2))), (key(1), dead)]).await.unwrap();
    hashes.distrust(&p, &[key(2)]).await.unwrap();
    assert_eq!(hashes.size(&p).await.unwrap().0, MANY as u64 - 1);
    hashes.advance(&p, &[(key(0), present(3))]).await.unwrap();
    assert_eq!(hashes.size(&p).await.unwrap().0, MANY as u64);
}

async fn pipelines_do_not_mix(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let (p, other) = (pipeline(), PipelineId::new("hashes2"));
    hashes.advance(&p, &[(key(1), present(1))]).await.unwrap();
    hashes.advance(&other, &many(9)).await.unwrap();
    hashes.distrust(&other, &[key(1)]).await.unwrap();
    assert_eq!(hashes.range(&p, &KeyRange::ALL).await.unwrap(), [(key(1), present(1))]);
    let buckets = hashes.buckets(&p, &KeyRange::ALL).await.unwrap();
    assert_eq!(buckets.iter().map(|bucket| &bucket.range).collect::<Vec<_>>(), [&KeyRange::ALL]);
    assert_eq!(hashes.size(&p).await.unwrap().0, 1);
    assert_eq!(hashes.range(&PipelineId::new("hash"), &KeyRange::ALL).await.unwrap(), []);
}

async fn marks_survive_a_kill(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    let p = pipeline();
    hashes.advance(&p, &many(1)).await.unwrap();
    let buckets = hashes.buckets(&p, &KeyRange::ALL).await.unwrap();
    summarise(&hashes, &buckets).await;
    let buckets = hashes.buckets(&p, &KeyRange::ALL).await.unwrap();
    drop(hashes);
    let hashes = stores.open().await.hashes;
    assert_eq!(hashes.range(&p, &KeyRange::ALL).await.unwrap(), many(1));
    assert_eq!(hashes.buckets(&p, &KeyRange::ALL).await.unwrap(), buckets);
    hashes.advance(&p, &[(key(1), present(0))]).await.unwrap();
    assert_eq!(hashes.get(&p, &[key(1)]).await.unwrap(), [Some(present(1))]);
}

async fn an_incarnation_is_named_once(stores: &mut dyn Stores) {
    let hashes = stores.open().await.hashes;
    assert_eq!(hashes.incarnation().await.unwrap(), None);
    hashes.create_incarnation("first").await.unwrap();
    hashes.create_incarnation("second").await.unwrap();
    assert_eq!(hashes.incarnation().await.unwrap().as_deref(), Some("first"), "two that see none get one name");
    drop(hashes);
    let hashes = stores.open().await.hashes;
    assert_eq!(hashes.incarnation().await.unwrap().as_deref(), Some("first"));
}
