use fides_core::{Shape, Value};

use super::write::write_object;

/// A document as a JSON object, for people: the CLI and dead letters. Absent fields are left out.
pub fn document_to_json(shape: &Shape, row: &[Value<'_>]) -> String {
    let mut out = String::new();
    write_object(shape.fields.iter().map(|field| field.name.as_str()).zip(row), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use fides_core::{Field, Kind};

    use super::*;

    #[test]
    fn absent_fields_are_left_out_and_null_is_not() {
        let field = |name: &str| Field { name: name.to_owned(), kind: Kind::Any };
        let shape = Shape { fields: vec![field("id"), field("gone"), field("said \"x\"")], key: vec![0] };
        let json = document_to_json(&shape, &[Value::I64(7), Value::Absent, Value::Null]);
        assert_eq!(json, r#"{"id":7,"said \"x\"":null}"#);
    }
}
