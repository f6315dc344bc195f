//! A guest of Outrigger's with a balloon, commanded by `outrigger ctl … balloon`.

use e2e::{Contents, Kind, Kit, Place, Programs, Site, require};

const MIB: u64 = 1 << 20;

#[test]
fn a_guest_gives_memory_and_takes_it_back() {
    let place = Place::of_workspace().unwrap();
    let Some(kit) = require("vmm-balloon", Kit::cached(&place, Kind::Qemu)) else { return };
    let (programs, contents) = (Programs::on_demand(), Contents::new());
    let site = Site::best(&place, "vmm-balloon", &kit, (&programs, &contents)).unwrap();
    let found = site.play_balloon("ballooned").unwrap();

    let [before, inflated, after] = found.moments;
    let taken = before.guest.total - inflated.guest.total;
    assert!(taken.abs_diff(found.asked) < 2 * MIB, "{found:?}");
    let less = before.guest.available - inflated.guest.available;
    assert!(less.abs_diff(found.asked) < 24 * MIB, "{found:?}");
    assert_eq!(after.guest.total, before.guest.total);
    // What is in the balloon is not the host's to give any more.
    assert!(inflated.host <= 256 * MIB - found.asked, "{found:?}");
    assert_eq!(found.inside, (found.asked, found.asked));
}
