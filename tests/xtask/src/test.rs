//! `cargo xtask test`: what has to hold before a change is pushed, in one command.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result};
use e2e::{Contents, Kind, PROGRAMS, Place, REQUIRE, target_dir};

use crate::cargo::{self, cargo};
use crate::count::{Count, Runner};
use crate::{demo, dependencies, provision};

/// Check formatting, lints and dependencies, and run all tests, those with real guests included.
///
/// Nothing is skipped: what a test needs is fetched first, as for the demo. The last line says how
/// many checks passed and failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Refuse to fetch packages; say which are missing instead.
    #[arg(long)]
    no_install: bool,
}

/// The steps so far.
#[derive(Default)]
struct Steps {
    count: Count,
    failed: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let begun = Instant::now();
    let kinds = [Kind::Uml, Kind::Qemu, Kind::NewQemu, Kind::LatestQemu];
    provision::provide(&Place::of_workspace()?, &kinds, options.no_install)?;

    let mut steps = Steps::default();
    steps.check("formatting", &mut cargo(&["fmt", "--all", "--check"]));
    steps.outcome("one version of each shared crate", dependencies::check());
    if cargo::has("deny") {
        steps.check("licenses and advisories", &mut cargo(&["deny", "check"]));
    } else {
        println!("cargo-deny is not installed; deny.toml is not checked");
    }
    let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    steps.check("lints", &mut cargo(&lints));
    steps.check("programs", cargo(&["build"]).args(programs()));
    let (runner, mut command) = tests();
    steps.tests("tests", runner, &mut command);
    let mut examples = cargo(&["test", "--workspace", "--doc"]);
    steps.tests("examples in the documentation", Runner::Libtest, &mut examples);

    println!("\n{} s", begun.elapsed().as_secs());
    if !Path::new("/dev/kvm").exists() {
        println!(
            "not run: tests on this machine's own KVM, for it has none (the nested guest has)"
        );
    }
    for name in &steps.failed {
        println!("failed: {name}");
    }
    println!("{}", steps.count);
    // Nothing may follow that line.
    Ok(if steps.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All tests of all crates; the VMM and the daemons are found where they were just built, and nothing may be
/// missing.
fn tests() -> (Runner, Command) {
    let (runner, mut command) = if cargo::has("nextest") {
        (Runner::Nextest, cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]))
    } else {
        (
            Runner::Libtest,
            cargo(&["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]),
        )
    };
    command.env(REQUIRE, "1").env(PROGRAMS, target_dir().join("debug"));
    (runner, command)
}

fn programs() -> Vec<&'static str> {
    let programs = Contents::PROGRAMS.iter().chain([&demo::net::PROGRAM]);
    programs.flat_map(|program| ["--package", *program]).collect()
}

impl Steps {
    /// A command that passes or fails as a whole.
    fn check(&mut self, name: &str, command: &mut Command) {
        println!("\n== {name}");
        let done = cargo::run(command);
        self.outcome(name, done);
    }

    fn outcome(&mut self, name: &str, done: Result<()>) {
        match done {
            Ok(()) => self.count += Count::PASSED,
            Err(error) => self.fail(name, &error),
        }
    }

    /// A test runner, whose tests are counted one by one.
    fn tests(&mut self, name: &str, runner: Runner, command: &mut Command) {
        println!("\n== {name}");
        match counted(runner, command) {
            Ok((count, success)) => {
                self.count += count;
                if !success && count.failed == 0 {
                    self.fail(name, &anyhow::anyhow!("it ended before its tests did"));
                } else if !success {
                    self.failed.push(name.to_owned());
                }
            }
            Err(error) => self.fail(name, &error),
        }
    }

    fn fail(&mut self, name: &str, error: &anyhow::Error) {
        println!("{error:#}");
        self.count += Count::FAILED;
        self.failed.push(name.to_owned());
    }
}

/// Runs a test runner, passes on what it prints, and counts its tests; also, whether it succeeded.
fn counted(runner: Runner, command: &mut Command) -> Result<(Count, bool)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("could not start {command:?}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let count = Mutex::new(Count::default());
    std::thread::scope(|scope| {
        scope.spawn(|| pass_on(stdout, &mut std::io::stdout(), runner, &count));
        scope.spawn(|| pass_on(stderr, &mut std::io::stderr(), runner, &count));
    });
    let success = child.wait()?.success();
    let count = count.into_inner().unwrap_or_default();
    Ok((count, success))
}

fn pass_on(from: Option<impl Read>, to: &mut impl Write, runner: Runner, count: &Mutex<Count>) {
    let Some(from) = from else { return };
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        // Nobody may be reading any more; the tests are counted all the same.
        let _ = writeln!(to, "{line}");
        if let (Some(found), Ok(mut count)) = (runner.count_in(&line), count.lock()) {
            *count += found;
        }
    }
}
