use std::borrow::Cow;

use super::calendar::{YEAR_MAX, days_in_month, shift};

/// A date as Fides keeps it: `2024-02-29`, years of at least four digits, `-0043-03-15` for 44 BC (also read as
/// `0044-03-15 BC`), `infinity`, `-infinity`. `None` when the text is no date of the calendar.
pub fn canonical_date(text: &str) -> Option<Cow<'_, str>> {
    if let Some(infinity) = infinity(text) {
        return Some(Cow::Borrowed(infinity));
    }
    let (body, is_bc) = strip_bc(text);
    let (date, rest) = read_date(body)?;
    if !rest.is_empty() {
        return None;
    }
    let mut canonical = String::with_capacity(10);
    write_date(&mut canonical, astronomical(date, is_bc)?);
    Some(same_or(text, canonical))
}

/// A time of day as Fides keeps it: `13:05:00.25`, seconds written, zeros at the end of the fraction not; an offset as
/// `Z` or `+02:00`. `24:00:00` is one. `None` when the text is no time.
pub fn canonical_time(text: &str) -> Option<Cow<'_, str>> {
    let (time, rest) = read_time(text)?;
    let offset = if rest.is_empty() { None } else { Some(read_offset(rest)?) };
    let mut canonical = String::with_capacity(text.len());
    write_time(&mut canonical, &time);
    match offset {
        None => {}
        Some(0) => canonical.push('Z'),
        Some(offset) => write_offset(&mut canonical, offset),
    }
    Some(same_or(text, canonical))
}

/// A timestamp as Fides keeps it: `2024-02-29T13:05:00.25`, and `…Z` in UTC where the text has an offset. A space for the
/// `T` is read, as are a date alone (midnight), missing seconds and `BC`. `None` when the text is no timestamp.
pub fn canonical_timestamp(text: &str) -> Option<Cow<'_, str>> {
    if let Some(infinity) = infinity(text) {
        return Some(Cow::Borrowed(infinity));
    }
    let (body, is_bc) = strip_bc(text);
    let (date, rest) = read_date(body)?;
    let mut date = astronomical(date, is_bc)?;
    let (mut time, rest) = match rest.strip_prefix(['T', 't', ' ']) {
        Some(rest) => read_time(rest)?,
        None if rest.is_empty() => (Time::default(), rest),
        None => return None,
    };
    let offset = if rest.is_empty() { None } else { Some(read_offset(rest)?) };
    let second = time.second - offset.unwrap_or_default();
    let days = second.div_euclid(DAY); // -1, 0 or 1: an offset is less than a day
    if days != 0 {
        date = shift(date, days);
    }
    if date.0.abs() > YEAR_MAX {
        return None;
    }
    time.second = second.rem_euclid(DAY);
    let mut canonical = String::with_capacity(text.len());
    write_date(&mut canonical, date);
    canonical.push('T');
    write_time(&mut canonical, &time);
    if offset.is_some() {
        canonical.push('Z');
    }
    Some(same_or(text, canonical))
}

const DAY: i64 = 86_400;

/// A time of day: seconds since midnight and the digits of the fraction, without zeros at its end.
#[derive(Default)]
struct Time<'a> {
    second: i64,
    fraction: &'a str,
}

fn same_or(text: &str, canonical: String) -> Cow<'_, str> {
    if text == canonical { Cow::Borrowed(text) } else { Cow::Owned(canonical) }
}

fn infinity(text: &str) -> Option<&'static str> {
    match text {
        "infinity" | "Infinity" => Some("infinity"),
        "-infinity" | "-Infinity" => Some("-infinity"),
        _ => None,
    }
}

fn strip_bc(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |body| (body, true))
}

/// The number that begins `text`, of `min` to `max` digits.
fn number(text: &str, min: usize, max: usize) -> Option<(i64, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    if !(min..=max).contains(&end) {
        return None;
    }
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn read_date(text: &str) -> Option<((i64, i64, i64), &str)> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (year, rest) = number(rest, 4, 7)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 2, 2)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 2, 2)?;
    Some(((sign * year, month, day), rest))
}

/// Counts the years before Christ as astronomers do, and checks the date.
fn astronomical((year, month, day): (i64, i64, i64), is_bc: bool) -> Option<(i64, i64, i64)> {
    let year = match is_bc {
        true if year < 1 => return None,
        true => 1 - year,
        false => year,
    };
    let is_date = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    is_date.then_some((year, month, day))
}

fn read_time(text: &str) -> Option<(Time<'_>, &str)> {
    let (hour, rest) = number(text, 2, 2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2, 2)?;
    let (second, rest) = match rest.strip_prefix(':') {
        Some(rest) => number(rest, 2, 2)?,
        None => (0, rest),
    };
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.bytes().take_while(u8::is_ascii_digit).count();
            if end == 0 {
                return None;
            }
            (rest[..end].trim_end_matches('0'), &rest[end..])
        }
        None => ("", rest),
    };
    let total = hour * 3600 + minute * 60 + second;
    let is_midnight = total == DAY && fraction.is_empty();
    let is_time = minute < 60 && second < 60 && (total < DAY || is_midnight);
    is_time.then_some((Time { second: total, fraction }, rest))
}

/// An offset in seconds: `Z`, `+02`, `+0200`, `+02:00`, `-02:30:15`, all after an optional space.
fn read_offset(text: &str) -> Option<i64> {
    let text = text.strip_prefix(' ').unwrap_or(text);
    if matches!(text, "Z" | "z" | "UTC") {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let text = &text[1..];
    let mut digits = text.split(':');
    let parts: Vec<&str> = match digits.clone().count() {
        1 if text.len() == 4 && text.is_ascii() => vec![&text[..2], &text[2..]],
        1..=3 => digits.by_ref().collect(),
        _ => return None,
    };
    let mut seconds = 0;
    for (part, unit) in parts.into_iter().zip([3600, 60, 1]) {
        let (value, rest) = number(part, 2, 2)?;
        if !rest.is_empty() || value >= if unit == 3600 { 24 } else { 60 } {
            return None;
        }
        seconds += value * unit;
    }
    Some(sign * seconds)
}

fn push_two(out: &mut String, value: i64) {
    out.push(char::from(b'0' + (value / 10) as u8));
    out.push(char::from(b'0' + (value % 10) as u8));
}

fn write_date(out: &mut String, (year, month, day): (i64, i64, i64)) {
    use std::fmt::Write as _;
    if year < 0 {
        out.push('-');
    }
    let _ = write!(out, "{:04}", year.abs()); // a String takes everything
    out.push('-');
    push_two(out, month);
    out.push('-');
    push_two(out, day);
}

fn write_time(out: &mut String, time: &Time<'_>) {
    push_two(out, time.second / 3600);
    out.push(':');
    push_two(out, time.second / 60 % 60);
    out.push(':');
    push_two(out, time.second % 60);
    if !time.fraction.is_empty() {
        out.push('.');
        out.push_str(time.fraction);
    }
}

fn write_offset(out: &mut String, offset: i64) {
    out.push(if offset < 0 { '-' } else { '+' });
    let offset = offset.abs();
    push_two(out, offset / 3600);
    out.push(':');
    push_two(out, offset / 60 % 60);
    if offset % 60 != 0 {
        out.push(':');
        push_two(out, offset % 60);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamps_have_one_text() {
        for (text, canonical) in [
            ("2024-02-29T13:05:00.25Z", "2024-02-29T13:05:00.25Z"),
            ("2024-02-29 13:05:00.2500+00", "2024-02-29T13:05:00.25Z"),
            ("2024-02-29 13:05:00", "2024-02-29T13:05:00"),
            ("2024-02-29 13:05", "2024-02-29T13:05:00"),
            ("2024-02-29", "2024-02-29T00:00:00"),
            ("2024-03-01T00:30:00+02:00", "2024-02-29T22:30:00Z"),
            ("2024-12-31T23:30:00-05:30", "2025-01-01T05:00:00Z"),
            ("2024-12-31 23:30:00.000 +0000", "2024-12-31T23:30:00Z"),
            ("1890-01-01 00:00:00+00:53:28", "1889-12-31T23:06:32Z"),
            ("0044-03-15 12:00:00 BC", "-0043-03-15T12:00:00"),
            ("294276-12-31 23:59:59.999999+00", "294276-12-31T23:59:59.999999Z"),
            ("2024-02-29T24:00:00", "2024-03-01T00:00:00"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
        ] {
            assert_eq!(canonical_timestamp(text).as_deref(), Some(canonical), "{text}");
        }
    }

    #[test]
    fn dates_and_times_have_one_text() {
        assert_eq!(canonical_date("2024-02-29").as_deref(), Some("2024-02-29"));
        assert_eq!(canonical_date("0044-03-15 BC").as_deref(), Some("-0043-03-15"));
        assert_eq!(canonical_time("13:05").as_deref(), Some("13:05:00"));
        assert_eq!(canonical_time("13:05:00.2500").as_deref(), Some("13:05:00.25"));
        assert_eq!(canonical_time("13:05:00+02").as_deref(), Some("13:05:00+02:00"));
        assert_eq!(canonical_time("13:05:00-00").as_deref(), Some("13:05:00Z"));
        assert_eq!(canonical_time("24:00:00").as_deref(), Some("24:00:00"));
    }

    #[test]
    fn what_the_calendar_does_not_have_is_refused() {
        for text in
            ["2023-02-29", "2024-13-01", "2024-00-10", "2024-1-1", "24-01-01", "0000-01-01 BC", "", "x", "2024-01-01x"]
        {
            assert_eq!(canonical_date(text), None, "{text}");
        }
        for text in ["25:00", "12:60", "12:00:60", "24:00:01", "1:00", "12:00.", "12:00:00.", "12:00:00+25", "12"] {
            assert_eq!(canonical_time(text), None, "{text}");
        }
        for text in ["2024-01-01X00:00", "2024-01-01 00:00 +2", "2024-01-01 00:00:00+02:00:00:00", "1718000000", "+€€"]
        {
            assert_eq!(canonical_timestamp(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*") {
            let _ = (canonical_date(&text), canonical_time(&text), canonical_timestamp(&text));
        }

        #[test]
        fn nearly_timestamps_are_read_without_panic(text in "[-+]?[0-9]{3,8}-[0-9]{1,3}-[0-9]{1,3}([T ][0-9:.]{1,12})?[-+Z :0-9€]{0,8}( BC)?") {
            if let Some(canonical) = canonical_timestamp(&text) {
                let again = canonical_timestamp(&canonical);
                prop_assert_eq!(again.as_deref(), Some(&*canonical));
            }
            let _ = (canonical_date(&text), canonical_time(&text));
        }
    }
}
