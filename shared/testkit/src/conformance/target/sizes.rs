//! Batches and records of every size.

use fides_core::port::Outcome;
use fides_core::{Change, FaultKind, Value};

use super::super::host::{LARGE_BYTES, LARGE_RECORDS};
use super::{TargetFixture, Writer, change, delete, document, failed, named, people, upsert};

/// No changes, no outcomes, no failure.
pub async fn an_empty_batch_is_nothing(fixture: &dyn TargetFixture) {
    let writer = Writer::over(fixture, people(), None).await;
    assert!(writer.apply(&[]).await.is_empty());
}

/// Thousands of changes in one call, some of them bad: every outcome belongs to its change.
pub async fn a_large_batch_is_aligned(fixture: &dyn TargetFixture) {
    let writer = Writer::over(fixture, people(), None).await;
    let bad = |id: i64| matches!(id, 0 | 700 | 701 | 4_999);
    let row = |id: i64| {
        let name = if bad(id) { fixture.refused() } else { Value::String(format!("name {id}").into()) };
        change(1, &[Value::I64(id)], document(&[Value::I64(id), name, Value::I64(id)]))
    };
    let outcomes = writer.apply(&(0..5_000).map(row).collect::<Vec<_>>()).await;
    for (id, outcome) in (0..).zip(&outcomes) {
        if bad(id) {
            assert_eq!(failed(outcome).kind, FaultKind::Permanent);
        } else {
            assert!(matches!(outcome, Outcome::Applied), "{id}: {outcome:?}");
        }
    }
    let held = writer.held().await;
    assert_eq!(held.len(), 4_996);
    assert!(held.iter().all(|record| record.values[0] == record.values[2]));
    writer.write(&(1..5_000).filter(|id| id % 2 == 1).map(|id| delete(2, id)).collect::<Vec<_>>()).await;
    assert!(writer.held().await.iter().all(|record| matches!(record.values[0], Value::I64(id) if id % 2 == 0)));
}

/// Together they are more than any answer of a store holds: a document that is not found has to be a document that is not
/// there (L8).
pub async fn large_records_come_back(fixture: &dyn TargetFixture) {
    let writer = Writer::over(fixture, people(), None).await;
    let name = "x".repeat(LARGE_BYTES);
    let row = |id: i64| [Value::I64(id), Value::String(name.as_str().into()), Value::I64(id)];
    let changes: Vec<Change> = (0..LARGE_RECORDS).map(|id| change(1, &[Value::I64(id)], document(&row(id)))).collect();
    for batch in changes.chunks(40) {
        writer.write(batch).await;
    }
    let held = writer.held().await;
    assert_eq!(held.len(), changes.len());
    assert!((0..).zip(&held).all(|(id, record)| record.values == row(id)), "each whole, and under its key");
}

/// It fails by itself, whatever the limit is.
pub async fn an_oversized_record_fails_alone(fixture: &dyn TargetFixture) {
    let writer = Writer::over(fixture, people(), None).await;
    let large = "x".repeat(fixture.oversized());
    let row = [Value::I64(2), Value::String(large.into()), Value::I64(2)];
    let outcomes = writer.apply(&[upsert(1, 1, "a"), change(1, &row[..1], document(&row)), upsert(1, 3, "c")]).await;
    assert_eq!(failed(&outcomes[1]).kind, FaultKind::Permanent, "{}", failed(&outcomes[1]));
    assert!(matches!(outcomes[..], [Outcome::Applied, _, Outcome::Applied]), "the others are written");
    assert_eq!(writer.names().await, named(&[(1, "a"), (3, "c")]));
}
