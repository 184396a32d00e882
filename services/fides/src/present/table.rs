use std::fmt;

use comfy_table::{CellAlignment, ContentArrangement, presets};
use console::Term;

/// Where stdout is no terminal, tables are as wide as their content.
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
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header.iter().copied());
        let term = Term::stdout();
        if term.is_term() {
            let (_, columns) = term.size();
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns.max(NARROWEST));
        }
        Self { table, text_columns }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells.into_iter().collect::<Vec<_>>());
        for (at, column) in self.table.column_iter_mut().enumerate() {
            if at >= self.text_columns {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
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
        assert!(text.contains("│ a    ") && text.contains("    1 │"), "{text}");
    }
}
