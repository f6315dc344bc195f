//! A network card with one pair of queues: frames go out and come in, one at a time (virtio 1.4, 5.1.6).

use crate::ring::{Part, load, page, store};
use crate::transport::{Device, Lane};

const MAC_FEATURE: u64 = 1 << 5;
/// The header before each frame, with `num_buffers` (5.1.6).
const HEADER: u32 = 12;
/// Bytes of the longest frame here, and its header.
const ROOM: u32 = 2048;

/// Memory for frames.
const OUT: u64 = 20;
const IN: u64 = 21;

/// A card that runs.
pub struct Net<'device> {
    device: &'device Device,
    receive: Lane,
    transmit: Lane,
}

impl<'device> Net<'device> {
    /// Takes a card from reset to running.
    pub fn start(device: &'device Device) -> Self {
        let [receive, transmit] = device.start_pair(MAC_FEATURE);
        Self { device, receive, transmit }
    }

    pub fn mac(&self) -> [u8; 6] {
        load(self.device.config)
    }

    /// Sends a frame of this length, and says whether the same comes back.
    pub fn echoes(&mut self, length: u32, seed: u64) -> bool {
        store(page(OUT), [0_u8; HEADER as usize]);
        for at in 0..u64::from(length) {
            store(page(OUT) + u64::from(HEADER) + at, pattern(seed, at));
            store(page(IN) + u64::from(HEADER) + at, 0_u8);
        }
        self.receive.offer(&[Part { address: page(IN), length: ROOM, device_writes: true }]);
        let frame = Part { address: page(OUT), length: HEADER + length, device_writes: false };
        self.transmit.offer(&[frame]);
        self.transmit.await_used();
        let received = self.receive.await_used();
        // Driver and device agreed on no offload, so that all of a frame is in one buffer.
        received == HEADER + length
            && load::<u16>(page(IN) + 10) == 1
            && (0..u64::from(length))
                .all(|at| load::<u8>(page(IN) + u64::from(HEADER) + at) == pattern(seed, at))
    }
}

fn pattern(seed: u64, at: u64) -> u8 {
    (at.wrapping_mul(31) ^ seed) as u8
}
