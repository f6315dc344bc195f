//! What a card is plugged into.

pub mod tap;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tap::{Offloads, Tap};

/// What is at the other end.
#[derive(Debug)]
pub enum Uplink {
    /// An interface of the host.
    Tap(Tap),
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
            Uplink::Null { .. } | Uplink::Echo => Offloads::all(),
        }
    }

    /// The file of a queue pair, if it has one.
    pub fn file(&self, pair: u16) -> Option<Arc<OwnedFd>> {
        match self {
            Uplink::Tap(tap) => tap.queues().get(usize::from(pair)).cloned(),
            Uplink::Null { .. } | Uplink::Echo => None,
        }
    }

    /// For messages and `stats`.
    pub fn describe(&self) -> String {
        match self {
            Uplink::Tap(tap) => format!("tap {}", tap.name()),
            Uplink::Null { load: 0 } => "null".into(),
            Uplink::Null { load } => format!("null, frames of {load} bytes"),
            Uplink::Echo => "echo".into(),
        }
    }
}
