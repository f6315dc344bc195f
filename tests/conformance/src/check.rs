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
    problems
        .extend(clause.places.iter().filter_map(|place| check_place(&clause.id, place, sources)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Chapter;
    use std::fs;

    /// A workspace with one package, one function and one test.
    fn sources() -> (tempfile::TempDir, Sources) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        fs::create_dir_all(folder.path().join("rings/src")).unwrap();
        write("Cargo.toml", "[workspace]\nmembers = ['rings']\n");
        write("rings/Cargo.toml", "[package]\nname = 'rings'\n");
        write("rings/src/lib.rs", "fn look_up() {}\n#[test]\nfn it_works() {}\n");
        let sources = Sources::scan(folder.path()).unwrap();
        (folder, sources)
    }

    /// What is wrong with a chapter of these clauses, each beginning with its id and section.
    fn problems(clauses: &[&str]) -> Vec<Problem> {
        let clauses = clauses.iter().map(|text| format!("[[clause]]\nobligation = 'o'\n{text}\n"));
        let text = clauses.collect::<String>();
        let chapter: Chapter =
            toml::from_str(&format!("title = 't'\ndocument = 'd'\n{text}")).unwrap();
        let (_folder, sources) = sources();
        check(&Index { chapters: vec![chapter] }, &sources)
    }

    const GOOD: &str = "id = 'a'\nsection = '1'\ntests = ['rings::it_works']\n\
                        where = ['rings/src/lib.rs#look_up']\n\
                        observer = ['virtio-1.4/2.6/used-once']";

    #[test]
    fn an_index_that_is_true_has_no_problems() {
        assert_eq!(problems(&[GOOD, "id = 'b'\nsection = '2'\nreason = 'not offered'"]), []);
    }

    #[test]
    fn clauses_with_neither_test_nor_reason_are_open() {
        let bare = "id = 'a'\nsection = '1'";
        let observed = "id = 'b'\nsection = '1'\nobserver = ['virtio-1.4/2.6/used-once']";
        let open = |id: &str| Problem::Open { id: id.into() };
        assert_eq!(problems(&[bare, observed]), [open("a"), open("b")]);
    }

    #[test]
    fn what_is_gone_is_found_out() {
        let replaced = |from, to| problems(&[&GOOD.replace(from, to)]);
        let id = || "a".to_owned();
        let gone = Problem::NoSuchTest { id: id(), test: "rings::it_worked".into() };
        assert_eq!(replaced("it_works", "it_worked"), [gone]);
        let gone = Problem::NoSuchFile { id: id(), path: "rings/src/main.rs".into() };
        assert_eq!(replaced("lib.rs", "main.rs"), [gone]);
        let place = "rings/src/lib.rs#look".into();
        assert_eq!(replaced("look_up", "look"), [Problem::NoSuchSymbol { id: id(), place }]);
        // That one binds drivers.
        let clause = "virtio-1.4/2.7.13.1/descriptor-free";
        let gone = Problem::NotObserved { id: id(), clause: clause.into() };
        assert_eq!(replaced("virtio-1.4/2.6/used-once", clause), [gone]);
    }

    #[test]
    fn clauses_say_what_and_where_and_are_told_apart() {
        let nowhere = "id = 'b'\nsection = '1'\ntests = ['rings::it_works']";
        assert_eq!(problems(&[nowhere]), [Problem::Nowhere { id: "b".into() }]);
        let empty = "id = 'b'\nsection = ' '\nreason = 'r'";
        assert_eq!(problems(&[empty]), [Problem::Empty { id: "b".into() }]);
        assert_eq!(problems(&[GOOD, GOOD]), [Problem::Twice { id: "a".into() }]);
    }
}
