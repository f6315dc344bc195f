//! The table of clauses that the observer judges by.
//!
//! A clause's id is stable: reports and tests refer to it. Its obligation is in this project's
//! words; the section says where the specification has its own.

pub mod block;
pub mod lifecycle;
pub mod ring;
pub mod vhost_user;

use std::fmt;

/// Who owes what a clause demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The driver in the guest.
    Driver,
    /// The device, whoever serves it.
    Device,
    /// The VMM's side of vhost-user.
    FrontEnd,
    /// The daemon's side of vhost-user.
    BackEnd,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Driver => "driver",
            Self::Device => "device",
            Self::FrontEnd => "front-end",
            Self::BackEnd => "back-end",
        })
    }
}

/// One obligation.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Clause {
    /// Short and stable, such as `virtio-1.4/2.7.8.2/used-once`.
    pub id: &'static str,
    /// Where the specification has it: a section of virtio 1.4, or a heading of vhost-user.
    pub section: &'static str,
    /// Who owes it.
    pub side: Side,
    /// What is owed.
    pub obligation: &'static str,
}

/// Declares clauses as statics, and the list of them.
macro_rules! clauses {
    ($document:literal, $( $name:ident: $side:ident, $section:literal, $word:literal, $obligation:literal; )*) => {
        $(
            #[doc = $obligation]
            pub static $name: $crate::observer::Clause = $crate::observer::Clause {
                id: concat!($document, "/", $section, "/", $word),
                section: $section,
                side: $crate::observer::Side::$side,
                obligation: $obligation,
            };
        )*

        /// The clauses of this file.
        pub static CLAUSES: &[&$crate::observer::Clause] = &[$(&$name),*];
    };
}
use clauses;

/// All clauses.
pub fn all() -> impl Iterator<Item = &'static Clause> {
    [lifecycle::CLAUSES, ring::CLAUSES, vhost_user::CLAUSES, block::CLAUSES]
        .into_iter()
        .flatten()
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique() {
        let ids: Vec<_> = all().map(|clause| clause.id).collect();
        let distinct: HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
