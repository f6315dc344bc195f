//! Every target with a fixed number of inputs, on any toolchain: the committed corpus, and inputs
//! that one seed gives.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a corpus that cannot be read fails the test; a failing test shows its last seed"
)]

use std::path::Path;

use fastrand::Rng;
use fuzz_targets::{TARGETS, Target};

/// Inputs for each target; under Miri, which is some thousand times slower, a few.
const INPUTS: u64 = if cfg!(miri) { 40 } else { 2000 };
/// The longest of them, bytes.
const LONGEST: usize = if cfg!(miri) { 512 } else { 2048 };

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    if cfg!(miri) && !target.pure {
        return;
    }
    if !cfg!(miri) {
        for input in corpus(target) {
            (target.run)(&input);
        }
    }
    for seed in 0..INPUTS {
        let mut random = Rng::with_seed(seed);
        let mut input = vec![0; random.usize(..LONGEST)];
        random.fill(&mut input);
        // Printed only if the target fails: this seed makes the input anew.
        println!("{name}: seed {seed}");
        (target.run)(&input);
    }
}

/// What is committed for a target.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target.name);
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

/// One test for each target, so that they run side by side and a failure names its target.
macro_rules! targets {
    ($($name:ident),+ $(,)?) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })+

        #[test]
        fn no_target_is_left_out() {
            assert_eq!([$(stringify!($name)),+].as_slice(), TARGETS.iter().map(|t| t.name).collect::<Vec<_>>());
        }
    };
}

targets!(
    ring_split,
    ring_packed,
    in_flight,
    differential_split,
    differential_packed,
    block,
    console,
    net_headers,
    net_commands,
    balloon,
    balloon_rings,
    messages,
    decode,
    control,
    config,
    front_end,
    net_stream,
    pci_common,
    pci_config,
);
