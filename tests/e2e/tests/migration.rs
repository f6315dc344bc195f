//! A guest that is moved between two QEMUs while it works, and whose disk is served by one daemon
//! here and another there.
//!
//! It checks its memory all the time: half of that is written by the device alone, so a page that
//! a daemon wrote without a mark in the dirty log shows at the next look. That of rings shows there
//! seldom, because QEMU marks it too; the framework's own tests look at those.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::time::Duration;

use e2e::{Kind, Kit, Leg, Migration, Place, RunDir, require};
use kill_campaign::{Delays, SlowDisk};

/// Sets how often the guest moves; few moves are enough to find what is broken, many to find what
/// is broken now and then.
const MIGRATIONS: &str = "OUTRIGGER_MIGRATIONS";
const FEW: usize = 2;

#[test]
fn split_rings() {
    move_to_and_fro("migration-split", |_| ());
}

#[test]
fn packed_rings() {
    move_to_and_fro("migration-packed", |migration| migration.packed = true);
}

/// Requests are under way whenever the guest is stopped, and end before it goes on elsewhere.
#[test]
fn a_slow_disk() {
    let place = Place::of_workspace().unwrap();
    let run = RunDir::create(&place, "migration-slow-disk").unwrap();
    let milliseconds = |from, to| (Duration::from_millis(from), Duration::from_millis(to));
    let delays = Delays { usual: milliseconds(1, 2), slow: milliseconds(10, 30) };
    let mounted = SlowDisk::mount(&run.file(""), Migration::DISK, delays, 1);
    let mounted = mounted.map_err(|error| match error {
        kill_campaign::Error::Guest(error) => error,
        error => panic!("{error}"),
    });
    let Some(slow) = require("migration on a slow disk", mounted) else { return };
    move_to_and_fro("migration-slow", |migration| {
        migration.disk = Some(slow.path().into());
        // In the end all of their blocks are read.
        migration.threads = 2;
    });
}

fn move_to_and_fro(name: &str, change: impl FnOnce(&mut Migration<'_>)) {
    let place = Place::of_workspace().unwrap();
    let Some(kit) = require(name, Kit::cached(&place, Kind::NewQemu)) else { return };
    let migrations = match std::env::var(MIGRATIONS) {
        Ok(number) => number.parse().unwrap(),
        Err(_) => FEW,
    };
    let mut migration = Migration::new(name, &kit);
    change(&mut migration);
    let mut moving = migration.start(&place).unwrap();

    moving.cancel().unwrap();
    let legs: Vec<Leg> = (0..migrations).map(|_| moving.migrate().unwrap()).collect();
    let results = moving.finish().unwrap();

    eprintln!("{name}:\n{}{results:#?}", table(&legs));
    assert!(legs.iter().all(|leg| leg.logging > 0), "a back-end has not logged: {legs:?}");
    let number = |key: &str| results.get(key).unwrap().parse::<u64>().unwrap();
    assert!(number("checked_blocks") > 0);
    assert!(number("memory_reads") > 0);
}

/// The moves, one a line.
fn table(legs: &[Leg]) -> String {
    legs.iter().fold(String::new(), |mut text, leg| {
        let Leg { took, downtime, passes, logging } = leg;
        writeln!(text, "{took:.1?}, still for {downtime:.0?}, {passes} passes, {logging} looks")
            .unwrap();
        text
    })
}
