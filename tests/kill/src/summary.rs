//! What a campaign prints in the end.

use std::fmt;

use crate::tally::Tally;

/// One series' line.
#[derive(Debug, Clone)]
pub struct Row {
    /// The series.
    pub series: &'static str,
    /// What it was started with.
    pub seed: u64,
    /// What it has shown.
    pub tally: Tally,
}

/// All lines; printed as a Markdown table.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    rows: Vec<Row>,
}

const HEADER: [&str; 9] = [
    "series",
    "kills",
    "while taking over",
    "requests verified",
    "sectors compared",
    "in flight at death",
    "late writes, reads",
    "longest, ms",
    "seed",
];

impl Summary {
    /// One more line.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Kills in all.
    #[must_use]
    pub fn kills(&self) -> u32 {
        self.rows.iter().map(|row| row.tally.kills).sum()
    }

    fn cells(&self) -> Vec<[String; 9]> {
        let mut cells = vec![HEADER.map(str::to_owned)];
        cells.extend(self.rows.iter().map(Row::cells));
        cells
    }
}

impl Row {
    fn cells(&self) -> [String; 9] {
        let tally = &self.tally;
        let late = tally.landings.map_or_else(String::new, |landings| {
            format!("{}, {}", landings.late_writes, landings.late_reads)
        });
        [
            self.series.to_owned(),
            tally.kills.to_string(),
            tally.hasty.to_string(),
            tally.requests().to_string(),
            tally.compared.to_string(),
            tally.taken.map_or_else(String::new, |taken| taken.to_string()),
            late,
            tally.longest.as_millis().to_string(),
            self.seed.to_string(),
        ]
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = self.cells();
        let mut widths = [0; 9];
        for row in &cells {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.len().max(*width);
            }
        }
        for (number, row) in cells.iter().enumerate() {
            let line = row.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} "));
            writeln!(f, "|{}|", line.collect::<Vec<_>>().join("|"))?;
            if number == 0 {
                let rule = widths.map(|width| "-".repeat(width + 2));
                writeln!(f, "|{}|", rule.join("|"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_markdown_table() {
        let mut summary = Summary::default();
        let tally = Tally { kills: 3, reads: 10, ..Tally::default() };
        summary.push(Row { series: "split", seed: 7, tally });
        let text = summary.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() == lines[0].len() && line.starts_with('|')));
        assert!(lines[2].contains("| 7 "), "{text}");
        assert_eq!(summary.kills(), 3);
    }
}
