//! What a test does when its guest is not on the machine.

use std::io::Write;

use crate::apt::{PackageSet, Root};
use crate::error::{Error, Result};
use crate::place::Place;

/// Set by `cargo xtask test`, which has fetched everything: what is missing is a failure.
pub const REQUIRE: &str = "OUTRIGGER_REQUIRE";

/// Unwraps what a test needs. Without it the test is not run and passes, and says so past the test
/// harness, loudly; under [`REQUIRE`] it fails instead.
///
/// # Panics
/// When something has failed, or is missing under [`REQUIRE`].
#[must_use]
#[expect(clippy::panic, reason = "called by tests, whose failures are panics")]
pub fn require<T>(test: &str, needed: Result<T>) -> Option<T> {
    match needed {
        Ok(value) => Some(value),
        Err(error) if error.is_missing() && std::env::var_os(REQUIRE).is_none() => {
            // The harness keeps what is printed by macros to itself, and a test's pass would hide
            // it. If standard error is closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "\n!!! {test} was NOT RUN: {error}\n");
            None
        }
        Err(error) => panic!("{test}: {error}"),
    }
}

/// Packages that a test needs beside its guest's: fetched under [`REQUIRE`], else those that were.
///
/// # Errors
/// When they cannot be fetched, or were not.
pub fn packages(place: &Place, set: &PackageSet) -> Result<Root> {
    if std::env::var_os(REQUIRE).is_some() {
        let _lock = place.lock()?;
        return Root::fetch(place, set);
    }
    Root::cached(place, set).ok_or_else(|| Error::Missing {
        what: format!("{} ({})", set.packages.join(", "), set.purpose),
        how: "`cargo xtask test` fetches it into target/guests".into(),
    })
}
