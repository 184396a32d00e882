//! A budget of request units.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{DATABASE, start};

#[tokio::test]
async fn a_database_that_spent_its_budget_waits_as_long_as_it_is_told() {
    let client = start().await;
    client.admin("POST", "/__throttle", &json!({ "database": DATABASE, "ru_per_second": 100 })).await;
    let (began, mut spent, mut throttled) = (Instant::now(), 0.0, 0);
    for id in 0..40 {
        let reply = loop {
            let reply = client.upsert(&id.to_string(), "a", id).await.unwrap();
            if reply.status != 429 {
                break reply;
            }
            assert_eq!(reply.header("x-ms-substatus"), Some("3200"));
            let wait_ms: u64 = reply.header("x-ms-retry-after-ms").unwrap().parse().unwrap();
            assert!((1..1000).contains(&wait_ms), "{wait_ms}");
            throttled += 1;
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        };
        assert_eq!(reply.status, 201, "{reply:?}");
        spent += reply.header("x-ms-request-charge").unwrap().parse::<f64>().unwrap();
    }
    // The first second's worth was there; all but the last call's cost of the rest had to come.
    assert!(spent > 200.0 && throttled > 0, "{spent} request units, throttled {throttled} times");
    assert!(began.elapsed().as_secs_f64() >= (spent - 100.0 - 10.0) / 100.0, "{spent} in {:?}", began.elapsed());

    let stats = client.admin("GET", "/__stats?database=shop", &Value::Null).await;
    assert_eq!((&stats["throttled"], &stats["operations"]["upsert"]), (&json!(throttled), &json!(throttled + 40)));
    assert!((stats["request_units"].as_f64().unwrap() - spent).abs() < 10.0, "{stats}, {spent}");
}

#[tokio::test]
async fn another_containers_budget_is_not_ours_and_one_that_is_removed_is_gone() {
    let client = start().await;
    client
        .admin("POST", "/__throttle", &json!({ "database": DATABASE, "container": "other", "ru_per_second": 0.001 }))
        .await;
    for id in ["1", "2"] {
        assert_eq!(client.upsert(id, "a", 1).await.unwrap().status, 201);
    }
    client.admin("POST", "/__throttle", &json!({ "database": DATABASE, "ru_per_second": 0.001 })).await;
    assert_eq!(client.upsert("3", "a", 1).await.unwrap().status, 201);
    assert_eq!(client.upsert("4", "a", 1).await.unwrap().status, 429);
    client.admin("DELETE", "/__throttle?database=shop", &Value::Null).await;
    assert_eq!(client.upsert("4", "a", 1).await.unwrap().status, 201);
}
