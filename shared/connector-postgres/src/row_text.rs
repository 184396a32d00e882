//! Rows as texts of PostgreSQL's composite types: a few of them travel as a parameter of the statement that writes them.
//! They are read by the same input functions as the fields of COPY, with the same lengths and scales.

use fides_core::Fault;

use crate::copy_text::{Fields, text};

/// Lines of COPY's text format as rows: `(1,f,,"a ""quoted"" text")`. NULL is nothing at all.
pub(crate) fn rows(lines: &[u8]) -> Result<Vec<String>, Fault> {
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    lines.split(|&byte| byte == b'\n').map(row).collect()
}

fn row(line: &[u8]) -> Result<String, Fault> {
    let mut row = String::with_capacity(line.len() + 16);
    let mut separator = '(';
    for field in Fields::of(line) {
        row.push(separator);
        separator = ',';
        let Some(text) = text(field)? else { continue };
        row.push('"');
        for part in text.split_inclusive(['"', '\\']) {
            row.push_str(part);
            // Said twice it is meant once.
            if let Some(last) = part.chars().next_back().filter(|last| matches!(last, '"' | '\\')) {
                row.push(last);
            }
        }
        row.push('"');
    }
    row.push(')');
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy_text::put;

    #[test]
    fn fields_are_quoted_and_null_is_empty() {
        let mut line = Vec::new();
        for text in ["7", "", "a \"b\" \\ , ()\t\n\r", "größe"] {
            put(text, &mut line);
            line.push(b'\t');
        }
        line.extend_from_slice(b"\\N\n");
        let two = [&line[..], b"1\t\\N\n"].concat();
        let expected = ["(\"7\",\"\",\"a \"\"b\"\" \\\\ , ()\t\n\r\",\"größe\",)", "(\"1\",)"];
        assert_eq!(rows(&two).unwrap(), expected);
    }
}
