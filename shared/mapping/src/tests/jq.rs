use super::*;

fn run(text: &str, kind: Kind, values: &[(&str, Value<'_>)]) -> Result<Value<'static>, Fault> {
    field(program(text, kind), values)
}

#[test]
fn numbers_survive() {
    let forty = "1234567890123456789012345678901234567890.50";
    let decimal = Value::Decimal(forty.into());
    assert_eq!(run(".decimal", Kind::Decimal, &[("decimal", decimal)]).expect("a value"), Value::Decimal(forty.into()));
    let large = Value::I64(9_007_199_254_740_993);
    assert_eq!(run(".i64", Kind::I64, &[("i64", large.clone())]).expect("a value"), large);
    let sum = run(".i64 + 1", Kind::I64, &[("i64", large)]).expect("a value");
    assert_eq!(sum, Value::I64(9_007_199_254_740_994));
    let u64 = Value::U64(u64::MAX);
    assert_eq!(run(".u64", Kind::U64, &[("u64", u64.clone())]).expect("a value"), u64);
    let json = Value::Json(r#"[9007199254740993,1.50,"9007199254740993","1.50"]"#.into());
    let parsed = run("[.json[0,1], (.json[2,3] | tonumber)]", Kind::Json, &[("json", json)]).expect("a value");
    assert_eq!(parsed, Value::Json("[9007199254740993,1.50,9007199254740993,1.50]".into()));
}

#[test]
fn what_is_no_number_of_json_survives() {
    let nan = run(".f64", Kind::F64, &[("f64", Value::F64(f64::NAN))]).expect("a value");
    assert!(matches!(nan, Value::F64(value) if value.is_nan()));
    let infinity = run(".decimal", Kind::Decimal, &[("decimal", Value::Decimal("-Infinity".into()))]);
    assert_eq!(infinity.expect("a value"), Value::Decimal("-Infinity".into()));
    let shown = run(".f64", Kind::Json, &[("f64", Value::F64(f64::INFINITY))]).expect("a value");
    assert_eq!(shown, Value::Json("\"Infinity\"".into()));
    let bytes = run(".bytes", Kind::Bytes, &[("bytes", Value::Bytes(vec![0, 255].into()))]).expect("a value");
    assert_eq!(bytes, Value::Bytes(vec![0, 255].into()));
}

#[test]
fn nothing_is_absent_and_null_is_null() {
    assert_eq!(run("empty", Kind::I64, &[]).expect("a value"), Value::Absent);
    assert_eq!(run("null", Kind::I64, &[]).expect("a value"), Value::Null);
    assert_eq!(run(".string", Kind::Json, &[]).expect("a value"), Value::Null);
    assert_eq!(run(".string", Kind::Json, &[("string", text("a"))]).expect("a value"), Value::Json("\"a\"".into()));
}

#[test]
fn faults_name_field_program_and_reason() {
    let what = |program: &str, kind| run(program, kind, &[("string", text("abc"))]).expect_err("a fault").to_string();
    assert_eq!(what(".string + 1", Kind::Json), r#"field x: jq `.string + 1`: cannot calculate "abc" + 1"#);
    assert_eq!(
        what(".string, 1", Kind::Json),
        "field x: jq `.string, 1`: it gives more than one value (collect them: [ … ])"
    );
    assert_eq!(what(".string", Kind::I64), r#"field x: cannot cast "abc" (string) to i64"#);
    assert_eq!(what("error(\"no\")", Kind::I64), "field x: jq `error(\"no\")`: \"no\"");
    assert_eq!(
        what("{(1|tostring|tobytes): 1}", Kind::Json),
        "field x: jq `{(1|tostring|tobytes): 1}`: its result is an object with a key that is no string"
    );
}

#[test]
fn when_excludes() {
    let when = |condition: &str, total| {
        map(&Spec { when: Some(condition.into()), ..spec(Vec::new()) }, &[("i64", Value::I64(total))])
    };
    assert_eq!(when(".i64 > 0", 1).expect("a document"), r#"{"id":1}"#);
    assert_eq!(when(".i64 > 0", 0).expect("none"), "-");
    assert_eq!(when(".string", 0).expect("none"), "-");
    assert_eq!(when("select(.i64 > 0)", 0).expect("none"), "-");
    assert_eq!(when(".i64", 0).expect("a document"), r#"{"id":1}"#);
    let fault = when(".i64 | test(\"a\")", 0).expect_err("no text").to_string();
    assert!(fault.starts_with("when: jq `.i64 | test(\"a\")`: cannot use 0 as string"), "{fault}");
}

#[test]
fn reads_are_narrowed_where_the_program_shows_them() {
    let all = table().columns.len() + 2;
    for (text, expected) in [
        (".string", vec!["id", "string"]),
        (".json.a.b[0]", vec!["id", "json"]),
        (".\"a.b\" + .string", vec!["id", "a.b", "string"]),
        ("\"\\(.i64) of \\(.u64)\"", vec!["id", "i64", "u64"]),
        ("if .bool then .i64 else {n: .u64, date} end", vec!["id", "bool", "i64", "u64", "date"]),
        ("[.lines[] | .price] | add", vec!["id", "lines"]),
        ("reduce .lines[] as $line (0; . + $line.price)", vec!["id", "lines"]),
        (".i64 as $n | .json[$n]", vec!["id", "i64", "json"]),
        (".string | ascii_downcase", vec!["id", "string"]),
        ("true", vec!["id"]),
    ] {
        assert_eq!(reads(&compiled(&spec(vec![("x", program(text, Kind::Json))]))), expected, "{text}");
    }
    for text in [
        ".",
        "..",
        ".[]",
        "keys",
        ". as $r | $r.string",
        ".string |= 1",
        "if .bool then .i64 end",
        "select(.bool)",
        ".[.string]",
    ] {
        assert_eq!(reads(&compiled(&spec(vec![("x", program(text, Kind::Json))]))).len(), all, "{text}");
    }
    let when = Spec { when: Some(".bool".into()), ..spec(Vec::new()) };
    assert_eq!(reads(&compiled(&when)), ["id", "bool"]);
}

#[test]
fn the_world_is_out_of_reach() {
    for name in [
        "halt",
        "halt(1)",
        "halt_error",
        "halt_error(1)",
        "env",
        "$ENV",
        "$ENV.PATH",
        "now",
        "localtime",
        "strflocaltime(\"%Y\")",
        "debug",
        "debug(1)",
        "stderr",
        "input",
        "inputs",
        "input_filename",
        "get_search_list",
        "import \"a\" as a; .",
    ] {
        let found = mistakes(&spec(vec![("x", program(name, Kind::Json))]));
        assert_eq!(found.len(), 1, "{name}: {found:?}");
    }
}

#[test]
fn programs_without_an_end_are_ended() {
    for (text, reason) in [
        ("def f: f; f", "takes more than 4000000 steps"),
        ("last(repeat(1))", "takes more than 4000000 steps"),
        ("last(range(0; 1; 0))", "takes more than 4000000 steps"),
        ("until(false; .)", "takes more than 4000000 steps"),
        ("def f: [f]; f", "recurses too deep"),
        ("def f: 1 + f; f", "recurses too deep"),
        ("reduce range(200) as $x (1; [.])", "nests deeper than 128 levels"),
    ] {
        let fault = run(text, Kind::Json, &[]).expect_err(text).to_string();
        assert!(fault.contains(reason), "{text}: {fault}");
    }
    let deep = format!("\"{}\" | fromjson", "[".repeat(10_000));
    let fault = run(&deep, Kind::Json, &[]).expect_err("too deep").to_string();
    assert!(fault.contains("nests deeper"), "{fault}");
}

#[test]
fn deep_and_long_programs_do_not_exhaust_the_stack() {
    for text in ["(".repeat(16_000), "[".repeat(16_000), "-".repeat(16_000), "try ".repeat(4_000), ".|".repeat(8_000)] {
        assert_eq!(mistakes(&spec(vec![("x", program(&text, Kind::Json))])).len(), 1);
    }
    let nested = format!("{}1{}", "(".repeat(8_000), ")".repeat(8_000));
    assert_eq!(run(&nested, Kind::Json, &[]).expect("a value"), Value::Json("1".into()));
    let nested = format!("{}1{}", "[".repeat(8_000), "]".repeat(8_000));
    assert!(run(&nested, Kind::Json, &[]).is_err());
    let long = format!(".{}", "|.".repeat(8_000));
    let _ = compiled(&spec(vec![("x", program(&long, Kind::Json))]));
    let _ = run(&long, Kind::Json, &[]);
    assert_eq!(mistakes(&spec(vec![("x", program(&" ".repeat(20_000), Kind::Json))])).len(), 1);
}

#[test]
fn one_program_serves_threads_at_once() {
    let mapping = compiled(&spec(vec![("x", program("[range(.i64)] | add", Kind::I64))]));
    std::thread::scope(|scope| {
        for total in 1..5i64 {
            let mapping = &mapping;
            scope.spawn(move || {
                let mut out = Vec::new();
                let values = record(mapping, &[("i64", Value::I64(total))]);
                mapping.mapper.map(&values, &mut out).expect("a document");
                assert_eq!(decode_row(&out).expect("a row")[1], Value::I64(total * (total - 1) / 2));
            });
        }
    });
}
