//! What a server answers that is busy, broken, or gone: told apart, record by record.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

mod common;

use std::time::{Duration, Instant};

use common::{Database, Writer, delete, fault, text, upsert};
use fides_core::port::Outcome;
use fides_core::{Change, FaultKind, KeyRange, Kind, Selection, Value};
use serde_json::json;

const FIELDS: [(&str, Kind); 2] = [("no", Kind::I64), ("name", Kind::String)];

async fn writer(database: &Database) -> Writer {
    Writer::new(database.settings(), "t", &FIELDS).await.ready().await
}

fn rows(numbers: std::ops::Range<i64>, position: u64) -> Vec<Change> {
    numbers.map(|number| upsert(position, &[Value::I64(number), text(&format!("name {number}"))])).collect()
}

fn applied(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Applied)).count()
}

/// The changes that a caller would send again.
fn open(changes: &[Change], outcomes: &[Outcome]) -> Vec<Change> {
    let is_open = |outcome: &Outcome| matches!(outcome, Outcome::Unknown(_) | Outcome::Failed(_));
    changes.iter().zip(outcomes).filter(|(_, outcome)| is_open(outcome)).map(|(change, _)| change.clone()).collect()
}

#[tokio::test]
async fn what_is_throttled_is_sent_again_in_time() {
    let database = Database::create().await;
    let writer = writer(&database).await;
    database.fault(json!({ "container": "t", "operations": ["create", "replace"], "status": 429, "substatus": 3200,
        "retry_after_ms": 7, "every": 2 }));
    writer.write(&rows(0..200, 1)).await;
    assert_eq!(database.documents("t").await.len(), 200);
    assert!(database.fired()[0] >= 199, "every second write was refused once: {:?}", database.fired());
}

#[tokio::test]
async fn an_account_that_only_throttles_says_how_long() {
    for retry_after_ms in [7, 60_000] {
        let database = Database::create().await;
        let mut writer = writer(&database).await;
        writer.target = fides_connector_cosmos::target(database.settings(), 4_000).await.unwrap();
        database.fault(json!({ "container": "t", "operations": ["create"], "status": 429, "substatus": 3200,
            "retry_after_ms": retry_after_ms }));
        let start = Instant::now();
        let outcomes = writer.apply(&rows(0..50, 1)).await;
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        for outcome in &outcomes {
            let FaultKind::Throttled { after } = fault(outcome).kind else { panic!("{outcome:?}") };
            assert!(after <= Duration::from_millis(retry_after_ms), "{after:?}");
            assert!(retry_after_ms < 1_000 || after > Duration::from_secs(50), "{after:?}");
        }
        assert_eq!(database.documents("t").await.len(), 0);
    }
}

#[tokio::test]
async fn every_status_is_told_apart() {
    for (status, substatus, kind, is_unknown) in [
        (503, 0, FaultKind::Unavailable, false),
        (410, 0, FaultKind::Transient, false),
        (408, 0, FaultKind::Transient, true),
        (500, 0, FaultKind::Transient, true),
        (401, 0, FaultKind::Unavailable, false),
        (403, 0, FaultKind::Unavailable, false),
        (403, 1_014, FaultKind::Permanent, false),
        (413, 0, FaultKind::Permanent, false),
        (400, 0, FaultKind::Permanent, false),
    ] {
        let database = Database::create().await;
        let writer = writer(&database).await;
        database.fault(json!({ "container": "t", "operations": ["create"], "status": status,
            "substatus": substatus, "times": 1 }));
        let changes = rows(0..1, 1);
        let outcomes = writer.apply(&changes).await;
        match &outcomes[0] {
            Outcome::Unknown(fault) => assert!(is_unknown && fault.kind == kind, "{status}: {fault:?}"),
            Outcome::Failed(fault) => assert!(!is_unknown && fault.kind == kind, "{status}: {fault:?}"),
            other => panic!("{status}: {other:?}"),
        }
        assert_eq!(database.fired(), [1], "{status}: it was sent once, and not again by the driver");
        writer.write(&changes).await;
        assert_eq!(database.documents("t").await.len(), 1, "{status}");
    }
}

/// The driver repeats what is answered 449, and cannot be told not to: not for longer than a request may take.
#[tokio::test]
async fn a_conflict_that_goes_on_ends_in_time() {
    let database = Database::create().await;
    let mut writer = writer(&database).await;
    writer.target = fides_connector_cosmos::target(database.settings(), 4_000).await.unwrap();
    let conflict = json!({ "container": "t", "operations": ["create"], "status": 449 });
    let mut passing = conflict.clone();
    passing["times"] = json!(2);
    database.fault(passing);
    writer.write(&rows(0..1, 1)).await;
    assert_eq!(database.fired(), [2]);
    database.mend();
    database.fault(conflict);
    let (start, changes) = (Instant::now(), rows(1..2, 1));
    let outcomes = writer.apply(&changes).await;
    assert!(
        matches!(&outcomes[0], Outcome::Unknown(fault) if fault.kind == FaultKind::Transient),
        "it may pass: {outcomes:?}"
    );
    assert!(start.elapsed() < Duration::from_secs(20), "a request may take one second, and took {:?}", start.elapsed());
    database.mend();
    writer.write(&changes).await;
    assert_eq!(database.documents("t").await.len(), 2);
}

#[tokio::test]
async fn a_connection_that_is_lost_leaves_a_write_unknown() {
    for moment in ["before", "after"] {
        let database = Database::create().await;
        let writer = writer(&database).await;
        writer.write(&rows(0..1, 1)).await;
        database.fault(json!({ "container": "t", "operations": ["create", "replace"], "drop": moment, "every": 3 }));
        let changes = rows(0..30, 2);
        let outcomes = writer.apply(&changes).await;
        let lost = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Unknown(_))).count();
        assert!(lost > 0 && lost + applied(&outcomes) == 30, "{moment}: {outcomes:?}");
        let held = database.documents("t").await.len();
        assert_eq!(held == 30, moment == "after", "{moment}: {held} documents are there");
        database.mend();
        writer.write(&open(&changes, &outcomes)).await;
        assert_eq!(database.documents("t").await.len(), 30);
    }
}

#[tokio::test]
async fn a_record_that_is_too_large_or_no_number_fails_alone() {
    let database = Database::create().await;
    let fields = [("no", Kind::I64), ("body", Kind::String), ("json", Kind::Json), ("big", Kind::I64)];
    let writer = Writer::new(database.settings(), "t", &fields).await.ready().await;
    let row = |number, body: String, json: &str, big| {
        upsert(
            1,
            &[Value::I64(number), Value::String(body.into()), Value::Json(json.to_owned().into()), Value::I64(big)],
        )
    };
    let outcomes = writer
        .apply(&[
            row(1, "x".repeat(2 << 20), "{}", 0),
            row(2, String::new(), r#"{"a":[9007199254740993]}"#, 0),
            row(3, "日本語 😀 e\u{301}".to_owned(), r#"{"ä": 0.1}"#, i64::MAX),
            row(4, String::new(), r#"{"a": 12345678901234567890.12}"#, 0),
        ])
        .await;
    for (at, part) in [(0, "2 MiB"), (1, "field json"), (3, "12345678901234567890.12")] {
        let fault = fault(&outcomes[at]);
        assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
        assert!(fault.to_string().contains(part), "{fault}");
    }
    let documents = database.documents("t").await;
    assert_eq!(documents.len(), 1);
    assert_eq!(documents[0]["body"], "日本語 😀 e\u{301}");
    assert_eq!(documents[0]["big"], i64::MAX.to_string(), "what no float holds is text");
}

#[tokio::test]
async fn odd_ids_are_documents_of_their_own() {
    let database = Database::create().await;
    let writer = Writer::new(database.settings(), "t", &[("id", Kind::String), ("n", Kind::I64)]).await.ready().await;
    let odd = ["a/b", "a\\b", "a?b", "a#b", "a~2Fb", "a%2Fb", " a", "a ", ".", "..", "", "\u{1}", "ä", "😀", "a+b&c=d"];
    let changes: Vec<Change> = (0..).zip(odd).map(|(at, id)| upsert(1, &[text(id), Value::I64(at)])).collect();
    writer.write(&changes).await;
    assert_eq!(database.documents("t").await.len(), odd.len());
    let again: Vec<Change> = (0..).zip(odd).map(|(at, id)| upsert(2, &[text(id), Value::I64(at)])).collect();
    writer.write(&again).await;
    writer.write(&odd[1..].iter().map(|id| delete(3, text(id))).collect::<Vec<_>>()).await;
    let left = database.documents("t").await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["id"], "a~2Fb");
}

#[tokio::test]
async fn a_wrong_key_and_a_server_that_is_gone_are_unavailable() {
    let database = Database::create().await;
    let mut settings = database.settings();
    settings.key = "c2VjcmV0".to_owned().into();
    let refused = Writer::new(settings, "t", &FIELDS).await;
    let mut settings = database.settings();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    settings.endpoint = format!("http://{closed}/");
    let gone = Writer::new(settings, "t", &FIELDS).await;
    for writer in [refused, gone] {
        let fault = writer.target.describe(&writer.sink.namespace).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
        assert!(!fault.to_string().contains("c2VjcmV0"), "{fault}");
    }
}

#[tokio::test]
async fn a_write_that_lands_late_is_lost_to_a_deletion() {
    let database = Database::create().await;
    let writer = writer(&database).await;
    // The first owner's write is held up on its way, and its owner is given up.
    database.fault(json!({ "container": "t", "operations": ["create"], "delay_ms": 1500, "times": 1 }));
    let late = rows(7..8, 1);
    let given_up = tokio::time::timeout(Duration::from_millis(300), writer.apply(&late)).await;
    assert!(given_up.is_err(), "it is still on its way");
    let waiting = database.stats();
    assert!(
        waiting["requests"].as_u64() > waiting["executed"].as_u64(),
        "it has come, and was not executed: {waiting}"
    );
    let writer = writer.claimed(2).await;
    writer.write(&[delete(2, Value::I64(7))]).await;
    // It has landed when nothing that came is still on its way.
    until(async || database.stats()["executed"] == database.stats()["requests"]).await;
    assert_eq!(database.documents("t").await, [] as [serde_json::Value; 0], "what was deleted stays deleted");
    // Neither does an older upsert that is sent anew bring it back; a newer one does.
    assert!(matches!(writer.apply(&rows(7..8, 1)).await[..], [Outcome::Stale]));
    writer.write(&rows(7..8, 3)).await;
    assert_eq!(database.documents("t").await.len(), 1);
}

/// A page of a large container takes a server longer than a write may take.
#[tokio::test]
async fn reading_may_take_longer_than_a_write() {
    let database = Database::create().await;
    let writer = writer(&database).await;
    writer.write(&rows(0..3, 1)).await;
    let target = fides_connector_cosmos::target(database.settings(), 2_000).await.unwrap();
    database.fault(json!({ "container": "t", "operations": ["query"], "delay_ms": 1500 }));
    let namespace = writer.sink.namespace.clone();
    let columns = target.describe(&namespace).await.unwrap().unwrap().columns;
    let key = vec!["no".to_owned()];
    let selection = Selection { namespace, key, columns, includes: Vec::new(), seed: 1, page_records_max: 100 };
    let snapshot = target.snapshot(&writer.sink, &selection).await.unwrap();
    let page = snapshot.scan(&KeyRange::default(), None).await.unwrap();
    assert_eq!(page.len(), 3);
    assert!(database.fired()[0] > 1, "both were slow");
    // A write is given up.
    database.mend();
    database.fault(json!({ "container": "t", "operations": ["create"], "delay_ms": 1500, "times": 1 }));
    let slow = Writer { target, ..writer };
    let outcomes = slow.apply(&rows(7..8, 1)).await;
    assert!(matches!(outcomes[..], [Outcome::Unknown(_)]), "{outcomes:?}");
}

#[tokio::test]
async fn request_units_stay_within_their_budget() {
    let database = Database::create().await;
    let mut settings = database.settings();
    settings.request_units_per_second = Some(600);
    let writer = Writer::new(settings, "t", &FIELDS).await.ready().await;
    let before = database.stats()["request_units"].as_f64().unwrap();
    let start = Instant::now();
    writer.write(&rows(0..200, 1)).await;
    let (took, after) = (start.elapsed().as_secs_f64(), database.stats()["request_units"].as_f64().unwrap());
    let rate = (after - before) / took;
    assert!(rate < 900.0, "{rate} request units a second, with those of the first requests in flight");
}

/// Waits for a condition that must come true. The server tells nobody of it: it is asked.
async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < Duration::from_secs(30), "it never came true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
