//! Cosmos DB: what its section may say.

use secrecy::ExposeSecret;

use super::super::{Cosmos, Store};
use super::{accepted, pipeline, refused};

fn with(target: &str) -> String {
    pipeline("host: shop\nfrom: orders\ntarget: docs\ninto: orders\ncreate: true")
        .replace("targets:\n", &format!("targets:\n  docs: {{ kind: cosmos, {target} }}\n"))
}

fn cosmos(target: &str) -> Cosmos {
    match accepted(&with(target)).targets.remove("docs") {
        Some(Store::Cosmos(cosmos)) => cosmos,
        other => panic!("{other:?}"),
    }
}

const LEAST: &str = "endpoint: 'https://a.documents.azure.com:443/', key: c2VjcmV0, database: shop";

#[test]
fn the_least_and_the_most_that_an_account_needs() {
    let least = cosmos(LEAST);
    assert_eq!((least.endpoint.as_str(), least.database.as_str()), ("https://a.documents.azure.com:443/", "shop"));
    assert_eq!(least.key.expose_secret(), "c2VjcmV0");
    assert_eq!((least.concurrency, least.request_units_per_second), (32, None));
    assert!(least.regions.is_empty() && least.containers.is_empty());
    let most = cosmos(&format!(
        "{LEAST}, regions: [West Europe], concurrency: 8, request_units_per_second: 400, \
         containers: {{ orders: {{ partition_key: [/region, /shop], unique: ['/number', '/a,/b'], throughput: 1000 }} }}"
    ));
    assert_eq!((most.regions, most.concurrency), (vec!["West Europe".to_owned()], 8));
    let orders = &most.containers["orders"];
    assert_eq!(orders.partition_key, ["/region", "/shop"]);
    assert_eq!(orders.unique, [vec!["/number".to_owned()], vec!["/a".to_owned(), "/b".to_owned()]]);
    assert_eq!(orders.throughput, Some(1000));
}

#[test]
fn what_makes_no_sense_is_told_and_the_key_is_not() {
    for (target, part) in [
        ("endpoint: shop, key: c2VjcmV0, database: shop", "docs.endpoint"),
        ("endpoint: 'https://a/', database: shop", "exactly one of `key` and `key_file`"),
        ("endpoint: 'https://a/', key: c2VjcmV0, key_file: none, database: shop", "exactly one of"),
        ("endpoint: 'https://a/', key: c2VjcmV0", "no key `database`"),
        (format!("{LEAST}, concurency: 3").as_str(), "concurrency"),
        (format!("{LEAST}, containers: {{ orders: {{ partition: /x }} }}").as_str(), "partition_key"),
        (format!("{LEAST}, containers: {{ orders: {{ throughput: 1 }} }}").as_str(), "from 400"),
    ] {
        let told = refused(&with(target));
        assert!(told.contains(part), "{target}: {told}");
        assert!(!told.contains("c2VjcmV0"), "{told}");
    }
}

#[test]
fn a_container_that_is_read_is_not_written() {
    let text = with(LEAST).replace("host: shop\n", "host: docs2\n").replace(
        "hosts:\n",
        "hosts:\n  docs2: { kind: cosmos, endpoint: 'https://A.documents.azure.com', key: x, database: shop }\n",
    );
    assert!(refused(&text).contains("which is what the pipeline reads"), "{}", refused(&text));
}
