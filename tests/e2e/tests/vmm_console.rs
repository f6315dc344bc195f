//! `outrigger` with a console of ours for a stock kernel: somebody logs in, twice.

use e2e::{Contents, Kind, Kit, Place, Programs, Site, require};

#[test]
fn a_login_an_agent_and_a_driver_that_goes_and_comes() {
    let place = Place::of_workspace().unwrap();
    let name = "vmm-console";
    let Some(kit) = require(name, Kit::cached(&place, Kind::Qemu)) else { return };
    let site = Site::best(&place, name, &kit, (&Programs::on_demand(), &Contents::new())).unwrap();
    let results = site.play_console("con").unwrap();
    assert!(results.get("agent").unwrap().starts_with("kernel 6"), "{results:?}");
}
