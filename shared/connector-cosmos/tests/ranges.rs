//! The change feed of a container of several ranges, which are busy, or are split.

#![allow(clippy::unwrap_used)] // the functions around the tests are tests, too

mod common;

use std::sync::Arc;
use std::time::Duration;

use azure_data_cosmos::clients::ContainerClient;
use azure_data_cosmos::options::ReadFeedRangesOptions;
use common::Database;
use fides_core::port::{Host, Log, LogPage, What};
use fides_core::{FaultKind, Key, Kind, Namespace, PipelineId, Selection, Value};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Ids of documents in the range of this place in the order of a container's ranges.
async fn ids(container: &ContainerClient, range: usize, count: usize) -> Vec<String> {
    let fresh = ReadFeedRangesOptions::default().with_force_refresh(true);
    let mut ranges = container.read_feed_ranges(Some(fresh)).await.unwrap();
    ranges.sort_by(|a, b| a.min_inclusive().cmp(b.min_inclusive()));
    let mut found = Vec::new();
    for number in 0.. {
        let id = format!("{number:05}");
        let at = container.feed_range_from_partition_key(id.clone(), None).await.unwrap();
        if at.iter().all(|at| at.is_subset_of(&ranges[range])) {
            found.push(id);
        }
        if found.len() == count {
            break;
        }
    }
    found
}

async fn put(container: &ContainerClient, id: &str) {
    container.upsert_item(id.to_owned(), id, json!({ "id": id }), None).await.unwrap();
}

/// A page holds one document.
fn selection() -> Selection {
    let id = fides_core::Column { name: "id".to_owned(), kind: Kind::String, native: String::new(), nullable: false };
    Selection {
        namespace: Namespace(vec!["things".to_owned()]),
        key: vec!["id".to_owned()],
        columns: vec![id],
        includes: Vec::new(),
        seed: 1,
        page_records_max: 1,
    }
}

async fn host(database: &Database) -> Arc<dyn Host> {
    fides_connector_cosmos::host(database.settings(), true).await.unwrap()
}

fn is_told(page: &LogPage, id: &str) -> bool {
    let key = Key::encode(&[Value::String(id.to_owned().into())]).unwrap();
    page.changes.iter().any(|change| matches!(&change.what, What::Row { key: told, .. } if *told == key))
}

async fn next(log: &mut dyn Log) -> Result<LogPage, fides_core::Fault> {
    tokio::time::timeout(Duration::from_secs(30), log.next()).await.expect("the feed tells")
}

/// L8: the driver tells the end of one child as if it were that of the range, and the other child still holds changes.
#[tokio::test]
async fn a_range_that_is_split_is_read_to_the_end_of_both_children() {
    let database = Database::create().await;
    for name in ["like", "things"] {
        database.container(name, "/id", &[]).await;
    }
    database.split("like", 0);
    let ids = ids(&database.open("like").await, 1, 200).await;
    let (host, reader) = (host(&database).await, PipelineId::new("p"));
    let opened = host.log(&selection(), &reader, None).await.unwrap();
    let mut log = opened.log;
    // The feeds begin somewhere, before the split.
    let things = database.open("things").await;
    put(&things, &ids[0]).await;
    let from = loop {
        let page = next(&mut *log).await.unwrap();
        if is_told(&page, &ids[0]) {
            break page.place;
        }
    };
    for id in &ids {
        put(&things, id).await;
    }
    database.split("things", 0);
    let writers = Writers::start(&things, &ids, 4);
    let fault = loop {
        match next(&mut *log).await {
            Ok(page) => assert_eq!(page.place, from, "nothing is known of the child that was not asked"),
            Err(fault) => break fault,
        }
        // One child has ended, the other has not.
        writers.are_ahead().await;
    };
    drop(writers);
    assert!(fault.kind == FaultKind::Transient && fault.to_string().contains("split"), "{fault}");
    let mut log = host.log(&selection(), &reader, Some(from)).await.unwrap().log;
    let mut left = ids;
    while !left.is_empty() {
        let page = next(&mut *log).await.unwrap();
        left.retain(|id| !is_told(&page, id));
    }
    // The ranges are those that were opened: the place goes on.
    while next(&mut *log).await.unwrap().place == from {}
}

/// Writers of the same documents, again and again, until this is dropped.
struct Writers {
    written: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Writers {
    fn start(container: &ContainerClient, ids: &[String], count: usize) -> Self {
        let written = Arc::new(Semaphore::new(0));
        let mut tasks = JoinSet::new();
        for at in 0..count {
            let (container, written, ids) = (container.clone(), written.clone(), ids.to_vec());
            tasks.spawn(async move {
                for id in ids.iter().cycle().skip(at * ids.len() / count) {
                    put(&container, id).await;
                    written.add_permits(1);
                }
            });
        }
        Self { written, tasks }
    }

    /// Waits until two documents more were written: who reads one each time never comes to the end.
    async fn are_ahead(&self) {
        assert!(!self.tasks.is_empty());
        self.written.acquire_many(2).await.unwrap().forget();
    }
}

#[tokio::test]
async fn a_busy_range_holds_up_neither_the_others_nor_the_place() {
    let database = Database::create().await;
    database.container("things", "/id", &[]).await;
    let things = database.open("things").await;
    let (busy, calm) = (ids(&things, 0, 40).await, ids(&things, 3, 1).await.remove(0));
    let opened = host(&database).await.log(&selection(), &PipelineId::new("p"), None).await.unwrap();
    let (from, mut log) = (opened.from, opened.log);
    for id in busy.iter().chain([&calm]) {
        put(&things, id).await;
    }
    let mut pages = 1;
    while !is_told(&next(&mut *log).await.unwrap(), &calm) {
        pages += 1;
    }
    assert!(pages < 10, "it was told as the one of number {pages}");
    let writers = Writers::start(&things, &busy, 4);
    let ahead = tokio::time::timeout(Duration::from_mins(1), async {
        while next(&mut *log).await.unwrap().place == from {
            writers.are_ahead().await;
        }
    });
    ahead.await.expect("the place goes on");
}
