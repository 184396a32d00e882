//! What the emulator itself is relied upon for.

use serde_json::{Value, json};

use crate::client::{Client, DOCUMENTS, Reply, start};

#[tokio::test]
async fn a_document_is_written_read_and_replaced_under_its_etag_and_deleted() {
    let client = start().await;
    assert_eq!(client.read("1", "a").await.unwrap().status, 404);
    let written = client.upsert("1", "a", 1).await.unwrap();
    assert_eq!((written.status, &written.body["value"]), (201, &json!(1)));
    let etag = written.header("etag").unwrap().to_owned();
    assert_eq!(written.body["_etag"], json!(etag));
    assert_eq!(client.upsert("1", "a", 2).await.unwrap().status, 200);
    let read = client.read("1", "a").await.unwrap();
    assert_eq!((read.status, &read.body["value"]), (200, &json!(2)));

    let path = format!("{DOCUMENTS}/1");
    let replace = |etag: String, value: i64| {
        let (client, path) = (&client, &path);
        async move {
            let headers = [("if-match", etag.as_str()), ("x-ms-documentdb-partitionkey", "[\"a\"]")];
            client.send("PUT", path, &headers, &json!({ "id": "1", "pk": "a", "value": value })).await.unwrap().status
        }
    };
    assert_eq!(replace(etag.clone(), 3).await, 412);
    assert_eq!(replace(read.header("etag").unwrap().to_owned(), 3).await, 200);

    let delete = |etag: String| {
        let (client, path) = (&client, &path);
        async move {
            let headers = [("if-match", etag.as_str()), ("x-ms-documentdb-partitionkey", "[\"a\"]")];
            client.send("DELETE", path, &headers, &Value::Null).await.unwrap().status
        }
    };
    assert_eq!(delete(etag).await, 412);
    let etag = client.read("1", "a").await.unwrap().header("etag").unwrap().to_owned();
    assert_eq!(delete(etag).await, 204);
    assert_eq!(client.read("1", "a").await.unwrap().status, 404);
}

#[tokio::test]
async fn a_query_filters_orders_and_pages() {
    let client = start().await;
    for (id, pk, value) in [("1", "a", 10), ("2", "b", 20), ("3", "a", 30), ("4", "c", 40)] {
        assert_eq!(client.upsert(id, pk, value).await.unwrap().status, 201);
    }
    let query = json!({
        "query": "SELECT VALUE c.id FROM c WHERE c[\"value\"] > @least ORDER BY c[\"value\"] DESC",
        "parameters": [{ "name": "@least", "value": 10 }],
    });
    assert_eq!(pages(&client, &query, "2").await, [vec![json!("4"), json!("3")], vec![json!("2")]]);
    // Without an order pages go by the hash of the partition key.
    let query = json!({ "query": "SELECT VALUE c.id FROM c WHERE c.pk = 'a'", "parameters": [] });
    assert_eq!(pages(&client, &query, "1").await, [vec![json!("1")], vec![json!("3")]]);
}

/// All pages of a query.
async fn pages(client: &Client, query: &Value, page: &str) -> Vec<Vec<Value>> {
    let (mut pages, mut continuation) = (Vec::new(), None::<String>);
    loop {
        let mut headers = vec![
            ("x-ms-documentdb-isquery", "True"),
            ("content-type", "application/query+json"),
            ("x-ms-documentdb-query-enablecrosspartition", "True"),
            ("x-ms-max-item-count", page),
        ];
        if let Some(token) = &continuation {
            headers.push(("x-ms-continuation", token.as_str()));
        }
        let reply = client.send("POST", DOCUMENTS, &headers, query).await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        pages.push(reply.body["Documents"].as_array().unwrap().clone());
        continuation = reply.header("x-ms-continuation").map(str::to_owned);
        if continuation.is_none() {
            return pages;
        }
    }
}

#[tokio::test]
async fn a_batch_is_all_or_nothing() {
    let client = start().await;
    let headers = [("x-ms-cosmos-is-batch-request", "True"), ("x-ms-documentdb-partitionkey", "[\"a\"]")];
    let upsert = |id: &str| json!({ "operationType": "Upsert", "resourceBody": { "id": id, "pk": "a" } });
    let good = client.send("POST", DOCUMENTS, &headers, &json!([upsert("1"), upsert("2")])).await.unwrap();
    assert_eq!((good.status, &good.body[1]["statusCode"]), (200, &json!(201)), "{good:?}");
    let absent = json!({ "operationType": "Delete", "id": "absent" });
    let bad = client.send("POST", DOCUMENTS, &headers, &json!([upsert("3"), absent])).await.unwrap();
    assert_eq!((bad.status, &bad.body[0]["statusCode"], &bad.body[1]["statusCode"]), (207, &json!(424), &json!(404)));
    assert_eq!(client.read("3", "a").await.unwrap().status, 404);
}

#[tokio::test]
async fn the_change_feed_of_a_range_tells_the_latest_state_since_a_place() {
    let client = start().await;
    let ranges = client.send("GET", "/dbs/shop/colls/orders/pkranges", &[], &Value::Null).await.unwrap();
    let ranges: Vec<_> =
        ranges.body["PartitionKeyRanges"].as_array().unwrap().iter().map(|range| range["id"].clone()).collect();
    assert_eq!(ranges.len(), 4);

    for (id, value) in [("1", 1), ("2", 2), ("1", 3)] {
        client.upsert(id, "a", value).await.unwrap();
    }
    let (mut found, mut range) = (None, "");
    for id in &ranges {
        let reply = changes(&client, id.as_str().unwrap(), None).await;
        if reply.status == 200 {
            (found, range) = (Some(reply), id.as_str().unwrap());
        }
    }
    let found = found.expect("all documents of one partition key are in one range");
    // The later change of 1 stands for both, and comes after 2.
    assert_eq!(values(&found), [2, 3]);
    let place = found.header("etag").unwrap().to_owned();
    assert_eq!(changes(&client, range, Some(&place)).await.status, 304);
    client.upsert("3", "a", 4).await.unwrap();
    assert_eq!(values(&changes(&client, range, Some(&place)).await), [4]);
}

#[tokio::test]
async fn a_range_that_was_split_is_gone_and_its_documents_are_in_its_children() {
    let client = start().await;
    for id in 0..20 {
        client.upsert(&id.to_string(), &format!("key {id}"), id).await.unwrap();
    }
    let body = json!({ "database": "shop", "container": "orders", "range": 0 });
    let children = client.admin("POST", "/__split", &body).await["ranges"].as_array().unwrap().clone();
    assert_eq!(children.len(), 2);
    let gone = changes(&client, "0", None).await;
    assert_eq!((gone.status, gone.header("x-ms-substatus")), (410, Some("1002")));
    let mut found = 0;
    for range in [json!(1), json!(2), json!(3)].iter().chain(&children) {
        let reply = changes(&client, &range.to_string(), None).await;
        found += if reply.status == 304 { 0 } else { values(&reply).len() };
    }
    assert_eq!(found, 20);
    let again = client.send("POST", "/__split", &[], &body).await.unwrap();
    assert_eq!(again.status, 400, "{again:?}");
}

async fn changes(client: &Client, range: &str, since: Option<&str>) -> Reply {
    let mut headers = vec![("a-im", "Incremental Feed"), ("x-ms-documentdb-partitionkeyrangeid", range)];
    if let Some(etag) = since {
        headers.push(("if-none-match", etag));
    }
    client.send("GET", DOCUMENTS, &headers, &Value::Null).await.unwrap()
}

fn values(reply: &Reply) -> Vec<i64> {
    let documents = reply.body["Documents"].as_array().unwrap_or_else(|| panic!("{reply:?}"));
    documents.iter().map(|document| document["value"].as_i64().unwrap()).collect()
}
