//! `outrigger` with a console of ours for a stock kernel: somebody logs in, and its daemon dies.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use e2e::{Contents, Job, Kind, Kit, Place, Programs, Site, VmSetup, require};

/// How often the daemon is killed.
const KILLS: u32 = 3;
/// How long the next one then has.
const BETWEEN: Duration = Duration::from_millis(500);
/// Lines that the guest writes meanwhile.
const LINES: u32 = 10_000;

#[test]
fn a_login_an_agent_and_a_stream_that_outlives_its_daemons() {
    let place = Place::of_workspace().unwrap();
    let name = "vmm-console";
    let Some(kit) = require(name, Kit::cached(&place, Kind::Qemu)) else { return };
    let site = Site::best(&place, name, &kit, (&Programs::on_demand(), &Contents::new())).unwrap();

    let results = site.play_console("con").unwrap();
    assert!(results.get("agent").unwrap().starts_with("kernel 6"), "{results:?}");

    let job = Job::of_shell(&format!("counting_on hvc0 {LINES}"));
    let setup = VmSetup::new("count", job).with("--console backend=file:lines,overflow=block");
    let mut vm = site.boot(&setup).unwrap();
    vm.guest.wait_for("counting").unwrap();
    let mut daemon = daemon_of(&site, None);
    for _ in 0..KILLS {
        site.signal(daemon, "KILL").unwrap();
        daemon = daemon_of(&site, Some(daemon));
        std::thread::sleep(BETWEEN);
    }
    vm.finish().unwrap();
    assert_eq!(site.run(CHECK).unwrap().trim(), format!("{LINES} lines, 0 missing"));
}

/// What was written when a daemon died may be there once more, or in part.
const CHECK: &str = "awk '/^line [0-9]+ of what the guest has to say$/ { n = $2 + 0; \
    if (n > last + 1) missing += n - last - 1; if (n > last) last = n } \
    END { print last \" lines, \" missing + 0 \" missing\" }' lines";

/// The daemon that serves the console; another one than `before`.
fn daemon_of(site: &Site, before: Option<u32>) -> u32 {
    for _ in 0..100 {
        let found = site.processes("outrigger-console", "lines").unwrap();
        let mut others = found.into_iter().filter(|pid| Some(*pid) != before);
        if let Some(daemon) = others.next() {
            return daemon;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("there is no daemon for the console");
}
