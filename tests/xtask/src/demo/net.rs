//! A guest's network card in the demo.

use anyhow::{Context, Result, bail};
use e2e::{Job, Kit, NetReport, NetScene, Place, Programs, Results, Stream};

/// The daemon.
pub(crate) const PROGRAM: &str = "outrigger-net";
/// Mebibytes that are sent each way.
const MEBIBYTES: u32 = 128;

/// The streams that are measured.
pub(super) const STREAMS: [Stream; 2] = [Stream::ALL[0], Stream::ALL[1]];
/// Length of each, seconds.
const SECONDS: u32 = 2;

/// Boots a guest with a card on a tap interface, has it ping and transfer, and gives a row of the
/// table.
pub(super) fn row(place: &Place, kit: &Kit, programs: &Programs) -> Result<Vec<String>> {
    let name = format!("demo-{}-net", kit.kind().name());
    let scene =
        NetScene { programs: programs.clone(), mebibytes: MEBIBYTES, ..NetScene::new(&name, kit) };
    let job = Job::new().network().pings().transfers(MEBIBYTES);
    let job = STREAMS.into_iter().fold(job, |job, stream| job.stream(stream, SECONDS));
    let report = scene.play(place, job)?;
    if !report.sums_agree() {
        bail!("what arrived over TCP is not what was sent");
    }
    let done = format!(
        "pings of 1 to 65000 bytes over IPv4 and IPv6\nTCP: {MEBIBYTES} MiB each way, SHA-256 \
         compared\n{}",
        streams_done()
    );
    let figures = format!(
        "files to the host: {} MB/s\nfiles from the host: {} MB/s\n{}",
        rate(&report, "sending_cs")?,
        rate(&report, "fetching_cs")?,
        stream_figures(&report.results)?
    );
    let guest = format!("{}\nLinux {}\nsplit rings", kit.kind().title(), report.get("kernel"));
    let features = report.features().join(" ");
    Ok(vec!["network".into(), PROGRAM.into(), guest, features, done, figures])
}

/// What was measured, in words.
pub(super) fn streams_done() -> String {
    format!("iperf3, TCP both ways, {SECONDS} s each")
}

/// What a guest has measured, a line for each stream.
pub(super) fn stream_figures(results: &Results) -> Result<String> {
    let line = |stream: Stream| -> Result<String> {
        let rate = stream.rate(results)?;
        Ok(format!("iperf3, {}: {:.2} Gbit/s", stream.title(), rate / 1e9))
    };
    Ok(STREAMS.into_iter().map(line).collect::<Result<Vec<_>>>()?.join("\n"))
}

/// Megabytes a second, from hundredths of a second.
fn rate(report: &NetReport, key: &str) -> Result<u64> {
    let text = report.get(key);
    let centiseconds: u64 = text.parse().with_context(|| format!("{key} is no number: {text}"))?;
    Ok((u64::from(MEBIBYTES) << 20) / 10_000 / centiseconds.max(1))
}
