use super::*;

fn country() -> Value<'static> {
    Value::Json(
        r#"{"name":"Perú","population":9007199254740993,"since":"1821-07-28T05:00:00+05:00","area":1285216.60,
            "flag":"\\x00ff","facts":{"a":[1.0]},"continent":{"name":"America"}}"#
            .into(),
    )
}

#[test]
fn columns_are_renamed_nested_cast_and_defaulted() {
    let place = Source::Object(vec![
        ("city".into(), Source::column("string")),
        ("at".into(), Source::Object(vec![("lat".into(), Source::column("f64"))])),
    ]);
    let spec = spec(vec![
        ("name", Source::column("string")),
        ("place", place),
        ("price", path(&["any"], Some(Kind::Decimal), Some(text("0")))),
        ("source", Source::Const(text("shop"))),
        ("dotted", path(&["a", "b"], None, None)),
    ]);
    let values = [("string", text("Łódź")), ("f64", Value::F64(51.5)), ("a.b", text("own name"))];
    let document = r#"{"id":1,"name":"Łódź","place":{"city":"Łódź","at":{"lat":51.5}},"price":0,"source":"shop","dotted":"own name"}"#;
    assert_eq!(map(&spec, &values).expect("a document"), document);
    let kinds: Vec<_> = compiled(&spec).mapper.shape().fields.iter().map(|field| field.kind).collect();
    assert_eq!(kinds, [Kind::I64, Kind::String, Kind::Json, Kind::Decimal, Kind::String, Kind::String]);
}

#[test]
fn only_what_is_mapped_is_read() {
    let mapping = compiled(&spec(vec![("x", path(&["country", "name"], None, None)), ("y", Source::column("date"))]));
    assert_eq!(reads(&mapping), ["id", "date", "country"]);
    let all = compiled(&Spec { fields: Fields::Same(None), when: None, key: vec!["id".into()] });
    assert_eq!(reads(&all).len(), table().columns.len() + 2);
    let some = Fields::Same(Some(vec!["date".into(), "id".into()]));
    let some = compiled(&Spec { fields: some, when: None, key: vec!["id".into()] });
    assert_eq!(reads(&some), ["id", "date", "country", "lines"]);
    assert_eq!(some.mapper.shape().key_names().collect::<Vec<_>>(), ["id"]);
    let selection = some.selection(Namespace(vec!["t".into()]), 10);
    assert_eq!((selection.seed, selection.key_positions()), (some.mapper.revision(), vec![0]));
}

#[test]
fn included_values_have_the_kind_of_their_column() {
    let of = |name: &str| field(path(&["country", name], None, None), &[("country", country())]).expect("a value");
    assert_eq!(of("name"), text("Perú"));
    assert_eq!(of("population"), Value::I64(9_007_199_254_740_993));
    assert_eq!(of("since"), Value::Timestamp("1821-07-28T00:00:00Z".into()));
    assert_eq!(of("area"), Value::Decimal("1285216.60".into()));
    assert_eq!(of("flag"), Value::Bytes(vec![0, 255].into()));
    assert_eq!(of("facts"), Value::Json(r#"{"a":[1.0]}"#.into()));
    let nested = field(path(&["country", "continent", "name"], None, None), &[("country", country())]);
    assert_eq!(nested.expect("a value"), text("America"));
    let whole = field(path(&["country"], None, None), &[("country", country())]);
    assert_eq!(whole.expect("a value"), country());
}

#[test]
fn what_is_not_there_is_absent_and_null_stays_null() {
    let within =
        |json: &'static str| field(path(&["json", "a", "b"], None, None), &[("json", Value::Json(json.into()))]);
    assert_eq!(within(r#"{"a":{"b":[1,{"c":2.50}]}}"#).expect("a value"), Value::Json(r#"[1,{"c":2.50}]"#.into()));
    assert_eq!(within(r#"{"a":{"b":null}}"#).expect("a value"), Value::Null);
    assert_eq!(within(r#"{"a":null}"#).expect("a value"), Value::Null);
    assert_eq!(within("{}").expect("a value"), Value::Absent);
    let fault = within(r#"{"a":"text"}"#).expect_err("no object");
    assert_eq!(fault.what, r#"field x: no field "b" in a value of kind string"#);
    let fault = within("{").expect_err("no JSON");
    assert!(fault.what.starts_with("field x: json: not JSON"), "{fault}");
    let defaulted =
        field(path(&["json", "a"], Some(Kind::I64), Some(text("7"))), &[("json", Value::Json("{}".into()))]);
    assert_eq!(defaulted.expect("a value"), Value::I64(7));
}

#[test]
fn a_value_that_cannot_be_cast_names_field_value_and_kinds() {
    let fault = field(path(&["string"], Some(Kind::Decimal), None), &[("string", text("abc"))]).expect_err("a text");
    assert_eq!(fault.what, r#"field x: cannot cast "abc" (string) to decimal"#);
    let nested = Source::Object(vec![("price".into(), path(&["string"], Some(Kind::I64), None))]);
    let fault = field(nested, &[("string", text("1.5"))]).expect_err("a fraction");
    assert_eq!(fault.what, r#"field x: price: cannot cast "1.5" (string) to i64"#);
}

#[test]
fn a_record_of_another_selection_is_refused() {
    let compiled = compiled(&spec(Vec::new()));
    let fault = compiled.mapper.map(&[], &mut Vec::new()).expect_err("no record");
    assert_eq!(fault.what, "a record of 0 values where the mapping reads 1");
}

#[test]
fn any_edit_changes_the_revision_and_nothing_else_does() {
    let revision = |spec: &Spec| compiled(spec).mapper.revision();
    let plain = spec(vec![("x", Source::column("string"))]);
    let mut revisions = vec![
        revision(&plain),
        revision(&spec(vec![("y", Source::column("string"))])),
        revision(&spec(vec![("x", Source::column("any"))])),
        revision(&spec(vec![("x", path(&["string"], Some(Kind::Any), None))])),
        revision(&spec(vec![("x", path(&["string"], None, Some(text(""))))])),
        revision(&spec(vec![("x", path(&["string"], None, Some(text("a"))))])),
        revision(&spec(vec![("x", Source::Const(text("string")))])),
        revision(&spec(vec![("x", program(".string", Kind::Json))])),
        revision(&spec(vec![("x", program(".string", Kind::String))])),
        revision(&Spec { when: Some("true".into()), ..plain.clone() }),
        revision(&Spec { when: Some("false".into()), ..plain.clone() }),
    ];
    let mut changed = table();
    changed.columns[2 + 5].kind = Kind::Any; // the column `string`
    let other = compile(&plain, &changed, &includes()).unwrap_or_else(|errors| panic!("{errors:?}"));
    revisions.push(other.mapper.revision());
    let count = revisions.len();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), count);

    changed = table();
    changed.columns[2].kind = Kind::Any; // `bool`, which is not read
    changed.columns.push(column("new", Kind::I64));
    let same = compile(&plain, &changed, &includes()).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(same.mapper.revision(), revision(&plain));
    assert_eq!(revision(&plain), 9_865_152_468_155_377_164, "stable across builds and platforms");
}
