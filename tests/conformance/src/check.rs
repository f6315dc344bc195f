//! Holding the index against the sources.

use std::collections::{BTreeMap, BTreeSet};

use virtio_spec::observer::{Clause as Observed, Side, clause as observed};

use crate::{Clause, Index, Place, Sources, Standing};

/// Something that is wrong with the index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message names its fields")]
pub enum Problem {
    /// Nothing shows that the obligation is met, and nothing says why it need not be.
    #[error("{id} is open: name a test that shows it, or the reason why it does not apply")]
    Open { id: String },
    /// Two clauses have one id.
    #[error("{id} stands twice in the index: ids are unique")]
    Twice { id: String },
    /// The obligation is missing.
    #[error("{id} does not say what is owed, or in which section")]
    Empty { id: String },
    /// Tests show an obligation of which nobody knows where it is implemented.
    #[error("{id} is shown by tests, but does not say where it is implemented")]
    Nowhere { id: String },
    /// A test that was renamed or removed.
    #[error("{id} names the test {test}, which does not exist any more")]
    NoSuchTest { id: String, test: String },
    /// A file that was renamed or removed.
    #[error("{id} is said to be implemented in {path}, which does not exist any more")]
    NoSuchFile { id: String, path: String },
    /// A function or constant that was renamed or moved.
    #[error("{id} is said to be implemented by {place}, but the file has no such word any more")]
    NoSuchSymbol { id: String, place: String },
    /// A clause of the observer that was renamed or removed, or is not a back-end's.
    #[error("{id} names {clause}, which the observer does not hold a device or back-end to")]
    NotObserved { id: String, clause: String },
}

/// Everything that is wrong with the index.
#[must_use]
pub fn check(index: &Index, sources: &Sources) -> Vec<Problem> {
    let observed = observed_clauses();
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for clause in index.clauses() {
        if !seen.insert(&clause.id) {
            problems.push(Problem::Twice { id: clause.id.clone() });
        }
        check_clause(clause, sources, &observed, &mut problems);
    }
    problems
}

/// The observer's clauses that bind devices and back-ends, by their ids.
fn observed_clauses() -> BTreeMap<&'static str, &'static Observed> {
    observed::all()
        .filter(|clause| matches!(clause.side, Side::Device | Side::BackEnd))
        .map(|clause| (clause.id, clause))
        .collect()
}

fn check_clause(
    clause: &Clause,
    sources: &Sources,
    observed: &BTreeMap<&str, &Observed>,
    problems: &mut Vec<Problem>,
) {
    let id = || clause.id.clone();
    if [&clause.id, &clause.section, &clause.obligation].iter().any(|text| text.trim().is_empty()) {
        problems.push(Problem::Empty { id: id() });
    }
    match clause.standing() {
        Standing::Open => problems.push(Problem::Open { id: id() }),
        Standing::Shown if clause.places.is_empty() => problems.push(Problem::Nowhere { id: id() }),
        Standing::Shown | Standing::DoesNotApply => {}
    }
    for test in clause.tests.iter().filter(|test| !sources.has_test(test)) {
        problems.push(Problem::NoSuchTest { id: id(), test: test.clone() });
    }
    for name in clause.observer.iter().filter(|name| !observed.contains_key(name.as_str())) {
        problems.push(Problem::NotObserved { id: id(), clause: name.clone() });
    }
    problems.extend(clause.places.iter().filter_map(|place| check_place(&clause.id, place, sources)));
}

fn check_place(id: &str, place: &Place, sources: &Sources) -> Option<Problem> {
    let Some(text) = sources.text(&place.path) else {
        return Some(Problem::NoSuchFile { id: id.to_owned(), path: place.path.clone() });
    };
    let symbol = place.symbol.as_deref()?;
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let there = text.split(|c| !is_part(c)).any(|word| word == symbol);
    (!there).then(|| Problem::NoSuchSymbol { id: id.to_owned(), place: place.to_string() })
}
