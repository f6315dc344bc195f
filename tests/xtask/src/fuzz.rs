//! `cargo xtask fuzz`: libFuzzer on all targets, with the address sanitizer.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::workspace_dir;

use crate::nightly::{self, TARGET, own_folder};
use crate::{cargo, table};

/// The folder that holds the entry points and the corpora.
const FOLDER: &str = "tests/fuzz";
/// The longest input, bytes.
const LONGEST: usize = 2048;
/// An input that takes longer than this is a find, seconds.
const SLOWEST: u32 = 20;

/// Fuzz all targets (or those that are named) under libFuzzer and the address sanitizer.
///
/// What is found is kept in `target/fuzz/corpus` and is where the next run goes on; the committed
/// corpora are read only. An input that breaks a target is in `target/fuzz/finds`. The stable
/// toolchain runs the same targets on a fixed number of inputs in `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long to fuzz, all targets together
    #[arg(long, default_value_t = 1.0, value_name = "N")]
    minutes: f64,

    /// Write the summary here too, as Markdown
    #[arg(long, value_name = "PATH")]
    report: Option<PathBuf>,

    /// The seed of libFuzzer's random numbers; another one each time if not given
    #[arg(long, value_name = "S")]
    seed: Option<u32>,

    /// Only these targets
    targets: Vec<String>,
}

/// How a target fared.
struct Outcome {
    target: String,
    sound: bool,
    executions: u64,
    seconds: u64,
    /// Edges of the code that were reached, and inputs that are kept for them.
    covered: String,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    nightly::require("fuzz", "cargo install cargo-fuzz")?;
    let targets = chosen(&options.targets)?;
    cargo::run(&mut nightly::cargo(&["fuzz", "build", "--fuzz-dir", FOLDER], "fuzz"))?;

    let seed = options.seed.unwrap_or_else(|| std::process::id().wrapping_mul(0x9e37_79b9).max(1));
    let at_once = std::thread::available_parallelism().map_or(1, usize::from).min(targets.len());
    #[expect(clippy::cast_precision_loss, reason = "a handful of targets on a handful of CPUs")]
    let share = options.minutes * 60.0 * at_once as f64 / targets.len() as f64;
    let each = Duration::from_secs_f64(share.max(1.0));
    println!(
        "{} targets, {at_once} at once, {} s each, seed {seed}",
        targets.len(),
        each.as_secs()
    );

    let waiting = Mutex::new(targets.into_iter());
    // In a function of its own: a lock that is taken in the head of a loop is held in its body.
    let next = || locked(&waiting).next();
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(target) = next() {
                    let outcome = fuzz(&target, each, seed);
                    locked(&outcomes).push(outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    summarize(&outcomes, seed, options.report.as_deref())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The targets that there are, or those of them that were named.
fn chosen(wanted: &[String]) -> Result<Vec<String>> {
    let folder = workspace_dir().join(FOLDER).join("fuzz_targets");
    let files = std::fs::read_dir(&folder).with_context(|| format!("could not read {folder:?}"))?;
    let mut targets = Vec::new();
    for file in files {
        targets.extend(file?.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    targets.sort_unstable();
    for name in wanted {
        ensure!(targets.contains(name), "there is no target {name}; there are {targets:?}");
    }
    targets.retain(|target| wanted.is_empty() || wanted.contains(target));
    Ok(targets)
}

/// Fuzzes one target for so long.
fn fuzz(target: &str, time: Duration, seed: u32) -> Result<Outcome> {
    let (corpus, finds) = (own_folder("fuzz/corpus").join(target), own_folder("fuzz/finds"));
    let log = own_folder("fuzz").join(format!("{target}.log"));
    for folder in [&corpus, &finds] {
        std::fs::create_dir_all(folder).with_context(|| format!("could not make {folder:?}"))?;
    }
    let written = std::fs::File::create(&log).with_context(|| format!("could not make {log:?}"))?;
    let mut command = Command::new(own_folder("fuzz").join(TARGET).join("release").join(target));
    command
        .arg(&corpus)
        .arg(workspace_dir().join(FOLDER).join("corpus").join(target))
        .arg(format!("-max_total_time={}", time.as_secs()))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-timeout={SLOWEST}"))
        .arg(format!("-seed={seed}"))
        .arg(format!("-artifact_prefix={}/{target}-", finds.display()))
        .args(["-rss_limit_mb=4096", "-print_final_stats=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(written);
    let status = command.status().with_context(|| format!("could not start {command:?}"))?;
    let text = std::fs::read(&log).with_context(|| format!("could not read {log:?}"))?;
    let outcome = Outcome::read(target, status.success(), &String::from_utf8_lossy(&text), time);
    if !outcome.sound {
        println!("{target} failed: see {} and {}", log.display(), finds.display());
    }
    Ok(outcome)
}

impl Outcome {
    /// Reads what libFuzzer wrote.
    fn read(target: &str, sound: bool, log: &str, time: Duration) -> Self {
        let stat = |name: &str| {
            let line = log.lines().rev().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        let last = log.lines().rev().find(|line| line.starts_with('#') && line.contains("cov: "));
        let word = |name| {
            let mut words = last.unwrap_or_default().split_whitespace();
            words.by_ref().find(|word| *word == name);
            words.next().unwrap_or("?").split('/').next().unwrap_or("?").to_owned()
        };
        Outcome {
            target: target.to_owned(),
            sound,
            executions: stat("stat::number_of_executed_units:"),
            seconds: time.as_secs(),
            covered: format!("{} edges, {} inputs", word("cov:"), word("corp:")),
        }
    }
}

fn summarize(outcomes: &[Outcome], seed: u32, report: Option<&Path>) -> Result<ExitCode> {
    let header = ["target", "executions", "seconds", "reached", "result"];
    let mut sorted: Vec<&Outcome> = outcomes.iter().collect();
    sorted.sort_by_key(|outcome| &outcome.target);
    let row = |outcome: &&Outcome| {
        vec![
            outcome.target.clone(),
            outcome.executions.to_string(),
            outcome.seconds.to_string(),
            outcome.covered.clone(),
            if outcome.sound { "nothing found" } else { "BROKEN" }.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = sorted.iter().map(row).collect();
    println!("\n{}", table::layout(&header, &rows));
    if let Some(path) = report {
        std::fs::write(path, markdown(&header, &rows, seed))
            .with_context(|| format!("could not write {path:?}"))?;
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.sound).count();
    println!("{} passed, {failed} failed", outcomes.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn markdown(header: &[&str], rows: &[Vec<String>], seed: u32) -> String {
    let mut text = format!("# Fuzzing\n\nlibFuzzer with the address sanitizer, seed {seed}.\n\n");
    let rule = vec!["---"; header.len()];
    let _ = writeln!(text, "| {} |\n| {} |", header.join(" | "), rule.join(" | "));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_writes_is_read() {
        let log = "#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 30Mb\n\
                   #4096\tpulse  cov: 763 ft: 2955 corp: 171/9737b lim: 325 exec/s: 4228 rss: 476Mb\n\
                   stat::number_of_executed_units: 88802\n";
        let outcome = Outcome::read("ring", true, log, Duration::from_secs(3));
        assert_eq!(outcome.executions, 88802);
        assert_eq!(outcome.covered, "763 edges, 171 inputs");
        let nothing = Outcome::read("ring", false, "", Duration::from_secs(3));
        assert_eq!((nothing.executions, nothing.covered.as_str()), (0, "? edges, ? inputs"));
    }
}
