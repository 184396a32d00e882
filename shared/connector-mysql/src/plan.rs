//! Cutting a table into ranges of similar size.

use fides_core::{Fault, Key, KeyRange, Value};
use sqlx::MySqlConnection;

use crate::fault::fault;
use crate::kind::MyType;
use crate::query::{scalar, texts};
use crate::quote;
use crate::reading::Reading;

/// Up to `want` ranges. A key without an index would be sorted anew for each of them, so it is read in one.
pub(crate) async fn plan(
    connection: &mut MySqlConnection,
    reading: &Reading,
    want: usize,
) -> Result<Vec<KeyRange>, Fault> {
    let failed = |error| fault(&format!("planning table {}", reading.selection.namespace), error);
    let bounds = if want <= 1 || !reading.key.indexed {
        Vec::new()
    } else if matches!(&reading.key.columns[..], [only] if matches!(only.ty, MyType::Int | MyType::Unsigned)) {
        integers(connection, reading, want).await.map_err(failed)?
    } else {
        every_nth(connection, reading, want).await?
    };
    let lowers = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
    let uppers = bounds.iter().cloned().map(Some).chain([None]);
    Ok(lowers.zip(uppers).map(|(lower, upper)| KeyRange { lower, upper }).collect())
}

/// The span between the smallest and the largest key, in equal parts: two seeks.
async fn integers(connection: &mut MySqlConnection, reading: &Reading, want: usize) -> Result<Vec<Key>, sqlx::Error> {
    let name = quote::name(&reading.key.columns[0].name);
    let sql = format!("SELECT MIN({name}), MAX({name}) FROM {}", reading.table);
    let row = texts(connection, &sql).await?.into_iter().next().unwrap_or_default();
    let mut numbers = row.into_iter().map(|text| text.and_then(|text| text.parse::<i128>().ok()));
    let (Some(Some(low)), Some(Some(high))) = (numbers.next(), numbers.next()) else { return Ok(Vec::new()) };
    let parts = want as i128;
    let mut bounds: Vec<i128> =
        (1..parts).map(|part| low + (high - low) * part / parts).filter(|&at| at > low).collect();
    bounds.dedup();
    let key = |bound: i128| match i64::try_from(bound) {
        Ok(number) => Key::encode(&[Value::I64(number)]),
        Err(_) => Key::encode(&[Value::U64(bound as u64)]),
    };
    // Whole numbers are keys.
    Ok(bounds.into_iter().filter_map(|bound| key(bound).ok()).collect())
}

/// Every n-th key of the index.
async fn every_nth(connection: &mut MySqlConnection, reading: &Reading, want: usize) -> Result<Vec<Key>, Fault> {
    let failed = |error| fault(&format!("planning table {}", reading.selection.namespace), error);
    let sql = format!("SELECT COUNT(*) FROM {}", reading.table);
    let count = scalar(connection, &sql).await.map_err(failed)?;
    let count: usize = count.and_then(|text| text.parse().ok()).unwrap_or_default();
    let step = count.div_ceil(want).max(1);
    let names = quote::names("p.", reading.key.columns.iter().map(|column| column.name.as_str()));
    let places: Vec<usize> = (0..reading.key.columns.len()).collect();
    let mut bounds: Vec<Key> = Vec::new();
    while bounds.len() + 1 < want {
        let from = match bounds.last() {
            Some(last) => reading.key.compare(crate::key::Bound::From, last)?,
            None => "TRUE".to_owned(),
        };
        let sql = format!(
            "SELECT {names} FROM {} AS p WHERE {from} ORDER BY {} LIMIT 1 OFFSET {step}",
            reading.table,
            reading.key.order()
        );
        let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        let row = sqlx::Executor::fetch_optional(&mut *connection, sql).await.map_err(failed)?;
        let Some(row) = row else { break };
        let mut key = Vec::new();
        reading.cells.put_key(&row, &places, &mut key)?;
        bounds.push(Key::from_bytes(key));
    }
    Ok(bounds)
}
