//! `outrigger`, the VMM. So far it can say whether this machine can run it.
#![expect(clippy::print_stdout, reason = "what was found is this program's output")]

mod check;
mod probe;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A lean KVM virtual machine whose every device is a process of its own
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find out by experiment whether KVM here runs kernels natively, emulates them, or is missing
    ///
    /// Exits with 0 only if kernels run natively.
    Check,
}

fn main() -> ExitCode {
    let Command::Check = Arguments::parse().command;
    let finding = check::run();
    println!("{finding}");
    if finding.is_native() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
