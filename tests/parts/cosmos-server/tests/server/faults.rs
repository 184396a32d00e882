//! Calls that fail because a test said so.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, DATABASE, DOCUMENTS, start};

async fn add(client: &Client, rule: Value) {
    client.admin("POST", "/__faults", &rule).await;
}

/// Each upsert's status, or 0 where the connection was cut.
async fn upserts(client: &Client, count: i64) -> Vec<u16> {
    let mut statuses = Vec::new();
    for value in 1..=count {
        match client.upsert("1", "a", value).await {
            Ok(reply) => statuses.push(reply.status),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
                statuses.push(0);
            }
        }
    }
    statuses
}

async fn value(client: &Client) -> Option<i64> {
    client.read("1", "a").await.unwrap().body["value"].as_i64()
}

#[tokio::test]
async fn every_second_call_is_told_to_come_later() {
    let client = start().await;
    add(&client, json!({ "database": DATABASE, "operations": ["upsert"], "status": 429, "substatus": 3200, "retry_after_ms": 7, "every": 2 }))
        .await;
    assert_eq!(upserts(&client, 4).await, [201, 429, 200, 429]);
    let refused = loop {
        let reply = client.upsert("1", "a", 9).await.unwrap();
        if reply.status == 429 {
            break reply;
        }
    };
    assert_eq!(refused.header("x-ms-substatus"), Some("3200"));
    assert_eq!(refused.header("x-ms-retry-after-ms"), Some("7"));
    assert_eq!(refused.body["code"], "TooManyRequests");

    let rules = client.admin("GET", "/__faults?database=shop", &Value::Null).await;
    assert_eq!((&rules[0]["matched"], &rules[0]["fired"]), (&json!(6), &json!(3)));
    let stats = client.admin("GET", "/__stats?database=shop", &Value::Null).await;
    assert_eq!((&stats["operations"]["upsert"], &stats["throttled"]), (&json!(6), &json!(3)));
    // The other database's rules go, ours stay; then ours go.
    client.admin("DELETE", "/__faults?database=other", &Value::Null).await;
    assert_eq!(upserts(&client, 2).await, [200, 429]);
    client.admin("DELETE", "/__faults?database=shop", &Value::Null).await;
    assert_eq!(upserts(&client, 2).await, [200, 200]);
}

#[tokio::test]
async fn a_call_that_is_cut_before_leaves_nothing_and_one_that_is_cut_after_took_place() {
    let client = start().await;
    add(
        &client,
        json!([
            { "database": DATABASE, "operations": ["upsert"], "drop": "before", "times": 1 },
            { "database": DATABASE, "operations": ["upsert"], "drop": "after", "times": 1 },
        ]),
    )
    .await;
    assert_eq!(upserts(&client, 1).await, [0]);
    assert_eq!(value(&client).await, None);
    assert_eq!(upserts(&client, 1).await, [0]);
    assert_eq!(value(&client).await, Some(1));
    assert_eq!(upserts(&client, 2).await, [200, 200]);
}

#[tokio::test]
async fn an_error_may_hide_that_the_call_took_place() {
    let client = start().await;
    add(&client, json!({ "database": DATABASE, "operations": ["upsert"], "status": 408, "times": 1 })).await;
    assert_eq!(upserts(&client, 1).await, [408]);
    assert_eq!(value(&client).await, None);
    add(
        &client,
        json!({ "database": DATABASE, "operations": ["upsert"], "status": 408, "times": 1, "executed": true }),
    )
    .await;
    assert_eq!(upserts(&client, 1).await, [408]);
    assert_eq!(value(&client).await, Some(1));
}

#[tokio::test]
async fn a_late_call_takes_place_although_its_client_is_gone() {
    let client = start().await;
    let delay = Duration::from_millis(50);
    add(&client, json!({ "database": DATABASE, "operations": ["create"], "delay_ms": 50 })).await;
    let body = json!({ "id": "1", "pk": "a", "value": 5 });
    let began = Instant::now();
    client.send_and_leave("POST", DOCUMENTS, &[("x-ms-documentdb-partitionkey", "[\"a\"]")], &body).await;
    while value(&client).await.is_none() {
        assert!(began.elapsed() < Duration::from_secs(30), "it never took place");
        tokio::task::yield_now().await;
    }
    assert!(began.elapsed() >= delay);
}

#[tokio::test]
async fn only_the_container_and_the_operations_of_a_rule_fail() {
    let client = start().await;
    add(&client, json!([
        { "database": DATABASE, "container": "other", "status": 503 },
        { "database": DATABASE, "container": "orders", "operations": ["read", "metadata"], "status": 410, "substatus": 1002 },
    ]))
    .await;
    assert_eq!(upserts(&client, 1).await, [201]);
    assert_eq!(client.read("1", "a").await.unwrap().status, 410);
    let reply = client.send("GET", "/dbs/shop/colls/orders/pkranges", &[], &Value::Null).await.unwrap();
    assert_eq!((reply.status, reply.header("x-ms-substatus")), (410, Some("1002")));
}
