//! Deletions that leave a document behind.

use std::sync::Arc;

use fides_core::port::Mapper;
use fides_core::{Column, FaultKind, Kind, Value, decode_row};
use fides_engine::import::Mode;
use fides_engine::inspect::verify;
use fides_engine::{DeletePolicy, SoftDelete, clean_up};
use fides_testkit::fake::{Act, FakeHost, FakeMapper};

use crate::stand::{Process, Stand, within};

fn soft() -> SoftDelete {
    SoftDelete { field: "gone".into(), value: Value::Bool(true) }
}

/// A process whose deletions are soft.
async fn process(stand: &Stand, name: &str) -> Process {
    let mut process = stand.process(name).await;
    let pipeline = &mut process.pipeline;
    pipeline.mapper = soft().around(Arc::new(FakeMapper::new(1))).unwrap();
    pipeline.selection.seed = pipeline.mapper.revision();
    let column = Column { name: "gone".into(), kind: Kind::Bool, native: String::new(), nullable: true };
    pipeline.target_selection.columns.push(column);
    pipeline.delete = DeletePolicy::Soft(soft());
    process
}

/// What the document of a row says of it: alive, gone, or nothing because there is none.
fn says(stand: &Stand, id: i64) -> Option<bool> {
    let document = stand.document(id)?;
    let values = decode_row(&document).unwrap();
    assert_eq!(values[0], Value::I64(id), "the rest of it is there");
    assert!(matches!(values[1], Value::I64(_)) && matches!(values[2], Value::String(_)));
    match values[3] {
        Value::Bool(gone) => Some(gone),
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_document_of_a_deleted_record_stays_and_says_so_until_the_record_returns() {
    for by_walk in [false, true] {
        let stand = Stand::new(12);
        let process = process(&stand, "a").await;
        process.copy().await;
        assert_eq!(says(&stand, 3), Some(false));
        let before = stand.document(3).unwrap();
        let _consumers = process.consume();
        stand.host.commit(&[(3, None)]);
        let report = if by_walk {
            within(clean_up(&process.pipeline, &process.worker, 1)).await.unwrap().unwrap()
        } else {
            process.import(Mode::Delta).await.sweep
        };
        process.settle().await;
        assert_eq!((report.deleted, says(&stand, 3), says(&stand, 4)), (1, Some(true), Some(false)));

        // It is deleted: nobody finds it again, and both sides are the same.
        let again = within(clean_up(&process.pipeline, &process.worker, 2)).await.unwrap().unwrap();
        assert_eq!((again.candidates, again.foreign), (0, 0));
        assert_eq!(process.import(Mode::Delta).await.sweep.candidates, 0);
        assert!(verify(&process.pipeline, &Arc::default()).await.unwrap().is_equal());

        stand.host.commit(&[(3, Some(1))]);
        process.import(Mode::Delta).await;
        process.settle().await;
        assert_eq!(stand.document(3).unwrap(), before, "it is whole again, and the field is cleared");
        assert!(verify(&process.pipeline, &Arc::default()).await.unwrap().is_equal());
    }
}

#[tokio::test(start_paused = true)]
async fn the_document_of_a_living_record_that_says_gone_is_a_difference() {
    let stand = Stand::new(4);
    let process = process(&stand, "a").await;
    process.copy().await;
    let mut document = FakeMapper::new(1).document(2, 1).unwrap();
    fides_core::encode_value(&mut document, &Value::Bool(true));
    stand.target.tamper(&crate::stand::namespace(), &FakeHost::key(2), Some(document.into()));
    assert_eq!(verify(&process.pipeline, &Arc::default()).await.unwrap().different, 1);
}

/// A target that cannot be read, and one that no longer has the document.
#[tokio::test(start_paused = true)]
async fn a_soft_deletion_waits_for_the_target_and_makes_no_document() {
    let stand = Stand::new(12);
    let process = process(&stand, "a").await;
    process.copy().await;
    let _consumers = process.consume();
    stand.host.commit(&[(3, None), (5, None)]);
    stand.target.tamper(&crate::stand::namespace(), &FakeHost::key(5), None);
    process.faults.script("target.fetch", [Act::Reject(FaultKind::Unavailable), Act::Reject(FaultKind::Transient)]);
    assert_eq!(process.import(Mode::Delta).await.sweep.deleted, 2);
    process.settle().await;
    assert_eq!((says(&stand, 3), says(&stand, 5)), (Some(true), None));
    stand.host.commit(&[(5, Some(1))]);
    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(says(&stand, 5), Some(false));
}

#[tokio::test]
async fn a_mapping_that_has_the_field_clears_it_itself_and_the_key_cannot_be_it() {
    let mapper: Arc<dyn Mapper> = Arc::new(FakeMapper::new(1));
    let own = SoftDelete { field: "label".into(), value: Value::String("gone".into()) };
    assert_eq!(own.around(mapper.clone()).unwrap().revision(), 1);
    let key = SoftDelete { field: "id".into(), value: Value::I64(0) };
    let fault = key.around(mapper.clone()).err().unwrap().to_string();
    assert!(fault.contains("field id is a part of the key"), "{fault}");
    assert_ne!(soft().around(mapper).unwrap().revision(), 1, "documents without the field are not equal");
}
