//! Splits a table into ranges of keys.

use fides_core::{Fault, Key, KeyRange, Value};
use fides_format::text::{parse_bytes, parse_uuid};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::fault::fault;
use crate::kind::PgType;
use crate::quote;
use crate::read::Reading;

/// Up to `want` ranges of similar size by the statistics of the key's first column; one range where reading several
/// would sort the table several times.
pub(crate) async fn plan(
    connection: &mut PgConnection,
    reading: &Reading,
    want: usize,
) -> Result<Vec<KeyRange>, Fault> {
    let Some(first) = reading.key.columns.first() else { return Ok(vec![KeyRange::ALL]) };
    if want <= 1 || (is_text(&first.ty) && !reading.key.indexed) {
        return Ok(vec![KeyRange::ALL]);
    }
    let read = |error| fault(&format!("planning table {}", reading.selection.namespace), error);
    let mut bounds = histogram(connection, reading, &first.name).await.map_err(read)?;
    let mut values: Vec<Value<'static>> = bounds.drain(..).filter_map(|text| value(text, &first.ty)).collect();
    if values.len() < want {
        values = match first.ty {
            PgType::Int | PgType::Whole => even(extremes(connection, reading, &first.name).await.map_err(read)?, want),
            PgType::Uuid => uuids(want),
            _ => values,
        };
    }
    let keys = values.iter().map(|value| Key::encode(std::slice::from_ref(value)));
    Ok(ranges(keys.collect::<Result<_, _>>()?, want))
}

fn is_text(ty: &PgType) -> bool {
    matches!(ty, PgType::Text | PgType::UuidText)
}

async fn histogram(connection: &mut PgConnection, reading: &Reading, column: &str) -> Result<Vec<String>, sqlx::Error> {
    const BOUNDS: &str = "SELECT histogram_bounds::text::text[] FROM pg_catalog.pg_stats \
        WHERE schemaname = $1 AND tablename = $2 AND attname = $3 ORDER BY inherited DESC LIMIT 1";
    let bounds: Option<Option<Vec<String>>> = sqlx::query_scalar(BOUNDS)
        .bind(&reading.relation.schema)
        .bind(&reading.relation.table)
        .bind(column)
        .fetch_optional(connection)
        .await?;
    Ok(bounds.flatten().unwrap_or_default())
}

fn value(text: String, ty: &PgType) -> Option<Value<'static>> {
    Some(match ty {
        PgType::Int | PgType::Whole => Value::I64(text.parse().ok()?),
        PgType::Uuid => Value::Uuid(parse_uuid(&text)?),
        PgType::Bytea => Value::Bytes(parse_bytes(&text)?.into()),
        PgType::Text => Value::String(text.into()),
        _ => return None,
    })
}

async fn extremes(
    connection: &mut PgConnection,
    reading: &Reading,
    column: &str,
) -> Result<Option<(i128, i128)>, sqlx::Error> {
    let column = quote::name(column);
    let table = format!("{}.{}", quote::name(&reading.relation.schema), quote::name(&reading.relation.table));
    let sql = format!("SELECT min({column})::text, max({column})::text FROM {table}");
    let (min, max): (Option<String>, Option<String>) = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(connection).await?;
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
    Ok(number(min).zip(number(max)))
}

/// Bounds that cut the span from min to max evenly.
fn even(extremes: Option<(i128, i128)>, want: usize) -> Vec<Value<'static>> {
    let Some((min, max)) = extremes else { return Vec::new() };
    let want = want as i128;
    let bound = |at| min + (max - min + 1) * at / want;
    let number = |bound: i128| i64::try_from(bound).map(Value::I64).or_else(|_| u64::try_from(bound).map(Value::U64));
    (0..=want).filter_map(|at| number(bound(at)).ok()).collect()
}

fn uuids(want: usize) -> Vec<Value<'static>> {
    let step = u128::MAX / want as u128;
    (0..=want as u128).map(|at| Value::Uuid((step * at).to_be_bytes())).collect()
}

/// Ranges whose inner bounds are quantiles of `bounds`, of which the first and the last are the ends.
fn ranges(mut bounds: Vec<Key>, want: usize) -> Vec<KeyRange> {
    bounds.sort();
    bounds.dedup();
    let pieces = want.min(bounds.len().saturating_sub(1)).max(1);
    let cut = |at: usize| bounds.get(at * (bounds.len().max(1) - 1) / pieces).cloned();
    let inner: Vec<Option<Key>> = (1..pieces).map(cut).collect();
    let lowers = std::iter::once(None).chain(inner.iter().cloned());
    let uppers = inner.iter().cloned().chain([None]);
    lowers.zip(uppers).map(|(lower, upper)| KeyRange { lower, upper }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(numbers: &[i64]) -> Vec<Key> {
        numbers.iter().map(|number| Key::encode(&[Value::I64(*number)]).unwrap()).collect()
    }

    #[test]
    fn ranges_cover_everything_once() {
        for (bounds, want) in [(vec![], 4), (vec![1], 4), (vec![1, 1, 2], 4), ((0..100).collect(), 7), (vec![5, 9], 1)]
        {
            let ranges = ranges(keys(&bounds), want);
            assert!(ranges.len() <= want && !ranges.is_empty());
            assert!(ranges[0].lower.is_none() && ranges[ranges.len() - 1].upper.is_none());
            assert!(ranges.windows(2).all(|pair| pair[0].upper == pair[1].lower && pair[0].upper.is_some()));
            assert!(
                ranges.iter().all(|range| range.lower.is_none() || range.upper.is_none() || range.lower < range.upper)
            );
        }
        assert_eq!(ranges(keys(&(0..=100).collect::<Vec<_>>()), 4).len(), 4);
    }

    #[test]
    fn even_bounds_do_not_overflow() {
        let bounds = even(Some((i128::from(i64::MIN), i128::from(i64::MAX))), 4);
        assert_eq!(bounds[2], Value::I64(0));
        assert!(even(None, 4).is_empty());
    }
}
