//! Keys in the order of their encoding, and values as they were put in.

use fides_core::{Key, KeyRange, Kind, Value};
use fides_format::same;

use super::super::{Spec, column};
use super::{HostFixture, filled, items, key, open, read};

async fn keys_in_order(fixture: &dyn HostFixture, spec: &Spec, mut rows: Vec<Vec<Value<'static>>>) {
    rows.reverse();
    filled(fixture, spec, &rows).await;
    let found = read(fixture, spec).await;
    rows.sort_by_key(|row| key(&row[..spec.key.len()]));
    assert_eq!(found.iter().map(|record| record.values.clone()).collect::<Vec<_>>(), rows);
    let keys: Vec<Key> = rows.iter().map(|row| key(&row[..spec.key.len()])).collect();
    assert_eq!(found.iter().map(|record| record.key.clone()).collect::<Vec<_>>(), keys);
    let snapshot = open(fixture, &spec.selection(fixture.namespace(spec.name), 2)).await;
    let page = snapshot.fetch(&keys).await.expect("every key can be fetched");
    assert_eq!(page.len(), keys.len(), "every key is found under itself");
    for (at, after) in keys.iter().enumerate() {
        let page = snapshot.scan(&KeyRange::ALL, Some(after)).await.expect("every key is a cursor");
        assert_eq!(page.keys.iter().next(), keys.get(at + 1).map(Key::as_bytes), "after {after}");
    }
}

/// By code point, not by any language or case.
pub async fn text_keys(fixture: &dyn HostFixture) {
    let spec = Spec::new("words", 1, &[column("word", Kind::String), column("n", Kind::I64)]);
    let words = [
        "", " ", "A", "B", "Z", "a", "a ", "ab", "b", "é", "e\u{301}", "ß", "ss", "\u{ffff}", "😀", "中", "_", "%",
        "'", "\"", "\\",
    ];
    let row = |(at, word): (usize, &&'static str)| vec![Value::String((*word).into()), Value::I64(at as i64)];
    keys_in_order(fixture, &spec, words.iter().enumerate().map(row).collect()).await;
}

/// Byte by byte.
pub async fn byte_keys(fixture: &dyn HostFixture) {
    let spec = Spec::new("blobs", 1, &[column("digest", Kind::Bytes)]);
    let keys: [&[u8]; 7] = [&[], &[0], &[0, 0], &[0, 255], &[1], &[127, 128], &[255]];
    keys_in_order(fixture, &spec, keys.iter().map(|key| vec![Value::Bytes((*key).into())]).collect()).await;
}

/// In the order of their bytes.
pub async fn uuid_keys(fixture: &dyn HostFixture) {
    let spec = Spec::new("things", 1, &[column("nr", Kind::Uuid)]);
    let uuid = |first: u8| {
        let mut bytes = [0x5a; 16];
        bytes[0] = first;
        vec![Value::Uuid(bytes)]
    };
    keys_in_order(fixture, &spec, [0x00, 0x09, 0x0a, 0x9f, 0xa0, 0xff].map(uuid).to_vec()).await;
}

/// Column by column.
pub async fn composite_keys(fixture: &dyn HostFixture) {
    let spec =
        Spec::new("pairs", 2, &[column("a", Kind::String), column("b", Kind::I64), column("note", Kind::String)]);
    let mut rows = Vec::new();
    for a in ["", "a", "a\u{1}", "aa", "b"] {
        for b in [i64::MIN, -1, 0, 1, i64::MAX] {
            rows.push(vec![Value::String(a.into()), Value::I64(b), Value::Null]);
        }
    }
    keys_in_order(fixture, &spec, rows).await;
}

/// False before true.
pub async fn bool_keys(fixture: &dyn HostFixture) {
    let spec = Spec::new("switches", 2, &[column("on", Kind::Bool), column("nr", Kind::I64)]);
    let rows = [true, false].map(|on| [3, 1].map(|id| vec![Value::Bool(on), Value::I64(id)]));
    keys_in_order(fixture, &spec, rows.concat()).await;
}

/// No integer passes through a float.
pub async fn extreme_numbers(fixture: &dyn HostFixture) {
    let spec = items();
    let near = (1i64 << 53) + 1;
    let numbers = [i64::MIN, i64::MIN + 1, -near, near, i64::MAX - 1, i64::MAX];
    let row = |number: i64| vec![Value::I64(number), Value::Null, Value::I64(number)];
    keys_in_order(fixture, &spec, numbers.map(row).to_vec()).await;
}

/// Whatever text holds comes back as it was.
pub async fn odd_text(fixture: &dyn HostFixture) {
    let spec = items();
    let texts = [
        "",
        " x ",
        "tab\t nl\n cr\r bs\\ \\N \\. q\" a'",
        "e\u{301} ≠ é",
        "\u{1}\u{7f}\u{feff}",
        "日本語 العربية 😀",
        "NULL",
    ];
    let row =
        |(id, text): (usize, &&'static str)| vec![Value::I64(id as i64), Value::String((*text).into()), Value::Null];
    keys_in_order(fixture, &spec, texts.iter().enumerate().map(row).collect()).await;
}

/// NULL is NULL, and neither empty nor zero.
pub async fn nulls(fixture: &dyn HostFixture) {
    let spec = items();
    let rows = vec![
        vec![Value::I64(1), Value::Null, Value::Null],
        vec![Value::I64(2), Value::String("".into()), Value::I64(0)],
        vec![Value::I64(3), Value::Null, Value::I64(0)],
    ];
    keys_in_order(fixture, &spec, rows).await;
}

/// A table with a column of every kind that stores declare, and two rows of it.
pub(in crate::conformance) fn kinds(json_number: u64) -> (Spec, Vec<Vec<Value<'static>>>) {
    let columns: Vec<_> = [
        ("nr", Kind::I64),
        ("truth", Kind::Bool),
        ("amount", Kind::Decimal),
        ("ratio", Kind::F64),
        ("name", Kind::String),
        ("raw", Kind::Bytes),
        ("ref", Kind::Uuid),
        ("day", Kind::Date),
        ("clock", Kind::Time),
        ("at", Kind::Timestamp),
        ("instant", Kind::TimestampTz),
        ("extra", Kind::Json),
    ]
    .map(|(name, kind)| column(name, kind))
    .to_vec();
    let row = vec![
        Value::I64(1),
        Value::Bool(true),
        Value::Decimal("12345678901234567890.10".into()),
        Value::F64(0.1),
        Value::String("Zoë".into()),
        Value::Bytes(vec![0, 1, 254, 255].into()),
        Value::Uuid(*b"0123456789abcdef"),
        Value::Date("2024-02-29".into()),
        Value::Time("13:05:00.25".into()),
        Value::Timestamp("2024-02-29T13:05:00.25".into()),
        Value::Timestamp("2024-02-29T13:05:00.25Z".into()),
        Value::Json(format!(r#"{{"a": [1, "x", null, {json_number}]}}"#).into()),
    ];
    let mut nulls = vec![Value::Null; columns.len()];
    nulls[0] = Value::I64(2);
    (Spec::new("kinds", 1, &columns), vec![row, nulls])
}

/// Each declared kind is described as itself and reads as what was put in.
pub async fn every_kind(fixture: &dyn HostFixture) {
    let (spec, rows) = kinds(fixture.json_number());
    filled(fixture, &spec, &rows).await;
    let table = fixture.host().describe(&fixture.namespace(spec.name)).await.expect("it can be described");
    let table = table.expect("it exists");
    for (name, kind, _) in &spec.columns {
        assert_eq!(table.column(name).map(|column| column.kind), Some(*kind), "{name}");
    }
    for (record, row) in read(fixture, &spec).await.iter().zip(&rows) {
        assert_same(&spec, &record.values, row);
    }
}

pub(in crate::conformance) fn assert_same(spec: &Spec, found: &[Value<'_>], expected: &[Value<'_>]) {
    assert_eq!(found.len(), expected.len());
    for (((name, ..), found), expected) in spec.columns.iter().zip(found).zip(expected) {
        assert!(same(expected, found), "{name}: {found:?}, expected {expected:?}");
        assert_eq!(found.kind(), expected.kind(), "{name}: {found:?}, expected {expected:?}");
    }
}
