//! Seeds of the devices other than the disk. A failing one is replayed by
//! `cargo xtask simulate --device D --seed S`.
#![expect(clippy::panic, reason = "a test that fails tells why, and panics")]

use simulation::{Counts, DeviceKind, Options, run, shrink};

/// Runs so many seeds; a failure tells the few steps that it takes.
fn all_pass(device: DeviceKind, count: u64) {
    let options = Options { device, ..Options::default() };
    let mut counts = Counts::default();
    for seed in 0..count {
        let outcome = run(seed, &options);
        counts += outcome.counts;
        if let Some((step, failure)) = outcome.failure {
            let (_, story) = shrink(seed, &options, step, &failure);
            let story = story.trace.join("\n");
            panic!("{story}\n{failure}\ncargo xtask simulate --device {device} --seed {seed}");
        }
    }
    // A simulation in which nothing happens finds nothing.
    let each =
        [counts.good / 20, counts.kills, counts.kills_in_turns, counts.recovered, counts.stops];
    assert!(each.iter().all(|happened| *happened >= count), "{counts}");
}

#[test]
fn a_network_card_loses_and_repeats_no_frame() {
    all_pass(DeviceKind::Net, 100);
}

#[test]
fn a_console_keeps_what_was_written_in_order() {
    all_pass(DeviceKind::Console, 100);
}

#[test]
fn a_balloon_takes_the_pages_that_it_was_given_and_no_others() {
    all_pass(DeviceKind::Balloon, 100);
}

#[test]
fn a_seed_replays_its_run() {
    for device in DeviceKind::ALL {
        let options = Options { device, trace: true, ..Options::default() };
        let (first, second) = (run(7, &options), run(7, &options));
        assert_eq!((first.trace, first.counts), (second.trace, second.counts));
    }
}
