use fides_core::{Fault, Value};
use fides_format::parse_json;
use fides_format::text::{bytes_text, canonical_decimal, uuid_text};
use jaq_core::ValT as _;
use jaq_json::{Map, Num, Val};

/// Outputs nest at most this deep, as JSON does.
const DEPTH_MAX: usize = 128;

/// A value as jq sees it: decimals keep their text until they are calculated with, raw JSON is read, kinds that JSON
/// does not have are the strings that JSON has for them; NaN and the infinities are numbers.
pub(super) fn from_value(value: &Value<'_>) -> Result<Val, Fault> {
    Ok(match value {
        Value::Null | Value::Absent => Val::Null,
        Value::Bool(value) => Val::Bool(*value),
        Value::I64(value) => Val::Num(Num::from_integral(*value)),
        Value::U64(value) => Val::Num(Num::from_integral(*value)),
        Value::F64(value) => Val::from(*value),
        Value::Decimal(text) => number(text)?,
        Value::String(text) | Value::Date(text) | Value::Time(text) | Value::Timestamp(text) => string(text),
        Value::Bytes(bytes) => string(&bytes_text(bytes)),
        Value::Uuid(uuid) => string(&uuid_text(uuid)),
        Value::Json(text) => from_value(&parse_json(text)?)?,
        Value::Array(items) => items.iter().map(from_value).collect::<Result<Val, Fault>>()?,
        Value::Object(fields) => object(fields.iter().map(|(name, value)| (&**name, value)))?,
    })
}

/// Named values as an object.
pub(super) fn object<'v>(fields: impl Iterator<Item = (&'v str, &'v Value<'v>)>) -> Result<Val, Fault> {
    let mut map = Map::default();
    for (name, value) in fields {
        let value = from_value(value).map_err(|fault| fault.at(name))?;
        map.insert(string(name), value);
    }
    Ok(Val::obj(map))
}

fn string(text: &str) -> Val {
    Val::from(text.to_owned())
}

fn number(text: &str) -> Result<Val, Fault> {
    let refused = || Fault::permanent(format!("{text:?} is no number"));
    Ok(match &*canonical_decimal(text).ok_or_else(refused)? {
        "NaN" => Val::from(f64::NAN),
        "Infinity" => Val::from(f64::INFINITY),
        "-Infinity" => Val::from(f64::NEG_INFINITY),
        // jaq would make `-0` an integer, which has no sign.
        "-0" => Val::from_num("-0.0").map_err(|_| refused())?,
        finite => Val::from_num(finite).map_err(|_| refused())?,
    })
}

/// What a program gave, as a value.
pub(super) fn into_value(val: &Val) -> Result<Value<'static>, Fault> {
    nested(val, 0)
}

fn nested(val: &Val, depth: usize) -> Result<Value<'static>, Fault> {
    if depth > DEPTH_MAX {
        return Err(Fault::permanent(format!("its result nests deeper than {DEPTH_MAX} levels")));
    }
    Ok(match val {
        Val::Null => Value::Null,
        Val::Bool(value) => Value::Bool(*value),
        Val::Num(Num::Int(value)) => Value::I64(*value as i64),
        Val::Num(Num::Float(value)) => Value::F64(*value),
        Val::Num(number @ (Num::BigInt(_) | Num::Dec(_))) => written(&number.to_string())?,
        Val::TStr(bytes) => Value::String(utf8(bytes)?.into()),
        Val::BStr(bytes) => Value::Bytes(bytes.to_vec().into()),
        Val::Arr(items) => Value::Array(items.iter().map(|item| nested(item, depth + 1)).collect::<Result<_, _>>()?),
        Val::Obj(fields) => {
            let field = |(name, value): (&Val, &Val)| match name {
                Val::TStr(name) => Ok((utf8(name)?.into(), nested(value, depth + 1)?)),
                _ => Err(Fault::permanent("its result is an object with a key that is no string")),
            };
            Value::Object(fields.iter().map(field).collect::<Result<_, _>>()?)
        }
    })
}

fn written(text: &str) -> Result<Value<'static>, Fault> {
    if let Ok(value) = text.parse() {
        return Ok(Value::U64(value));
    }
    let refused = || Fault::permanent(format!("its result {text:?} is no number"));
    Ok(Value::Decimal(canonical_decimal(text).ok_or_else(refused)?.into_owned().into()))
}

fn utf8(bytes: &[u8]) -> Result<String, Fault> {
    let refused = |_| Fault::permanent("its result is a string that is not UTF-8");
    std::str::from_utf8(bytes).map(str::to_owned).map_err(refused)
}
