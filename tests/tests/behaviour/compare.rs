//! What a comparison holds in memory.

use std::sync::Arc;

use fides_core::{Fingerprint, Held, KeyRange, Mark, PageBuilder, RowCodec, Version};
use fides_engine::import::Comparing;
use fides_testkit::fake::FakeHost;

use crate::stand::Stand;

/// The page that ends a listing covers every mark behind it: all of them, where the host has lost its records.
#[tokio::test]
async fn an_empty_listing_is_compared_in_parts() {
    const MARKS: i64 = 2_000;
    let process = Stand::new(0).process("a").await;
    let (hashes, id) = (&*process.pipeline.backplane.hashes, &process.pipeline.id);
    let mark = Mark { version: Version::scan(1, 1), fingerprint: Some(Fingerprint(1)), held: Held::Present };
    let marks: Vec<_> = (0..MARKS).map(|id| (FakeHost::key(id), mark)).collect();
    hashes.advance(id, &marks).await.unwrap();

    let page = PageBuilder::new(0).finish(Version::scan(1, 2), Arc::new(RowCodec), false);
    let mut comparing = Comparing::begin(hashes, id, &KeyRange::ALL, None, &page).await.unwrap();
    let mut unmet = Vec::new();
    let mut largest = 0;
    while let Some(work) = comparing.next().await.unwrap() {
        largest = largest.max(work.unmet.len());
        unmet.extend(work.unmet.into_iter().map(|(key, _)| key));
    }
    assert_eq!(unmet, (0..MARKS).map(FakeHost::key).collect::<Vec<_>>());
    assert!((1..=32 * 4).contains(&largest), "{largest} marks in 32 buckets of 4");
}
