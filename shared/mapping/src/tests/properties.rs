use fides_core::encode_row;
use proptest::prelude::*;

use super::*;

/// A value that a column of this kind can have.
fn value(kind: Kind) -> BoxedStrategy<Value<'static>> {
    let text = |pattern: &'static str, make: fn(String) -> Value<'static>| pattern.prop_map(make).boxed();
    let some = match kind {
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::I64 => any::<i64>().prop_map(Value::I64).boxed(),
        Kind::U64 => any::<u64>().prop_map(Value::U64).boxed(),
        Kind::Decimal => text("-?[1-9][0-9]{0,40}(\\.[0-9]{1,9})?|NaN|-?Infinity", |text| Value::Decimal(text.into())),
        Kind::F64 => proptest::num::f64::ANY.prop_map(Value::F64).boxed(),
        Kind::String | Kind::Any => any::<String>().prop_map(|text| Value::String(text.into())).boxed(),
        Kind::Bytes => any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())).boxed(),
        Kind::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        Kind::Date => text("20[0-9]{2}-0[1-9]-[12][0-9]", |text| Value::Date(text.into())),
        Kind::Time => text("[01][0-9]:[0-5][0-9]:[0-5][0-9]", |text| Value::Time(text.into())),
        Kind::Timestamp => text("20[0-9]{2}-0[1-9]-1[0-9]T[01][0-9]:00:00", |text| Value::Timestamp(text.into())),
        Kind::TimestampTz => text("20[0-9]{2}-0[1-9]-1[0-9]T[01][0-9]:00:00Z", |text| Value::Timestamp(text.into())),
        Kind::Json => text("\\{\"a\":[0-9.\"]{0,4}[0-9]\\}|[1-9]{1,3}|null", |text| Value::Json(text.into())),
    };
    prop_oneof![4 => some, 1 => Just(Value::Null)].boxed()
}

fn values() -> impl Strategy<Value = Vec<Value<'static>>> {
    let columns: Vec<_> = table().columns.iter().map(|column| value(column.kind)).collect();
    let includes = [value(Kind::Json), value(Kind::Json)];
    columns.into_iter().chain(includes).collect::<Vec<_>>()
}

fn same() -> Compiled {
    compiled(&Spec { fields: Fields::Same(None), when: None, key: vec!["id".into()] })
}

fn document(compiled: &Compiled, values: &[Value<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mapped = compiled.mapper.map(values, &mut out);
    assert_eq!(mapped.unwrap_or_else(|fault| panic!("{fault}")), Mapped::Document);
    out
}

/// A source of any shape that compiles.
fn source() -> impl Strategy<Value = Source> {
    let names: Vec<_> = table().columns.into_iter().map(|column| column.name).filter(|name| name != "id").collect();
    let kind = proptest::sample::select(&Kind::ALL[..]);
    let taken = (proptest::sample::select(names), proptest::option::of(kind.clone()));
    let taken = taken.prop_map(|(name, cast)| Source::Column { path: vec![name], cast, default: None });
    let jq =
        (proptest::sample::select(&[".string", ".decimal", ".json.a?", ".f64", ".bytes", "[.u64, .any]"][..]), kind);
    let leaf = prop_oneof![taken, jq.prop_map(|(text, kind)| program(text, kind))];
    leaf.prop_recursive(2, 8, 3, |inner| {
        proptest::collection::btree_map("[a-z]{1,3}", inner, 1..4)
            .prop_map(|fields| Source::Object(fields.into_iter().collect()))
    })
}

proptest! {
    #[test]
    fn taking_columns_over_is_encoding_their_values(values in values()) {
        let mut expected = Vec::new();
        encode_row(&mut expected, &values);
        prop_assert_eq!(document(&same(), &values), expected);
    }

    #[test]
    fn different_records_have_different_documents(left in values(), right in values(), at in 0usize..18) {
        let compiled = same();
        let mut nearly = left.clone();
        nearly[at].clone_from(&right[at]);
        // NaN differs from itself, but has one encoding.
        let is_equal = format!("{:?}", nearly[at]) == format!("{:?}", left[at]);
        prop_assert_eq!(document(&compiled, &left) == document(&compiled, &nearly), is_equal);
    }

    #[test]
    fn no_mapping_panics_and_a_fault_leaves_nothing(source in source(), values in values()) {
        let compiled = compiled(&spec(vec![("x", source)]));
        let names = table().columns.into_iter().map(|column| column.name).chain(["country".into(), "lines".into()]);
        let named: Vec<_> = names.zip(values).collect();
        let named: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let mut out = Vec::new();
        match compiled.mapper.map(&record(&compiled, &named), &mut out) {
            Ok(_) => prop_assert_eq!(decode_row(&out).map_or(0, |row| row.len()), 2),
            Err(_) => prop_assert!(out.is_empty()),
        }
    }

    #[test]
    fn any_text_is_a_program_or_a_mistake(text in "\\PC{0,40}|([.|,()\\[\\]{}:+*/-]|def f: |f|;|as \\$x|\\$x|\"a\"|[0-9]|if | then | else | end|reduce |foreach |try |\\.\\.|recurse|map|repeat|range|first|limit|path|error|label \\$y \\||break \\$y|tojson|fromjson|test|sub| ){1,16}") {
        let Ok(compiled) = compile(&spec(vec![("x", program(&text, Kind::Json))]), &table(), &includes()) else {
            return Ok(());
        };
        let values = record(&compiled, &[("string", super::text("abc")), ("i64", Value::I64(3))]);
        let _ = compiled.mapper.map(&values, &mut Vec::new());
    }
}
