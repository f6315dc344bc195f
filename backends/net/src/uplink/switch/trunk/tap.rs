//! A tap as the uplink of a switch.

use std::time::Duration;

use framework::engine::{Direction, Engine, FileIndex, Transfer};
use rustix::io::Errno;
use virtio_spec::net::Header;

use super::super::outlet::Share;
use super::slab::{PLACES, Slab};
use super::{Common, Kind, UPLINK};
use crate::deliver::Frame;
use crate::header::Rules;
use crate::uplink::tap::Tap;

/// How long an interface that has failed is left alone.
const PAUSE: Duration = Duration::from_millis(200);

/// A tap and what is known of it.
#[derive(Debug)]
pub(super) struct TapTrunk {
    /// Keeps the interface.
    _tap: Tap,
    rules: Rules,
    readable: bool,
    /// When the interface, which has failed, is asked again.
    retry: Option<Duration>,
    /// Lengths of the frames that are staged.
    staged: Vec<usize>,
    results: Vec<Result<u32, Errno>>,
}

impl TapTrunk {
    pub(super) fn new(tap: Tap) -> Self {
        // Guests that do not take what the kernel leaves to them have it done by the switch.
        if let Err(error) = tap.set_offloads(tap.for_switch()) {
            tracing::warn!(%error, "the switch's uplink does without offloads");
        }
        TapTrunk {
            _tap: tap,
            rules: Rules::all(),
            readable: true,
            retry: None,
            staged: Vec::new(),
            results: Vec::new(),
        }
    }

    /// Writes what guests have sent, as many frames in a system call as there is room for.
    fn send<E: Engine>(&mut self, common: &mut Common, engine: &mut E) {
        for Share { parcel, frames } in std::mem::take(&mut common.mail.shares) {
            for frame in frames.iter().filter_map(|number| parcel.frame(*number)) {
                let header = frame.header().to_bytes();
                let transfer = Transfer::Send { header: &header, from: frame.segments() };
                if !engine.stage(&transfer) {
                    self.write(common, engine);
                    if !engine.stage(&transfer) {
                        common.counts.rx_too_long.add(1);
                        continue;
                    }
                }
                self.staged.push(frame.length());
            }
            if !self.staged.is_empty() {
                self.write(common, engine);
            }
        }
    }

    fn write<E: Engine>(&mut self, common: &Common, engine: &mut E) {
        engine.carry_out(UPLINK, &mut self.results);
        for (length, result) in self.staged.drain(..).zip(&self.results) {
            match result {
                Ok(_) => {
                    common.counts.rx_frames.add(1);
                    common.counts.rx_bytes.add(length as u64);
                }
                Err(error) => {
                    common.counts.rx_unnegotiated.add(u64::from(*error == Errno::INVAL));
                    if !matches!(*error, Errno::AGAIN | Errno::NOBUFS | Errno::INVAL) {
                        common.counts.uplink_failed(*error);
                    }
                    common.outlet.overflow(1);
                }
            }
        }
    }

    /// Reads a slab of packets. False: there was nothing.
    fn receive<E: Engine>(&mut self, slab: &Slab, common: &mut Common, engine: &mut E) -> bool {
        let places = (0..PLACES)
            .take_while(|place| engine.stage(&Transfer::Receive { into: slab.place(*place) }));
        if places.count() == 0 {
            return false;
        }
        engine.carry_out(UPLINK, &mut self.results);
        let mut parcel = slab.parcel();
        let mut bytes = 0;
        for (place, result) in self.results.iter().enumerate() {
            match result {
                Ok(length) => {
                    let mut header = [0; Header::SIZE];
                    slab.place(place).first().map(|start| start.read(0, &mut header));
                    let length = (*length as usize).saturating_sub(Header::SIZE);
                    match self.rules.check(&header, length) {
                        Ok(header) => {
                            slab.add(&mut parcel, place, (Header::SIZE, length), header);
                            bytes += length;
                        }
                        Err(_) => common.counts.tx_malformed.add(1),
                    }
                }
                Err(Errno::AGAIN) => self.readable = false,
                Err(error) => {
                    common.counts.uplink_failed(*error);
                    (self.readable, self.retry) = (false, Some(engine.now() + PAUSE));
                    break;
                }
            }
        }
        // One that is empty ends here and now.
        common.arrive(parcel, bytes);
        true
    }
}

impl Kind for TapTrunk {
    fn ready(&mut self, _file: FileIndex, _direction: Direction) {
        self.readable = true;
    }

    fn turn<E: Engine>(&mut self, common: &mut Common, engine: &mut E) -> bool {
        self.send(common, engine);
        if self.retry.take_if(|at| *at <= engine.now()).is_some() {
            self.readable = true;
        }
        if self.readable
            && let Some(slab) = common.slabs.take()
        {
            if self.receive(&slab, common, engine) {
                common.slabs.lend(slab);
            } else {
                common.slabs.put(slab);
            }
        }
        if !self.readable && self.retry.is_none() {
            engine.watch(UPLINK, Direction::Readable);
        }
        // Where guests have all the slabs, the bell tells when there is one again.
        !self.readable || common.slabs.are_lent()
    }

    fn due(&self) -> Option<Duration> {
        self.retry
    }
}
