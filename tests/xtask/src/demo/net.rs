//! A guest's network card in the demo.

use anyhow::{Context, Result, bail};
use e2e::{Job, Kit, NetReport, NetScene, Place, Programs};

/// The daemon.
pub(crate) const PROGRAM: &str = "outrigger-net";
/// Mebibytes that are sent each way.
const MEBIBYTES: u32 = 128;

/// Boots a guest with a card on a tap interface, has it ping and transfer, and gives a row of the
/// table.
pub(super) fn row(place: &Place, kit: &Kit, programs: &Programs) -> Result<Vec<String>> {
    let name = format!("demo-{}-net", kit.kind().name());
    let scene =
        NetScene { programs: programs.clone(), mebibytes: MEBIBYTES, ..NetScene::new(&name, kit) };
    let report = scene.play(place, Job::new().network().pings().transfers(MEBIBYTES))?;
    if !report.sums_agree() {
        bail!("what arrived over TCP is not what was sent");
    }
    let done = format!(
        "pings of 1 to 65000 bytes over IPv4 and IPv6\nTCP: {MEBIBYTES} MiB each way, SHA-256 \
         compared",
    );
    let figures = format!(
        "to the host: {} MB/s\nfrom the host: {} MB/s",
        rate(&report, "sending_cs")?,
        rate(&report, "fetching_cs")?
    );
    let guest = format!("{}\nLinux {}\nsplit rings", kit.kind().title(), report.get("kernel"));
    let features = report.features().join(" ");
    Ok(vec!["network".into(), PROGRAM.into(), guest, features, done, figures])
}

/// Megabytes a second, from hundredths of a second.
fn rate(report: &NetReport, key: &str) -> Result<u64> {
    let text = report.get(key);
    let centiseconds: u64 = text.parse().with_context(|| format!("{key} is no number: {text}"))?;
    Ok((u64::from(MEBIBYTES) << 20) / 10_000 / centiseconds.max(1))
}
