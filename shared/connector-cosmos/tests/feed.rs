//! Containers as hosts: what they are said to hold, and their change feed.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Database;
use fides_core::port::{Gap, Host, Log, LogPage, What};
use fides_core::{FaultKind, Key, KeyRange, Kind, Namespace, PipelineId, Selection, Value, Version};
use fides_testkit::conformance::{Record, scan_all};
use serde_json::{Value as Json, json};

async fn host(database: &Database) -> Arc<dyn Host> {
    fides_connector_cosmos::host(database.settings(), true).await.unwrap()
}

async fn put(database: &Database, container: &str, document: Json) {
    let id = document["id"].as_str().unwrap().to_owned();
    database.open(container).await.upsert_item(id.clone(), &id, document, None).await.unwrap();
}

async fn selection(host: &dyn Host, container: &str) -> Selection {
    let namespace = Namespace(vec![container.to_owned()]);
    let table = host.describe(&namespace).await.unwrap().unwrap();
    Selection {
        namespace,
        key: table.primary_key.clone(),
        columns: table.columns,
        includes: Vec::new(),
        seed: 1,
        page_records_max: 100,
    }
}

fn key(id: &str) -> Key {
    Key::encode(&[Value::String(id.to_owned().into())]).unwrap()
}

/// Pages until all of these keys were told; what was told of each last, by their fingerprints.
async fn told(log: &mut dyn Log, keys: &[&str]) -> Vec<LogPage> {
    let mut pages: Vec<LogPage> = Vec::new();
    let is_told = |pages: &[LogPage], wanted: &str| {
        pages.iter().flat_map(|page| &page.changes).any(|change| match &change.what {
            What::Row { key: told, .. } | What::Gone(told) => *told == key(wanted),
            What::Emptied => false,
        })
    };
    while !keys.iter().all(|key| is_told(&pages, key)) {
        let page = tokio::time::timeout(Duration::from_secs(30), log.next()).await.expect("the feed tells").unwrap();
        pages.push(page);
    }
    pages
}

/// The greatest position of a record on some pages.
fn latest(pages: &[LogPage], id: &str) -> u64 {
    let changes = pages.iter().flat_map(|page| &page.changes);
    let of_it = changes.filter(|change| matches!(&change.what, What::Row { key: told, .. } if *told == key(id)));
    of_it.map(|change| change.position).max().unwrap()
}

#[tokio::test]
async fn a_container_is_described_by_some_of_its_documents() {
    let database = Database::create().await;
    database.container("things", "/id", &[]).await;
    put(&database, "things", json!({ "id": "a", "n": 1, "x": 1.5, "t": "s", "o": { "k": [1] }, "b": true, "m": 1 }))
        .await;
    put(&database, "things", json!({ "id": "b", "n": 2, "x": 2, "t": null, "m": "text" })).await;
    let host = host(&database).await;
    let namespace = Namespace(vec!["things".to_owned()]);
    assert!(host.namespaces().await.unwrap().contains(&namespace));
    let table = host.describe(&namespace).await.unwrap().unwrap();
    let column = |name: &str| table.column(name).map(|column| (column.kind, column.nullable));
    assert_eq!(column("id"), Some((Kind::String, false)));
    assert_eq!(column("n"), Some((Kind::I64, false)));
    assert_eq!(column("x"), Some((Kind::F64, false)));
    assert_eq!(column("t"), Some((Kind::String, true)));
    assert_eq!(column("o"), Some((Kind::Json, true)));
    assert_eq!(column("b"), Some((Kind::Bool, true)));
    assert_eq!(column("m"), Some((Kind::Any, false)));
    assert_eq!(column("_ts"), None, "what the store adds is no field");
    assert_eq!((table.primary_key, table.records_estimate), (vec!["id".to_owned()], 2));
    assert_eq!(host.describe(&Namespace(vec!["nowhere".to_owned()])).await.unwrap(), None);
    let nowhere = Selection { namespace: Namespace(vec!["nowhere".to_owned()]), ..selection(&*host, "things").await };
    let fault = host.snapshot(&nowhere, Version::scan(1, 1)).await.map(drop).unwrap_err();
    assert!(fault.kind == FaultKind::Permanent && fault.to_string().contains("nowhere"), "{fault}");
}

#[tokio::test]
async fn a_key_that_a_document_lacks_is_refused() {
    let database = Database::create().await;
    database.container("things", "/id", &[]).await;
    put(&database, "things", json!({ "id": "a", "no": 1 })).await;
    put(&database, "things", json!({ "id": "b" })).await;
    let host = host(&database).await;
    let selection = Selection { key: vec!["no".to_owned()], ..selection(&*host, "things").await };
    let fault = host.snapshot(&selection, Version::scan(1, 1)).await.map(drop).unwrap_err();
    assert!(fault.to_string().contains("things.no is null or missing"), "{fault}");
}

/// L8: comparisons would not find the others.
#[tokio::test]
async fn a_key_of_several_types_is_refused() {
    let database = Database::create().await;
    database.container("things", "/id", &[]).await;
    put(&database, "things", json!({ "id": "a", "no": 1 })).await;
    let host = host(&database).await;
    // As it was when few documents were looked at.
    let selection = Selection { key: vec!["no".to_owned()], ..selection(&*host, "things").await };
    let snapshot = host.snapshot(&selection, Version::scan(1, 1)).await.unwrap();
    assert_eq!(scan_all(&*snapshot).await.unwrap().len(), 1);
    for other in [json!("2"), json!(true)] {
        put(&database, "things", json!({ "id": "b", "no": other })).await;
        for kind in [Kind::I64, Kind::String, Kind::Bool, Kind::Any] {
            let mut selection = selection.clone();
            selection.columns.iter_mut().filter(|column| column.name == "no").for_each(|column| column.kind = kind);
            let fault = host.snapshot(&selection, Version::scan(1, 1)).await.map(drop).unwrap_err();
            let is_named = fault.kind == FaultKind::Permanent && fault.to_string().contains("things.no");
            assert!(is_named, "{kind} {other}: {fault}");
        }
    }
}

/// L1: whatever a snapshot does not see has a greater position; its label is never newer than what it sees.
#[tokio::test]
async fn what_a_snapshot_misses_is_told_with_a_greater_position() {
    let database = Database::create().await;
    database.container("things", "/id", &[]).await;
    put(&database, "things", json!({ "id": "a", "n": 1 })).await;
    let host = host(&database).await;
    let selection = selection(&*host, "things").await;
    let opened = host.log(&selection, &PipelineId::new("p"), None).await.unwrap();
    assert!(matches!(opened.gap, Some(Gap::Missing(_))), "what was before is an import's");
    let mut log = opened.log;
    let mut last: Option<(u64, Record)> = None;
    for n in 2..6 {
        let snapshot = host.snapshot(&selection, Version::scan(7, 0)).await.unwrap();
        assert_eq!(snapshot.version().epoch, 7);
        let seen = scan_all(&*snapshot).await.unwrap();
        assert!(last.as_ref().is_none_or(|(_, record)| seen == [record.clone()]), "it sees what was told before");
        put(&database, "things", json!({ "id": "a", "n": n })).await;
        // Several states within a second: each has its place.
        let found = loop {
            let page = log.next().await.unwrap();
            let change = page
                .changes
                .iter()
                .rev()
                .find(|change| matches!(&change.what, What::Row { key: told, .. } if *told == key("a")));
            if let Some(change) = change {
                let What::Row { at, .. } = change.what else { unreachable!() };
                let mut values = Vec::new();
                page.decoder.decode(page.rows.get(at), &mut values).unwrap();
                if values.contains(&Value::I64(n)) {
                    break (change.position, page.fingerprints[at]);
                }
            }
        };
        assert!(found.0 > snapshot.version().position, "missed by the snapshot, told behind it");
        assert!(last.as_ref().is_none_or(|(position, _)| found.0 > *position), "a later state has a greater position");
        let now = scan_all(&*host.snapshot(&selection, Version::scan(7, 0)).await.unwrap()).await.unwrap();
        assert_eq!(now[0].fingerprint, found.1, "the feed tells the bytes of a scan");
        last = Some((found.0, now[0].clone()));
    }
}

#[tokio::test]
async fn a_feed_goes_on_behind_its_place() {
    let database = Database::create().await;
    database.container("things", "/id", &[]).await;
    put(&database, "things", json!({ "id": "a", "n": 1, "x": 0.1, "o": { "k": 1.50 } })).await;
    let host = host(&database).await;
    let selection = selection(&*host, "things").await;
    let reader = PipelineId::new("p");
    let mut log = host.log(&selection, &reader, None).await.unwrap().log;
    for id in ["b", "c", "d"] {
        put(&database, "things", json!({ "id": id, "n": 2 })).await;
    }
    let pages = told(&mut *log, &["b", "c", "d"]).await;
    let (place, before) = (pages.last().unwrap().place, latest(&pages, "b"));
    drop(log);
    put(&database, "things", json!({ "id": "e", "n": 3 })).await;
    put(&database, "things", json!({ "id": "b", "n": 4 })).await;
    let opened = host.log(&selection, &reader, Some(place)).await.unwrap();
    assert_eq!((opened.from, opened.gap), (place, None));
    let mut log = opened.log;
    let again = told(&mut *log, &["e", "b"]).await;
    assert!(again.iter().all(|page| page.place >= place), "places ascend");
    assert!(latest(&again, "b") > before, "and so do positions");
    let beyond = host.log(&selection, &reader, Some(u64::MAX)).await.unwrap();
    assert!(matches!(beyond.gap, Some(Gap::Backward(_))));
    // What a Fides has deleted is told as gone, and not scanned.
    put(&database, "things", json!({ "id": "c", "_fides_gone": true, "ttl": 60 })).await;
    let pages = told(&mut *log, &["c"]).await;
    let gone = pages.iter().flat_map(|page| &page.changes).any(|change| change.what == What::Gone(key("c")));
    assert!(gone);
    let snapshot = host.snapshot(&selection, Version::scan(1, 1)).await.unwrap();
    let left: Vec<Key> = scan_all(&*snapshot).await.unwrap().into_iter().map(|record| record.key).collect();
    assert_eq!(left, ["a", "b", "d", "e"].map(key));
    assert!(snapshot.scan(&KeyRange::ALL, Some(&key("d"))).await.unwrap().len() == 1);
}

/// To begin anew at the place for each of them would never get through what waits behind it.
#[tokio::test]
async fn a_feed_goes_on_where_a_request_failed() {
    let database = Database::create().await;
    database.container("things", "/id", &[]).await;
    let host = host(&database).await;
    put(&database, "things", json!({ "id": "first" })).await;
    let selection = Selection { page_records_max: 1, ..selection(&*host, "things").await };
    let mut log = host.log(&selection, &PipelineId::new("p"), None).await.unwrap().log;
    let ids: Vec<String> = (0..12).map(|number| format!("{number:02}")).collect();
    for id in &ids {
        put(&database, "things", json!({ "id": id })).await;
    }
    // With a document to a page one of them hits while a range has more to tell.
    database
        .fault(json!({ "operations": ["feed"], "status": 429, "substatus": 3200, "retry_after_ms": 5, "every": 3 }));
    database.fault(json!({ "operations": ["feed"], "drop": "before", "every": 4 }));
    let pages = told(&mut *log, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for id in &ids {
        let key = key(id);
        let of =
            |change: &&fides_core::port::Logged| matches!(&change.what, What::Row { key: told, .. } if *told == key);
        assert_eq!(pages.iter().flat_map(|page| &page.changes).filter(of).count(), 1, "{id} is told once");
    }
    assert!(database.stats()["throttled"].as_u64().unwrap() > 2, "{}", database.stats());
    // So are places, by a feed that fails as often as that.
    let place = pages.last().unwrap().place;
    let ahead = async { while log.next().await.unwrap().place == place {} };
    tokio::time::timeout(Duration::from_secs(30), ahead).await.expect("the place goes on");
}

/// A tombstone has the fields of its address only, and one that a move left is no deletion.
#[tokio::test]
async fn a_tombstone_is_told_where_it_names_its_record() {
    let database = Database::create().await;
    database.container("orders", "/region", &[]).await;
    let orders = database.open("orders").await;
    let put = async |region: &str, document: Json| {
        let id = document["id"].as_str().unwrap().to_owned();
        orders.upsert_item(region.to_owned(), &id, document, None).await.unwrap();
    };
    put("north", json!({ "id": "1", "region": "north", "no": "x" })).await;
    let host = host(&database).await;
    for (fields, told) in [(&["no"][..], false), (&["id"][..], false), (&["region", "id"][..], true)] {
        let key = fields.iter().map(|field| (*field).to_owned()).collect();
        let selection = Selection { key, ..selection(&*host, "orders").await };
        let mut log = host.log(&selection, &PipelineId::new("p"), None).await.unwrap().log;
        put("north", json!({ "id": "0", "region": "north", "_fides_gone": true, "ttl": 600 })).await;
        put("north", json!({ "id": "2", "region": "north", "no": "y" })).await;
        let (mut gone, mut row) = (Vec::new(), false);
        while !row {
            let page = tokio::time::timeout(Duration::from_secs(30), log.next()).await.expect("it goes on").unwrap();
            for change in page.changes {
                match change.what {
                    What::Gone(key) => gone.push(key),
                    What::Row { key, .. } => {
                        let is_two =
                            |value: &Value<'_>| matches!(value, Value::String(text) if text == "2" || text == "y");
                        row |= key.decode().unwrap().iter().any(is_two);
                    }
                    What::Emptied => {}
                }
            }
        }
        let wanted = Key::encode(&["north", "0"].map(|text| Value::String(text.into()))).unwrap();
        assert_eq!(gone, if told { vec![wanted] } else { Vec::new() }, "{fields:?}");
    }
}

/// In the order of code points; where Cosmos DB has another one, that is said, and nothing is passed over.
#[tokio::test]
async fn text_keys_are_read_in_the_order_of_code_points_or_not_at_all() {
    let database = Database::create().await;
    let words = ["", " ", "A", "a", "a ", "ab", "é", "e\u{301}", "ß", "_", "%", "'", "\"", "中", "a\u{ffff}", "b😀"];
    let filled = async |name: &str, words: &[&str]| {
        database.container(name, "/id", &[]).await;
        for (at, word) in words.iter().enumerate() {
            put(&database, name, json!({ "id": at.to_string(), "word": word })).await;
        }
    };
    filled("words", &words).await;
    filled("mixed", &[&words[..], &["a😀"]].concat()).await;
    let host = host(&database).await;
    let read = async |name: &str, page_records_max: usize| {
        let key = vec!["word".to_owned()];
        let selection = Selection { key, page_records_max, ..selection(&*host, name).await };
        scan_all(&*host.snapshot(&selection, Version::scan(1, 1)).await.unwrap()).await
    };
    let mut sorted = words.map(key).to_vec();
    sorted.sort();
    for page_records_max in [1, 3, 100] {
        let read_keys = read("words", page_records_max).await.unwrap().into_iter().map(|record| record.key);
        assert_eq!(read_keys.collect::<Vec<_>>(), sorted);
        let fault = read("mixed", page_records_max).await.unwrap_err();
        assert!(fault.kind == FaultKind::Permanent && fault.to_string().contains("mixed"), "{fault}");
    }
}
