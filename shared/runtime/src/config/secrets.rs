//! Values that are not in the file: `${NAME}` in a text, and secrets in files of their own.

use std::path::Path;

use secrecy::SecretString;

use super::environment::Environment;

/// Why a text could not be completed. Names the variable, never a value or a default.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// The variable is not set, and the text has no default for it.
    Unset(String),
    /// `${` without a proper name and `}`.
    Malformed,
}

/// Replaces `${NAME}` and `${NAME:-default}`; `$${` stands for `${`. As in a shell, the default also replaces an
/// empty value. Values are put in as they are and not searched again. All gaps are told, not only the first.
pub(super) fn interpolate(text: &str, environment: &Environment) -> Result<String, Vec<Gap>> {
    let mut done = String::with_capacity(text.len());
    let mut gaps = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, opened) = (&rest[..start], &rest[start + 2..]);
        if let Some(escaped) = before.strip_suffix('$') {
            done.push_str(escaped);
            done.push_str("${");
            rest = opened;
            continue;
        }
        done.push_str(before);
        let Some((inside, after)) = opened.split_once('}') else {
            gaps.push(Gap::Malformed);
            rest = "";
            break;
        };
        rest = after;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        match (environment.get(name), default) {
            _ if !is_name(name) => gaps.push(Gap::Malformed),
            (Some("") | None, Some(default)) => done.push_str(default),
            (Some(value), _) => done.push_str(value),
            (None, None) => gaps.push(Gap::Unset(name.to_owned())),
        }
    }
    done.push_str(rest);
    if gaps.is_empty() { Ok(done) } else { Err(gaps) }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The secret in a file, without the line end that editors add.
pub(super) fn from_file(path: &Path) -> std::io::Result<SecretString> {
    let text = std::fs::read_to_string(path)?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}
