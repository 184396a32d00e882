//! Every type, with values that are easily lost.

#![allow(clippy::unwrap_used)]

use fides_core::Value;

use super::Database;

pub fn string(text: &str) -> Value<'_> {
    Value::String(text.into())
}

/// Type, literal, and the value it reads as.
pub fn cases() -> Vec<(&'static str, &'static str, Value<'static>)> {
    let decimal = |text: &'static str| Value::Decimal(text.into());
    let timestamp = |text: &'static str| Value::Timestamp(text.into());
    let list = Value::Array;
    vec![
        ("smallint", "-32768", Value::I64(-32_768)),
        ("bigint", "9223372036854775807", Value::I64(i64::MAX)),
        ("oid", "4294967295", Value::I64(4_294_967_295)),
        ("numeric", "12345678901234567890123.4500", decimal("12345678901234567890123.4500")),
        ("numeric", "NaN", decimal("NaN")),
        ("numeric", "-Infinity", decimal("-Infinity")),
        ("real", "0.1", Value::F64(0.1)),
        ("double precision", "-0", Value::F64(-0.0)),
        ("double precision", "1.7976931348623157e308", Value::F64(f64::MAX)),
        ("double precision", "Infinity", Value::F64(f64::INFINITY)),
        ("boolean", "f", Value::Bool(false)),
        ("text", "tab\t nl\n cr\r bs\\ \\N \\. q\" é 日本 😀", string("tab\t nl\n cr\r bs\\ \\N \\. q\" é 日本 😀")),
        ("text", "\\N", string("\\N")),
        ("text", "", string("")),
        ("varchar(5)", "ab c ", string("ab c ")),
        ("char(4)", "ab", string("ab  ")),
        ("name", "n", string("n")),
        ("mood", "so \"so\"", string("so \"so\"")),
        ("short", "dom", string("dom")),
        ("bytea", "\\x00ff5c0a", Value::Bytes(vec![0, 255, 0x5c, 10].into())),
        ("uuid", "00112233-4455-6677-8899-AABBCCDDEEFF", Value::Uuid(std::array::from_fn(|at| at as u8 * 0x11))),
        ("date", "0044-03-15 BC", Value::Date("-0043-03-15".into())),
        ("date", "infinity", Value::Date("infinity".into())),
        ("date", "12024-01-01", Value::Date("12024-01-01".into())),
        ("time", "24:00:00", Value::Time("24:00:00".into())),
        ("timetz", "13:05:00.25+02", Value::Time("13:05:00.25+02:00".into())),
        ("timestamp", "2024-01-01 10:00:00.5", timestamp("2024-01-01T10:00:00.5")),
        ("timestamp", "-infinity", timestamp("-infinity")),
        ("timestamptz", "2024-01-01 10:00:00.5+05:30", timestamp("2024-01-01T04:30:00.5Z")),
        ("timestamptz", "0001-01-01 00:00:00+00 BC", timestamp("0000-01-01T00:00:00Z")),
        ("json", "{ \"a\" :1.0, \"a\":\n2}", Value::Json("{ \"a\" :1.0, \"a\":\n2}".into())),
        ("jsonb", "null", Value::Json("null".into())),
        ("int[]", "{1,NULL,-3}", list(vec![Value::I64(1), Value::Null, Value::I64(-3)])),
        (
            "int[]",
            "{{1,2},{3,4}}",
            list(vec![list(vec![Value::I64(1), Value::I64(2)]), list(vec![Value::I64(3), Value::I64(4)])]),
        ),
        ("int[]", "[0:1]={5,6}", string("[0:1]={5,6}")),
        (
            "text[]",
            r#"{NULL,"NULL","",a b,"q\"\\,{}","	"}"#,
            list(vec![Value::Null, string("NULL"), string(""), string("a b"), string("q\"\\,{}"), string("\t")]),
        ),
        ("bytea[]", r#"{"\\x00ff"}"#, list(vec![Value::Bytes(vec![0, 255].into())])),
        ("timestamptz[]", "{\"2024-01-01 00:00:00+00\"}", list(vec![timestamp("2024-01-01T00:00:00Z")])),
        ("jsonb[]", r#"{"{\"a\": 1}"}"#, list(vec![Value::Json("{\"a\": 1}".into())])),
        ("interval", "1 year 2 mons -3 days 04:05:06.7", string("1 year 2 mons -3 days +04:05:06.7")),
        ("inet", "10.0.0.1/8", string("10.0.0.1/8")),
        ("int4range", "[1,5)", string("[1,5)")),
        ("point", "(1,2)", string("(1,2)")),
        ("box[]", "{(3,4),(1,2);(7,8),(5,6)}", string("{(3,4),(1,2);(7,8),(5,6)}")),
        ("money", "-12.50", string("-$12.50")),
        ("xml", "<a>é</a>", string("<a>é</a>")),
        ("bit(3)", "101", string("101")),
        ("tsvector", "'a':1 'b'", string("'a':1 'b'")),
    ]
}

pub async fn table_of_types(database: &Database) -> Vec<Value<'static>> {
    let cases = cases();
    database
        .execute("CREATE TYPE mood AS ENUM ('so \"so\"'); CREATE DOMAIN short AS varchar(5) CHECK (value <> 'x')")
        .await;
    let columns: Vec<String> = cases.iter().enumerate().map(|(at, (ty, ..))| format!("c{at} {ty}")).collect();
    database.execute(&format!("CREATE TABLE a (id int PRIMARY KEY, {})", columns.join(", "))).await;
    let literals: Vec<String> = cases.iter().map(|(_, text, _)| format!("'{}'", text.replace('\'', "''"))).collect();
    database.execute(&format!("INSERT INTO a VALUES (1, {}); INSERT INTO a VALUES (2)", literals.join(", "))).await;
    cases.into_iter().map(|(.., value)| value).collect()
}
