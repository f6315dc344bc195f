//! What was measured, for machines and for people.

use std::fmt;
use std::time::Duration;

use e2e::Kit;
use serde::Serialize;

use super::elements::Counted;
use super::line::Flow;
use super::peer;
use super::plan::{Cell, Console, Load};
use crate::report::{self, Page, Report, Verdict, Wanted};

/// Bytes in a kibibyte.
const KIB: f64 = 1024.0;

/// What came of a measurement.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Sample {
    /// Of a stream.
    bytes_per_second: Option<f64>,
    /// Used elements for 1024 bytes.
    elements_per_kib: Option<f64>,
    /// From a key to its echo: the median, and what 99 of 100 stay below.
    key_us: Option<f64>,
    key_99_us: Option<f64>,
}

impl Sample {
    /// Of a stream of so many bytes.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(super) fn stream(flow: Flow, bytes: usize, load: Load) -> Self {
        // A read of a port takes what one buffer holds; one of a terminal, what is there.
        let reads = flow.reads.filter(|_| load.is_port());
        Self {
            bytes_per_second: Some(flow.bytes_per_second),
            elements_per_kib: reads.map(|reads| reads as f64 * KIB / bytes as f64),
            ..Self::default()
        }
    }

    /// Of used elements that were counted.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(super) fn elements(counted: Counted) -> Self {
        let elements_per_kib = f64::from(counted.elements) * KIB / counted.bytes as f64;
        Self { elements_per_kib: Some(elements_per_kib), ..Self::default() }
    }

    /// Of keys.
    pub(super) fn keys(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |hundredths: usize| {
            let time = times.get(times.len() * hundredths / 100).or(times.last());
            time.map(|time| time.as_secs_f64() * 1e6)
        };
        Self { key_us: at(50), key_99_us: at(99), ..Self::default() }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = [
            (self.bytes_per_second.map(|rate| rate / 1e6), "MB/s"),
            (self.elements_per_kib, "used elements/KiB"),
            (self.key_us, "us"),
        ];
        let shown =
            figures.iter().filter_map(|(figure, unit)| Some(format!("{:.2} {unit}", (*figure)?)));
        f.write_str(&shown.collect::<Vec<_>>().join(", "))
    }
}

/// A report without samples.
pub(super) fn begin([uml, qemu]: &[Kit; 2]) -> Report<Cell, Sample> {
    let mut report = Report::begin("console");
    report.fact("User Mode Linux", uml.kernel_version());
    report.fact("QEMU", qemu.root().version("qemu-system-x86 "));
    report.fact("kernel in QEMU", qemu.kernel_version());
    report.fact("peer", format!("{} {}", peer::PACKAGE.0, peer::PACKAGE.1));
    report
}

/// The page for people.
pub(super) fn page(report: &Report<Cell, Sample>) -> Page {
    let mut page = report.page("Console benchmark");
    page.paragraph(
        "A guest does what the host asks for: it writes a stream of bytes, reads one, or sends each key \
         back. Its CPU is one of two; what serves its console has the other, QEMU's own threads included, \
         and so has the client. In each round each console has a guest of its own that was booted for it; \
         ratios are taken within a round, figures are medians with (least–greatest). A terminal is in raw \
         mode, and bytes to it are pasted: 2048 at a time, which it holds, the next when the guest has read \
         those. In User Mode Linux, ours is a Unix socket, and its own a descriptor of a socket pair; in \
         QEMU all are TCP connections. QEMU has emulated CPUs: a ratio holds, a figure does not.",
    );
    page.paragraph(
        "Used elements: to a guest's port, reads of the guest are counted, each of which takes one \
         buffer; the bursts were counted in the ring by a driver that offers buffers of 4096 bytes: to \
         the guest 1000 bytes are sent at once, to the host 16 full buffers. How many bytes a used \
         element to the host is for is the driver's choice. A stream to the terminal of \
         vhost-device-console is not measured: it hands a buffer over once for each byte in it, and no \
         driver can make sense of that. So its requests are typed, a key at a time. It also loses \
         buffers of the guest now and then; its keys are those before it has lost the last one.",
    );
    page.targets(verdicts(report));
    page.heading("Figures");
    let head = ["console", "MB/s", "used elements / KiB", "key, µs", "99 % below, µs"];
    page.table(&head, report.places().into_iter().map(|cell| row(report, cell)));
    page
}

fn row(report: &Report<Cell, Sample>, cell: Cell) -> Vec<String> {
    let megabytes = |sample: &Sample| sample.bytes_per_second.map(|rate| rate / 1e6);
    vec![
        cell.to_string(),
        report::spread(report.spread(cell, megabytes), 1),
        report::spread(report.spread(cell, |sample| sample.elements_per_kib), 2),
        report::spread(report.spread(cell, |sample| sample.key_us), 0),
        report::median(report.spread(cell, |sample| sample.key_99_us), 0),
    ]
}

/// Ours against each of the others, in all that both did.
fn verdicts(report: &Report<Cell, Sample>) -> Vec<Verdict> {
    let theirs = report.places().into_iter().filter(|cell| cell.console != cell.console.ours());
    theirs.flat_map(|theirs| against(report, theirs)).collect()
}

fn against(report: &Report<Cell, Sample>, theirs: Cell) -> Vec<Verdict> {
    let load = theirs.load;
    let ours = Cell { console: theirs.console.ours(), load };
    let than = format!("× {}", whose(theirs.console));
    let mut verdicts = Vec::new();
    if load.is_stream() {
        let ratio = report.ratio(ours, theirs, |sample| sample.bytes_per_second);
        verdicts.extend(Verdict::on(&what(theirs, "rate"), Wanted::AtLeast(1.0), &than, ratio));
    }
    let keys = report.ratio(ours, theirs, |sample| sample.key_us);
    verdicts.extend(Verdict::on(&what(theirs, "time"), Wanted::AtMost(1.0), &than, keys));
    let elements = report.ratio(ours, theirs, |sample| sample.elements_per_kib);
    verdicts.extend(Verdict::on(
        &what(theirs, "used elements"),
        Wanted::AtMost(1.0),
        &than,
        elements,
    ));
    verdicts
}

fn what(cell: Cell, figure: &str) -> String {
    let guest = if cell.console.is_in_uml() { "User Mode Linux" } else { "QEMU" };
    format!("{guest}: {}, {figure}", cell.load.title())
}

const fn whose(console: Console) -> &'static str {
    match console {
        Console::UmlOutrigger | Console::QemuOutrigger => "ours",
        Console::UmlOwn => "its own console's",
        Console::QemuVirtioSerial => "virtio-serial's",
        Console::QemuCrate => "vhost-device-console's",
    }
}
