use super::*;

#[test]
fn all_mistakes_are_told_at_once_each_with_its_place() {
    let spec = spec(vec![
        ("a", Source::column("strng")),
        ("b", path(&["country", "nam"], None, None)),
        ("c", path(&["lines", "price"], None, None)),
        ("d", path(&["i64", "x"], None, None)),
        ("e", path(&["i64"], None, Some(text("many")))),
        ("f", Source::Object(vec![("g".into(), Source::column("nothing_like_it"))])),
        ("a", Source::column("date")),
        ("", Source::column("date")),
        ("h", program(".id +", Kind::I64)),
        ("i", program("nosuch(1)", Kind::I64)),
        ("j", program("now", Kind::I64)),
        ("k", program(".strin + 1", Kind::I64)),
        ("l", program("include \"x\"; .", Kind::I64)),
    ]);
    let known = "one of id, a.b, bool, i64, u64, decimal, f64, string, bytes, uuid, date, time, timestamp, timestamptz, json, any, country, lines";
    assert_eq!(
        mistakes(&Spec { when: Some("$x".into()), key: vec!["idd".into()], ..spec }),
        [
            r#"mapping: found the field "a" twice, expected each field once"#.to_owned(),
            "mapping: found a field without a name, expected a name".to_owned(),
            format!(r#"mapping.a: found no column "strng", expected {known} (did you mean "string"?)"#),
            r#"mapping.b: found no column of "country" "nam", expected one of name, population, since, area, flag, facts, continent (did you mean "name"?)"#.to_owned(),
            r#"mapping.c: found a path into "lines", which is many records, expected a path into a single record, or jq for a list"#.to_owned(),
            r#"mapping.d: found a path into the column "i64", which is native i64 (i64), expected a column that holds JSON, or the column itself"#.to_owned(),
            r#"mapping.e.default: found cannot cast "many" (string) to i64, expected a value of kind i64"#.to_owned(),
            format!(r#"mapping.f.object.g: found no column "nothing_like_it", expected {known}"#),
            "mapping.h: found `.id +`, which at the end should have term, expected a jq program".to_owned(),
            "mapping.i: found an unknown function nosuch/1, expected a jq program".to_owned(),
            "mapping.j: found now, which mappings do not have: a document depends on its record alone, expected a jq program".to_owned(),
            format!(r#"mapping.k: found no column "strin", expected {known} (did you mean "string"?)"#),
            "mapping.l: found `include \"x\"; .`, which includes or imports a module, expected a jq program".to_owned(),
            "when: found an unknown variable $x, expected a jq program".to_owned(),
            r#"key: found no column "idd", expected one of id, a.b, bool, i64, u64, decimal, f64, string, bytes, uuid, date, time, timestamp, timestamptz, json, any (did you mean "id"?)"#.to_owned(),
        ]
    );
}

#[test]
fn key_columns_are_taken_over_as_they_are_and_once() {
    let with_key = |fields, key: &[&str]| {
        let key = key.iter().map(|&name| name.to_owned()).collect();
        mistakes(&Spec { key, ..spec(fields) })
    };
    assert_eq!(
        with_key(vec![("x", path(&["string"], Some(Kind::Bytes), None))], &["id", "string"]),
        [
            r#"mapping: found no field that takes the key column "string" over as it is, expected one without cast, default, const or jq, at the top of the document (L12)"#
        ]
    );
    assert_eq!(
        with_key(vec![("x", Source::Object(vec![("y".into(), Source::column("uuid"))]))], &["uuid"]),
        [
            r#"mapping: found no field that takes the key column "uuid" over as it is, expected one without cast, default, const or jq, at the top of the document (L12)"#
        ]
    );
    assert_eq!(
        with_key(vec![("copy", Source::column("id"))], &["id"]),
        [
            r#"mapping: found "id" and "copy" that take the key column "id" over as it is, expected exactly one, the field that identifies the document (L12); copy it by jq"#
        ]
    );
    assert_eq!(
        with_key(vec![("x", Source::column("decimal"))], &["decimal"]),
        [
            r#"key: found the column "decimal" of kind decimal (native decimal), expected columns of kind i64, u64, bool, string, uuid or bytes, whose order every store shares"#
        ]
    );
    assert_eq!(
        with_key(Vec::new(), &[]),
        ["key: found no column, expected the columns that identify a record; the table has no primary key"]
    );
    let composite = Spec { key: vec!["uuid".into(), "id".into()], ..spec(vec![("u", Source::column("uuid"))]) };
    assert_eq!(compiled(&composite).mapper.shape().key, [1, 0]);
}

#[test]
fn columns_and_includes_are_checked() {
    let same = |columns: &[&str]| {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        mistakes(&Spec { fields: Fields::Same(Some(columns)), when: None, key: vec!["id".into()] })
    };
    assert_eq!(
        same(&["date", "dat", "date"]),
        [
            r#"columns: found the field "date" twice, expected each field once"#,
            r#"columns: found no column "dat", expected one of id, a.b, bool, i64, u64, decimal, f64, string, bytes, uuid, date, time, timestamp, timestamptz, json, any (did you mean "date"?)"#,
            r#"columns: found no field that takes the key column "id" over as it is, expected one without cast, default, const or jq, at the top of the document (L12)"#,
        ]
    );
    let mut clashing = includes();
    clashing[0].name = "date".into();
    clashing.push(clashing[1].clone());
    let Err(errors) = compile(&spec(Vec::new()), &table(), &clashing) else { panic!("clashing names were accepted") };
    let errors: Vec<_> = errors.iter().map(MappingError::to_string).collect();
    assert_eq!(
        errors,
        [
            r#"include.date: found "date", which is a column of the host too, expected a name of its own"#,
            r#"include.lines: found "lines" a second time, expected each name once"#,
        ]
    );
}
