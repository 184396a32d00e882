//! Partition keys: the paths of a container, and what a document holds there.

use azure_data_cosmos::PartitionKey;
use azure_data_cosmos::models::PartitionKeyValue;
use fides_core::{Fault, Value};
use fides_format::parse_json;
use serde_json::{Map, Value as Json, json};

use crate::number;

/// What a document holds at one path of the partition key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// Nothing: the document has no such field.
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

impl Part {
    /// The part that a value is written as; an array or an object is none.
    pub fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Absent => Self::Undefined,
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::I64(value) => Self::whole((*value).into()),
            Value::U64(value) => Self::whole((*value).into()),
            Value::F64(value) => Self::Number(*value),
            // At the top of a document a decimal is text; further down, where it is JSON, see `inside`.
            Value::Json(text) => Self::inside(&parse_json(text).ok()?)?,
            Value::Array(_) | Value::Object(_) => return None,
            text => match fides_format::cast(text.clone(), fides_core::Kind::String).ok()? {
                Value::String(text) => Self::Text(text.into_owned()),
                _ => return None,
            },
        })
    }

    /// The part that a value inside of JSON is, where numbers are numbers.
    fn inside(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::I64(_) | Value::U64(_) => Some(Self::Number(fides_format::to_json(value).parse().ok()?)),
            Value::Decimal(text) => Some(Self::Number(text.parse().ok()?)),
            value => Self::of(value),
        }
    }

    // Whole numbers beyond what a float holds are written as text.
    #[allow(clippy::cast_precision_loss)]
    fn whole(number: i128) -> Self {
        if number::is_whole(number) { Self::Number(number as f64) } else { Self::Text(number.to_string()) }
    }

    fn key(&self) -> PartitionKeyValue {
        match self {
            Self::Undefined => PartitionKeyValue::UNDEFINED,
            Self::Null => PartitionKeyValue::NULL,
            Self::Bool(value) => (*value).into(),
            Self::Number(value) => PartitionKeyValue::try_from(*value).unwrap_or(PartitionKeyValue::NULL),
            Self::Text(text) => text.clone().into(),
        }
    }

    fn json(&self) -> Json {
        match self {
            Self::Undefined => json!({}),
            Self::Null => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(value) => json!(value),
            Self::Text(text) => text.clone().into(),
        }
    }

    fn from_json(json: &Json) -> Option<Self> {
        Some(match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(value) => Self::Number(value.as_f64()?),
            Json::String(text) => Self::Text(text.clone()),
            Json::Object(_) => Self::Undefined,
            Json::Array(_) => return None,
        })
    }
}

/// One partition key: a part for each path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Partition(pub Vec<Part>);

impl Partition {
    /// As the driver takes it.
    pub fn key(&self) -> Result<PartitionKey, Fault> {
        let parts: Vec<PartitionKeyValue> = self.0.iter().map(Part::key).collect();
        PartitionKey::try_from(parts).map_err(|error| Fault::permanent("a partition key").because(error))
    }

    /// As an address document keeps it.
    pub fn json(&self) -> Json {
        self.0.iter().map(Part::json).collect()
    }

    /// The inverse of [`Partition::json`].
    pub fn from_json(json: &Json) -> Option<Self> {
        json.as_array()?.iter().map(Part::from_json).collect::<Option<_>>().map(Self)
    }

    /// Puts the parts into a document that has nothing else at these paths.
    pub fn put(&self, paths: &[Path], document: &mut Map<String, Json>) {
        for (path, part) in paths.iter().zip(&self.0) {
            if *part != Part::Undefined {
                path.put(part.json(), document);
            }
        }
    }
}

/// A path into a document: `/address/city`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<String>);

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|segment| write!(f, "/{segment}"))
    }
}

impl Path {
    /// Reads what a container's definition says, where a segment may stand in quotes.
    pub fn parse(path: &str) -> Self {
        let segment = |segment: &str| segment.trim_matches('"').to_owned();
        Self(path.split('/').skip(1).map(segment).collect())
    }

    /// The field at the top of the document that it begins with.
    pub fn field(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// Whether it is a field at the top of the document.
    pub fn is_top(&self) -> bool {
        self.0.len() == 1
    }

    /// What a field's value holds at the rest of the path.
    pub fn part(&self, field: &Value<'_>) -> Option<Part> {
        if self.is_top() {
            return Part::of(field);
        }
        match field {
            Value::Json(text) => descend(&parse_json(text).ok()?, &self.0[1..]),
            value => descend(value, &self.0[1..]),
        }
    }

    /// Sets a value at this path.
    pub fn put(&self, value: Json, document: &mut Map<String, Json>) {
        let Some((last, way)) = self.0.split_last() else { return };
        let mut at = document;
        for segment in way {
            let next = at.entry(segment.clone()).or_insert_with(|| Json::Object(Map::new()));
            let Json::Object(inner) = next else { return };
            at = inner;
        }
        at.insert(last.clone(), value);
    }
}

fn descend(value: &Value<'_>, way: &[String]) -> Option<Part> {
    let Some((name, rest)) = way.split_first() else { return Part::inside(value) };
    match value {
        Value::Object(fields) => match fields.iter().find(|(field, _)| field == name) {
            Some((_, inner)) => descend(inner, rest),
            None => Some(Part::Undefined),
        },
        _ => Some(Part::Undefined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_where_the_path_leads() {
        let path = Path::parse("/address/\"zip code\"");
        let value = Value::Json(r#"{"zip code": 10115.0, "x": []}"#.into());
        assert_eq!(path.part(&value), Some(Part::Number(10115.0)));
        assert_eq!(Path::parse("/address/x").part(&value), None);
        assert_eq!(Path::parse("/address/y/z").part(&value), Some(Part::Undefined));
        assert_eq!(Path::parse("/n").part(&Value::I64(i64::MAX)), Some(Part::Text(i64::MAX.to_string())));
        assert_eq!(Path::parse("/n").part(&Value::Decimal("1.50".into())), Some(Part::Text("1.50".into())));
    }

    #[test]
    fn a_partition_survives_its_address_document() {
        let parts = vec![Part::Undefined, Part::Null, Part::Number(0.1)];
        let partition = Partition(parts);
        assert_eq!(Partition::from_json(&partition.json()), Some(partition));
    }
}
