use std::borrow::Cow;

/// A decimal number of any size, as a view of its text. Equality is numeric: `1.0`, `1.00`, `1` and `10e-1` are equal.
#[derive(Clone, Copy, Debug)]
pub struct Decimal<'a> {
    negative: bool,
    /// Digits before and after the point, without the zeros at either end of the number.
    whole: &'a str,
    fraction: &'a str,
    /// The number is `0.DIGITS` times ten to this power.
    point: i64,
}

/// The parts of a number as written.
struct Parts<'a> {
    sign: &'a str,
    whole: &'a str,
    fraction: Option<&'a str>,
    exponent: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// Splits `[+-] digits [. digits] [e [+-] digits]`, with at least one digit before the exponent.
    fn split(text: &'a str) -> Option<Self> {
        let (sign, rest) = take(text, |byte| matches!(byte, b'+' | b'-'), 1);
        let (whole, rest) = take(rest, |byte| byte.is_ascii_digit(), usize::MAX);
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => {
                let (fraction, rest) = take(rest, |byte| byte.is_ascii_digit(), usize::MAX);
                (Some(fraction), rest)
            }
            None => (None, rest),
        };
        if whole.is_empty() && fraction.is_none_or(str::is_empty) {
            return None;
        }
        let exponent = match rest.strip_prefix(['e', 'E']) {
            Some(exponent) => {
                let (_, digits) = take(exponent, |byte| matches!(byte, b'+' | b'-'), 1);
                let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                is_number.then_some(Some(exponent))?
            }
            None if rest.is_empty() => None,
            None => return None,
        };
        Some(Self { sign, whole, fraction, exponent })
    }

    fn is_json(&self) -> bool {
        self.sign != "+"
            && !self.whole.is_empty()
            && (self.whole == "0" || !self.whole.starts_with('0'))
            && self.fraction != Some("")
    }
}

fn take(text: &str, accept: impl Fn(u8) -> bool, max: usize) -> (&str, &str) {
    let end = text.bytes().take(max).take_while(|&byte| accept(byte)).count();
    text.split_at(end)
}

impl<'a> Decimal<'a> {
    /// Reads `[+-] digits [. digits] [e [+-] digits]`. `None` for anything else, NaN and the infinities included, and
    /// for exponents beyond ±10^15, which no store has.
    pub fn parse(text: &'a str) -> Option<Self> {
        const EXPONENT_MAX: i64 = 1_000_000_000_000_000;
        let parts = Parts::split(text)?;
        let exponent: i64 = parts.exponent.map_or(Ok(0), str::parse).ok()?;
        if !(-EXPONENT_MAX..=EXPONENT_MAX).contains(&exponent) {
            return None;
        }
        let (mut whole, mut fraction) = (parts.whole.trim_start_matches('0'), parts.fraction.unwrap_or_default());
        fraction = fraction.trim_end_matches('0');
        let mut point = whole.len() as i64 + exponent;
        if whole.is_empty() {
            let significant = fraction.trim_start_matches('0');
            point -= (fraction.len() - significant.len()) as i64;
            fraction = significant;
        }
        if fraction.is_empty() {
            whole = whole.trim_end_matches('0');
        }
        let is_zero = whole.is_empty() && fraction.is_empty();
        let negative = parts.sign == "-" && !is_zero;
        Some(Self { negative, whole, fraction, point: if is_zero { 0 } else { point } })
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.bytes().chain(self.fraction.bytes())
    }

    /// The number as an integer; `None` when it has a fraction or is too large.
    pub fn to_i128(&self) -> Option<i128> {
        let count = (self.whole.len() + self.fraction.len()) as i64;
        if self.point < count || self.point > 38 {
            return None;
        }
        let magnitude = self
            .digits()
            .chain(std::iter::repeat_n(b'0', (self.point - count) as usize))
            .try_fold(0i128, |sum, digit| sum.checked_mul(10)?.checked_add(i128::from(digit - b'0')))?;
        Some(if self.negative { -magnitude } else { magnitude })
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.negative == other.negative && self.point == other.point && self.digits().eq(other.digits())
    }
}

impl Eq for Decimal<'_> {}

/// Whether the text is a number by the grammar of JSON.
pub fn is_json_number(text: &str) -> bool {
    Parts::split(text).is_some_and(|parts| parts.is_json())
}

/// The text of a decimal as Fides keeps it: a JSON number with the digits that were written (so `1.50` stays), or `NaN`,
/// `Infinity`, `-Infinity`. `None` when the text is no number.
pub fn canonical_decimal(text: &str) -> Option<Cow<'_, str>> {
    let Some(parts) = Parts::split(text) else { return special(text).map(Cow::Borrowed) };
    Decimal::parse(text)?; // bounds the exponent
    if parts.is_json() {
        return Some(Cow::Borrowed(text));
    }
    let sign = if parts.sign == "-" { "-" } else { "" };
    let whole = parts.whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let mut canonical = format!("{sign}{whole}");
    if let Some(fraction) = parts.fraction.filter(|fraction| !fraction.is_empty()) {
        canonical.push('.');
        canonical.push_str(fraction);
    }
    if let Some(exponent) = parts.exponent {
        canonical.push('e');
        canonical.push_str(exponent);
    }
    Some(Cow::Owned(canonical))
}

/// `NaN`, `Infinity` and `-Infinity` in the spellings of the stores.
fn special(text: &str) -> Option<&'static str> {
    let (negative, name) = match text.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    match (negative, is("infinity") || is("inf")) {
        (true, true) => Some("-Infinity"),
        (false, true) => Some("Infinity"),
        (false, false) if is("nan") => Some("NaN"),
        _ => None,
    }
}

/// The shortest text that reads back as the same float: `0.1`, `1.0`, `1e300`, `NaN`, `-Infinity`.
pub fn f64_text(value: f64) -> Cow<'static, str> {
    if value.is_finite() {
        return Cow::Owned(format!("{value:?}"));
    }
    Cow::Borrowed(match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn equal(left: &str, right: &str) -> bool {
        Decimal::parse(left).expect(left) == Decimal::parse(right).expect(right)
    }

    #[test]
    fn equality_is_numeric() {
        for (left, right) in [
            ("1.0", "1.00"),
            ("1", "10e-1"),
            ("-0", "0.000"),
            ("0e9", "0"),
            ("100", "1e2"),
            ("0.05", "5E-2"),
            ("00012.50", "+12.5"),
            (".5", "0.50"),
            ("5.", "5"),
            ("12345678901234567890123456789012345678.90", "12345678901234567890123456789012345678.9"),
        ] {
            assert!(equal(left, right), "{left} = {right}");
        }
        for (left, right) in [("1", "-1"), ("1", "10"), ("0.1", "0.01"), ("9007199254740993", "9007199254740992")] {
            assert!(!equal(left, right), "{left} != {right}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in
            ["", "-", ".", "1e", "e5", "1.2.3", "1_000", " 1", "1 ", "0x1f", "１", "NaN", "1e9999999999999999999"]
        {
            assert!(Decimal::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn canonical_text_is_json_and_keeps_its_digits() {
        for (text, canonical) in [
            ("1.50", "1.50"),
            ("+1.50", "1.50"),
            (".5", "0.5"),
            ("-.5e3", "-0.5e3"),
            ("007", "7"),
            ("7.", "7"),
            ("nan", "NaN"),
            ("-inf", "-Infinity"),
            ("Infinity", "Infinity"),
        ] {
            assert_eq!(canonical_decimal(text).as_deref(), Some(canonical), "{text}");
        }
        assert_eq!(canonical_decimal("-nan"), None);
        assert_eq!(canonical_decimal("abc"), None);
    }

    #[test]
    fn integers_only_from_integral_numbers() {
        let integer = |text: &str| Decimal::parse(text).and_then(|decimal| decimal.to_i128());
        assert_eq!(integer("1.20e1"), Some(12));
        assert_eq!(integer("-9223372036854775808.000"), Some(i128::from(i64::MIN)));
        assert_eq!(integer("0.0"), Some(0));
        assert_eq!(integer("1.5"), None);
        assert_eq!(integer("1e999999999"), None);
        assert_eq!(integer("1e-999999999"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*") {
            let _ = (Decimal::parse(&text), canonical_decimal(&text), is_json_number(&text));
        }

        #[test]
        fn numbers_agree_with_serde_json_on_the_grammar(text in "[+-]?[0-9]{0,3}\\.?[0-9]{0,3}([eE][+-]?[0-9]{0,2})?") {
            prop_assert_eq!(is_json_number(&text), serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }

        #[test]
        fn integers_survive(value: i64, zeros in 0usize..5) {
            let text = format!("{value}.{}", "0".repeat(zeros));
            prop_assert_eq!(Decimal::parse(&text).and_then(|decimal| decimal.to_i128()), Some(i128::from(value)));
        }

        #[test]
        fn a_canonical_decimal_is_the_same_number(text in "[+-]?[0-9]{0,20}\\.?[0-9]{0,20}(e[+-]?[0-9]{1,2})?") {
            if let Some(decimal) = Decimal::parse(&text) {
                let canonical = canonical_decimal(&text).expect("a number");
                prop_assert!(is_json_number(&canonical));
                prop_assert_eq!(Decimal::parse(&canonical), Some(decimal));
            }
        }
    }
}
