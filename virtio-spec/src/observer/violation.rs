//! What the observer says when a clause was broken.

use super::{Clause, Side};
use thiserror::Error;

/// A clause was broken, and what happened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the {} broke {}: {what}. Owed: {}", clause.side, clause.id, clause.obligation)]
pub struct Violation {
    /// The clause.
    pub clause: &'static Clause,
    /// What happened.
    pub what: String,
}

impl Violation {
    /// Who broke the clause.
    #[must_use]
    pub fn side(&self) -> Side {
        self.clause.side
    }

    /// Where the specification has the clause.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.clause.section
    }
}

/// Violations found while one step is looked at.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Violation>);

impl Findings {
    /// The clause was broken.
    pub(super) fn breach(&mut self, clause: &'static Clause, what: impl Into<String>) {
        self.0.push(Violation { clause, what: what.into() });
    }

    /// The clause was broken unless `holds`.
    pub(super) fn check(
        &mut self,
        holds: bool,
        clause: &'static Clause,
        what: impl FnOnce() -> String,
    ) {
        if !holds {
            self.breach(clause, what());
        }
    }

    pub(super) fn into_violations(self) -> Vec<Violation> {
        self.0
    }
}
