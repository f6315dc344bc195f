//! The fake front-end of a series, which outlives daemons.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use driver::{BlockQueue, Event, FrontEnd, Memory, Negotiation, Queue};
use virtio_spec::DeviceType;
use virtio_spec::block::{BLK_SIZE, CONFIG_WCE, Config, FLUSH, MQ, SEG_MAX, WRITE_ZEROES};
use virtio_spec::features::{EVENT_IDX, IN_ORDER, INDIRECT_DESC, RING_PACKED, mask};
use virtio_spec::vhost_user::inflight::{
    DescStatePacked, DescStateSplit, QueueRegionPacked, QueueRegionSplit, region_size,
};

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::load::{Load, Rules};
use crate::sector::SECTOR;
use crate::series::Shape;

/// Guest memory, bytes: more than all requests in flight take.
const MEMORY: u64 = 64 << 20;
/// How long a daemon may take until it listens.
const START: Duration = Duration::from_secs(20);

/// The front-end.
#[derive(Debug)]
pub(crate) struct Client {
    front_end: FrontEnd,
    shape: Shape,
}

impl Client {
    /// Connects to a first daemon, and starts all rings for a load on them.
    pub(crate) fn connect(
        socket: &Path,
        shape: Shape,
        disk: &Disk,
        random: fastrand::Rng,
    ) -> Result<(Self, Load)> {
        let memory = Memory::new(MEMORY)?;
        let front_end = FrontEnd::new(connect(socket, None)?, &memory);
        let mut front_end = front_end.of_device(DeviceType::BLOCK).with_limit(START);
        let negotiated = front_end.negotiate(&negotiation(shape))?;
        front_end.share_memory()?;
        front_end.set_up_inflight(shape.queues.into(), shape.size)?;
        let size = u32::try_from(Config::SIZE).unwrap_or(u32::MAX);
        let config = Config::from_bytes(&whole(&front_end.read_config(0, size)?));

        let mut lanes = Vec::new();
        for index in 0..shape.queues {
            let queue = Queue::new(&memory, shape.size, negotiated)?;
            let base = queue.reaped_base();
            let events = front_end.start_ring(index, &queue, base)?;
            let block = BlockQueue::new(queue, &memory).with_alignment(SECTOR as u64);
            lanes.push(Lane::new(block, events, base));
        }
        let unit = u64::from(config.blk_size) / SECTOR as u64;
        let zeroes = negotiated.has(WRITE_ZEROES);
        let rules = Rules { depth: shape.depth, unit: unit.max(1), zeroes };
        let load = Load::new(rules, disk.sectors(), lanes, random);
        Ok((Self { front_end, shape }, load))
    }

    /// Goes on with a successor, or gives up when it has `ended`.
    pub(crate) fn take_over(
        &mut self,
        socket: &Path,
        ended: Option<&Event>,
        load: &mut Load,
    ) -> Result<()> {
        self.front_end.reconnect(connect(socket, ended)?)?;
        load.take_over(&mut self.front_end)
    }

    /// How many requests of each queue the in-flight region lists: taken, and not completed.
    pub(crate) fn in_flight(&self) -> Result<Vec<usize>> {
        let (inflight, file) = self.front_end.inflight()?;
        let part = region_size(self.shape.packed, inflight.queue_size);
        let mut bytes = vec![0; part * usize::from(self.shape.queues)];
        File::from(file)
            .read_exact_at(&mut bytes, inflight.mmap_offset)
            .map_err(Error::system("read the in-flight region"))?;
        let (header, state) = if self.shape.packed {
            (QueueRegionPacked::SIZE, DescStatePacked::SIZE)
        } else {
            (QueueRegionSplit::SIZE, DescStateSplit::SIZE)
        };
        let count = |part: &[u8]| {
            let states = part.get(header..).unwrap_or_default().chunks_exact(state);
            // The first byte of a state of either kind says whether it is in flight.
            states.take(self.shape.size.into()).filter(|state| state.first() != Some(&0)).count()
        };
        Ok(bytes.chunks_exact(part).map(count).collect())
    }

    /// Refuses an in-flight region in which something is left.
    pub(crate) fn check_drained(&self) -> Result<()> {
        match self.in_flight()?.into_iter().enumerate().find(|(_, count)| *count > 0) {
            Some((queue, count)) => Err(Error::NotDrained { queue, count }),
            None => Ok(()),
        }
    }
}

/// What every series wants, and what this one insists on.
fn negotiation(shape: Shape) -> Negotiation {
    let wanted = [FLUSH, CONFIG_WCE, WRITE_ZEROES, BLK_SIZE, SEG_MAX, MQ].map(mask);
    let needed = [
        (INDIRECT_DESC, true),
        (EVENT_IDX, shape.event_idx),
        (RING_PACKED, shape.packed),
        (IN_ORDER, shape.in_order),
    ];
    let needed = needed.into_iter().filter(|(_, needed)| *needed);
    Negotiation::new(wanted.into_iter().sum())
        .requiring(needed.map(|(feature, _)| mask(feature)).sum())
}

/// The configuration as it was read, in an array.
fn whole(config: &[u8]) -> [u8; Config::SIZE] {
    let mut bytes = [0; Config::SIZE];
    bytes.iter_mut().zip(config).for_each(|(to, from)| *to = *from);
    bytes
}

/// Connects as soon as somebody listens; gives up when the one that should has `ended`.
fn connect(socket: &Path, ended: Option<&Event>) -> Result<UnixStream> {
    let until = Instant::now() + START;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > until || ended.map_or(Ok(false), Event::look)? => {
                return Err(Error::system("connect to the daemon")(error));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
