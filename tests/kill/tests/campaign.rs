//! A hundred kills: each kind of ring, disk and end gets its share.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use e2e::{Kit, Place, Programs, require};
use kill_campaign::{
    Error, GUESTS, GuestSeries, KILLED, SLOW, Series, Stage, TERMINATED, Tally, kills,
};

const TIMES: u32 = 100;

fn stage() -> Stage {
    Stage { place: Place::of_workspace().unwrap(), programs: Programs::on_demand() }
}

fn run(series: &Series) -> Option<Tally> {
    match series.run(&stage(), kills(series.share, TIMES), fastrand::u64(..)) {
        Ok(tally) => Some(tally),
        // The slow disk needs rights that not everybody has.
        Err(Error::Guest(error)) => require(series.name, Err(error)),
        Err(error) => panic!("{error}"),
    }
}

fn run_all(series: &[Series]) {
    for series in series {
        if let Some(tally) = run(series) {
            assert!(tally.compared > 0, "{}: nothing was compared", series.name);
        }
    }
}

#[test]
fn killed_with_split_rings() {
    run_all(&KILLED.iter().filter(|series| !series.shape.packed).copied().collect::<Vec<_>>());
}

#[test]
fn killed_with_packed_rings() {
    run_all(&KILLED.iter().filter(|series| series.shape.packed).copied().collect::<Vec<_>>());
}

#[test]
fn killed_while_requests_are_on_their_way_to_a_slow_disk() {
    run_all(&SLOW);
}

/// The other way round: what the lock is for shows when it is not there.
#[test]
fn a_daemon_without_the_lock_is_found_out() {
    for series in SLOW.map(Series::without_lock) {
        match series.run(&stage(), 100, fastrand::u64(..)) {
            Ok(_) => panic!("{}: nobody has missed the lock", series.name),
            Err(Error::Guest(error)) => {
                let _: Option<()> = require(series.name, Err(error));
            }
            // What a dead daemon's request writes late may also hit a status byte.
            Err(Error::Series { why, .. })
                if matches!(
                    *why,
                    Error::DidNotWait { .. }
                        | Error::Data { .. }
                        | Error::Driver(driver::Error::Violation(_))
                ) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn asked_to_end() {
    run_all(&TERMINATED);
}

#[test]
fn killed_under_a_guest_with_split_rings() {
    run_guest(&GUESTS[0]);
}

#[test]
fn killed_under_a_guest_with_packed_rings() {
    run_guest(&GUESTS[1]);
}

fn run_guest(series: &GuestSeries) {
    let stage = stage();
    let kit = Kit::cached(&stage.place, GuestSeries::KIND);
    let Some(kit) = require(series.name, kit) else { return };
    let tally = series.run(&stage, &kit, kills(series.share, TIMES), fastrand::u64(..)).unwrap();
    assert!(tally.compared > 0);
}
