//! A table for people, on a terminal or in a log.

/// The widest that a cell gets before it is broken into lines.
const WIDEST: usize = 34;

/// Lays out rows under a header; cells are broken between words, and at line ends of their own.
pub(crate) fn layout(header: &[&str], rows: &[Vec<String>]) -> String {
    let header = header.iter().map(|cell| vec![(*cell).to_owned()]).collect();
    let body = rows.iter().map(|row| row.iter().map(|cell| broken(cell)).collect());
    let rows: Vec<Vec<Vec<String>>> = std::iter::once(header).chain(body).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(|column| width(&rows, column)).collect();
    let rule = widths.iter().map(|width| "─".repeat(width + 2)).collect::<Vec<_>>().join("┼");

    let mut text = String::new();
    for row in &rows {
        let height = row.iter().map(Vec::len).max().unwrap_or_default();
        for line in 0..height {
            let cells = widths.iter().enumerate().map(|(column, width)| {
                let cell = row.get(column).and_then(|cell| cell.get(line));
                format!(" {:<width$} ", cell.map_or("", String::as_str))
            });
            text += cells.collect::<Vec<_>>().join("│").trim_end();
            text.push('\n');
        }
        text += &rule;
        text.push('\n');
    }
    text
}

fn width(rows: &[Vec<Vec<String>>], column: usize) -> usize {
    let lines = rows.iter().filter_map(|row| row.get(column)).flatten();
    lines.map(|line| line.chars().count()).max().unwrap_or_default()
}

fn broken(cell: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in cell.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDEST {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_broken_between_words_and_aligned() {
        let words = "several words that are too long for one line of a cell".to_owned();
        let text = layout(&["a", "b"], &[vec![words, "x".to_owned()], vec!["y\nz".to_owned()]]);
        assert!(text.lines().all(|line| line.chars().count() <= WIDEST + 2 + 1 + 3), "{text}");
        assert!(text.contains("several words that are too long"), "{text}");
        assert!(text.contains("\n z"), "{text}");
    }
}
