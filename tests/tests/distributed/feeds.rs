//! Documents of Cosmos DB become rows of a table: imported once, and then brought by the change feed alone, whose reader is
//! killed.

use azure_data_cosmos::clients::ContainerClient;
use futures::{StreamExt, stream};
use serde_json::json;

use crate::emulator::Emulator;
use crate::follows::{followed, nothing_is_planned};
use crate::stand::Stand;
use crate::until::{MINUTE, until};

const OPTIONS: &str = "events: log\n    limits: { lanes: 4, lease_ms: 3000 }";

/// Documents of the container.
fn count() -> i64 {
    if std::env::var_os("FIDES_TEST_LONG").is_some() { 20_000 } else { 1_000 }
}

/// Creates or replaces documents.
async fn put(items: &ContainerClient, numbers: impl Iterator<Item = i64>, price: f64) {
    let one = async |number: i64| {
        let id = format!("item {number}");
        let document = json!({ "id": id, "name": format!("Stück № {number}"), "stock": number % 100,
            "price": price, "sizes": { "größe": [number % 7, 0.5] }, "active": number % 3 == 0 });
        items.upsert_item(id.clone(), &id, document, None).await.unwrap();
    };
    stream::iter(numbers).map(one).buffer_unordered(8).for_each(|()| async {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_feed_goes_on_where_its_reader_was_killed() {
    let count = count();
    let stand = Stand::unscheduled("feed", OPTIONS).await;
    let emulator = Emulator::host_of(&stand).await;
    let items = emulator.items().await;
    put(&items, 0..count, 1.5).await;
    let mut services = ["importer", "publishing-consumer", "cleanup-scheduler"].map(|name| stand.start(name, 0));
    let mut reader = stand.start("event-handler", 0);
    stand.becomes_equal().await;

    // No schedule imports: from here on the feed alone brings what changes. Each time it has begun to, its reader dies.
    for (round, price) in [(1, 1.25), (2, 2.25), (3, 3.25)] {
        let wrote = async {
            put(&items, (0..count).filter(|number| number % 3 == round % 3), price).await;
            put(&items, count + round * 10..count + round * 10 + 10, 2.0).await;
        };
        let died = async {
            until("the feed is told", MINUTE, async || followed(&reader).await > 0.0).await;
        };
        tokio::join!(wrote, died);
        assert!(reader.kill(), "it was alive");
        reader.restart();
    }
    stand.becomes_equal().await;
    assert!(stand.copied().await == count + 30, "what was new is there, too");
    let life = reader.log_of_this_life();
    assert!(!life.contains("an import is due"), "it went on behind its place: {life}");
    nothing_is_planned(&stand).await;

    // It does not tell of deletions: a clean-up finds them.
    for number in 0..10 {
        let id = format!("item {number}");
        items.delete_item(id.clone(), &id, None).await.unwrap();
    }
    let (code, stdout, stderr) = stand.fides(&["cleanup", &stand.pipeline]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    stand.becomes_equal().await;
    assert_eq!(stand.copied().await, count + 20);
    for service in services.iter_mut().chain([&mut reader]) {
        let status = service.terminate().await;
        assert!(status.success(), "{}: {status}", service.name);
    }
    stand.close().await;
}
