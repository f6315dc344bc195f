//! Instructions per packet, counted by callgrind.
//!
//! The back-end runs under `valgrind --tool=callgrind` twice, for a shorter and a longer time, under a
//! client that always has more to send. The difference in instructions, divided by that in packets, is
//! what a packet costs in user space, start and end not counted. The count does not change with the
//! machine's mood, as time does, and it says nothing of the kernel.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{RingPath, Testpmd, last_figures};

use super::packets::Bench;
use super::plan::{Cell, Place, Row, Side, Way};
use super::report::{Report, Sample};
use crate::callgrind;
use crate::process::Daemon;

/// Lengths of the two runs.
const SHORTER: Duration = Duration::from_millis(700);
const LONGER: Duration = Duration::from_millis(2100);
/// How long the back-end may take to start, or to end, many times slower than it is.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a frame.
const SIZE: u16 = 64;

/// Counts for the smallest frame on each form of ring.
pub(super) fn run(bench: &Bench, report: &mut Report) {
    for way in [Way::Null, Way::Echo] {
        for ring in RingPath::all().filter(|ring| !ring.in_order) {
            let cell = Cell { way, ring, size: SIZE };
            let sample = count(bench, cell)
                .map(|count| Sample { instructions: Some(count), ..Sample::default() });
            report.note(Place { row: Row::Packets(cell), side: Side::Outrigger }, 1, sample);
        }
    }
}

fn count(bench: &Bench, cell: Cell) -> Result<f64> {
    let (instructions, packets) = counted(bench, cell, SHORTER)?;
    let (more, longer) = counted(bench, cell, LONGER)?;
    ensure!(more > instructions && longer > packets, "{longer} packets after {packets}");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok((more - instructions) as f64 / (longer - packets) as f64)
}

/// Instructions of a whole run, and packets that were sent in it, or came back.
fn counted(bench: &Bench, cell: Cell, length: Duration) -> Result<(u64, u64)> {
    let (counts, socket) = (bench.file("callgrind.out"), bench.file("counted"));
    for left in [&counts, &socket] {
        // Of the run before; it must not be taken for this one's.
        let _ = fs::remove_file(left);
    }
    let (uplink, mode, word) = match cell.way {
        Way::Echo => ("--echo", "flowgen", "RX-packets:"),
        _ => ("--null", "txonly", "TX-packets:"),
    };
    let mut command = Command::new("valgrind");
    callgrind::prepare(&mut command, &counts);
    command
        .arg(&bench.program)
        .args([uplink, "--packed", "--engine=threads", "--sandbox=off", "--poll-us=0"])
        .arg(format!("--socket-path={}", socket.display()));
    let log = bench.file("counted.log");
    let daemon = Daemon::start(bench.back_end_cpu, &mut command, &socket, &log, PATIENCE)
        .context("valgrind is needed: apt-get install valgrind")?;
    let mut client = Testpmd::new(&bench.root, "counted", bench.client_cpu, bench.back_end_cpu)?
        .driver(&socket, cell.ring, "")
        .with(&format!("--forward-mode={mode}"))
        .with(&format!("--txpkts={SIZE}"))
        .start(&bench.file("counted-client.log"))?;
    client.tell("start")?;
    std::thread::sleep(length);
    let printed = client.finish()?;
    let packets = last_figures(&printed, word, 1);
    daemon.stop(PATIENCE)?;
    let text = fs::read_to_string(&counts).context("callgrind wrote no counts")?;
    let instructions = callgrind::total(&text).context("callgrind's counts have no total")?;
    Ok((instructions, packets.first().copied().context("testpmd reports no packets")?))
}
