//! Dead letters, a page at a time.

use fides_core::port::DeadLetter;
use fides_engine::Pipeline;
use fides_engine::inspect::{key_text, parse_key};
use serde::Serialize;

use super::answer::Refusal;

/// Letters that are shown at a time.
pub const LETTERS_MAX: usize = 50;

/// Some of a pipeline's letters, in key order.
#[derive(Debug, Serialize)]
pub struct Letters {
    letters: Vec<Letter>,
    /// Whether there are more behind them.
    more: bool,
}

#[derive(Debug, Serialize)]
struct Letter {
    /// As one can type it.
    key: String,
    #[serde(flatten)]
    letter: DeadLetter,
}

/// The letters behind `after`.
pub async fn letters(pipeline: &Pipeline, after: Option<&str>) -> Result<Letters, Refusal> {
    let after = after.map(|after| parse_key(&pipeline.selection, after)).transpose()?;
    let mut found = pipeline.backplane.dead.list(&pipeline.id, after.as_ref(), LETTERS_MAX + 1).await?;
    let more = found.len() > LETTERS_MAX;
    found.truncate(LETTERS_MAX);
    let told = |letter: DeadLetter| Letter { key: key_text(&pipeline.selection, &letter.key), letter };
    Ok(Letters { letters: found.into_iter().map(told).collect(), more })
}
