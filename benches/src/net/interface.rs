//! Interfaces of the host: set up, filled, and watched.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Frames that wait in an interface's queue before it is emptied, and what the queue holds.
const BURST: u64 = 32_768;
const QUEUE: u64 = 40_000;
/// Between two looks at an interface that is being emptied.
const LOOK: Duration = Duration::from_micros(500);
/// What stands before the payload of a datagram: Ethernet, IPv4 and UDP.
const HEADERS: u16 = 14 + 20 + 8;
/// An MTU that lets frames of 1518 bytes pass, without checksum.
const MTU: u16 = 1504;
/// The host on the interface, and a neighbour who takes what comes (a block for documentation).
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// A tap interface that a back-end has made. It goes when the back-end does.
#[derive(Debug)]
pub(super) struct Interface {
    name: &'static str,
}

impl Interface {
    /// An interface is put up: it takes frames only then. It needs no address.
    pub(super) fn up(name: &'static str) -> Result<Self> {
        // The kernel would have words of its own to say on it, and wake whoever listens.
        let ipv6 = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
        if fs::exists(&ipv6)? {
            fs::write(&ipv6, "1").with_context(|| format!("writing to {ipv6}"))?;
        }
        ip(&format!("link set {name} multicast off mtu {MTU} up"))?;
        Ok(Self { name })
    }

    /// Two interfaces become ports of a bridge.
    pub(super) fn bridge(bridge: &str, ports: [&'static str; 2]) -> Result<()> {
        // It may be left from a run that was broken off.
        let _ = ip(&format!("link delete {bridge}"));
        ip(&format!("link add {bridge} type bridge stp_state 0 forward_delay 0"))?;
        ip(&format!("link set {bridge} addrgenmode none mtu {MTU} up"))?;
        for port in ports {
            Self::up(port)?;
            ip(&format!("link set {port} master {bridge}"))?;
        }
        Ok(())
    }

    /// The bridge is not needed any more.
    pub(super) fn remove_bridge(bridge: &str) {
        // The next run removes what is left.
        let _ = ip(&format!("link delete {bridge}"));
    }

    /// Frames that the host got from it so far.
    pub(super) fn received(&self) -> u64 {
        self.counter("rx_packets")
    }

    /// How fast its queue is emptied, frames a second: it is filled while whoever empties it is
    /// stopped, and watched when that goes on.
    pub(super) fn emptied(&self, size: u16, pause: impl Fn(bool) -> Result<()>) -> Result<f64> {
        pause(true)?;
        let before = self.counter("tx_packets");
        let filled = self.fill(size);
        pause(false)?;
        filled?;
        // The first and the last are not in full swing.
        let (tenth, until) = (BURST / 10, Instant::now() + Duration::from_secs(5));
        let mut begun = None;
        loop {
            let (now, taken) = (Instant::now(), self.counter("tx_packets") - before);
            match begun {
                None if taken >= tenth => begun = Some((now, taken)),
                Some((then, first)) if taken >= BURST - tenth => {
                    ensure!(taken > first, "the queue is emptied faster than can be watched");
                    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                    let frames = (taken - first) as f64;
                    return Ok(frames / (now - then).as_secs_f64());
                }
                _ => {}
            }
            ensure!(now < until, "{taken} frames of {BURST} were taken from the interface");
            std::thread::sleep(LOOK);
        }
    }

    /// Has the host send to a neighbour on it.
    pub(super) fn with_neighbour(self) -> Result<Self> {
        let name = self.name;
        ip(&format!("link set {name} txqueuelen {QUEUE}"))?;
        ip(&format!("addr add {HOST}/24 dev {name}"))?;
        ip(&format!("neigh add {NEIGHBOUR} lladdr 02:00:00:00:00:02 dev {name} nud permanent"))?;
        Ok(self)
    }

    fn fill(&self, size: u16) -> Result<()> {
        let socket = UdpSocket::bind(SocketAddrV4::new(HOST, 0))?;
        // The port of the discard service.
        socket.connect(SocketAddrV4::new(NEIGHBOUR, 9))?;
        let payload = vec![0; usize::from(size.saturating_sub(HEADERS))];
        for _ in 0..BURST {
            socket.send(&payload).with_context(|| format!("sending into {}", self.name))?;
        }
        Ok(())
    }

    fn counter(&self, name: &str) -> u64 {
        let path = format!("/sys/class/net/{}/statistics/{name}", self.name);
        fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = output.context("cannot run ip (package iproute2)")?;
    if output.status.success() {
        return Ok(());
    }
    bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())
}
