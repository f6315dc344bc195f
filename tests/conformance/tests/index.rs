//! The index of clauses is complete, and true to the sources.

use conformance::{Index, Report, Sources, workspace_dir};

#[test]
fn every_clause_has_a_test_that_exists_or_a_reason() {
    let index = Index::load(workspace_dir()).unwrap();
    let sources = Sources::scan(workspace_dir()).unwrap();
    let report = Report::of(&index, &sources);
    assert!(report.problems().is_empty(), "{report}");
}

/// An index that shrank by mistake would have no open clauses either.
#[test]
fn every_chapter_has_its_clauses() {
    let index = Index::load(workspace_dir()).unwrap();
    let counts: Vec<usize> = index.chapters.iter().map(|chapter| chapter.clauses.len()).collect();
    let least = [20, 20, 10, 30, 30, 40, 15, 10, 80];
    assert!(counts.iter().zip(least).all(|(count, least)| *count >= least), "{counts:?}");
}
