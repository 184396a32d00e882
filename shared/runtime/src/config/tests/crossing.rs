//! Mistakes between two parts of the file.

use super::{STORES, accepted, pipeline, refused, refused_pipeline};

fn two(first: &str, second: &str) -> String {
    format!("{STORES}pipelines:\n  a: {{ {first}, columns: '*' }}\n  b: {{ {second}, columns: '*' }}\n")
}

#[test]
fn a_store_that_is_not_there() {
    assert_eq!(
        refused_pipeline("host: shpo\ntarget: nowhere"),
        "fides.yaml:9:11  pipelines.p.host\n    found \"shpo\", expected the name of a host: shop, old; \
         did you mean \"shop\"?\n\
         fides.yaml:10:13  pipelines.p.target\n    found \"nowhere\", expected the name of a target: search, copy"
    );
}

#[test]
fn two_pipelines_that_write_one_namespace() {
    let text = two("host: shop, from: x, target: search, into: flat", "host: old, from: y, target: search, into: flat");
    assert_eq!(
        refused(&text),
        "fides.yaml:9:50  pipelines.b.into\n    found \"flat\", which pipeline a writes too, \
         expected a namespace of its own (L12; declared disjoint scopes come later)"
    );
}

#[test]
fn one_namespace_under_two_names() {
    let text =
        two("host: shop, from: x, target: copy, into: flat", "host: shop, from: y, target: copy, into: public.flat");
    assert!(refused(&text).contains("found \"public.flat\", which pipeline a writes too"));
    let mut text =
        two("host: shop, from: x, target: search, into: flat", "host: old, from: y, target: again, into: flat");
    text = text.replace("targets:\n", "targets:\n  again: { kind: sqlite, path: ./search.sqlite }\n");
    assert!(refused(&text).contains("found \"flat\", which pipeline a writes too"));
}

#[test]
fn a_pipeline_that_writes_what_it_reads() {
    assert_eq!(
        refused_pipeline("host: old\nfrom: public.orders\ntarget: copy\ninto: orders"),
        "fides.yaml:12:11  pipelines.p.into\n    \
         found \"orders\", which is what the pipeline reads, expected another namespace"
    );
    accepted(&pipeline("host: old\nfrom: orders\ntarget: copy\ninto: flat.orders"));
}

#[test]
fn every_kind_of_host_has_a_log() {
    accepted(&pipeline("host: old\nevents: log"));
    accepted(&pipeline("host: shop\nevents: log"));
    assert!(refused_pipeline("host: old\nevents: logs").contains("did you mean \"log\"?"));
}

#[test]
fn a_mistake_elsewhere_hides_nothing() {
    let text = two(
        "host: shop, from: x, target: search, into: flat, create: maybe",
        "host: old, from: y, target: search, into: flat, limits: { lanes: 0 }",
    );
    let message = refused(&text);
    for part in ["pipelines.a.create", "pipelines.b.into", "pipelines.b.limits.lanes"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_database_of_mysql_completes_a_name_and_has_a_log() {
    let mysql = |keys: &str| {
        let text = pipeline(keys)
            .replace("kind: postgres, url: 'postgres://reader@db/", "kind: mysql, url: 'mysql://reader@db/");
        text.replace(
            "kind: postgres, url: 'postgres://writer:hunter2@DB:5432/shop",
            "kind: mysql, url: 'mysql://w@DB:3306/other",
        )
    };
    let refused = |keys: &str| super::refused(&mysql(keys));
    let crossing = "host: old\nfrom: orders\ntarget: copy\ninto: shop.orders";
    assert!(refused(crossing).contains("which is what the pipeline reads"));
    accepted(&mysql("host: old\nfrom: orders\ntarget: copy\ninto: orders\nevents: log"));
}
