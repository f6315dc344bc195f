//! What a tap interface takes and gives when nothing is between: one system call for each frame.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use outrigger_net::uplink::tap::Tap;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Frames into an interface, or out of it, until this process is ended.
#[derive(Args, Debug)]
pub(crate) struct Loop {
    /// The interface, which is made.
    interface: String,
    /// Bytes of a frame to be sent; 0 to receive.
    size: u16,
    /// A file that is made when the interface is there.
    ready: PathBuf,
}

/// The header that stands before a frame (virtio 1.4, 5.1.6): nothing is asked for.
const HEADER: [u8; 12] = [0; 12];
/// Ethernet: to an address that is not the interface's, of a type that nobody takes, as testpmd's
/// frames: the kernel drops both after the same work.
const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 8, 0];
/// Room for the largest frame that is received.
const ROOM: usize = 2048;

impl Loop {
    /// Sends, or receives.
    ///
    /// # Errors
    /// The interface cannot be made, written to or read.
    pub(crate) fn run(&self) -> Result<()> {
        let tap = Tap::open(&self.interface, 1).map_err(anyhow::Error::from)?;
        let queue = tap.queues().first().context("the interface has no queue")?;
        std::fs::write(&self.ready, "")?;
        if self.size == 0 { receive(queue) } else { send(queue, self.size) }
    }
}

fn send(queue: impl AsFd, size: u16) -> Result<()> {
    let mut frame = ETHERNET.to_vec();
    frame.resize(size.into(), 0);
    let parts = [IoSlice::new(&HEADER), IoSlice::new(&frame)];
    loop {
        // Until somebody has set it up, the interface refuses.
        match rustix::io::writev(&queue, &parts) {
            Ok(_) | Err(Errno::IO) => {}
            Err(error) => return Err(error).context("writing to the interface"),
        }
    }
}

fn receive(queue: impl AsFd) -> Result<()> {
    let (mut header, mut frame) = (HEADER, vec![0; ROOM]);
    loop {
        let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(&mut frame)];
        match rustix::io::readv(&queue, &mut parts) {
            Ok(_) => {}
            Err(Errno::AGAIN) => {
                let mut waited = [PollFd::new(&queue, PollFlags::IN)];
                poll(&mut waited, None).context("waiting for the interface")?;
            }
            Err(error) => return Err(error).context("reading from the interface"),
        }
    }
}
