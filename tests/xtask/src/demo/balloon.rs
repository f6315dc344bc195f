//! A guest's balloon in the demo.

use anyhow::{Result, bail};
use e2e::{BalloonScene, FIRST, Job, Kit, Place, Programs, Site};

/// Bytes in a mebibyte.
const MIB: u64 = 1 << 20;
/// Mebibytes that the guest has used and freed before.
const USED: u32 = 200;
/// Mebibytes that it is asked for, and that it has left then at most.
const ASKED: u64 = 300;
const LEFT: u32 = 200;
/// Mebibytes that it has again, of which it uses half at once.
const AGAIN: u32 = 360;

/// Boots a guest with a balloon, takes memory from it and gives it back, and gives a row of the table.
pub(super) fn row(place: &Place, kit: &Kit, programs: &Programs) -> Result<Vec<String>> {
    let mut scene = BalloonScene::new(&format!("demo-{}-balloon", kit.kind().name()), kit);
    scene.programs = programs.clone();
    // So that MemTotal shows the balloon, and all that comes back comes by it.
    scene.arguments = vec!["--no-deflate-on-oom".into(), "--no-reporting".into()];
    let job = Job::new().watched_memory(24).verified_io(FIRST, 2).fill_and_free(USED);
    let job = job.report_memory_meanwhile().gives_memory(LEFT).takes_memory(AGAIN).for_ever();
    let mut stage = scene.start(place, job)?;
    let before = (stage.memory()?, stage.bytes("resident_bytes")?);
    stage.target(ASKED * MIB)?;
    stage.until("actual_bytes", |bytes| bytes == ASKED * MIB)?;
    let inflated = (stage.memory()?, stage.bytes("resident_bytes")?);
    let returned = stage.bytes("returned_bytes")?;
    stage.target(0)?;
    stage.until("actual_bytes", |bytes| bytes == 0)?;
    let after = stage.memory()?;
    // It may have said so while something else was waited for.
    if !stage.guest.has_said("hogged") {
        stage.guest.wait_for("hogged")?;
    }
    let again = stage.bytes("resident_bytes")?;
    if after.total != before.0.total || returned < MIB * u64::from(USED) / 2 {
        bail!("the balloon took {returned} bytes, and the guest has {after:?}");
    }
    stage.verify()?;
    let done = format!(
        "{ASKED} MiB asked for and given back, while random bytes in memory and I/O on a disk were \
         checked"
    );
    let mib = |bytes: u64| bytes / MIB;
    let figures = format!(
        "guest's MemTotal: {} MiB, {} MiB, {} MiB\nits memory on the host: {} MiB, then {} MiB, in use \
         again {} MiB\nreturned to the host: {} MiB",
        mib(before.0.total),
        mib(inflated.0.total),
        mib(after.total),
        mib(before.1),
        mib(inflated.1),
        mib(again),
        mib(returned),
    );
    let guest = format!("{}\nLinux {}\nsplit rings", kit.kind().title(), kit.kernel_version());
    let features = "MUST_TELL_HOST STATS_VQ".to_owned();
    Ok(vec!["balloon".into(), "outrigger-balloon".into(), guest, features, done, figures])
}

/// The same with a guest of Outrigger's at a site; its balloon's daemon is killed while it is inflated.
pub(super) fn site_row(site: &Site, guest: &str) -> Result<Vec<String>> {
    let found = site.play_balloon("ballooned")?;
    let [before, inflated, after] = found.moments;
    if after.guest.total != before.guest.total || found.inside != (found.asked, found.asked) {
        bail!("the balloon did not do what it should: {found:?}");
    }
    let mib = |bytes: u64| bytes / MIB;
    let done = format!(
        "{} MiB asked for and given back by `outrigger ctl`, the daemon killed in between, while \
         random bytes in memory and I/O on a disk were checked",
        mib(found.asked)
    );
    let figures = format!(
        "guest's MemTotal: {} MiB, {} MiB, {} MiB\nits memory on the host: {} MiB, {} MiB, {} MiB",
        mib(before.guest.total),
        mib(inflated.guest.total),
        mib(after.guest.total),
        mib(before.host),
        mib(inflated.host),
        mib(after.host),
    );
    let features = "MUST_TELL_HOST STATS_VQ".to_owned();
    Ok(vec!["balloon".into(), "outrigger-balloon".into(), guest.into(), features, done, figures])
}
