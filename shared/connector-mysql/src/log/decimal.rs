//! Decimals in the log: groups of nine digits in four bytes, rest groups in fewer, the sign in the first bit.

use std::fmt::Write;

const GROUP: usize = 9;
/// How many bytes a group of so many digits has.
const BYTES: [usize; GROUP + 1] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// How many bytes a decimal of this precision and scale has.
pub(super) fn width([precision, scale]: [u8; 2]) -> usize {
    let (whole, scale) = (usize::from(precision.saturating_sub(scale)), usize::from(scale));
    let bytes = |digits: usize| digits / GROUP * 4 + BYTES[digits % GROUP];
    bytes(whole) + bytes(scale)
}

/// Its text, as the server writes it.
pub(super) fn text(meta: [u8; 2], bytes: &[u8]) -> Option<String> {
    if bytes.len() != width(meta) || bytes.is_empty() {
        return None;
    }
    let (whole, scale) = (usize::from(meta[0].checked_sub(meta[1])?), usize::from(meta[1]));
    let is_negative = bytes[0] & 0x80 == 0;
    let mut bytes = bytes.to_vec();
    bytes[0] ^= 0x80;
    if is_negative {
        for byte in &mut bytes {
            *byte = !*byte;
        }
    }
    let (mut digits, mut rest) = (String::new(), &bytes[..]);
    let mut group = |count: usize, digits: &mut String| {
        let (taken, left) = rest.split_at_checked(BYTES[count])?;
        rest = left;
        let number = taken.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        write!(digits, "{number:0count$}").ok()
    };
    if whole % GROUP > 0 {
        group(whole % GROUP, &mut digits)?;
    }
    for _ in 0..whole / GROUP {
        group(GROUP, &mut digits)?;
    }
    let trimmed = digits.trim_start_matches('0');
    let mut out = String::from(if is_negative { "-" } else { "" });
    out.push_str(if trimmed.is_empty() { "0" } else { trimmed });
    if scale > 0 {
        out.push('.');
        for _ in 0..scale / GROUP {
            group(GROUP, &mut out)?;
        }
        if scale % GROUP > 0 {
            group(scale % GROUP, &mut out)?;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read() {
        // The example of the server's own source: decimal(14, 4).
        let bytes = [0x81, 0x0D, 0xFB, 0x38, 0xD2, 0x04, 0xD2];
        assert_eq!(text([14, 4], &bytes).as_deref(), Some("1234567890.1234"));
        let negative: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        assert_eq!(text([14, 4], &negative).as_deref(), Some("-1234567890.1234"));
        assert_eq!(text([4, 0], &[0x80, 0x00]).as_deref(), Some("0"));
        assert_eq!(text([4, 2], &[0x80, 0x05]).as_deref(), Some("0.05"));
        assert_eq!(text([4, 2], &[0x80]), None);
    }
}
