//! Declared types. SQLite keeps them as free text and derives only an affinity from them; Fides also reads the common
//! names that the affinity forgets (`BOOLEAN`, `UUID`, `TIMESTAMP` …).

use fides_core::Kind;

/// What a column declared as `declared` is read as. A value of another storage class keeps its own kind, so a wrong
/// guess loses nothing.
pub(crate) fn of(declared: &str) -> Kind {
    let name = declared.split('(').next().unwrap_or_default().trim().to_ascii_uppercase();
    let rest = declared.split_once(')').map_or("", |(_, rest)| rest).trim().to_ascii_uppercase();
    match name.as_str() {
        "" | "ANY" => Kind::Any,
        "BOOL" | "BOOLEAN" => Kind::Bool,
        "UNSIGNED TEXT" => Kind::U64,
        "DATE" => Kind::Date,
        "TIME" => Kind::Time,
        "TIMESTAMPTZ" | "DATETIMEOFFSET" | "TIMESTAMP WITH TIME ZONE" => Kind::TimestampTz,
        "TIMESTAMP" if rest == "WITH TIME ZONE" => Kind::TimestampTz,
        "TIMESTAMP" | "DATETIME" | "DATETIME2" | "TIMESTAMP WITHOUT TIME ZONE" => Kind::Timestamp,
        "JSON" | "JSONB" | "JSON TEXT" => Kind::Json,
        "UUID" | "GUID" | "UNIQUEIDENTIFIER" => Kind::Uuid,
        "DECIMAL" | "NUMERIC" | "NUMBER" | "MONEY" | "DECIMAL TEXT" => Kind::Decimal,
        "STRING" => Kind::String,
        "BINARY" | "VARBINARY" | "BYTEA" => Kind::Bytes,
        other => by_affinity(other),
    }
}

/// The rules of SQLite's own documentation ("Determination Of Column Affinity"), in its order.
fn by_affinity(name: &str) -> Kind {
    let has = |part: &str| name.contains(part);
    if has("INT") {
        Kind::I64
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Kind::String
    } else if has("BLOB") {
        Kind::Bytes
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Kind::F64
    } else {
        Kind::Any
    }
}

/// What SQLite converts values to before it stores them in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Affinity {
    Integer,
    Numeric,
    Real,
    Text,
    /// Nothing is converted.
    None,
}

impl Affinity {
    /// By the rules that [`by_affinity`] follows, too.
    pub(crate) fn of(declared: &str) -> Self {
        let name = declared.to_ascii_uppercase();
        let has = |part: &str| name.contains(part);
        if has("INT") {
            Self::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::Text
        } else if has("BLOB") || name.trim().is_empty() {
            Self::None
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// Whether every key of `kind` is stored as it is: the text `007` becomes 7 in a column of numbers, and 7 the text
    /// `7` in one of texts.
    pub(crate) fn keeps(self, kind: Kind) -> bool {
        match self {
            Self::Integer => matches!(kind, Kind::I64 | Kind::U64 | Kind::Bool),
            // No UUID in its canonical form looks like a number: it has dashes.
            Self::Numeric => matches!(kind, Kind::I64 | Kind::U64 | Kind::Bool | Kind::Uuid | Kind::Bytes),
            Self::Real => matches!(kind, Kind::Uuid | Kind::Bytes),
            Self::Text => matches!(kind, Kind::String | Kind::Uuid | Kind::Bytes),
            Self::None => true,
        }
    }
}

/// The type that a created column declares, so that [`of`] gives `kind` back and SQLite's affinity does not convert
/// what is stored: a NUMERIC affinity would turn the decimal `1.50` into a float and the JSON text `1.0` into 1, so
/// those say TEXT.
pub(crate) fn declared(kind: Kind, key: bool) -> &'static str {
    match kind {
        Kind::Bool => "BOOLEAN",
        Kind::I64 => "INTEGER",
        // As a key it must sort as a number does; elsewhere it must hold all 64 bits.
        Kind::U64 if key => "INTEGER",
        Kind::U64 => "UNSIGNED TEXT",
        Kind::Decimal => "DECIMAL TEXT",
        Kind::F64 => "REAL",
        Kind::String => "TEXT",
        Kind::Bytes => "BLOB",
        Kind::Uuid => "UUID",
        Kind::Date => "DATE",
        Kind::Time => "TIME",
        Kind::Timestamp => "TIMESTAMP",
        Kind::TimestampTz => "TIMESTAMPTZ",
        Kind::Json => "JSON TEXT",
        Kind::Any => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_column_is_read_back_as_the_kind_it_was_created_for() {
        for kind in Kind::ALL {
            assert_eq!(of(declared(kind, false)), kind, "{kind}");
        }
    }

    #[test]
    fn a_created_key_is_stored_as_it_is() {
        for kind in [Kind::Bool, Kind::I64, Kind::U64, Kind::String, Kind::Bytes, Kind::Uuid, Kind::Any] {
            assert!(Affinity::of(declared(kind, true)).keeps(kind), "{kind}");
        }
    }

    #[test]
    fn common_names_and_affinities() {
        let cases = [
            ("BIGINT", Kind::I64),
            ("unsigned big int", Kind::I64),
            ("VARCHAR(255)", Kind::String),
            ("NVARCHAR(20)", Kind::String),
            ("double precision", Kind::F64),
            ("DECIMAL(10,2)", Kind::Decimal),
            ("datetime", Kind::Timestamp),
            ("timestamp(6) with time zone", Kind::TimestampTz),
            ("timestamp with time zone", Kind::TimestampTz),
            ("Boolean", Kind::Bool),
            ("jsonb", Kind::Json),
            ("", Kind::Any),
            ("GEOMETRY", Kind::Any),
        ];
        for (declared, kind) in cases {
            assert_eq!(of(declared), kind, "{declared}");
        }
    }
}
