//! A page for people, in Markdown.

use super::Verdict;
use crate::statistics::Spread;

/// A page that is written from its top to its end.
#[derive(Debug)]
pub(crate) struct Page {
    text: String,
    verdicts: Vec<Verdict>,
}

impl Page {
    pub(super) fn new(title: &str) -> Self {
        Self { text: format!("# {title}\n"), verdicts: Vec::new() }
    }

    /// A title within the page.
    pub(crate) fn heading(&mut self, title: &str) {
        self.line("");
        self.line(&format!("## {title}"));
    }

    /// A paragraph.
    pub(crate) fn paragraph(&mut self, text: &str) {
        self.line("");
        self.line(text);
    }

    /// A list.
    pub(crate) fn list<'text>(&mut self, items: impl IntoIterator<Item = &'text str>) {
        self.line("");
        items.into_iter().for_each(|item| self.line(&format!("- {item}")));
    }

    /// A table: its first column holds words, the others figures. Without rows there is none.
    pub(crate) fn table(&mut self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        self.line("");
        self.line(&format!("| {} |", head.join(" | ")));
        self.line(&format!("|---|{}", "--:|".repeat(head.len().saturating_sub(1))));
        rows.for_each(|row| self.line(&format!("| {} |", row.join(" | "))));
    }

    /// What was wanted, and whether it was reached; under a title, if anything was.
    pub(crate) fn targets(&mut self, verdicts: impl IntoIterator<Item = Verdict>) {
        let verdicts: Vec<Verdict> = verdicts.into_iter().collect();
        if verdicts.is_empty() {
            return;
        }
        self.heading("Targets");
        self.table(&["what", "wanted", "measured", ""], verdicts.iter().map(Verdict::row));
        self.verdicts.extend(verdicts);
    }

    /// Pairs of a name and a value, without a head.
    pub(super) fn listing(&mut self, rows: impl IntoIterator<Item = Vec<String>>) {
        self.line("");
        self.line("| | |");
        self.line("|---|---|");
        rows.into_iter().for_each(|row| self.line(&format!("| {} |", row.join(" | "))));
    }

    pub(super) fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }
}

/// A cell with the median, and the least and the greatest of the rounds.
pub(crate) fn spread(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("–".to_owned(), |spread| spread.shown(digits))
}

/// A cell with the median alone.
pub(crate) fn median(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("–".to_owned(), |spread| format!("{:.digits$}", spread.median))
}
