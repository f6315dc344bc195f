//! DPDK's testpmd: a client with a virtio-user port, or a peer with a vhost port.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e::Root;
use rustix::process::{Pid, Signal, kill_process};

use super::plan::{Cell, Uplink};
use crate::statistics::Spread;

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// How long it may take to end.
const PATIENCE: Duration = Duration::from_secs(3);

/// The CPUs of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpus {
    pub(super) client: usize,
    pub(super) back_end: usize,
}

/// testpmd as the back-end.
pub(super) fn peer(root: &Root, cpus: Cpus, cell: Cell, socket: &Path) -> Result<Command> {
    let port = format!("net_vhost0,iface={},queues=1", socket.display());
    let mode = if cell.uplink == Uplink::Echo { "io" } else { "rxonly" };
    // Packets are forwarded on the other of the two CPUs.
    let mut command = testpmd(root, cpus, cpus.client, ("vhost", &port))?;
    command.arg(format!("--forward-mode={mode}"));
    Ok(command)
}

/// testpmd as the client, not started yet. Idle, it only receives, and nothing comes.
pub(super) fn client(
    root: &Root,
    cpus: Cpus,
    cell: Cell,
    socket: &Path,
    idle: bool,
) -> Result<Command> {
    let ring = cell.ring;
    let bit = u8::from;
    let port = format!(
        "net_virtio_user0,path={},queues=1,packed_vq={},mrg_rxbuf={},in_order={}",
        socket.display(),
        bit(ring.packed),
        bit(ring.mergeable),
        bit(ring.in_order)
    );
    let mode = match cell.uplink {
        _ if idle => "rxonly",
        Uplink::Echo => "flowgen",
        Uplink::Null | Uplink::Tap => "txonly",
    };
    let mut command = testpmd(root, cpus, cpus.back_end, ("client", &port))?;
    command.arg(format!("--forward-mode={mode}")).arg(format!("--txpkts={}", cell.size));
    Ok(command)
}

fn testpmd(root: &Root, cpus: Cpus, main: usize, (name, port): (&str, &str)) -> Result<Command> {
    let mut command = root.command("usr/bin/dpdk-testpmd")?;
    for driver in ["librte_net_virtio", "librte_net_vhost", "librte_mempool_ring"] {
        command.arg("-d").arg(root.path(LIBRARIES).join(format!("{driver}.so.23")));
    }
    command
        .arg(format!("-l {},{}", cpus.client, cpus.back_end))
        .arg(format!("--main-lcore={main}"))
        .args(["--no-huge", "-m", "256", "--no-pci", "--log-level=1"])
        .arg(format!("--file-prefix=outrigger-{name}-{}", std::process::id()))
        .arg(format!("--vdev={port}"))
        .args(["--", "--no-mlockall", "--total-num-mbufs=4096", "--stats-period=1"]);
    Ok(command)
}

/// A running client.
pub(super) struct Client {
    child: Child,
    log: PathBuf,
}

impl Client {
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone()?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().context("cannot start testpmd")?;
        Ok(Self { child, log: log.to_owned() })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it; says how many packets it sent a second, or got back.
    pub(super) fn finish(mut self, cell: Cell) -> Result<f64> {
        // What it has printed is in its log only when it has ended of itself.
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                bail!("testpmd did not end when asked to");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = fs::read_to_string(&self.log)?;
        let field = if cell.uplink == Uplink::Echo { "Rx-pps:" } else { "Tx-pps:" };
        rate(&text, field).with_context(|| format!("testpmd reports no packets:\n{}", tail(&text)))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It has ended, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The middle of the rates that it printed, without the first second, in which it starts, if there
/// are others.
fn rate(text: &str, field: &str) -> Option<f64> {
    let rates = text.lines().filter_map(|line| {
        let value = line.split_once(field)?.1.split_whitespace().next()?;
        value.parse::<f64>().ok()
    });
    let rates: Vec<f64> = rates.filter(|rate| *rate > 0.0).collect();
    let started = rates.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(&rates);
    Some(Spread::of(started.iter().copied())?.median)
}

fn tail(text: &str) -> String {
    let skipped = text.lines().count().saturating_sub(10);
    text.lines().skip(skipped).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_second_does_not_count() {
        let text = "Tx-pps: 0  Tx-bps: 0\nTx-pps: 5  Tx-bps: 1\nTx-pps: 70  x\nTx-pps: 90  x\n";
        assert_eq!(rate(text, "Tx-pps:"), Some(80.0));
        assert_eq!(rate(text, "Rx-pps:"), None);
    }
}
