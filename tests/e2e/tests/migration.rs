//! A guest that is moved between two QEMUs while it works, and whose disk is served by one daemon
//! here and another there.
//!
//! It checks its memory all the time: half of that is written by the device alone, so a page that
//! a daemon wrote without a mark in the dirty log shows at the next look.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;

use e2e::{Kind, Kit, Leg, Migration, Place, require};

/// Sets how often the guest moves; few moves are enough to find what is broken, many to find what
/// is broken now and then.
const MIGRATIONS: &str = "OUTRIGGER_MIGRATIONS";
const FEW: usize = 3;

#[test]
fn split_rings() {
    move_to_and_fro("migration-split", false);
}

#[test]
fn packed_rings() {
    move_to_and_fro("migration-packed", true);
}

fn move_to_and_fro(name: &str, packed: bool) {
    let place = Place::of_workspace().unwrap();
    let Some(kit) = require(name, Kit::cached(&place, Kind::NewQemu)) else { return };
    let migrations = match std::env::var(MIGRATIONS) {
        Ok(number) => number.parse().unwrap(),
        Err(_) => FEW,
    };
    let mut migration = Migration::new(name, &kit);
    migration.packed = packed;
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
