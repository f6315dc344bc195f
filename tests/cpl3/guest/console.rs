//! A console's first port: bytes out and bytes in (virtio 1.4, 5.3.6).

use crate::ring::{Part, load, page, store};
use crate::transport::{Device, Lane};

/// Bytes that may come in at once.
const ROOM: u32 = 256;

/// Memory for bytes.
const OUT: u64 = 20;
const IN: u64 = 21;

/// A console that runs.
pub struct Console {
    receive: Lane,
    transmit: Lane,
}

impl Console {
    /// Takes a console from reset to running.
    pub fn start(device: &Device) -> Self {
        let [receive, transmit] = device.start_pair(0);
        Self { receive, transmit }
    }

    pub fn write(&mut self, text: &[u8]) {
        for (at, byte) in (0..).zip(text) {
            store(page(OUT) + at, *byte);
        }
        let length = text.len() as u32;
        self.transmit.offer(&[Part { address: page(OUT), length, device_writes: false }]);
        self.transmit.await_used();
    }

    /// Waits for bytes and sends them back, until a line has ended. Says how many there were.
    pub fn return_line(&mut self) -> u32 {
        let mut all = 0;
        loop {
            self.receive.offer(&[Part { address: page(IN), length: ROOM, device_writes: true }]);
            let count = self.receive.await_used().min(ROOM);
            let mut text = [0; ROOM as usize];
            let text = &mut text[..count as usize];
            for (at, byte) in (0..).zip(text.iter_mut()) {
                *byte = load(page(IN) + at);
            }
            self.write(text);
            all += count;
            if text.last() == Some(&b'\n') {
                return all;
            }
        }
    }
}
