//! Mappings that outlive their configuration: made again of a recipe, they are what they were.

use super::*;

/// A mapping with everything that a mapping can have.
fn everything() -> Spec {
    let object = Source::Object(vec![
        ("city".into(), path(&["country", "continent", "name"], None, None)),
        ("nested".into(), Source::Object(vec![("deep".into(), program(".i64 + 1", Kind::I64))])),
    ]);
    let mut spec = spec(vec![
        ("taken", path(&["a", "b"], None, None)),
        ("cast", path(&["i64"], Some(Kind::String), Some(text("none").into_owned()))),
        ("fixed", Source::Const(Value::Decimal("1.50".into()))),
        ("list", Source::Const(Value::Array(vec![Value::Null, Value::F64(-0.0)]))),
        ("object", object),
        ("lines", program("[.lines[]?.price]", Kind::Json)),
    ]);
    spec.when = Some(".bool != false".into());
    spec
}

fn values<'v>() -> Vec<(&'static str, Value<'v>)> {
    let country = r#"{"name":"x","continent":{"name":"Europe"}}"#;
    vec![
        ("a.b", text("ab")),
        ("i64", Value::I64(7)),
        ("bool", Value::Bool(true)),
        ("country", Value::Json(country.into())),
        ("lines", Value::Json(r#"[{"price":1.10}]"#.into())),
    ]
}

#[test]
fn a_mapping_is_made_again_of_its_recipe() {
    let same = |columns: Option<&[&str]>| Spec {
        fields: Fields::Same(columns.map(|names| names.iter().map(|&name| name.to_owned()).collect())),
        when: None,
        key: vec!["id".into()],
    };
    for spec in [everything(), same(None), same(Some(&["id", "decimal"])), spec(vec![("x", Source::column("f64"))])] {
        let before = compiled(&spec);
        // Another mapper recalls it: that of the edit.
        let after = compiled(&self::spec(vec![])).mapper.recall(before.mapper.recipe()).unwrap();
        assert_eq!(after.mapper.revision(), before.mapper.revision());
        assert_eq!(after.mapper.shape(), before.mapper.shape());
        let names = |columns: &[Column]| columns.iter().map(|c| (c.name.clone(), c.kind)).collect::<Vec<_>>();
        assert_eq!(names(&after.columns), names(&before.columns));
        assert_eq!((&after.includes.len(), &after.key), (&before.includes.len(), &before.key));
        let record = record(&before, &values());
        let document = |mapper: &dyn fides_core::port::Mapper| {
            let mut out = Vec::new();
            let mapped = mapper.map(&record, &mut out).unwrap();
            (mapped, out)
        };
        assert_eq!(document(&*after.mapper), document(&*before.mapper));
    }
}

#[test]
fn a_recipe_of_another_format_makes_no_mapper() {
    let mapper = compiled(&everything()).mapper;
    let mut recipe = mapper.recipe().to_vec();
    recipe[0] += 1;
    let Err(fault) = mapper.recall(&recipe) else { panic!("it would map in another way") };
    assert!(fault.to_string().contains("format 2"), "{fault}");
}

/// What no release would have kept in this way is no proof of any mark.
#[test]
fn a_recipe_that_another_mapper_would_be_made_of_makes_none() {
    let spec = spec(vec![("x", Source::column("i64"))]);
    let (columns, mapper) = (table().columns, compiled(&spec).mapper);
    let more = crate::recipe::encode(&spec, &columns, &[]);
    assert_ne!(more, mapper.recipe(), "it reads less");
    assert!(mapper.recall(&more).is_err());
}

proptest::proptest! {
    #[test]
    fn foreign_bytes_never_panic(at in 0usize..400, byte: u8, cut in 1usize..400) {
        let mapper = compiled(&everything()).mapper;
        let mut recipe = mapper.recipe().to_vec();
        let len = recipe.len();
        recipe[at % len] = byte;
        recipe.truncate(cut.max(len / 2));
        let _ = mapper.recall(&recipe);
    }
}
