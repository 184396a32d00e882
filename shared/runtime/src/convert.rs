//! The configuration's words as the core's.

use std::borrow::Cow;

use fides_core::{Kind, LagAction, Limits, Namespace, Value};
use fides_engine::SoftDelete;
use fides_mapping as mapping;

use crate::config;

/// Bounds; the names are the same.
pub(crate) fn limits(limits: &config::Limits) -> Limits {
    Limits {
        lanes: u16::try_from(limits.lanes).unwrap_or(u16::MAX),
        page_records_max: limits.page_records_max,
        batch_records_max: limits.batch_records_max,
        batch_bytes_max: limits.batch_bytes_max,
        apply_records_max: limits.apply_records_max,
        apply_bytes_max: limits.apply_bytes_max,
        gather_ms_max: limits.gather_ms_max,
        lane_depth_batches_max: limits.lane_depth_batches_max,
        host_partitions: limits.host_partitions as usize,
        snapshot_age_ms_max: limits.snapshot_age_ms_max,
        host_timeout_ms: limits.host_timeout_ms,
        write_timeout_ms_max: limits.write_timeout_ms_max,
        retry_attempts_max: limits.retry_attempts_max,
        retry_base_ms: limits.retry_base_ms,
        retry_cap_ms: limits.retry_cap_ms,
        breaker_failures: limits.breaker_failures,
        breaker_open_ms: limits.breaker_open_ms,
        rate_records_per_second: limits.rate_records_per_second,
        delete_ratio_max: limits.delete_ratio_max,
        delete_count_min: limits.delete_count_min,
        dead_ratio_max: limits.dead_ratio_max,
        dead_count_min: limits.dead_count_min,
        lease_ms: limits.lease_ms,
        record_bytes_max: limits.record_bytes_max,
        slot_lag_bytes_max: limits.slot_lag_bytes_max,
        slot_lag_action: match limits.slot_lag_action {
            config::LagAction::Alert => LagAction::Alert,
            config::LagAction::Drop => LagAction::Drop,
        },
        hint_gather_ms_max: limits.hint_gather_ms_max,
        hint_backlog_records_max: limits.hint_backlog_records_max,
        hint_settle_ms: limits.hint_settle_ms,
    }
}

/// A namespace.
pub(crate) fn namespace(name: &config::Namespace) -> Namespace {
    Namespace(name.clone())
}

/// A kind.
pub(crate) fn kind(kind: config::Kind) -> Kind {
    match kind {
        config::Kind::Bool => Kind::Bool,
        config::Kind::I64 => Kind::I64,
        config::Kind::U64 => Kind::U64,
        config::Kind::Decimal => Kind::Decimal,
        config::Kind::F64 => Kind::F64,
        config::Kind::String => Kind::String,
        config::Kind::Bytes => Kind::Bytes,
        config::Kind::Uuid => Kind::Uuid,
        config::Kind::Date => Kind::Date,
        config::Kind::Time => Kind::Time,
        config::Kind::Timestamp => Kind::Timestamp,
        config::Kind::TimestampTz => Kind::TimestampTz,
        config::Kind::Json => Kind::Json,
    }
}

/// How a deletion leaves a document behind.
pub(crate) fn soft(field: &str, said: &config::Literal) -> SoftDelete {
    SoftDelete { field: field.to_owned(), value: value(said) }
}

/// A value written in the configuration.
pub(crate) fn value(literal: &config::Literal) -> Value<'static> {
    match literal {
        config::Literal::Null => Value::Null,
        config::Literal::Bool(value) => Value::Bool(*value),
        // The grammar of JSON numbers was checked when the file was read; whatever else it were would stay text.
        config::Literal::Number(digits) => fides_format::parse_json(digits)
            .map_or_else(|_| Value::String(Cow::Owned(digits.clone())), Value::into_owned),
        config::Literal::String(text) => Value::String(Cow::Owned(text.clone())),
        config::Literal::Array(items) => Value::Array(items.iter().map(value).collect()),
        config::Literal::Object(fields) => {
            Value::Object(fields.iter().map(|(name, literal)| (Cow::Owned(name.clone()), value(literal))).collect())
        }
    }
}

fn source(from: &config::Source) -> mapping::Source {
    match from {
        config::Source::Column { path, cast, default } => {
            mapping::Source::Column { path: path.clone(), cast: cast.map(kind), default: default.as_ref().map(value) }
        }
        config::Source::Object(fields) => mapping::Source::Object(sources(fields)),
        config::Source::Const(literal) => mapping::Source::Const(value(literal)),
        config::Source::Jq { program, kind: result } => {
            mapping::Source::Jq { program: program.clone(), kind: kind(*result) }
        }
    }
}

fn sources(fields: &[(String, config::Source)]) -> Vec<(String, mapping::Source)> {
    fields.iter().map(|(name, from)| (name.clone(), source(from))).collect()
}

/// What a document consists of.
pub(crate) fn fields(fields: &config::Fields) -> mapping::Fields {
    match fields {
        config::Fields::Same(config::Columns::All) => mapping::Fields::Same(None),
        config::Fields::Same(config::Columns::Only(names)) => mapping::Fields::Same(Some(names.clone())),
        config::Fields::Mapped(fields) => mapping::Fields::Mapped(sources(fields)),
    }
}
