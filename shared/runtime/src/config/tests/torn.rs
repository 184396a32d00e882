//! No input makes the reader panic, and what is refused is refused with at least one reason.

use proptest::prelude::*;

use super::{EXAMPLE, read};

fn survives(text: &str, variables: &[(&str, &str)]) -> Result<(), TestCaseError> {
    if let Err(errors) = read(text, variables) {
        prop_assert!(errors.iter().count() > 0);
        prop_assert!(!errors.to_string().is_empty());
    }
    Ok(())
}

/// What a mutation may put into the file.
fn fragment() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "",
        ":",
        " ",
        "\n",
        "-",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "*",
        "&a ",
        "*a",
        "|",
        ">",
        "!",
        "#",
        "%",
        "${",
        "}",
        "~",
        "null",
        "- ",
        "? ",
        "<<: ",
        "\t",
        "---\n",
        "...\n",
        "é",
        "\u{feff}",
        "99999999999999999999",
        "true",
        ".inf",
        "x: 1\n",
        "lanes",
        "kind: sqlite",
        "@",
        "`",
        "\\",
        "\0",
    ];
    prop_oneof![proptest::sample::select(KNOWN).prop_map(str::to_owned), ".{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// A file may hold anything: an image, another encoding, an example with a broken byte in it.
    #[test]
    fn any_bytes_in_a_file(
        bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0..EXAMPLE.len(), in_the_example: bool
    ) {
        let mut whole = bytes;
        if in_the_example {
            let (before, after) = EXAMPLE.as_bytes().split_at(at);
            whole = [before, &whole[..whole.len().min(3)], after].concat();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &whole).unwrap();
        if let Err(errors) = super::super::load(file.path()) {
            prop_assert!(errors.iter().count() > 0);
            let shown = file.path().display().to_string();
            prop_assert!(errors.to_string().contains(&shown), "{} is not in {}", shown, errors);
        } else {
            prop_assert!(std::str::from_utf8(&whole).is_ok());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_text(text in "(?s).{0,200}", value in ".{0,20}") {
        survives(&text, &[("FIDES__HOSTS__SHOP__KIND", &value)])?;
    }

    #[test]
    fn a_torn_example(cuts in prop::collection::vec((0..EXAMPLE.len(), 0..40_usize, fragment()), 1..6)) {
        let mut text = EXAMPLE.to_owned();
        for (start, length, fragment) in cuts {
            let start = text.floor_char_boundary(start.min(text.len()));
            let end = text.floor_char_boundary((start + length).min(text.len()));
            text.replace_range(start..end, &fragment);
        }
        survives(&text, &[("SHOP_PASSWORD", "x")])?;
    }

    #[test]
    fn any_override(path in "[A-Z_]{0,30}", value in fragment()) {
        let names = [format!("FIDES__{path}"), format!("FIDES__PIPELINES__ORDERS__{path}"), format!("FIDES__LIMITS__{path}")];
        survives(EXAMPLE, &names.each_ref().map(|name| (name.as_str(), value.as_str())))?;
    }
}
