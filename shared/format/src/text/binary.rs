use uuid::Uuid;

/// Bytes as Postgres writes them: `\x00ff`.
pub fn bytes_text(bytes: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    "\\x".chars().chain(digits.map(char::from)).collect()
}

/// Reads what [`bytes_text`] wrote; hex digits of either case.
pub fn parse_bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8);
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|pair| byte(pair)).collect())?
}

/// A UUID with hyphens, in lower case.
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    Uuid::from_bytes(*uuid).hyphenated().to_string()
}

/// Reads a UUID with or without hyphens, or in braces with them, in either case.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    Uuid::try_parse(text).ok().map(Uuid::into_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_survive(bytes: Vec<u8>) {
            prop_assert_eq!(parse_bytes(&bytes_text(&bytes)), Some(bytes));
        }

        #[test]
        fn uuids_survive(uuid: [u8; 16]) {
            prop_assert_eq!(parse_uuid(&uuid_text(&uuid)), Some(uuid));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "(\\\\x)?\\PC*") {
            let _ = (parse_bytes(&text), parse_uuid(&text));
        }
    }

    #[test]
    fn half_bytes_and_other_digits_are_refused() {
        assert_eq!(parse_bytes("\\x0"), None);
        assert_eq!(parse_bytes("\\xzz"), None);
        assert_eq!(parse_bytes("00"), None);
        assert_eq!(parse_bytes("\\xFf"), Some(vec![255]));
    }
}
