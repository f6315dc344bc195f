//! `outrigger` with a console of ours for a stock kernel.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use e2e::{Contents, Job, Kind, Kit, Place, Programs, Site, VmSetup, require};

/// How many lines a guest writes to each port, and their length.
const LINES: u64 = 2_000;
/// How often each daemon is killed while it does, and how long the next one then has.
const KILLS: u64 = 2;
const BETWEEN: Duration = Duration::from_millis(300);
/// What is in a queue, and is written once more, is less than that.
const REPEATED: u64 = 1_000;

fn site(name: &str) -> Option<Site> {
    let place = Place::of_workspace().unwrap();
    let kit = require(name, Kit::cached(&place, Kind::Qemu))?;
    Some(Site::best(&place, name, &kit, (&Programs::on_demand(), &Contents::new())).unwrap())
}

/// Somebody logs in, twice.
#[test]
fn a_login_an_agent_and_a_driver_that_goes_and_comes() {
    let Some(site) = site("vmm-console") else { return };
    let results = site.play_console("con").unwrap();
    assert!(results.get("agent").unwrap().starts_with("kernel 6"), "{results:?}");
}

/// A guest writes numbered lines, to a console that is a file and to a port that somebody reads, while their
/// daemons are killed in mid-stream. None is missing, and the order is kept; what was being written when a
/// daemon died may be there once more.
#[test]
fn no_line_is_lost_when_daemons_are_killed() {
    let Some(site) = site("vmm-console-kill") else { return };
    let setup = VmSetup::new("lines", Job::of_shell(&format!("numbering {LINES}")))
        .with("--console backend=file:lines.txt,name=con,overflow=block")
        .with("--console backend=unix:bulk.sock,name=bulk,console=off,overflow=block");
    let limit = setup.limit;
    let mut vm = site.boot(&setup).unwrap();
    let read = "sleep 100 | outrigger console --control lines.control bulk >bulk.txt 2>reader.txt";
    let wait = "until outrigger ctl lines.control status >/dev/null 2>&1; do usleep 100000; done";
    let _reader = site.start("reader", &format!("{wait}; {read}"), limit).unwrap();
    vm.guest.wait_for("numbering").unwrap();
    for _ in 0..KILLS {
        for port in ["lines.txt", "bulk.sock"] {
            std::thread::sleep(BETWEEN);
            kill(&site, port);
        }
    }
    assert!(count(&site, "lines.txt").0 < LINES, "it was over before the last kill");
    vm.guest.wait_for("numbered").unwrap();
    vm.finish().unwrap();
    for file in ["lines.txt", "bulk.txt"] {
        let (reached, lines) = count(&site, file);
        eprintln!("{file}: {reached} of {LINES} lines, {} of them twice", lines - reached);
        assert_eq!(reached, LINES, "{file}: the next one is missing");
        assert!(lines < LINES + KILLS * REPEATED, "{file}: {lines}");
    }
}

/// Kills the daemon with this among its arguments, and waits for the next one.
fn kill(site: &Site, argument: &str) {
    let daemon = || site.processes("outrigger-console", argument).unwrap().first().copied();
    let old = daemon().unwrap();
    site.signal(old, "KILL").unwrap();
    for _ in 0..100 {
        if daemon().is_some_and(|new| new != old) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{argument} is not served any more");
}

/// Up to which number no line is missing in a file, and how many lines there are.
fn count(site: &Site, file: &str) -> (u64, u64) {
    // With a 1 before them, numbers with zeroes in front are not octal.
    let program = "BEGIN { want = 1 } (1 $2) - 100000000 == want { want++ } \
                   END { print want - 1, NR }";
    let printed = site.run(&format!("awk '{program}' {file}")).unwrap();
    let mut numbers = printed.split_whitespace().map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}
