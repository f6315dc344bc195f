//! The outcome, for a terminal and as Markdown.

use std::fmt::{self, Write};

use crate::{Chapter, Clause, Index, Level, Problem, Sources, Standing, check};

/// What the index says, and what is wrong with it.
#[derive(Debug)]
pub struct Report<'a> {
    index: &'a Index,
    problems: Vec<Problem>,
}

/// Clauses of a chapter by what is known of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    clauses: usize,
    shown: usize,
    observed: usize,
    not_applicable: usize,
    open: usize,
}

const HEAD: [&str; 6] =
    ["chapter", "clauses", "shown by a test", "also observed", "not applicable", "open"];

impl<'a> Report<'a> {
    /// Checks the index and reports.
    #[must_use]
    pub fn of(index: &'a Index, sources: &Sources) -> Self {
        Report { index, problems: check(index, sources) }
    }

    /// Everything that is wrong.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The whole index with its outcome.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = String::from("# Conformance\n\n");
        text += "Each clause of the specifications that binds a device or a back-end, with the tests \
                 that show\nthat it is met, or the reason why it does not apply. *Observed* clauses \
                 are also checked by the\nconformance observer in every test that uses the fake \
                 driver.\n\n";
        text += &row(HEAD);
        text += &row(["---"; 6]);
        for line in self.rows() {
            text += &row(line);
        }
        if !self.problems.is_empty() {
            text += "\n## Problems\n\n";
            for problem in &self.problems {
                text += &format!("- {problem}\n");
            }
        }
        for chapter in &self.index.chapters {
            text += &format!("\n## {} ({})\n\n", chapter.title, chapter.document);
            for clause in &chapter.clauses {
                text += &entry(chapter, clause);
            }
        }
        text
    }

    fn rows(&self) -> impl Iterator<Item = [String; 6]> {
        let chapters = &self.index.chapters;
        let each = chapters.iter().map(|chapter| Counts::of(&chapter.clauses).row(&chapter.title));
        each.chain([Counts::of(self.index.clauses()).row("all")])
    }
}

/// For a terminal: counts, then what is open and what else is wrong.
impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 6]> =
            [HEAD.map(str::to_owned)].into_iter().chain(self.rows()).collect();
        for row in &rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = rows.iter().filter_map(|row| row.get(column)).map(String::len).max();
                let width = width.unwrap_or_default();
                match column {
                    0 => write!(line, "{cell:<width$}")?,
                    _ => write!(line, "  {cell:>width$}")?,
                }
            }
            writeln!(f, "{line}")?;
        }
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl Counts {
    fn of<'c>(clauses: impl IntoIterator<Item = &'c Clause>) -> Self {
        let mut counts = Counts::default();
        for clause in clauses {
            let standing = clause.standing();
            counts.clauses += 1;
            counts.shown += usize::from(standing == Standing::Shown);
            counts.observed += usize::from(!clause.observer.is_empty());
            counts.not_applicable += usize::from(standing == Standing::DoesNotApply);
            counts.open += usize::from(standing == Standing::Open);
        }
        counts
    }

    fn row(self, title: &str) -> [String; 6] {
        let Counts { clauses, shown, observed, not_applicable, open } = self;
        let [a, b, c, d, e] =
            [clauses, shown, observed, not_applicable, open].map(|count| count.to_string());
        [title.to_owned(), a, b, c, d, e]
    }
}

fn row<C: fmt::Display>(cells: [C; 6]) -> String {
    let cells = cells.map(|cell| cell.to_string());
    format!("| {} |\n", cells.join(" | "))
}

fn entry(chapter: &Chapter, clause: &Clause) -> String {
    let strength = match clause.level {
        Level::Must => "",
        Level::Should => ", recommended",
        Level::May => ", permitted",
    };
    let Clause { id, section, obligation, .. } = clause;
    let mut text =
        format!("- **{id}** ({}, {section}{strength}): {obligation}\n", chapter.document);
    if let Some(reason) = &clause.reason {
        text += &format!("  *{reason}*\n");
    }
    if clause.standing() == Standing::Open {
        text += "  **Open.**\n";
    }
    let places: Vec<String> = clause.places.iter().map(ToString::to_string).collect();
    for (title, names) in
        [("in", &places), ("shown by", &clause.tests), ("observed as", &clause.observer)]
    {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            text += &format!("  - {title} {}\n", names.join(", "));
        }
    }
    text
}
