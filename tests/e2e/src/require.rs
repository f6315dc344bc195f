//! What a test does when its guest is not on the machine.

use std::io::Write;

use crate::error::Result;

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
