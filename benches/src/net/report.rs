//! What was measured, and the page for people.

use std::fmt;

use serde::Serialize;

use super::plan::{Place, Row, Side};
use crate::report::{self, Page, Verdict, Wanted};
use crate::statistics::Spread;

/// What came of a measurement; of the back-end where nothing else is said.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Sample {
    /// Packets a second, or bits a second of a stream.
    pub(super) rate: Option<f64>,
    /// CPU time in a second.
    pub(super) cpu: Option<f64>,
    /// Memory of its own.
    pub(super) memory_kib: Option<f64>,
    /// How often it woke in a second in which nothing happened.
    pub(super) idle_wakeups: Option<f64>,
    /// Instructions for a packet, without the kernel's.
    pub(super) instructions: Option<f64>,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rate) = self.rate {
            write!(f, "{:.3} M/s ", rate / 1e6)?;
        }
        if let Some(count) = self.instructions {
            write!(f, "{count:.0} instructions ")?;
        }
        if let Some(count) = self.idle_wakeups {
            write!(f, "{count:.0} idle wake-ups ")?;
        }
        Ok(())
    }
}

/// All of a run.
pub(super) type Report = report::Report<Place, Sample>;

/// The page as far as the run has come.
pub(super) fn page(report: &Report) -> Page {
    let mut page = report.page("Network benchmark");
    let mut rows: Vec<Row> = Vec::new();
    for place in report.places() {
        if !rows.contains(&place.row) {
            rows.push(place.row);
        }
    }
    page.paragraph(&method(report));
    page.targets(rows.iter().flat_map(|row| verdicts(report, *row)));
    let is_packets = |row: &Row| matches!(row, Row::Packets(_));
    let (packets, streams): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(is_packets);
    page.heading("Packets");
    let head = [
        "what",
        "Mpps",
        "peer's Mpps",
        "Gbit/s",
        "Mpps per CPU second",
        "Gbit per CPU second",
        "memory, KiB",
        "idle wake-ups",
        "instructions per packet",
    ];
    page.table(&head, packets.into_iter().map(|row| packet_cells(report, row)));
    page.heading("Streams");
    let head = ["what", "served by", "Gbit/s", "Gbit per CPU second", "memory, KiB"];
    page.table(&head, streams.into_iter().flat_map(|row| stream_rows(report, row)));
    page
}

fn method(report: &Report) -> String {
    format!(
        "Packets: the client is testpmd with a virtio-user port on one CPU, the back-end is on the \
         other. *null*: the client sends, the back-end drops (DPDK's, rxonly, has copied the frame \
         by then). *echo*: the client sends and gets back (flowgen; DPDK's, io). *to tap*: frames \
         that the interface took, beside a loop of writev on the back-end's CPU that sends one frame \
         over and over. *from tap*: the interface's queue is filled while the back-end is stopped; \
         what counts is how fast it then empties it, beside a loop of readv. *guest to guest*: one \
         testpmd with two ports, each of which sends to the other; a switch, beside two daemons with \
         an interface each and a bridge. Streams: iperf3, and what its receiver got; UDP in \
         datagrams of 1472 bytes, one call each; *nested* means Outrigger's guest and QEMU's, both \
         on the same KVM, which is emulated where this machine has none. {} rounds, in each of \
         which all take their turn, each started afresh. Figures are medians with (least–greatest); \
         a ratio is taken within each round, and then the median. Figures hold for this run on this \
         machine only. CPU seconds are the back-end's alone, memory is its own, without the guest's \
         and without the program; idle is how often it woke in a second with a client that does \
         nothing; instructions are those of its program, counted by callgrind.",
        report.rounds()
    )
}

fn verdicts(report: &Report, row: Row) -> Vec<Verdict> {
    let place = |side| Place { row, side };
    let verdict = |peer: Side| {
        let ratio = report.ratio(place(Side::Outrigger), place(peer), |sample| sample.rate);
        let unit = format!("× {}", peer.title());
        Verdict::on(&row.to_string(), Wanted::AtLeast(row.wanted()), &unit, ratio)
    };
    let idle = report.spread(place(Side::Outrigger), |sample| sample.idle_wakeups);
    let idle = Verdict::on(&row.to_string(), Wanted::AtMost(0.0), "idle wake-ups", idle);
    row.peers().into_iter().filter_map(verdict).chain(idle).collect()
}

fn packet_cells(report: &Report, row: Row) -> Vec<String> {
    let ours = Place { row, side: Side::Outrigger };
    let Row::Packets(cell) = row else { return Vec::new() };
    let bits = f64::from(cell.size) * 8.0 / 1e9;
    let spread = |figure: &dyn Fn(&Sample) -> Option<f64>| report.spread(ours, figure);
    let peer = row.peers().first().and_then(|side| {
        report.spread(Place { row, side: *side }, |sample| Some(sample.rate? / 1e6))
    });
    vec![
        row.to_string(),
        report::spread(spread(&|sample| Some(sample.rate? / 1e6)), 2),
        report::spread(peer, 2),
        report::median(spread(&|sample| Some(sample.rate? * bits)), 2),
        report::median(spread(&|sample| per_cpu_second(sample, 1e-6)), 2),
        report::median(spread(&|sample| per_cpu_second(sample, bits)), 2),
        report::median(spread(&|sample| sample.memory_kib), 0),
        report::median(spread(&|sample| sample.idle_wakeups), 0),
        report::median(spread(&|sample| sample.instructions), 0),
    ]
}

fn stream_rows(report: &Report, row: Row) -> Vec<Vec<String>> {
    let sides = std::iter::once(Side::Outrigger).chain(row.peers());
    let cells = |side: Side| {
        let spread = |figure: &dyn Fn(&Sample) -> Option<f64>| -> Option<Spread> {
            report.spread(Place { row, side }, figure)
        };
        vec![
            row.to_string(),
            side.title().to_owned(),
            report::spread(spread(&|sample| Some(sample.rate? / 1e9)), 3),
            report::median(spread(&|sample| per_cpu_second(sample, 1e-9)), 2),
            report::median(spread(&|sample| sample.memory_kib), 0),
        ]
    };
    sides.map(cells).collect()
}

/// The rate by the CPU time that it took, in a unit of so many.
fn per_cpu_second(sample: &Sample, unit: f64) -> Option<f64> {
    let cpu = sample.cpu.filter(|cpu| *cpu > 0.0)?;
    Some(sample.rate? * unit / cpu)
}
