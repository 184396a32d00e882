//! Records made of several tables.

use fides_core::{Arity, FaultKind, Include, KeyRange, Kind, Selection, Value};
use fides_format::parse_json;

use super::super::{Spec, column, records, scan_all};
use super::{HostFixture, filled, open};

fn orders() -> Spec {
    Spec::new("orders", 1, &[column("nr", Kind::I64), column("customer_id", Kind::I64)])
}

pub(super) fn lines() -> Spec {
    let columns = [
        column("order_id", Kind::I64),
        column("line", Kind::I64),
        column("product", Kind::String),
        column("big", Kind::I64),
    ];
    Spec::new("lines", 2, &columns)
}

fn customers() -> Spec {
    Spec::new("customers", 1, &[column("nr", Kind::I64), column("name", Kind::String)])
}

pub(super) fn line(order: i64, line: i64, product: &'static str) -> Vec<Value<'static>> {
    vec![Value::I64(order), Value::I64(line), Value::String(product.into()), Value::I64(i64::MAX)]
}

fn include(fixture: &dyn HostFixture, spec: &Spec, on: (&str, &str), arity: Arity, order_by: &[&str]) -> Include {
    Include {
        name: spec.name.to_owned(),
        namespace: fixture.namespace(spec.name),
        on: vec![(on.0.to_owned(), on.1.to_owned())],
        arity,
        columns: spec.read(),
        order_by: order_by.iter().map(ToString::to_string).collect(),
        includes: Vec::new(),
    }
}

fn assert_json(found: &Value<'_>, expected: &str) {
    let Value::Json(found) = found else { panic!("{found:?} is not raw JSON, expected {expected}") };
    let parse = |text| parse_json(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    assert_eq!(parse(found), parse(expected), "fields in order, numbers exact");
}

/// One-to-many: an array in the order that was asked for, empty where there is nothing.
pub async fn includes_many(fixture: &dyn HostFixture) {
    let (orders, lines) = (orders(), lines());
    filled(fixture, &orders, &[vec![Value::I64(1), Value::Null], vec![Value::I64(2), Value::Null]]).await;
    filled(fixture, &lines, &[line(1, 3, "pear"), line(1, 2, "Äpfel \"x\""), line(1, 1, "pear")]).await;
    let many = include(fixture, &lines, ("order_id", "nr"), Arity::Many, &["product"]);
    let snapshot = open(fixture, &orders.selection_with(fixture.namespace("orders"), vec![many])).await;
    let found = scan_all(&*snapshot).await.expect("the tables can be read");
    let max = i64::MAX;
    assert_json(
        &found[0].values[2],
        &format!(
            r#"[{{"order_id":1,"line":1,"product":"pear","big":{max}}},{{"order_id":1,"line":3,"product":"pear","big":{max}}},
               {{"order_id":1,"line":2,"product":"Äpfel \"x\"","big":{max}}}]"#
        ),
    );
    assert_json(&found[1].values[2], "[]");
    let page = snapshot.fetch(&[found[0].key.clone()]).await.expect("a fetched record has them too");
    assert_eq!(records(&page).expect("rows decode"), found[..1]);
}

/// Many-to-one: an object, or null.
pub async fn includes_one(fixture: &dyn HostFixture) {
    let (orders, customers) = (orders(), customers());
    let rows = [[1, 7], [2, 8]].map(|row| row.map(Value::I64).to_vec());
    filled(fixture, &orders, &rows).await;
    fixture.insert(&orders, &[vec![Value::I64(3), Value::Null]]).await;
    filled(fixture, &customers, &[vec![Value::I64(7), Value::Null]]).await;
    let one = include(fixture, &customers, ("nr", "customer_id"), Arity::One, &[]);
    let snapshot = open(fixture, &orders.selection_with(fixture.namespace("orders"), vec![one])).await;
    let found = scan_all(&*snapshot).await.expect("the tables can be read");
    assert_json(&found[0].values[2], r#"{"nr":7,"name":null}"#);
    assert_eq!((&found[1].values[2], &found[2].values[2]), (&Value::Null, &Value::Null));
}

/// Customers with orders with lines.
pub async fn includes_nest(fixture: &dyn HostFixture) {
    let (customers, orders, lines) = (customers(), orders(), lines());
    filled(fixture, &customers, &[vec![Value::I64(7), Value::String("Zoë".into())]]).await;
    filled(fixture, &orders, &[[1, 7], [2, 7]].map(|row| row.map(Value::I64).to_vec())).await;
    filled(fixture, &lines, &[line(2, 1, "pear")]).await;
    let mut nested = include(fixture, &orders, ("customer_id", "nr"), Arity::Many, &["nr"]);
    nested.includes = vec![include(fixture, &lines, ("order_id", "nr"), Arity::Many, &["line"])];
    let snapshot = open(fixture, &customers.selection_with(fixture.namespace("customers"), vec![nested])).await;
    let found = scan_all(&*snapshot).await.expect("the tables can be read");
    let max = i64::MAX;
    assert_json(
        &found[0].values[2],
        &format!(
            r#"[{{"nr":1,"customer_id":7,"lines":[]}},
               {{"nr":2,"customer_id":7,"lines":[{{"order_id":2,"line":1,"product":"pear","big":{max}}}]}}]"#
        ),
    );
}

/// Two matches of a `one` fail their record, by name, and no other.
pub async fn a_second_match_fails_alone(fixture: &dyn HostFixture) {
    let (orders, lines) = (orders(), lines());
    filled(fixture, &orders, &[[41, 1], [42, 1], [43, 1]].map(|row| row.map(Value::I64).to_vec())).await;
    filled(fixture, &lines, &[line(41, 1, "a"), line(42, 1, "a"), line(42, 2, "a"), line(43, 1, "a")]).await;
    let one = include(fixture, &lines, ("order_id", "nr"), Arity::One, &[]);
    let snapshot = open(fixture, &orders.selection_with(fixture.namespace("orders"), vec![one])).await;
    let page = snapshot.scan(&KeyRange::ALL, None).await.expect("the other records can be read");
    assert_eq!(page.len(), 3);
    assert!(page.values(0).is_ok() && page.values(2).is_ok());
    let fault = page.values(1).expect_err("a second match is never a silent choice");
    assert_eq!(fault.kind, FaultKind::Permanent);
    assert!(fault.to_string().contains("42") && fault.to_string().contains("lines"), "{fault}");
}

/// A fingerprint changes with its row or a row included in it, and with nothing else.
pub async fn fingerprints_follow_the_row(fixture: &dyn HostFixture) {
    let (orders, lines) = (orders(), lines());
    filled(fixture, &orders, &[[1, 1], [2, 1], [3, 1]].map(|row| row.map(Value::I64).to_vec())).await;
    filled(fixture, &lines, &[line(1, 1, "a"), line(1, 2, "b"), line(2, 1, "a")]).await;
    let many = include(fixture, &lines, ("order_id", "nr"), Arity::Many, &["line"]);
    let selection = orders.selection_with(fixture.namespace("orders"), vec![many]);
    let prints = async |selection: &Selection| -> Vec<_> {
        let found = scan_all(&*open(fixture, selection).await).await.expect("the tables can be read");
        found.iter().map(|record| record.fingerprint).collect()
    };
    let first = prints(&selection).await;
    assert_eq!(first, prints(&selection).await);
    // Put back as it was, in another physical order.
    fixture.delete(&lines, &[Value::I64(1), Value::I64(1)]).await;
    fixture.insert(&lines, &[line(1, 1, "a")]).await;
    assert_eq!(first, prints(&selection).await, "the same state has the same fingerprints");
    fixture.delete(&lines, &[Value::I64(1), Value::I64(2)]).await;
    fixture.insert(&lines, &[line(1, 2, "c")]).await;
    fixture.delete(&orders, &[Value::I64(3)]).await;
    fixture.insert(&orders, &[vec![Value::I64(3), Value::Null]]).await;
    let second = prints(&selection).await;
    assert!(first[0] != second[0] && first[2] != second[2], "what changed changed");
    assert_eq!(first[1], second[1], "what did not did not");
    let seeded = prints(&Selection { seed: 8, ..selection }).await;
    assert!(seeded.iter().all(|print| !second.contains(print)), "another mapping, other fingerprints");
}
