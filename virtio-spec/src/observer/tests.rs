//! One test per clause that breaks it, and runs that break none.

mod block;
mod conforming;
mod lifecycle;
mod packed;
mod ring;
mod scene;
mod vhost_user;

use super::clause;
use std::collections::HashSet;

/// Declares tests each of which breaks one clause with its last step.
macro_rules! breaches {
    ($( $name:ident breaks $clause:ident: $body:block )*) => {
        $(
            #[test]
            fn $name() {
                let last: Result<(), crate::observer::Violation> = $body;
                let broken = last.expect_err("no clause was broken").clause;
                assert_eq!(broken.id, $clause.id);
            }
        )*

        /// The clauses that tests of this file break.
        pub(super) static BROKEN: &[&crate::observer::Clause] = &[$(&$clause),*];
    };
}
use breaches;

#[test]
fn every_clause_can_be_broken() {
    let broken: HashSet<_> =
        [lifecycle::BROKEN, ring::BROKEN, packed::BROKEN, vhost_user::BROKEN, block::BROKEN]
            .into_iter()
            .flatten()
            .map(|clause| clause.id)
            .collect();
    let unbroken: Vec<_> =
        clause::all().map(|clause| clause.id).filter(|id| !broken.contains(id)).collect();
    assert_eq!(unbroken, [""; 0]);
}
