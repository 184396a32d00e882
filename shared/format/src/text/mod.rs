//! Canonical text of numbers, times and bytes: one way to write each value, whichever store wrote it.
//!
//! Nothing here passes a number through a float.

mod binary;
mod calendar;
mod decimal;
mod temporal;

pub use binary::{bytes_text, parse_bytes, parse_uuid, uuid_text};
pub use decimal::{Decimal, canonical_decimal, f64_text, is_json_number};
pub use temporal::{canonical_date, canonical_time, canonical_timestamp};
