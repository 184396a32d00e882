use std::fmt;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, TableStyle};
use console::Term;

/// A line below the header and nothing else: nine columns of numbers fit a terminal of eighty characters.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));
/// Text is not squeezed into less than this.
const NARROWEST: u16 = 60;

/// A table: some columns of text, then columns of numbers.
pub struct Table {
    table: comfy_table::Table,
    /// How many columns from the left are text.
    text_columns: usize,
}

impl Table {
    /// A table whose first `text_columns` columns are text; the others are numbers, aligned to the right.
    pub fn new(header: &[&str], text_columns: usize) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(STYLE).set_header(header.iter().copied());
        Self { table, text_columns }
    }

    /// Breaks long texts to the width of the terminal; elsewhere a line stays a line, for `grep`.
    pub fn wrapped(mut self) -> Self {
        let term = Term::stdout();
        if term.is_term() {
            let (_, columns) = term.size();
            self.table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns.max(NARROWEST));
        }
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells.into_iter().collect::<Vec<_>>());
        for (at, column) in self.table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if at >= self.text_columns {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table.trim_fmt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_left_and_numbers_right() {
        let mut table = Table::new(&["name", "count"], 1);
        table.row(["a".into(), "1".into()]);
        table.row(["bcde".into(), "12345".into()]);
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "name  count");
        assert!(lines[1].starts_with("───"), "{text}");
        assert_eq!(lines[2..], ["a         1", "bcde  12345"]);
    }
}
