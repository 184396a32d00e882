//! `FIDES__SECTION__KEY=value`.

use super::super::{Columns, Fields, Store};
use super::{pipeline, read, refused_with};

#[test]
fn a_variable_overrides_the_file() {
    let variables = [
        ("FIDES__LIMITS", "{ lanes: 2, gather_ms_max: 7 }"),
        ("FIDES__LIMITS__LANES", "8"),
        ("FIDES__PIPELINES__P__CREATE", "true"),
        ("FIDES__PIPELINES__P__COLUMNS", "[id, name]"),
        ("FIDES__PIPELINES__P__WHEN", "'.a == \"b\"'"),
        ("FIDES__PIPELINES__P__SCHEDULE", ""),
        ("FIDES__HOSTS__SHOP__PATH", "/data/${NOT_A_VARIABLE}: #1.sqlite"),
        ("FIDES_OTHER", "ignored"),
    ];
    let config = read(&pipeline("schedule: '0 0 0 * * *'"), &variables).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((config.limits.lanes, config.limits.gather_ms_max), (8, 7));
    let pipeline = &config.pipelines[0];
    assert_eq!((pipeline.create, pipeline.schedule.as_ref()), (true, None));
    assert_eq!(pipeline.when.as_deref(), Some(".a == \"b\""));
    assert_eq!(pipeline.fields, Fields::Same(Columns::Only(vec!["id".into(), "name".into()])));
    assert!(matches!(&config.hosts["shop"], Store::Sqlite { path } if path.ends_with("${NOT_A_VARIABLE}: #1.sqlite")));
}

#[test]
fn a_dash_is_written_as_an_underscore() {
    let text = pipeline("").replace("  p:", "  my-Pipe:").replace("my-Pipe", "my-pipe");
    let config = read(&text, &[("FIDES__PIPELINES__MY_PIPE__CREATE", "true")]).unwrap();
    assert!(config.pipelines[0].create);

    let text = text.replace(
        "pipelines:\n",
        "pipelines:\n  my_pipe: { host: shop, from: a, target: search, into: a, columns: '*' }\n",
    );
    assert_eq!(
        refused_with(&text, &[("FIDES__PIPELINES__MY_PIPE__CREATE", "true")]),
        "FIDES__PIPELINES__MY_PIPE__CREATE  pipelines\n    \
         found several keys that MY_PIPE can mean, expected names that differ in more than - and _"
    );
}

#[test]
fn a_mistake_names_its_variable() {
    let said = |name: &str, value: &str| refused_with(&pipeline(""), &[(name, value)]);
    assert_eq!(
        said("FIDES__LIMITS__LANES", "0"),
        "FIDES__LIMITS__LANES  limits.lanes\n    found 0, expected a whole number from 1 to 64"
    );
    assert!(
        said("FIDES__LIMIT__LANES", "4")
            .starts_with("FIDES__LIMIT__LANES  limit\n    found the unknown key \"limit\", expected one of the keys")
    );
    assert_eq!(
        said("FIDES__PIPELINES__P__HOST__X", "1"),
        "FIDES__PIPELINES__P__HOST__X  pipelines.p.host\n    \
         found \"shop\", expected a map, since FIDES__PIPELINES__P__HOST__X names a key in it"
    );
    assert!(
        said("FIDES____LANES", "4")
            .contains("found an empty part in the variable's name, expected FIDES__SECTION__KEY")
    );
    assert!(said("FIDES__LIMITS", "{ lanes").starts_with("FIDES__LIMITS\n    found"));
}
