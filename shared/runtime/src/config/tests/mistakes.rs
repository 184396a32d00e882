//! One mistake of each kind, and what is said about it.

use super::{STORES, refused, refused_pipeline};

/// Each case: the keys of a pipeline, and the whole message.
macro_rules! said_of_pipeline {
    ($($name:ident: $keys:expr => $message:expr;)+) => {$(
        #[test]
        fn $name() {
            assert_eq!(refused_pipeline($keys), $message);
        }
    )+};
}

said_of_pipeline! {
    a_word_of_a_closed_set: "mapping:\n  price: { from: price, cast: decimall }" =>
        "fides.yaml:10:35  pipelines.p.mapping.price.cast\n    \
         found \"decimall\", expected one of bool, i64, u64, decimal, f64, string, bytes, uuid, date, time, timestamp, timestamptz, json; \
         did you mean \"decimal\"?";
    an_unknown_key: "schedul: '0 0 * * * *'" =>
        "fides.yaml:9:5  pipelines.p.schedul\n    \
         found the unknown key \"schedul\", expected one of the keys host, from, key, include, target, into, create, when, \
         columns, mapping, version_field, events, schedule, cleanup, verify, timezone, delete, foreign, limits; did you mean \"schedule\"?";
    events_without_settings: "events: webhook" =>
        "fides.yaml:9:13  pipelines.p.events\n    found \"webhook\" without its settings, expected `webhook: { … }`";
    events_of_two_kinds: "events: { webhook: { bearer: x }, amqp: { url: 'amqp://b', exchange: e } }" =>
        "fides.yaml:9:13  pipelines.p.events\n    \
         found `webhook` and `amqp`, expected exactly one of `webhook` and `amqp`";
    a_webhook_that_lets_everybody_in: "events: { webhook: { bearer: '' } }" =>
        "fides.yaml:9:34  pipelines.p.events.webhook.bearer\n    found an empty secret, expected a secret that is not empty";
    a_webhook_without_a_secret: "events: { webhook: { types: [a] } }" =>
        "fides.yaml:9:24  pipelines.p.events.webhook\n    \
         found none of `secret` and `secret_file` and `bearer` and `bearer_file`, \
         expected exactly one of `secret` and `secret_file` and `bearer` and `bearer_file`";
    an_unknown_key_of_a_webhook: "events: { webhook: { bearr: x } }" =>
        "fides.yaml:9:24  pipelines.p.events.webhook\n    \
         found none of `secret` and `secret_file` and `bearer` and `bearer_file`, \
         expected exactly one of `secret` and `secret_file` and `bearer` and `bearer_file`\n\
         fides.yaml:9:26  pipelines.p.events.webhook.bearr\n    \
         found the unknown key \"bearr\", expected one of the keys secret, secret_file, bearer, bearer_file, signature_header, \
         origins, types, key; did you mean \"bearer\"?";
    a_key_that_is_nowhere: "events: { amqp: { url: 'amqp://b', exchange: e, key: [subject, date.id] } }" =>
        "fides.yaml:9:68  pipelines.p.events.amqp.key[1]\n    \
         found \"date.id\", expected `subject`, or `data.` and the way to a field, as data.order.id";
    a_queue_of_events_without_an_exchange: "events: { amqp: { url: 'amqp://b' } }" =>
        "fides.yaml:9:21  pipelines.p.events.amqp\n    \
         found no key `exchange`, expected `exchange`: the exchange that events are published to; it belongs to whoever publishes, and must be there";
    an_unknown_key_of_a_field: "mapping:\n  x: { form: a }" =>
        "fides.yaml:10:12  pipelines.p.mapping.x.form\n    \
         found the unknown key \"form\", expected one of the keys from, object, const, jq; did you mean \"from\"?";
    a_second_key_of_one_name: "create: true\ncreate: false" =>
        "fides.yaml:10:5  pipelines.p.create\n    \
         found \"create\" a second time, expected each key once (the first is in line 9)";
    a_truth_value: "create: yes" =>
        "fides.yaml:9:13  pipelines.p.create\n    found \"yes\", expected true or false";
    a_quoted_truth_value: "create: 'true'" =>
        "fides.yaml:9:13  pipelines.p.create\n    found \"true\", expected true or false";
    a_number_out_of_range: "limits: { lanes: 65 }" =>
        "fides.yaml:9:22  pipelines.p.limits.lanes\n    found 65, expected a whole number from 1 to 64";
    a_fraction: "limits: { lanes: 1.5 }" =>
        "fides.yaml:9:22  pipelines.p.limits.lanes\n    found 1.5, expected a whole number from 1 to 64";
    a_ratio: "limits: { delete_ratio_max: 10 }" =>
        "fides.yaml:9:33  pipelines.p.limits.delete_ratio_max\n    found 10, expected a number from 0 to 1";
    limits_that_contradict_each_other: "limits: { retry_base_ms: 20000 }" =>
        "fides.yaml:9:13  pipelines.p.limits\n    \
         found retry_base_ms 20000 above retry_cap_ms 10000, expected a first pause that is not above the longest";
    neither_a_map_nor_a_list: "key: id" =>
        "fides.yaml:9:10  pipelines.p.key\n    found \"id\", expected a list, each item a column";
    a_map_for_a_text: "when: { a: b }" =>
        "fides.yaml:9:11  pipelines.p.when\n    found a map, expected a jq condition";
    an_empty_list: "key: []" =>
        "fides.yaml:9:10  pipelines.p.key\n    found an empty list, expected at least a column";
    a_name_twice: "key: [id, id]" =>
        "fides.yaml:9:15  pipelines.p.key[1]\n    found \"id\" a second time, expected each name once";
    a_path_with_a_hole: "from: public..orders" =>
        "fides.yaml:9:11  pipelines.p.from\n    \
         found \"public..orders\", expected a namespace: names joined by dots, or a list of names";
    neither_columns_nor_mapping: "columns:" =>
        "fides.yaml:9:5  pipelines.p\n    \
         found none of `columns` and `mapping`, expected exactly one of `columns` and `mapping`";
    both_columns_and_mapping: "columns: '*'\nmapping: { a: a }" =>
        "fides.yaml:9:5  pipelines.p\n    \
         found `columns` and `mapping`, expected exactly one of `columns` and `mapping`";
    a_choice_of_columns: "columns: all" =>
        "fides.yaml:9:14  pipelines.p.columns\n    found \"all\", expected '*' or a list of columns";
    no_fields: "mapping: {}" =>
        "fides.yaml:9:14  pipelines.p.mapping\n    found an empty map, expected a map of target fields";
    a_field_without_a_name: "mapping: { '': id }" =>
        "fides.yaml:9:16  pipelines.p.mapping.\"\"\n    found \"\", expected a name that is not empty";
    a_number_that_may_be_text: "mapping: { a: { const: 007 } }" =>
        "fides.yaml:9:28  pipelines.p.mapping.a.const\n    found 007, expected a number as JSON writes it, or text in quotes";
    too_few_cron_fields: "schedule: '*/5 * * * *'" =>
        "fides.yaml:9:15  pipelines.p.schedule\n    found \"*/5 * * * *\" (number of fields: 5), \
         expected six cron fields: second minute hour day month weekday";
    a_cron_field_out_of_range: "schedule: '0 99 * * * *'" =>
        "fides.yaml:9:15  pipelines.p.schedule\n    \
         found \"0 99 * * * *\" (Component error: Number out of bounds.), \
         expected six cron fields: second minute hour day month weekday";
    an_unknown_time_zone: "schedule: '0 0 * * * *'\ntimezone: Europe/Berlim" =>
        "fides.yaml:10:15  pipelines.p.timezone\n    \
         found \"Europe/Berlim\", expected a time zone of the IANA database; did you mean \"Europe/Berlin\"?";
    a_time_zone_alone: "timezone: Europe/Berlin" =>
        "fides.yaml:9:15  pipelines.p.timezone\n    \
         found a time zone without a schedule, expected `schedule`, `cleanup` or `verify` beside it";
    a_relation_without_an_arity: "include: { c: { from: c, on: { id: c_id } } }" =>
        "fides.yaml:9:19  pipelines.p.include.c\n    \
         found no key `as`, expected `as`: how many of its rows belong to one parent";
    an_order_of_one_row: "include: { c: { from: c, on: { id: c_id }, as: one, order_by: [x] } }" =>
        "fides.yaml:9:67  pipelines.p.include.c.order_by\n    \
         found an order of at most one row, expected `order_by` only beside `as: many`";
    a_path_into_many_records: "include: { l: { from: l, on: { o: id }, as: many } }\nmapping: { o: { object: { x: l.price } } }" =>
        "fides.yaml:10:34  pipelines.p.mapping.o.object.x\n    \
         found a path into \"l\", which is many records, expected a path into a single record, or jq for a list";
    a_path_to_what_is_not_read: "include: { c: { from: c, on: { o: id }, as: one, columns: [name] } }\nmapping: { x: c.nam }" =>
        "fides.yaml:10:19  pipelines.p.mapping.x\n    \
         found \"c.nam\", expected what is read of \"c\": name; did you mean \"name\"?";
    a_computed_key: "key: [id]\nmapping: { id: { from: id, cast: string } }" =>
        "fides.yaml:10:14  pipelines.p.mapping\n    found no plain field for the key column \"id\", \
         expected a target field that takes it over as it is, without cast, default, const or jq (L12)";
    a_key_that_is_left_out: "key: [id]\ncolumns: [name]" =>
        "fides.yaml:10:14  pipelines.p.columns\n    \
         found no plain field for the key column \"id\", expected every key column in the list (L12)";
    a_way_to_delete: "delete: softly" =>
        "fides.yaml:9:13  pipelines.p.delete\n    found \"softly\", expected one of hard, never";
    a_soft_deletion_without_a_field: "delete: soft" =>
        "fides.yaml:9:13  pipelines.p.delete\n    \
         found \"soft\" without a field, expected `soft: { field: …, value: … }`";
    a_list_of_ways_to_delete: "delete: [hard]" =>
        "fides.yaml:9:13  pipelines.p.delete\n    \
         found a list, expected one of hard, never, or `soft: { field: …, value: … }`";
    a_soft_deletion_with_a_misspelt_key: "delete: { soft: { feild: gone, value: true } }" =>
        "fides.yaml:9:21  pipelines.p.delete.soft\n    \
         found no key `field`, expected `field`: the target field; of a record that is there it holds nothing, or the other truth value\n\
         fides.yaml:9:23  pipelines.p.delete.soft.feild\n    \
         found the unknown key \"feild\", expected one of the keys field, value; did you mean \"field\"?";
    a_soft_deletion_that_says_a_fraction: "delete: { soft: { field: gone, value: 0.5 } }" =>
        "fides.yaml:9:43  pipelines.p.delete.soft.value\n    \
         found 0.5, expected text, a whole number, true or false";
    a_soft_deletion_in_the_version: "version_field: v\ndelete: { soft: { field: v, value: true } }" =>
        "fides.yaml:10:30  pipelines.p.delete.soft.field\n    \
         found \"v\", which is the version field too, expected a field of its own";
    a_way_with_what_others_wrote: "foreign: remove" =>
        "fides.yaml:9:14  pipelines.p.foreign\n    found \"remove\", expected one of keep, delete";
    a_version_that_is_mapped: "version_field: v\nmapping: { v: v }" =>
        "fides.yaml:9:20  pipelines.p.version_field\n    \
         found \"v\", which is a mapped field too, expected a column of its own";
    a_jq_program_that_ends_early: "mapping: { a: { jq: '.name +' } }" =>
        "fides.yaml:9:25  pipelines.p.mapping.a.jq\n    \
         found `.name +`, which at the end should have term, expected a jq program";
    a_jq_function_that_there_is_not: "mapping: { o: { object: { a: { jq: 'nosuch(1)' } } } }" =>
        "fides.yaml:9:40  pipelines.p.mapping.o.object.a.jq\n    \
         found an unknown function nosuch/1, expected a jq program";
    a_condition_that_is_no_jq: "when: '.a ==='" =>
        "fides.yaml:9:11  pipelines.p.when\n    \
         found `.a ===`, which at `===` should have nothing, expected a jq condition";
    a_default_of_another_kind: "mapping: { a: { from: a, cast: i64, default: 'many' } }" =>
        "fides.yaml:9:50  pipelines.p.mapping.a.default\n    \
         found \"many\", expected a value that can be cast to i64";
    a_default_that_is_a_list: "mapping: { a: { from: a, cast: date, default: [1] } }" =>
        "fides.yaml:9:51  pipelines.p.mapping.a.default\n    \
         found a list, expected a value that can be cast to date";
    a_merge_key: "limits: { <<: { lanes: 3 } }" =>
        "fides.yaml:9:15  pipelines.p.limits.\"<<\"\n    \
         found a merge key, expected the keys themselves (merging is not part of this format)";
    a_key_that_is_no_text: "mapping: { [a, b]: { x: y }, c: c }" =>
        "fides.yaml:9:16  pipelines.p.mapping\n    found a key that is a list, a map or an alias, expected text";
    a_tag: "when: !jq .x" =>
        "fides.yaml:9:15  pipelines.p.when\n    found a tag, expected no tag but `!!str`";
}

#[test]
fn no_yaml() {
    assert_eq!(refused("hosts: [a\n"), "fides.yaml:1:8\n    found unclosed bracket '[', expected YAML");
}

#[test]
fn an_address_that_is_none() {
    let cases = [
        ("localhost:8080", "\"localhost:8080\""),
        ("':8080'", "\":8080\""),
        ("127.0.0.1", "\"127.0.0.1\""),
        ("8080", "8080"),
        ("127.0.0.1:65536", "\"127.0.0.1:65536\""),
        ("'http://127.0.0.1:80'", "a url (not shown)"),
    ];
    for (wrong, shown) in cases {
        let said = refused(&format!("service: {{ listen: {wrong} }}\n{}", super::pipeline("")));
        let expected = "an IP address and a port: 127.0.0.1:8080, 0.0.0.0:8080 for all of IPv4, \"[::]:8080\" for all";
        assert_eq!(said, format!("fides.yaml:1:20  service.listen\n    found {shown}, expected {expected}"));
    }
}

#[test]
fn a_grace_beyond_reason() {
    assert_eq!(
        refused(&format!("service: {{ grace_seconds: 3601 }}\n{}", super::pipeline(""))),
        "fides.yaml:1:27  service.grace_seconds\n    found 3601, expected a whole number from 0 to 3600"
    );
}

#[test]
fn an_empty_file() {
    let message = refused("");
    for key in ["hosts", "targets", "pipelines"] {
        assert!(message.contains(&format!("found no key `{key}`, expected `{key}`: ")), "{message}");
    }
}

#[test]
fn a_second_document() {
    assert!(
        refused("a: b\n---\nc: d\n")
            .contains("fides.yaml:3:1\n    found a second document, expected one YAML document")
    );
}

#[test]
fn an_id_that_is_none() {
    let text =
        format!("{STORES}pipelines:\n  Orders: {{ host: shop, from: a, target: search, into: a, columns: '*' }}\n");
    assert_eq!(
        refused(&text),
        "fides.yaml:8:3  pipelines.Orders\n    found \"Orders\", expected a name of small letters, digits, _ and -, \
         at most 63, that begins with a letter"
    );
}

#[test]
fn half_a_distributed_backplane() {
    let text = format!("backplane: {{ redis: {{ url: 'redis://store' }} }}\n{}", super::pipeline(""));
    assert_eq!(
        refused(&text),
        "fides.yaml:1:12  backplane\n    \
         found `redis` without `amqp`, expected either `embedded`, or both `amqp` and `redis`"
    );
    let both = "amqp: { url: 'amqp://mq' }, redis: { url: 'redis://store' }";
    let text = format!("backplane: {{ embedded: {{}}, {both} }}\n{}", super::pipeline(""));
    assert!(refused(&text).contains("found `embedded` beside a broker or a Redis"));
}

#[test]
fn an_accepted_setting_that_does_not_exist() {
    let redis = "{ url: 'redis://store', accept: [appendfsink] }";
    let text = format!("backplane: {{ amqp: {{ url: 'amqp://mq' }}, redis: {redis} }}\n{}", super::pipeline(""));
    let told = refused(&text);
    assert!(told.contains("found \"appendfsink\"") && told.contains("appendfsync"), "{told}");
}

#[test]
fn an_unknown_kind_of_store() {
    let text = super::pipeline("").replace("kind: sqlite, path: shop", "kind: sqlit, path: shop");
    assert_eq!(
        refused(&text),
        "fides.yaml:2:17  hosts.shop.kind\n    \
         found \"sqlit\", expected a kind of store: cosmos, mysql, postgres, sqlite; did you mean \"sqlite\"?"
    );
}

#[test]
fn a_store_without_a_kind() {
    let text = super::pipeline("").replace("kind: sqlite, path: shop", "path: shop");
    assert!(
        refused(&text)
            .contains("hosts.shop\n    found no key `kind`, expected a kind of store: cosmos, mysql, postgres, sqlite")
    );
}

#[test]
fn aliases_that_grow_without_bound() {
    let levels = (1..9).map(|level| format!("a{level}: &a{level} [{}]\n", format!("*a{}, ", level - 1).repeat(10)));
    let text = format!("a0: &a0 [x]\n{}", levels.collect::<String>());
    assert!(refused(&text).contains("found more values, expected at most 100000 values in a file"));
}

#[test]
fn nesting_without_bound() {
    assert!(refused(&"[".repeat(100_000)).contains("expected YAML"));
    assert!(refused(&"- ".repeat(100_000)).contains("expected YAML"));
}

#[test]
fn every_mistake_at_once() {
    let text = "\
host: {}
hosts:
  shop: { kind: sqlite, pth: x }
  old: { kind: postgres }
targets:
  search: { kind: sqlite, path: search.sqlite, connections: 4 }
pipelines:
  a:
    host: shpo
    from: orders
    target: search
    into: flat
    mapping: { x: { from: x, cast: strin }, y: { jq: '' } }
    schedule: often
  b: { host: old, from: orders, target: search, into: main.flat, columns: '*', limits: { lanes: 0, lane: 1 } }
log: { level: loud }
";
    let errors = super::read(text, &[("FIDES__LIMITS__LANES", "many")]).unwrap_err();
    let places: Vec<_> = errors.iter().map(|error| format!("{} {}", error.spot.place, error.spot.path)).collect();
    let expected = [
        "fides.yaml:1:1 host",
        "fides.yaml:3:9 hosts.shop",
        "fides.yaml:3:25 hosts.shop.pth",
        "fides.yaml:4:8 hosts.old",
        "fides.yaml:6:48 targets.search.connections",
        "fides.yaml:9:11 pipelines.a.host",
        "fides.yaml:13:36 pipelines.a.mapping.x.cast",
        "fides.yaml:13:54 pipelines.a.mapping.y.jq",
        "fides.yaml:14:15 pipelines.a.schedule",
        "fides.yaml:15:55 pipelines.b.into",
        "fides.yaml:15:97 pipelines.b.limits.lanes",
        "fides.yaml:15:100 pipelines.b.limits.lane",
        "fides.yaml:16:15 log.level",
        "FIDES__LIMITS__LANES limits.lanes",
    ];
    let expected = expected.map(|place| place.replace("fides.yaml", "/etc/fides/fides.yaml"));
    assert_eq!(places, expected, "{errors}");
}

#[test]
fn a_jq_program_made_by_a_variable_is_not_shown() {
    let said = super::refused_with(&super::pipeline("when: '.a == ${SECRET}'"), &[("SECRET", "hunter2 +")]);
    assert!(said.contains("found \".a == ${SECRET}\", expected a jq condition"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_default_that_can_be_cast_is_accepted() {
    super::accepted(&super::pipeline(
        "mapping:\n  a: { from: a, cast: i64, default: '7' }\n  b: { from: b, default: many }\n  c: { from: c, cast: json, default: [1] }",
    ));
}
