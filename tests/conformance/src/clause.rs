//! Clauses as they stand in the files.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};

/// The chapters' files, in the order of the report.
const FILES: [&str; 9] = [
    "basic.toml",
    "split-ring.toml",
    "packed-ring.toml",
    "pci.toml",
    "block.toml",
    "net.toml",
    "console.toml",
    "balloon.toml",
    "vhost-user.toml",
];

/// All chapters.
#[derive(Debug)]
pub struct Index {
    /// In the order in which they are reported.
    pub chapters: Vec<Chapter>,
}

/// One chapter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chapter {
    /// What it is about.
    pub title: String,
    /// The specification that its sections belong to, such as `virtio 1.4`.
    pub document: String,
    /// Its clauses.
    #[serde(rename = "clause")]
    pub clauses: Vec<Clause>,
}

/// One obligation, or several that belong together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    /// Short, stable, unique in the index.
    pub id: String,
    /// A section number of virtio, a heading of vhost-user.
    pub section: String,
    /// How strong it is.
    #[serde(default)]
    pub level: Level,
    /// What a back-end has to do, in this project's words.
    pub obligation: String,
    /// Where it is implemented.
    #[serde(default, rename = "where")]
    pub places: Vec<Place>,
    /// Tests that show it, as `package::module::test`; for integration tests
    /// `package::program::module::test`.
    #[serde(default)]
    pub tests: Vec<String>,
    /// Clauses of the observer that watch it, by their ids.
    #[serde(default)]
    pub observer: Vec<String>,
    /// Why it does not apply, or is met by somebody else.
    pub reason: Option<String>,
}

/// How strong an obligation is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Without it the back-end does not conform.
    #[default]
    Must,
    /// It is to be followed unless there is a good reason.
    Should,
    /// It is permitted; the entry says whether it is made use of.
    May,
}

/// Where a clause is implemented: a file of the workspace, and a word that stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Place {
    /// The file's path in the workspace.
    pub path: String,
    /// A function, method or constant.
    pub symbol: Option<String>,
}

/// What is known of a clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Tests show that it is met.
    Shown,
    /// It does not apply, or is not the back-end's to meet.
    DoesNotApply,
    /// Neither.
    Open,
}

impl Index {
    /// Reads all chapters of the workspace in this folder.
    ///
    /// # Errors
    /// When a file is missing, or is not a file of clauses.
    pub fn load(workspace: &Path) -> Result<Self> {
        let folder = workspace.join("tests/conformance/clauses");
        let chapters: Result<Vec<_>> =
            FILES.iter().map(|file| Chapter::load(&folder.join(file))).collect();
        Ok(Index { chapters: chapters? })
    }

    /// All clauses.
    pub fn clauses(&self) -> impl Iterator<Item = &Clause> {
        self.chapters.iter().flat_map(|chapter| &chapter.clauses)
    }
}

impl Chapter {
    fn load(path: &Path) -> Result<Self> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(failed)?;
        toml::from_str(&text)
            .map_err(|source| Error::Parse { path: path.to_owned(), source: Box::new(source) })
    }
}

impl Clause {
    /// What is known of it. Tests outweigh a reason, which then explains what they leave out.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let reason = self.reason.as_deref().is_some_and(|reason| !reason.trim().is_empty());
        match (self.tests.is_empty(), reason) {
            (false, _) => Standing::Shown,
            (true, true) => Standing::DoesNotApply,
            (true, false) => Standing::Open,
        }
    }
}

impl From<String> for Place {
    fn from(text: String) -> Self {
        match text.split_once('#') {
            Some((path, symbol)) => {
                Place { path: path.to_owned(), symbol: Some(symbol.to_owned()) }
            }
            None => Place { path: text, symbol: None },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.symbol {
            Some(symbol) => write!(f, "{}#{symbol}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clause(text: &str) -> Clause {
        toml::from_str(&format!("id = 'a'\nsection = '1'\nobligation = 'o'\n{text}")).unwrap()
    }

    #[test]
    fn a_test_or_a_reason_settles_a_clause() {
        assert_eq!(clause("").standing(), Standing::Open);
        assert_eq!(clause("reason = ' '").standing(), Standing::Open);
        assert_eq!(clause("observer = ['x']").standing(), Standing::Open);
        assert_eq!(clause("reason = 'not offered'").standing(), Standing::DoesNotApply);
        assert_eq!(clause("tests = ['a::b']\nreason = 'and so'").standing(), Standing::Shown);
    }

    #[test]
    fn a_place_may_name_a_symbol() {
        let places = clause("where = ['a/b.rs#look', 'c.rs']").places;
        assert_eq!(places[0], Place { path: "a/b.rs".into(), symbol: Some("look".into()) });
        assert_eq!(places[1].to_string(), "c.rs");
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        assert!(toml::from_str::<Clause>("id='a'\nsection='1'\nobligation='o'\ntest=[]").is_err());
    }
}
