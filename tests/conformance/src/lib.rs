//! The clause index: what virtio and vhost-user demand of a back-end, and what shows that it is met.
//!
//! One file in `clauses/` is a chapter, one entry in it a [`Clause`]: the obligation in this
//! project's words, where it is implemented, which tests show it, which clause of the
//! [observer](virtio_spec::observer) watches it at run time, or the reason why it does not apply.
//! [`check`] holds the index against the sources: an entry with neither test nor reason is *open*,
//! and a test, a file or a symbol that is gone is found out. [`Report`] tells the outcome.
//!
//! The crate's own tests are black-box tests of the daemons' parts, each named for the obligation
//! that it shows.
//!
//! ```
//! # fn main() -> Result<(), conformance::Error> {
//! let workspace = conformance::workspace_dir();
//! let index = conformance::Index::load(workspace)?;
//! let sources = conformance::Sources::scan(workspace)?;
//! let report = conformance::Report::of(&index, &sources);
//! assert!(report.problems().is_empty(), "{report}");
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod check;
mod clause;
mod error;
mod module_walk;
mod report;
mod sources;

use std::path::Path;

pub use check::{Problem, check};
pub use clause::{Chapter, Clause, Index, Level, Place, Standing};
pub use error::Error;
pub use report::Report;
pub use sources::Sources;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// The top folder of the workspace that this crate was built in.
#[must_use]
pub fn workspace_dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
