//! Table: rows as columns on a terminal, and separated by tabs, without a heading and uncut, in a pipe.

use super::{
    failure::Failure,
    screen::{Look, Screen, Style},
    text,
};

/// No column but the last is wider on a terminal.
const WIDEST: usize = 28;
/// Of the last column at least so much is shown.
const NARROWEST: usize = 12;
const GAP: &str = "  ";

/// A table.
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One cell: text of one line that is safe to show.
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A text in a style.
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::styled(text, Style::Plain)
    }
}

impl Table {
    /// An empty one.
    pub fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Writes it to stdout.
    pub fn print(&self, screen: &Screen) -> Result<(), Failure> {
        let (columns, _) = screen.out.size();
        for line in self.lines(&screen.out, columns) {
            screen.line(&line)?;
        }
        Ok(())
    }

    fn lines(&self, look: &Look, columns: usize) -> Vec<String> {
        if !look.terminal {
            let line = |row: &Vec<Cell>| row.iter().map(|cell| cell.text.as_str()).collect::<Vec<_>>().join("\t");
            return self.rows.iter().map(line).collect();
        }
        let last = self.heading.len() - 1;
        let texts = |index: usize| self.rows.iter().map(move |row| row[index].text.as_str());
        let mut widths: Vec<usize> = (0..=last)
            .map(|index| texts(index).chain([self.heading[index]]).map(text::width).max().unwrap_or(0).min(WIDEST))
            .collect();
        let before: usize = widths[..last].iter().map(|width| width + GAP.len()).sum();
        widths[last] = columns.saturating_sub(before).max(NARROWEST);
        let line = |cells: Vec<(&str, Style)>| {
            let shown = cells.iter().enumerate().map(|(index, (words, style))| {
                let words = text::cut(words, widths[index], look.ellipsis());
                let filled = if index == last { words } else { text::pad(&words, widths[index]) };
                look.paint(*style, &filled)
            });
            shown.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
        };
        let heading = line(self.heading.iter().map(|word| (*word, Style::Faint)).collect());
        let rows = self.rows.iter().map(|row| line(row.iter().map(|cell| (cell.text.as_str(), cell.style)).collect()));
        [heading].into_iter().chain(rows).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::text::Charset;

    #[test]
    fn a_terminal_gets_columns_and_a_pipe_gets_everything() {
        let mut table = Table::new(&["ID", "REASON"]);
        table.row([Cell::from("a".to_owned()), Cell::from("something long happened".to_owned())]);
        table.row([Cell::from("bcd".to_owned()), Cell::from(String::new())]);
        let terminal = table.lines(&Look::plain_terminal(Charset::Unicode), 20);
        assert_eq!(terminal, ["ID   REASON", "a    something long…", "bcd"]);
        assert_eq!(table.lines(&Look::pipe(), 20), ["a\tsomething long happened", "bcd\t"]);
    }
}
