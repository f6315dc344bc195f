//! `outrigger`: parse, and do it.
#![expect(clippy::print_stdout, reason = "what was found is this program's output")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use outrigger::config::cli;
use outrigger::{attach, check, ctl, run};

/// A lean KVM virtual machine whose every device is a process of its own
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a virtual machine
    ///
    /// SIGTERM and SIGINT press its power button; a second one stops it at once. Exits with 0 when the guest
    /// has switched itself off, 2 for a wrong command line, 3 after a triple fault, 4 if KVM gave up, 5
    /// after a panic, 6 for a lost device, 7 after a stop by force, and 1 for anything else.
    Run(Box<cli::Run>),
    /// Command a virtual machine that runs, over its control socket
    Ctl(ctl::Ctl),
    /// Attach this terminal to a port of a machine's console; Ctrl-] q leaves
    ///
    /// The guest is told of the terminal's size, and of its changes. With --read-only, this looks on.
    Console(attach::Console),
    /// Find out by experiment whether KVM here runs kernels natively, emulates them, or is missing
    ///
    /// Exits with 0 only if kernels run natively.
    Check,
}

fn main() -> ExitCode {
    if let Some(status) = attach::guard::run_if_asked() {
        return status;
    }
    match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Ctl(arguments) => ctl::run(&arguments),
        Command::Console(arguments) => attach::run(&arguments),
        Command::Check => report(),
    }
}

fn report() -> ExitCode {
    let finding = check::run();
    println!("{finding}");
    if finding.is_native() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
