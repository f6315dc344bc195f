//! A guest's balloon in the demo.

use anyhow::{Result, bail};
use e2e::{BalloonScene, FIRST, Job, Kit, Place, Programs};

/// Bytes in a mebibyte.
const MIB: u64 = 1 << 20;
/// Mebibytes that the guest has used and freed before.
const USED: u32 = 200;
/// Mebibytes that it is asked for.
const ASKED: u64 = 300;

/// Boots a guest with a balloon, takes memory from it and gives it back, and gives a row of the table.
pub(super) fn row(place: &Place, kit: &Kit, programs: &Programs) -> Result<Vec<String>> {
    let mut scene = BalloonScene::new(&format!("demo-{}-balloon", kit.kind().name()), kit);
    scene.programs = programs.clone();
    // So that MemTotal shows the balloon, and all that comes back comes by it.
    scene.arguments = vec!["--no-deflate-on-oom".into(), "--no-reporting".into()];
    let job = Job::new().watched_memory(24).verified_io(FIRST, 2).fill_and_free(USED);
    let mut stage = scene.start(place, job.report_memory())?;
    let before = (stage.memory()?, stage.bytes("resident_bytes")?);
    stage.target(ASKED * MIB)?;
    stage.until("actual_bytes", |bytes| bytes == ASKED * MIB)?;
    let inflated = (stage.memory()?, stage.bytes("resident_bytes")?);
    let returned = stage.bytes("returned_bytes")?;
    stage.target(0)?;
    stage.until("actual_bytes", |bytes| bytes == 0)?;
    let after = stage.memory()?;
    if after.total != before.0.total || returned < MIB * u64::from(USED) / 2 {
        bail!("the balloon took {returned} bytes, and the guest has {after:?}");
    }
    stage.guest.wait_for("watched")?;
    let done = format!(
        "{ASKED} MiB asked for and given back, while random bytes in memory and I/O on a disk were \
         checked"
    );
    let mib = |bytes: u64| bytes / MIB;
    let figures = format!(
        "guest's MemTotal: {} MiB, {} MiB, {} MiB\nits memory on the host: {} MiB, then {} MiB\n\
         returned to the host: {} MiB",
        mib(before.0.total),
        mib(inflated.0.total),
        mib(after.total),
        mib(before.1),
        mib(inflated.1),
        mib(returned),
    );
    let guest = format!("{}\nLinux {}\nsplit rings", kit.kind().title(), kit.kernel_version());
    let features = "MUST_TELL_HOST STATS_VQ".to_owned();
    Ok(vec!["balloon".into(), "outrigger-balloon".into(), guest, features, done, figures])
}
