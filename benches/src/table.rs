//! Tables, for a terminal and for a page.

use std::fmt;

/// A table; its first column names the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(columns: [&str; N]) -> Self {
        Self { columns: columns.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// In Markdown. Rows whose name is indented stand beside the one above, which is set in bold.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut page = line(&self.columns);
        page += &format!("|---{}|\n", "|--:".repeat(self.columns.len().saturating_sub(1)));
        for row in &self.rows {
            let mut cells = row.clone();
            if let Some(name) = cells.first_mut() {
                *name = match name.strip_prefix("  ") {
                    Some(name) => name.to_owned(),
                    None => format!("**{name}**"),
                };
            }
            page += &line(&cells);
        }
        page
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.columns).chain(&self.rows);
        let width = |column: usize| {
            lines().filter_map(|line| Some(line.get(column)?.chars().count())).max().unwrap_or(0)
        };
        for line in lines() {
            let mut text = String::new();
            for (column, cell) in line.iter().enumerate() {
                let width = width(column);
                text += &format!("{cell:<width$}  ");
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["send 32 B", "ns"]);
        table.row(["ours".into(), "1".into()]);
        table.row(["  theirs".into(), "20 (1–3)".into()]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(table().to_string(), "send 32 B  ns\nours       1\n  theirs   20 (1–3)\n");
    }

    #[test]
    fn markdown_has_what_the_terminal_has() {
        let markdown = "| send 32 B | ns |\n|---|--:|\n| **ours** | 1 |\n| theirs | 20 (1–3) |\n";
        assert_eq!(table().markdown(), markdown);
    }
}
