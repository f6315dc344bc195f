//! What a card is plugged into.

pub mod stream;
pub mod switch;
pub mod tap;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::rss::RssSettings;
use rustix::io::Errno;
use stream::Stream;
use switch::Port;
use tap::{Offloads, Tap};

/// What is at the other end.
#[derive(Debug)]
pub enum Uplink {
    /// An interface of the host.
    Tap(Tap),
    /// A stream socket: passt, gvproxy, QEMU.
    Stream(Stream),
    /// A port of a switch: other guests of this daemon.
    Switch(Port),
    /// Nothing: what is sent is gone, and nothing comes, or as many frames of one size as the guest
    /// takes.
    Null {
        /// The size of the frames that come, bytes; 0 for none.
        load: u16,
    },
    /// A mirror: what is sent comes back.
    Echo,
}

impl Uplink {
    /// What packets from here may leave to the guest, and packets of the guest may leave to this
    /// side.
    pub fn possible(&self) -> Offloads {
        match self {
            Uplink::Tap(tap) => tap.possible(),
            Uplink::Stream(_) => Offloads::empty(),
            Uplink::Switch(_) | Uplink::Null { .. } | Uplink::Echo => Offloads::all(),
        }
    }

    /// The file of a queue pair, if it has one.
    pub fn file(&self, pair: u16) -> Option<Arc<OwnedFd>> {
        match self {
            Uplink::Tap(tap) => tap.queues().get(usize::from(pair)).cloned(),
            Uplink::Stream(stream) => stream.listening().filter(|_| pair == 0).cloned(),
            Uplink::Switch(port) => port.bell(pair).cloned(),
            Uplink::Null { .. } | Uplink::Echo => None,
        }
    }

    /// Whether this pair's queue of the uplink can be plugged in and out. The first one cannot: it is
    /// always there.
    #[inline]
    pub fn has_sockets(&self, pair: u16) -> bool {
        match self {
            Uplink::Tap(tap) => pair > 0 && usize::from(pair) < tap.queues().len(),
            Uplink::Stream(_) | Uplink::Switch(_) | Uplink::Null { .. } | Uplink::Echo => false,
        }
    }

    /// Has packets come by this pair's queue, or by the others only.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn plug(&self, pair: u16, plugged: bool) -> Result<(), Errno> {
        match self {
            Uplink::Tap(tap) => tap.attach(pair, plugged),
            Uplink::Stream(_) | Uplink::Switch(_) | Uplink::Null { .. } | Uplink::Echo => Ok(()),
        }
    }

    /// Tells the uplink what its packets may leave to the guest, and how long headers are.
    ///
    /// # Errors
    /// When it cannot do that.
    pub fn set(&self, offloads: Offloads, header: usize) -> Result<(), Errno> {
        match self {
            Uplink::Tap(tap) => {
                tap.set_header_size(header)?;
                tap.set_offloads(offloads)
            }
            Uplink::Stream(_) | Uplink::Switch(_) | Uplink::Null { .. } | Uplink::Echo => Ok(()),
        }
    }

    /// Has packets spread over the queue pairs as the driver says, where it says so and the choice is
    /// ours.
    pub fn steer(&self, settings: Option<&RssSettings>) {
        if let Uplink::Switch(port) = self {
            port.steer(settings);
        }
    }

    /// Whether [`Uplink::steer`] has any effect.
    pub fn steers(&self) -> bool {
        matches!(self, Uplink::Switch(_))
    }

    /// Shows the other end whether there is a link.
    pub fn set_carrier(&self, up: bool) {
        if let Uplink::Tap(tap) = self {
            tap.set_carrier(up);
        }
    }

    /// Sends a frame of our own, with a header that asks for nothing.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn send(&self, frame: &[u8], header: usize) -> Result<(), Errno> {
        match self {
            Uplink::Tap(tap) => tap.send(frame, header),
            Uplink::Switch(port) => {
                port.announce(frame);
                Ok(())
            }
            // Such a peer has no table that needs to learn where the guest is.
            Uplink::Stream(_) | Uplink::Null { .. } | Uplink::Echo => Ok(()),
        }
    }

    /// For messages and `stats`.
    pub fn describe(&self) -> String {
        match self {
            Uplink::Tap(tap) => format!("tap {}", tap.name()),
            Uplink::Stream(stream) => stream.describe(),
            Uplink::Switch(port) => port.describe(),
            Uplink::Null { load: 0 } => "null".into(),
            Uplink::Null { load } => format!("null, frames of {load} bytes"),
            Uplink::Echo => "echo".into(),
        }
    }
}
