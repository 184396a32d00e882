//! The key in SQL: how it is ordered, compared and written as literals so that the server's order is the order of the
//! key encoding.

use std::fmt::Write;

use fides_core::{Fault, Key, Kind, Selection, Value};
use fides_format::text::uuid_text;

use crate::catalog::{Attribute, Order, Relation};
use crate::kind::MyType;
use crate::quote;

/// One column of the key.
#[derive(Debug)]
pub(crate) struct KeyColumn {
    pub(crate) name: String,
    pub(crate) ty: MyType,
    /// The column as it is looked up, by its own collation, so that any index serves. What is equal by it and is not the
    /// key is left out by whoever reads.
    equal: String,
    /// The column as it is sorted and compared.
    sorted: String,
    /// Whether `sorted` is the bytes of the value.
    in_bytes: bool,
}

/// The columns of a key, and whether an index keeps them in order.
#[derive(Debug)]
pub(crate) struct KeyColumns {
    pub(crate) columns: Vec<KeyColumn>,
    pub(crate) indexed: bool,
}

/// Why what is written into SQL is expected to succeed.
const ALWAYS: &str = "writing to a String cannot fail";

/// Which side of a key a bound keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// At or after the key.
    From,
    /// After the key.
    After,
    /// Before the key.
    Before,
}

impl KeyColumns {
    /// The key of a selection, refused clearly where MySQL does not order it as every store does.
    pub(crate) fn new(selection: &Selection, relation: &Relation) -> Result<Self, Fault> {
        let namespace = &selection.namespace;
        if selection.key.is_empty() || selection.key_positions().len() != selection.key.len() {
            return Err(Fault::permanent(format!(
                "table {namespace}: each key column must be one of the columns read"
            )));
        }
        let mut columns = Vec::with_capacity(selection.key.len());
        for &at in &selection.key_positions() {
            let declared = &selection.columns[at];
            let Some(found) = relation.column(&declared.name) else { continue };
            let column = KeyColumn::new(found, declared.kind).ok_or_else(|| {
                Fault::permanent(format!(
                    "key column {namespace}.{} is of type {}, which has no order that every store shares",
                    found.name, found.native
                ))
                .advise("use columns of an integer, text, binary, uuid or boolean type as the key")
            })?;
            columns.push(column);
        }
        let in_order = columns.iter().all(|column| column.sorted == column.equal);
        Ok(Self { indexed: in_order && relation.sorted_by(&selection.key), columns })
    }

    /// The key's columns as they are sorted.
    pub(crate) fn order(&self) -> String {
        let sorted: Vec<&str> = self.columns.iter().map(|column| column.sorted.as_str()).collect();
        sorted.join(", ")
    }

    /// The condition that keeps one side of `key`, which may name only the first columns. Spelled out column by column:
    /// the server seeks an index by that, and not by a comparison of rows.
    pub(crate) fn compare(&self, bound: Bound, key: &Key) -> Result<String, Fault> {
        let literals = self.literals(key, KeyColumn::compared)?;
        let whole = literals.len() == self.columns.len();
        let (strict, last) = match bound {
            Bound::From => (">", ">="),
            // What begins with these columns sorts after them.
            Bound::After if !whole => (">", ">="),
            Bound::After => (">", ">"),
            Bound::Before => ("<", "<"),
        };
        let mut out = String::new();
        let count = literals.len();
        for (at, (column, literal)) in self.columns.iter().zip(&literals).enumerate() {
            if at + 1 == count {
                write!(out, "{} {last} {literal}", column.sorted).expect(ALWAYS);
            } else {
                write!(out, "({0} {strict} {literal} OR ({0} = {literal} AND ", column.sorted).expect(ALWAYS);
            }
        }
        out.push_str(&"))".repeat(count.saturating_sub(1)));
        if count > 1 {
            // The optimizer takes a bound of the first column alone for a range of the index.
            write!(out, " AND {} {strict}= {}", self.columns[0].sorted, literals[0]).expect(ALWAYS);
        }
        Ok(if count == 0 { "TRUE".to_owned() } else { out })
    }

    /// The condition that finds `keys`, and perhaps records whose keys only the collation calls equal.
    pub(crate) fn among<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> Result<String, Fault> {
        let mut tuples = Vec::new();
        for key in keys {
            let literals = self.literals(key, KeyColumn::looked_up)?;
            if literals.len() != self.columns.len() {
                return Err(self.foreign(key));
            }
            tuples.push(literals);
        }
        if let [only] = &self.columns[..] {
            let all: Vec<String> = tuples.into_iter().flatten().collect();
            return Ok(format!("{} IN ({})", only.equal, all.join(", ")));
        }
        let one = |literals: &Vec<String>| {
            let parts =
                self.columns.iter().zip(literals).map(|(column, literal)| format!("{} = {literal}", column.equal));
            format!("({})", parts.collect::<Vec<_>>().join(" AND "))
        };
        Ok(tuples.iter().map(one).collect::<Vec<_>>().join(" OR "))
    }

    fn literals(
        &self,
        key: &Key,
        literal: impl Fn(&KeyColumn, &Value<'_>) -> Option<String>,
    ) -> Result<Vec<String>, Fault> {
        let values = key.decode()?;
        if values.len() > self.columns.len() {
            return Err(self.foreign(key));
        }
        let literals = self.columns.iter().zip(&values).map(|(column, value)| literal(column, value));
        literals.collect::<Option<_>>().ok_or_else(|| self.foreign(key))
    }

    /// A key of another shape would find another record, or none, which counts as proven absent (L8).
    fn foreign(&self, key: &Key) -> Fault {
        let names: Vec<String> =
            self.columns.iter().map(|column| format!("{} ({})", column.name, column.ty.kind())).collect();
        Fault::permanent(format!("key {key} is none of the columns {}", names.join(", ")))
            .advise("the key's type was changed: import anew")
    }
}

impl KeyColumn {
    /// The column as part of a key; `None` where it has no order that every store shares.
    pub(crate) fn new(found: &Attribute, kind: Kind) -> Option<Self> {
        let column = format!("p.{}", quote::name(&found.name));
        let ty = found.ty.read_as(kind);
        let (sorted, in_bytes) = match found.ty {
            MyType::Bool | MyType::Int | MyType::Unsigned
                if matches!(ty, MyType::Bool | MyType::Int | MyType::Unsigned) =>
            {
                (column.clone(), false)
            }
            MyType::Decimal if ty == MyType::Whole && found.scale == Some(0) => (column.clone(), false),
            MyType::Bytes if matches!(found.base.as_str(), "binary" | "varbinary" | "tinyblob" | "blob") => {
                (column.clone(), true)
            }
            MyType::Uuid if ty == MyType::Uuid => (format!("CAST({column} AS BINARY(16))"), true),
            MyType::Uuid => (format!("CAST({column} AS CHAR)"), false),
            MyType::Text if found.order == Order::Key => (column.clone(), false),
            MyType::Text => (format!("CAST(CONVERT({column} USING utf8mb4) AS BINARY)"), true),
            _ => return None,
        };
        Some(Self { name: found.name.clone(), ty, equal: column, sorted, in_bytes })
    }

    /// The literal that [`Self::sorted`] is compared with.
    fn compared(&self, value: &Value<'_>) -> Option<String> {
        let mut out = String::new();
        match (value, self.in_bytes) {
            _ if !is_of(value, self.ty) => return None,
            (Value::Uuid(uuid), true) if self.ty != MyType::UuidText => quote::put_bytes(uuid, &mut out),
            (Value::Uuid(uuid), true) => quote::put_bytes(uuid_text(uuid).as_bytes(), &mut out),
            (Value::String(text), true) => quote::put_bytes(text.as_bytes(), &mut out),
            _ => return self.looked_up(value),
        }
        Some(out)
    }

    /// The literal that [`Self::equal`] is compared with.
    fn looked_up(&self, value: &Value<'_>) -> Option<String> {
        if !is_of(value, self.ty) {
            return None;
        }
        let mut out = String::new();
        match value {
            Value::Bool(value) => out.push(if *value { '1' } else { '0' }),
            Value::I64(value) => out.push_str(&value.to_string()),
            Value::U64(value) => out.push_str(&value.to_string()),
            Value::Uuid(uuid) if self.ty == MyType::UuidBytes => quote::put_bytes(uuid, &mut out),
            Value::Uuid(uuid) => quote::put_text(&uuid_text(uuid), &mut out),
            Value::String(text) => quote::put_text(text, &mut out),
            Value::Bytes(bytes) => quote::put_bytes(bytes, &mut out),
            _ => return None,
        }
        Some(out)
    }
}

/// Whether a key column that is read as `ty` can hold this value.
pub(crate) fn is_of(value: &Value<'_>, ty: MyType) -> bool {
    match value {
        // A decoded key does not tell one kind of whole number from the other.
        Value::I64(_) | Value::U64(_) => matches!(ty, MyType::Int | MyType::Unsigned | MyType::Whole | MyType::Bool),
        Value::Bool(_) => ty == MyType::Bool,
        Value::String(_) => matches!(ty, MyType::Text | MyType::UuidText),
        Value::Bytes(_) => matches!(ty, MyType::Bytes | MyType::UuidBytes),
        Value::Uuid(_) => matches!(ty, MyType::Uuid | MyType::UuidText | MyType::UuidBytes),
        _ => false,
    }
}

/// Whether a column gives keys of `kind` back as they were written, and tells all of them apart.
pub(crate) fn keeps(column: &Attribute, kind: Kind) -> bool {
    match kind {
        Kind::I64 => matches!(column.ty, MyType::Int),
        Kind::U64 => {
            matches!(column.ty, MyType::Unsigned | MyType::Int)
                || (column.ty == MyType::Decimal && column.scale == Some(0))
        }
        Kind::Bool => column.ty == MyType::Bool,
        Kind::String | Kind::Any => column.ty == MyType::Text && column.order == Order::Key,
        // `binary(n)` pads with zeros.
        Kind::Bytes => column.base == "varbinary" || column.base.ends_with("blob"),
        Kind::Uuid => {
            column.ty == MyType::Uuid
                || (column.ty == MyType::Bytes && column.length_max == Some(16))
                || (column.ty == MyType::Text && column.order == Order::Key)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(all: &[(&str, MyType, bool)]) -> KeyColumns {
        let column = |(name, ty, in_bytes): &(&str, MyType, bool)| KeyColumn {
            name: (*name).to_owned(),
            ty: *ty,
            equal: format!("p.{name}"),
            sorted: if *in_bytes { format!("bytes({name})") } else { format!("p.{name}") },
            in_bytes: *in_bytes,
        };
        KeyColumns { columns: all.iter().map(column).collect(), indexed: true }
    }

    fn key(values: &[Value<'_>]) -> Key {
        Key::encode(values).unwrap()
    }

    #[test]
    fn bounds_are_spelled_out_column_by_column() {
        let one = columns(&[("a", MyType::Int, false)]);
        assert_eq!(one.compare(Bound::After, &key(&[Value::I64(-7)])).unwrap(), "p.a > -7");
        assert_eq!(one.compare(Bound::Before, &key(&[Value::U64(u64::MAX)])).unwrap(), "p.a < 18446744073709551615");
        let two = columns(&[("a", MyType::Text, true), ("b", MyType::Int, false)]);
        let whole = key(&[Value::String("é".into()), Value::I64(3)]);
        assert_eq!(
            two.compare(Bound::From, &whole).unwrap(),
            "(bytes(a) > X'c3a9' OR (bytes(a) = X'c3a9' AND p.b >= 3)) AND bytes(a) >= X'c3a9'"
        );
        // What begins with the first columns sorts after them.
        let first = key(&[Value::String("é".into())]);
        assert_eq!(two.compare(Bound::After, &first).unwrap(), "bytes(a) >= X'c3a9'");
        assert_eq!(two.compare(Bound::Before, &first).unwrap(), "bytes(a) < X'c3a9'");
    }

    #[test]
    fn keys_are_looked_up_by_the_column_itself() {
        let two = columns(&[("a", MyType::Text, true), ("b", MyType::UuidBytes, true)]);
        let wanted = key(&[Value::String("it's".into()), Value::Uuid([7; 16])]);
        let found = two.among([&wanted].into_iter()).unwrap();
        assert_eq!(found, "(p.a = 'it\\'s' AND p.b = X'07070707070707070707070707070707')");
        let one = columns(&[("a", MyType::Uuid, true)]);
        let found = one.among([&key(&[Value::Uuid([0; 16])])].into_iter()).unwrap();
        assert_eq!(found, "p.a IN ('00000000-0000-0000-0000-000000000000')");
    }

    #[test]
    fn a_key_of_another_shape_is_a_fault_and_never_absent() {
        let one = columns(&[("a", MyType::Int, false)]);
        for other in [
            key(&[Value::String("7".into())]),
            key(&[Value::I64(7), Value::I64(7)]),
            key(&[Value::Bytes(vec![7].into())]),
        ] {
            assert!(one.among([&other].into_iter()).is_err(), "{other}");
            assert!(one.compare(Bound::From, &other).is_err(), "{other}");
        }
        let two = columns(&[("a", MyType::Int, false), ("b", MyType::Int, false)]);
        assert!(two.among([&key(&[Value::I64(7)])].into_iter()).is_err(), "only its first column");
    }
}
