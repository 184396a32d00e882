//! How results and progress look. Data goes to stdout; everything about the way there goes to stderr. Colours only on a
//! terminal, and never with `NO_COLOR`.

mod progress;
mod screen;
mod table;
mod working;

use std::fmt::{Display as Shown, Write as _};
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use chrono::DateTime;
use console::style;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;

pub use progress::Display;
pub use screen::Screen;
pub use table::Table;
pub use working::working;

/// A result, line by line.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// One line.
    pub fn of(line: impl Shown) -> Self {
        let mut text = Self::default();
        text.line(line);
        text
    }

    /// Adds a line.
    pub fn line(&mut self, line: impl Shown) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Writes a result to stdout.
pub fn out(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_ref().as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Failure::stdout(&error))
}

/// Writes a result to stdout as JSON for people and programs.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    out(encoded(serde_json::to_string_pretty(value))?)
}

/// Writes a result to stdout as one line of JSON.
pub fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    out(encoded(serde_json::to_string(value))?)
}

fn encoded(json: serde_json::Result<String>) -> Result<String, Failure> {
    let json = json.map_err(|error| Failure::new(Exit::Internal, format!("the result is not JSON: {error}")))?;
    Ok(json + "\n")
}

/// Tells stderr something worth knowing.
pub fn note(text: &str) {
    // Without stderr there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{} {text}", style("fides:").bold().for_stderr());
}

/// Tells stderr something that wants attention.
pub fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "{} {text}", style("fides: warning:").yellow().bold().for_stderr());
}

/// A word that should be seen first.
pub fn strong(word: impl Shown) -> impl Shown {
    style(word).bold()
}

/// A word of success.
pub fn good(word: impl Shown) -> impl Shown {
    style(word).green().bold()
}

/// A word of failure.
pub fn bad(word: impl Shown) -> impl Shown {
    style(word).red().bold()
}

/// A number as people read it: `11,721`.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 record`, `2 records`.
pub fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", self::number(number))
}

/// A part of a whole: `99.9 %`; nothing of nothing is a dash. Never rounded up to a hundred.
pub fn share(part: u64, whole: u64) -> String {
    percent(part, whole).map_or_else(|| "–".into(), |percent| format!("{percent:.1} %"))
}

/// A part of a whole in percent, to one decimal, rounded down.
pub fn percent(part: u64, whole: u64) -> Option<f64> {
    let tenths = u128::from(part).checked_mul(1_000)?.checked_div(u128::from(whole))?;
    // At most a few digits: for people, not a datum.
    #[allow(clippy::cast_precision_loss)]
    let percent = tenths as f64 / 10.0;
    Some(percent)
}

/// Seconds as people read them.
pub fn seconds(seconds: f64) -> String {
    format!("{seconds:.2}")
}

/// An instant as people read it, in UTC.
pub fn instant(ms: u64) -> String {
    let instant = i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis);
    instant.map_or_else(|| format!("{ms} ms"), |instant| instant.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// How long ago an instant was.
pub fn ago(ms: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let passed = now.saturating_sub(Duration::from_millis(ms)).as_millis();
    format!("{} ago", self::passed(u64::try_from(passed).unwrap_or(u64::MAX)))
}

/// Milliseconds as people read them.
pub fn passed(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A clean-up that was refused, and what it means.
pub fn refusal(pipeline: &str, why: &str) -> String {
    format!("{pipeline}: nothing was deleted: {why}")
}

/// A run that an earlier process began.
pub fn gone_on(pipeline: &str, read_before: u64) -> String {
    format!("{pipeline}: went on with an interrupted run, which had read {} before", count(read_before, "record"))
}

/// Writes that the target's newer versions refused, and where to look.
pub fn not_overwritten(pipeline: &str, newer: u64) -> String {
    format!(
        "{pipeline}: {} not written, because the target holds a newer version; see `fides verify {pipeline}`",
        count(newer, "record")
    )
}

/// What lets a refused clean-up delete.
pub fn approval(pipeline: &str, run: &str, candidates: u64) -> String {
    format!(
        "{pipeline}: if {} are to go: `fides approve {pipeline} {run} --deletions-max {candidates}`",
        count(candidates, "record")
    )
}

/// Dead letters, and where to look.
pub fn buried(pipeline: &str, letters: u64) -> String {
    format!("{pipeline}: {}; see `fides dead list {pipeline}`", count(letters, "dead letter"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_shares_never_flatter() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_000), "1,000");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(count(1, "record"), "1 record");
        assert_eq!(count(0, "record"), "0 records");
        assert_eq!(share(9_999, 10_000), "99.9 %");
        assert_eq!(share(0, 0), "–");
        assert_eq!(instant(0), "1970-01-01 00:00:00 UTC");
    }
}
