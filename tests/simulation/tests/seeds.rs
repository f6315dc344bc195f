//! Thousands of seeds. A failing one is replayed by `cargo xtask simulate --seed S` (with `--hostile`
//! where it belongs to the hostile ones).
#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that fails tells why, and panics"
)]

use std::fs;
use std::path::{Path, PathBuf};

use simulation::{Counts, Options, run, shrink};

/// Runs so many seeds from `first` on; a failure tells the few steps that it takes.
fn all_pass(first: u64, count: u64, options: &Options) -> Counts {
    let mut counts = Counts::default();
    for seed in first..first.saturating_add(count) {
        if seed % 100 == 0 {
            // The last of these lines is what there is to go by when the whole process dies.
            println!("seed {seed}");
        }
        let outcome = run(seed, options);
        counts += outcome.counts;
        if let Some((step, failure)) = outcome.failure {
            let (_, story) = shrink(seed, options, step, &failure);
            let hostile = if options.hostile { " --hostile" } else { "" };
            let story = story.trace.join("\n");
            panic!("{story}\n{failure}\ncargo xtask simulate --seed {seed}{hostile}");
        }
    }
    counts
}

fn hostile() -> Options {
    Options { hostile: true, ..Options::default() }
}

#[test]
fn a_thousand_seeds_pass() {
    all_pass(0, 1000, &Options::default());
}

#[test]
fn hostile_seeds_pass() {
    all_pass(0, 500, &hostile());
}

/// Seeds that depend on the code: what has changed meets seeds that nobody has seen, and the same code
/// the same ones.
#[test]
fn a_thousand_seeds_of_this_code_pass() {
    all_pass(seed_of_code(), 1000, &Options::default());
}

#[test]
fn hostile_seeds_of_this_code_pass() {
    all_pass(seed_of_code(), 500, &hostile());
}

#[test]
fn a_seed_replays_its_run() {
    for seed in 0..20 {
        let options = Options { trace: true, hostile: seed % 4 == 0, ..Options::default() };
        let (first, second) = (run(seed, &options), run(seed, &options));
        assert_eq!(first.trace, second.trace);
        assert_eq!(first.counts, second.counts);
    }
}

#[test]
fn a_back_end_that_does_not_wait_for_the_lock_is_found_out() {
    let options = Options { lock: false, ..Options::default() };
    let found = (0..300).find(|seed| run(*seed, &options).failure.is_some());
    assert!(found.is_some());
}

/// A simulation in which nothing happens finds nothing.
#[test]
fn much_happens() {
    let counts = all_pass(5000, 100, &Options::default());
    let text = counts.to_string();
    println!("{text}");
    for count in text.split(", ").filter(|count| !count.ends_with("malformed")) {
        assert!(!count.starts_with("0 "), "{count}");
    }
    assert!(counts.requests > 3000 && counts.good * 2 > counts.requests, "{text}");
}

/// A number made from the code under test.
fn seed_of_code() -> u64 {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["backends/framework/src", "backends/blk/src", "backends/wire/src"] {
        find_sources(&workspace.join(folder), &mut files);
    }
    files.sort();
    // FNV-1a: any hash that stays the same will do.
    let hash = files
        .iter()
        .flat_map(|file| fs::read(file).unwrap())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    // Small enough to be typed.
    1_000_000 + hash % 1_000_000_000
}

fn find_sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
