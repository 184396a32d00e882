//! Who is let in.

use azure_core::credentials::Secret;
use serde_json::{Value, json};

use crate::client::{start, start_empty};

#[tokio::test]
async fn a_request_without_the_accounts_signature_is_refused_and_does_nothing() {
    let mut client = start().await;
    for key in [None, Some(Secret::new("YW5vdGhlciBrZXk="))] {
        client.key = key;
        let reply = client.upsert("1", "a", 1).await.unwrap();
        assert_eq!((reply.status, reply.body["code"].as_str()), (401, Some("Unauthorized")), "{reply:?}");
    }
    client.key = Some(Secret::new(crate::client::KEY));
    assert_eq!(client.read("1", "a").await.unwrap().status, 404);
}

#[tokio::test]
async fn the_account_says_that_its_region_is_here() {
    let client = start_empty().await;
    let reply = client.send("GET", "/", &[], &Value::Null).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let region = &reply.body["writableLocations"][0]["databaseAccountEndpoint"];
    assert!(region.as_str().unwrap().starts_with("http://127.0.0.1:"), "{region}");
}

#[tokio::test]
async fn an_admin_request_that_makes_no_sense_is_refused() {
    let client = start_empty().await;
    for (method, path, body) in [
        ("POST", "/__faults", json!({ "database": "shop", "status": 200 })),
        ("POST", "/__faults", json!([{ "database": "shop", "status": 429 }, { "database": "shop" }])),
        ("POST", "/__throttle", json!({ "database": "shop", "ru_per_second": 0 })),
        ("GET", "/__stats", Value::Null),
    ] {
        let reply = client.send(method, path, &[], &body).await.unwrap();
        assert_eq!(reply.status, 400, "{method} {path} {body}: {reply:?}");
    }
    let reply = client.send("GET", "/__nothing", &[], &Value::Null).await.unwrap();
    assert_eq!(reply.status, 404);
    // Of a list with one bad rule none was taken.
    assert_eq!(client.admin("GET", "/__faults?database=shop", &Value::Null).await, json!([]));
}
