//! `cargo xtask`: everything that is done to this project from its top folder.
//!
//! One file holds one subcommand; the guests and what they need are the crate `e2e`'s.
#![expect(clippy::print_stdout, reason = "a command for people, whose output is its result")]

mod bench;
mod cargo;
mod conformance;
mod count;
mod demo;
mod dependencies;
mod fuzz;
mod kill;
mod miri;
mod nested;
mod nightly;
mod provision;
mod sanitize;
mod simulate;
mod table;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// Tasks of the Outrigger workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    Demo(demo::Options),
    Test(test::Options),
    Bench(bench::Options),
    Conformance(conformance::Options),
    Kill(kill::Options),
    Fuzz(fuzz::Options),
    Miri(miri::Options),
    Nested(nested::Options),
    Sanitize(sanitize::Options),
    Simulate(simulate::Options),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Conformance(options) => conformance::run(&options),
        Task::Kill(options) => kill::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Miri(options) => miri::run(&options),
        Task::Nested(options) => nested::run(&options),
        Task::Sanitize(options) => sanitize::run(&options),
        Task::Simulate(options) => simulate::run(&options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
