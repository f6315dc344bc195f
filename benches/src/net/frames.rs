//! What a tap interface takes when nothing is between: one `writev` for each frame.

use std::io::IoSlice;

use anyhow::{Context, Result};
use clap::Args;
use outrigger_net::uplink::tap::Tap;

/// Frames into an interface, until this process is ended.
#[derive(Args, Debug)]
pub(crate) struct Loop {
    /// The interface, which is made.
    interface: String,
    /// Bytes of a frame.
    size: u16,
    /// A file that is made when the interface is there.
    ready: std::path::PathBuf,
}

/// The header that stands before a frame (virtio 1.4, 5.1.6): nothing is asked for.
const HEADER: [u8; 12] = [0; 12];
/// Ethernet: to an address that is not the interface's, of a type that nobody takes, as testpmd's
/// frames: the kernel drops both after the same work.
const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 8, 0];

impl Loop {
    /// Sends.
    ///
    /// # Errors
    /// The interface cannot be made or written to.
    pub(crate) fn run(&self) -> Result<()> {
        let tap = Tap::open(&self.interface, 1).map_err(anyhow::Error::from)?;
        let queue = tap.queues().first().context("the interface has no queue")?;
        let mut frame = ETHERNET.to_vec();
        frame.resize(self.size.into(), 0);
        std::fs::write(&self.ready, "")?;
        let parts = [IoSlice::new(&HEADER), IoSlice::new(&frame)];
        loop {
            // Until somebody has set it up, the interface refuses.
            match rustix::io::writev(queue, &parts) {
                Ok(_) | Err(rustix::io::Errno::IO) => {}
                Err(error) => return Err(error).context("writing to the interface"),
            }
        }
    }
}
