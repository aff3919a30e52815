//! Plain text tables, aligned by character count; colour does not count.

/// Rows of cells under a header; columns are as wide as their widest cell, two spaces apart.
pub(crate) struct TextTable {
    rows: Vec<Vec<String>>,
}

impl TextTable {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|it| (*it).to_owned()).collect()] }
    }

    /// Without a header.
    pub(crate) fn bare() -> Self {
        Self { rows: Vec::new() }
    }

    /// A cell is one line: a value with a line end in it would make one that karat never said.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|it| it.replace('\n', "\\n")).collect());
    }

    /// The lines, without trailing spaces.
    pub(crate) fn lines(&self) -> Vec<String> {
        let n_columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..n_columns)
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|it| width(it))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        self.rows
            .iter()
            .map(|row| {
                let mut line = String::new();
                for (cell, column) in row.iter().zip(&widths) {
                    line.push_str(cell);
                    line.extend(std::iter::repeat_n(' ', column + 2 - width(cell)));
                }
                line.trim_end().to_owned()
            })
            .collect()
    }

    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }
}

/// Characters that take room: escape sequences do not.
pub(crate) fn width(text: &str) -> usize {
    let mut n = 0;
    let mut in_escape = false;
    for c in text.chars() {
        match (in_escape, c) {
            (false, '\x1b') => in_escape = true,
            (false, _) => n += 1,
            (true, 'm') => in_escape = false,
            (true, _) => {}
        }
    }
    n
}

/// Puts blocks of lines side by side, four spaces apart.
pub(crate) fn beside(blocks: &[Vec<String>]) -> Vec<String> {
    let height = blocks.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        blocks.iter().map(|it| it.iter().map(|line| width(line)).max().unwrap_or(0)).collect();
    (0..height)
        .map(|i| {
            let mut line = String::new();
            for (block, room) in blocks.iter().zip(&widths) {
                let cell = block.get(i).map_or("", String::as_str);
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', room + 4 - width(cell)));
            }
            line.trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{TextTable, beside, width};

    #[test]
    fn columns_line_up_and_colour_takes_no_room() {
        let mut table = TextTable::new(&["a", "b"]);
        table.row(vec!["\x1b[31mxyz\x1b[0m".to_owned(), "1".to_owned()]);
        assert_eq!(table.lines()[0], "a    b");
        assert_eq!(width(&table.lines()[1]), 6);
        let blocks = [vec!["ab".to_owned()], vec!["c".to_owned(), "d".to_owned()]];
        assert_eq!(beside(&blocks), ["ab    c", "      d"]);
    }
}
