//! Containers: made, checked, and what only Cosmos does with documents.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

mod common;

use azure_data_cosmos::models::{ContainerProperties, PartitionKeyDefinition, TimeToLive};
use common::{Database, Writer, delete, fault, text, upsert};
use fides_connector_cosmos::ContainerSettings;
use fides_core::port::Outcome;
use fides_core::{Fault, FaultKind, Key, KeyRange, Kind, Selection, Value};
use serde_json::json;

const ORDERS: [(&str, Kind); 3] = [("id", Kind::I64), ("region", Kind::String), ("total", Kind::I64)];

fn order(position: u64, id: i64, region: &str, total: i64) -> fides_core::Change {
    upsert(position, &[Value::I64(id), text(region), Value::I64(total)])
}

#[tokio::test]
async fn a_container_is_made_as_the_settings_say() {
    let database = Database::create().await;
    let mut settings = database.settings();
    let like = ContainerSettings {
        partition_key: vec!["/region".to_owned()],
        unique: vec![vec!["/total".to_owned()]],
        throughput: Some(400),
    };
    settings.containers.insert("orders".to_owned(), like);
    let writer = Writer::new(settings, "orders", &ORDERS).await;
    assert_eq!(writer.target.describe(&writer.sink.namespace).await.unwrap(), None);
    let missing = writer.obstacles(false).await;
    assert!(missing.iter().any(|what| what.contains("does not exist")), "{missing:?}");
    assert_eq!(writer.obstacles(true).await, [] as [String; 0]);
    let refused = writer.target.prepare(&writer.sink, &writer.shape, false).await.unwrap_err();
    assert_eq!(refused.kind, FaultKind::Permanent, "{refused}");
    for _ in 0..2 {
        writer.target.prepare(&writer.sink, &writer.shape, true).await.unwrap();
    }
    let made = database.open("orders").await.read(None).await.unwrap().into_model().unwrap();
    assert_eq!(made.partition_key.paths(), ["/region"]);
    assert_eq!(made.default_ttl, TimeToLive::NoDefault);
    assert_eq!(made.unique_key_policy.unwrap().unique_keys.len(), 1);
    let writer = writer.ready().await;
    writer.write(&[order(1, 1, "north", 5)]).await;
    let documents = database.documents("orders").await;
    assert_eq!((&documents[0]["id"], &documents[0]["region"]), (&json!("1"), &json!("north")));
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let database = Database::create().await;
    database.own().await;
    let made = |name: &'static str, path: &'static str, ttl: TimeToLive| {
        let properties = ContainerProperties::new(name, PartitionKeyDefinition::new(vec![path.into()]));
        database.client.create_container(properties.with_default_ttl(ttl), None)
    };
    made("forever", "/id", TimeToLive::Forever).await.unwrap();
    made("fleeting", "/id", TimeToLive::Seconds(60)).await.unwrap();
    made("elsewhere", "/country", TimeToLive::NoDefault).await.unwrap();
    made("inside", "/region/name", TimeToLive::NoDefault).await.unwrap();
    for (container, part) in [
        ("forever", "time to live is off"),
        ("fleeting", "expire by themselves"),
        ("elsewhere", "/country reads field country"),
        ("inside", "/region/name reads into field region"),
    ] {
        let writer = Writer::new(database.settings(), container, &ORDERS).await;
        let obstacles = writer.obstacles(false).await;
        assert!(obstacles.len() == 1 && obstacles[0].contains(part), "{container}: {obstacles:?}");
        let refused = writer.target.prepare(&writer.sink, &writer.shape, true).await.unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
    }
    let odd = [("no", Kind::I64), ("id", Kind::I64), ("ttl", Kind::I64), ("_ts", Kind::I64)];
    let obstacles = Writer::new(database.settings(), "new", &odd).await.obstacles(true).await;
    for part in ["field id is not the whole key", "field ttl", "field _ts"] {
        assert!(obstacles.iter().any(|what| what.contains(part)), "{part}: {obstacles:?}");
    }
}

#[tokio::test]
async fn an_order_moves_with_its_partition_key() {
    let database = Database::create().await;
    let settings = database.settings_with(&[("orders", "/region")]);
    let writer = Writer::new(settings, "orders", &ORDERS).await.ready().await;
    writer.write(&[order(1, 1, "north", 10), order(1, 2, "north", 20)]).await;
    writer.write(&[order(2, 1, "south", 11)]).await;
    let places = async || {
        let mut found: Vec<(String, String, i64)> = Vec::new();
        for document in database.documents("orders").await {
            let text = |name: &str| document[name].as_str().unwrap().to_owned();
            found.push((text("id"), text("region"), document["total"].as_i64().unwrap()));
        }
        found.sort();
        found
    };
    let at = |id: &str, region: &str, total| (id.to_owned(), region.to_owned(), total);
    assert_eq!(places().await, [at("1", "south", 11), at("2", "north", 20)]);
    // An older state, in either place, and an older deletion change nothing.
    let outcomes = writer.apply(&[order(1, 1, "north", 10)]).await;
    assert!(matches!(outcomes[..], [Outcome::Stale]), "{outcomes:?}");
    assert!(matches!(writer.apply(&[order(1, 1, "west", 10)]).await[..], [Outcome::Stale]));
    assert!(matches!(writer.apply(&[delete(1, Value::I64(1))]).await[..], [Outcome::Stale]));
    assert_eq!(places().await, [at("1", "south", 11), at("2", "north", 20)]);
    // There and back, and again under the same version, as after a crash.
    for _ in 0..2 {
        writer.write(&[order(3, 1, "north", 12)]).await;
        assert_eq!(places().await, [at("1", "north", 12), at("2", "north", 20)]);
    }
    writer.write(&[delete(4, Value::I64(1)), delete(4, Value::I64(99))]).await;
    assert!(matches!(
        writer.apply(&[order(3, 1, "east", 1), order(3, 99, "east", 1)]).await[..],
        [Outcome::Stale, Outcome::Stale]
    ));
    assert_eq!(places().await, [at("2", "north", 20)]);
    writer.write(&[order(5, 1, "east", 13)]).await;
    assert_eq!(places().await, [at("1", "east", 13), at("2", "north", 20)]);
}

/// A listing is no snapshot: a document that moves meanwhile may be met where it was, and where it is.
#[tokio::test]
async fn a_record_that_moves_while_it_is_listed_is_met_once() {
    for (other, expected) in [(order(1, 2, "south", 19), 20), (order(3, 2, "west", 21), 21)] {
        let database = Database::create().await;
        let writer = orders_with(&database, &[other]).await;
        for page_records_max in [1, 2, 3, 4, 9] {
            let found = listed(&writer, page_records_max).await.unwrap();
            assert_eq!(found, [(1, 10), (2, expected), (3, 30)], "pages of {page_records_max}");
        }
    }
    // Two of one version are no move.
    let database = Database::create().await;
    let writer = orders_with(&database, &[order(2, 2, "west", 20)]).await;
    let fault = listed(&writer, 9).await.unwrap_err();
    assert!(fault.to_string().contains("key 2 is not unique"), "{fault}");
}

/// Three orders, and second documents of some in another partition.
async fn orders_with(database: &Database, others: &[fides_core::Change]) -> Writer {
    let keys = [("orders", "/region"), ("elsewhere", "/region")];
    let orders = Writer::new(database.settings_with(&keys), "orders", &ORDERS).await.ready().await;
    orders.write(&[order(2, 1, "north", 10), order(2, 2, "north", 20), order(2, 3, "north", 30)]).await;
    let elsewhere = Writer::new(database.settings_with(&keys), "elsewhere", &ORDERS).await.ready().await;
    elsewhere.write(others).await;
    let container = database.open("orders").await;
    for document in database.documents("elsewhere").await {
        let text = |name: &str| document[name].as_str().unwrap().to_owned();
        container.create_item(text("region"), &text("id"), &document, None).await.unwrap();
    }
    orders
}

/// A key that is not on the page is taken for gone (L8), however large the others are.
#[tokio::test]
async fn everything_that_is_asked_for_is_fetched() {
    let database = Database::create().await;
    let settings = database.settings_with(&[("notes", "/id")]);
    let fields = [("id", Kind::I64), ("text", Kind::String)];
    let writer = Writer::new(settings, "notes", &fields).await.ready().await;
    let long = "x".repeat(100_000);
    let notes: Vec<_> = (0..120).map(|id| upsert(1, &[Value::I64(id), text(&long)])).collect();
    writer.write(&notes).await;
    let namespace = writer.sink.namespace.clone();
    let columns = writer.target.describe(&namespace).await.unwrap().unwrap().columns;
    let key = vec!["id".to_owned()];
    let selection = Selection { namespace, key, columns, includes: Vec::new(), seed: 1, page_records_max: 500 };
    let snapshot = writer.target.snapshot(&writer.sink, &selection).await.unwrap();
    let keys: Vec<Key> = notes.iter().map(|note| note.key.clone()).collect();
    assert_eq!(snapshot.fetch(&keys).await.unwrap().len(), 120);
    let page = snapshot.scan(&KeyRange::default(), None).await.unwrap();
    assert!(page.len() < 120 && page.next.is_some(), "a scan goes on: {}", page.len());
}

/// Keys and totals, page by page.
async fn listed(writer: &Writer, page_records_max: usize) -> Result<Vec<(i64, i64)>, Fault> {
    let namespace = writer.sink.namespace.clone();
    let columns = writer.target.describe(&namespace).await?.unwrap().columns;
    let total = columns.iter().position(|column| column.name == "total").unwrap();
    let selection =
        Selection { namespace, key: vec!["id".to_owned()], columns, includes: Vec::new(), seed: 1, page_records_max };
    let snapshot = writer.target.snapshot(&writer.sink, &selection).await?;
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let page = snapshot.scan(&KeyRange::default(), after.as_ref()).await?;
        for (at, key) in page.keys.iter().enumerate() {
            let key = Key::from_bytes(key.to_vec()).decode()?;
            let ([Value::I64(id)], Value::I64(total)) = (&key[..], &page.values(at)?[total]) else { panic!("{key:?}") };
            found.push((*id, *total));
        }
        after.clone_from(&page.next);
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// Wherever a move is cut off, the next attempt leaves one document, the newest.
#[tokio::test]
async fn a_move_that_is_cut_off_leaves_one_document() {
    for (container, operation, after) in [
        ("_fides", "create", 0),
        ("_fides", "replace", 0),
        ("_fides", "replace", 1),
        ("orders", "replace", 0),
        ("orders", "create", 0),
        ("orders", "create", 1),
    ] {
        for moment in ["before", "after"] {
            let database = Database::create().await;
            let settings = database.settings_with(&[("orders", "/region")]);
            let writer = Writer::new(settings, "orders", &ORDERS).await.ready().await;
            database.fault(json!({ "container": container, "operations": [operation], "drop": moment,
                "times": 1, "after": after }));
            for (position, region) in [(1, "north"), (2, "south"), (3, "west")] {
                let change = [order(position, 1, region, i64::try_from(position).unwrap())];
                // What was cut off comes again, or is overtaken.
                let outcomes = writer.apply(&change).await;
                let is_cut = matches!(outcomes[..], [Outcome::Unknown(_) | Outcome::Failed(_)]);
                if is_cut && position == 3 {
                    writer.write(&change).await;
                }
            }
            let documents = database.documents("orders").await;
            let case = format!("{container} {operation} {after} {moment}");
            assert_eq!(documents.len(), 1, "{case}: {documents:?}");
            assert_eq!(documents[0]["region"], "west", "{case}");
        }
    }
}

#[tokio::test]
async fn a_unique_value_that_another_document_holds_is_deferred() {
    let database = Database::create().await;
    database.own().await;
    database.container("orders", "/region", &["/total"]).await;
    let writer = Writer::new(database.settings(), "orders", &ORDERS).await.ready().await;
    writer.write(&[order(1, 1, "north", 5)]).await;
    let outcomes = writer.apply(&[order(2, 2, "north", 5), order(2, 3, "south", 5)]).await;
    assert_eq!(fault(&outcomes[0]).kind, FaultKind::Deferred, "{outcomes:?}");
    assert!(matches!(outcomes[1], Outcome::Applied), "{outcomes:?}");
    // Tombstones of one partition do not hold the same value.
    writer.write(&[delete(3, Value::I64(1)), delete(3, Value::I64(3))]).await;
    writer.write(&[order(4, 2, "north", 5), order(4, 4, "north", 6)]).await;
    writer.write(&[delete(5, Value::I64(2)), delete(5, Value::I64(4))]).await;
    assert_eq!(database.documents("orders").await.len(), 0);
}

/// What fences writers off must not expire, and is looked for by its id.
#[tokio::test]
async fn an_own_container_that_loses_what_it_holds_is_refused() {
    for (path, ttl, wanted) in [
        ("/id", TimeToLive::Seconds(60), "expire by themselves"),
        ("/id", TimeToLive::Forever, "time to live is off"),
        ("/x", TimeToLive::NoDefault, "is not /id"),
    ] {
        let database = Database::create().await;
        database.container("orders", "/id", &[]).await;
        let definition = PartitionKeyDefinition::new(vec![path.to_owned().into()]);
        let own = ContainerProperties::new("_fides".to_owned(), definition).with_default_ttl(ttl);
        database.client.create_container(own, None).await.unwrap();
        let writer = Writer::new(database.settings(), "orders", &ORDERS).await;
        for create in [false, true] {
            let found = writer.obstacles(create).await;
            let is_named = matches!(&found[..], [what] if what.contains("_fides") && what.contains(wanted));
            assert!(is_named, "{found:?}");
        }
        let refused = writer.target.prepare(&writer.sink, &writer.shape, true).await.unwrap_err();
        assert_eq!(refused.kind, FaultKind::Permanent, "{refused}");
    }
}

/// L5: it was not written, and is where it was until it can be.
#[tokio::test]
async fn a_move_that_is_refused_leaves_the_document_where_it_was() {
    let database = Database::create().await;
    database.own().await;
    database.container("orders", "/region", &["/total"]).await;
    let writer = Writer::new(database.settings(), "orders", &ORDERS).await.ready().await;
    writer.write(&[order(1, 1, "north", 5), order(1, 2, "south", 5)]).await;
    let regions = async || {
        let documents = database.documents("orders").await;
        let mut regions: Vec<_> = documents.iter().map(|document| document["region"].to_string()).collect();
        regions.sort_unstable();
        regions
    };
    let outcomes = writer.apply(&[order(2, 1, "south", 5)]).await;
    assert_eq!(fault(&outcomes[0]).kind, FaultKind::Deferred, "{outcomes:?}");
    assert_eq!(regions().await, [r#""north""#, r#""south""#]);
    writer.write(&[order(3, 2, "south", 6)]).await;
    writer.write(&[order(2, 1, "south", 5)]).await;
    assert_eq!(regions().await, [r#""south""#, r#""south""#]);
    database.fault(json!({ "container": "orders", "operations": ["create", "replace"], "status": 413, "times": 1 }));
    let outcomes = writer.apply(&[order(4, 1, "west", 5)]).await;
    assert_eq!(fault(&outcomes[0]).kind, FaultKind::Permanent, "{outcomes:?}");
    assert_eq!(regions().await, [r#""south""#, r#""south""#]);
    // What is newer stays where it is, and a move that comes late leaves nothing.
    writer.write(&[order(5, 3, "north", 7)]).await;
    writer.write(&[order(7, 3, "north", 8)]).await;
    let outcomes = writer.apply(&[order(6, 3, "west", 9)]).await;
    assert!(matches!(outcomes[..], [Outcome::Stale]), "{outcomes:?}");
    assert_eq!(regions().await, [r#""north""#, r#""south""#, r#""south""#]);
    writer.write(&[delete(8, Value::I64(1)), delete(8, Value::I64(2)), delete(8, Value::I64(3))]).await;
    assert_eq!(regions().await, [] as [String; 0]);
}

/// A move is several requests: what one of them is refused for is no reason to pay for the others again.
#[tokio::test]
async fn a_busy_account_is_asked_for_each_step_of_a_move_again_and_not_for_all() {
    let database = Database::create().await;
    let settings = database.settings_with(&[("orders", "/region")]);
    let writer = Writer::new(settings, "orders", &ORDERS).await.ready().await;
    let orders = |position, region: &str| (0..100).map(|no| order(position, no, region, no)).collect::<Vec<_>>();
    writer.write(&orders(1, "north")).await;
    database.fault(json!({ "operations": ["read", "create", "replace"], "status": 429, "substatus": 3200,
        "retry_after_ms": 1, "every": 2 }));
    writer.write(&orders(2, "south")).await;
    let refused = database.fired()[0];
    assert!((400..800).contains(&refused), "every second request was refused, of seven for a move: {refused}");
    let documents = database.documents("orders").await;
    assert_eq!(documents.iter().filter(|document| document["region"] == "south").count(), 100);
    assert_eq!(documents.len(), 100);
}

#[tokio::test]
async fn a_partition_key_that_is_no_scalar_fails_its_record() {
    let database = Database::create().await;
    let fields = [("no", Kind::I64), ("where", Kind::Json)];
    let settings = database.settings_with(&[("t", "/where/city")]);
    let writer = Writer::new(settings, "t", &fields).await.ready().await;
    let row = |number, json: &'static str| upsert(1, &[Value::I64(number), Value::Json(json.into())]);
    let outcomes = writer.apply(&[row(1, r#"{"city":[1]}"#), row(2, r#"{"city":"Ulm"}"#), row(3, "{}")]).await;
    assert_eq!(fault(&outcomes[0]).kind, FaultKind::Permanent, "{outcomes:?}");
    assert!(matches!(outcomes[1..], [Outcome::Applied, Outcome::Applied]), "{outcomes:?}");
    writer.write(&[delete(2, Value::I64(2)), delete(2, Value::I64(3))]).await;
    assert_eq!(database.documents("t").await.len(), 0);
}

#[tokio::test]
async fn a_container_that_is_made_anew_has_no_owner() {
    let database = Database::create().await;
    let writer = Writer::new(database.settings(), "orders", &ORDERS).await;
    let claimed = async || writer.target.claimed(&writer.sink, &writer.lane).await.unwrap();
    assert_eq!(claimed().await, None);
    writer.target.prepare(&writer.sink, &writer.shape, true).await.unwrap();
    writer.target.claim(&writer.sink, &writer.lane, 5 << 40).await.unwrap();
    writer.target.prepare(&writer.sink, &writer.shape, true).await.unwrap();
    assert_eq!(claimed().await, Some(5 << 40));
    database.open("orders").await.delete(None).await.unwrap();
    assert_eq!(claimed().await, None);
    writer.target.prepare(&writer.sink, &writer.shape, true).await.unwrap();
    assert_eq!(claimed().await, None);
    writer.target.claim(&writer.sink, &writer.lane, 1).await.unwrap();
}
