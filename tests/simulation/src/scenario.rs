//! What a seed decides before anything happens: the device, the front-end's abilities, and how often
//! what is to happen.

use std::time::Duration;

use fastrand::Rng;
use framework::engine::Faults;
use framework::session::RingOffer;
use framework::worker::PollWindow;
use outrigger_blk::image::{Abilities, Alignment, BlockSizes, Description, Medium};
use virtio_spec::vhost_user::ProtocolFeatures;

use crate::Options;
use crate::action::Weights;
use crate::model::SECTOR;

/// A scenario.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Whether the driver breaks rules.
    pub(crate) hostile: bool,
    /// Whether back-ends wait for the lock.
    pub(crate) lock: bool,
    pub(crate) queues: u16,
    pub(crate) workers: u16,
    /// The largest ring.
    pub(crate) size: u16,
    pub(crate) offer: RingOffer,
    /// Whether the driver never looks at a ring but when it is called.
    pub(crate) calls_only: bool,
    /// Whether rings have no kick: the back-end polls them.
    pub(crate) polled: bool,
    /// Protocol features that the front-end takes; None: it knows no protocol features.
    pub(crate) protocol: Option<ProtocolFeatures>,
    pub(crate) sectors: u64,
    pub(crate) image: Description,
    pub(crate) writeback: bool,
    pub(crate) faults: Faults,
    pub(crate) polling: PollWindow,
    pub(crate) weights: Weights,
}

impl Scenario {
    /// The scenario of this generator's next numbers.
    pub(crate) fn choose(random: &mut Rng, options: &Options) -> Self {
        let protocol = (random.u8(..10) > 0).then(|| protocol(random));
        let queues = match protocol {
            Some(protocol) if protocol.contains(ProtocolFeatures::MQ) => random.u16(1..=3),
            _ => 1,
        };
        let sectors = *pick(random, &[16, 64, 64, 200]);
        Scenario {
            hostile: options.hostile,
            lock: options.lock,
            queues,
            workers: random.u16(1..=queues),
            size: *pick(random, &[4, 8, 16, 32]),
            offer: RingOffer { packed: random.bool(), in_order: random.bool(), inband: false },
            calls_only: random.bool(),
            polled: random.u8(..12) == 0,
            protocol,
            sectors,
            image: image(random, sectors),
            writeback: random.u8(..4) > 0,
            faults: faults(random),
            polling: polling(random),
            weights: Weights::choose(random),
        }
    }

    /// Whether operations fail.
    pub(crate) fn fails(&self) -> bool {
        self.faults.error > 0.0 || self.faults.no_space > 0.0
    }

    pub(crate) fn describe(&self) -> String {
        let kind = |yes: bool, name: &'static str| if yes { name } else { "" };
        format!(
            "{} rings of up to {} on {} workers; {} sectors on a {:?}{}{}; {}{}{}{}{}polling {:?}; {}",
            self.queues,
            self.size,
            self.workers,
            self.sectors,
            self.image.medium,
            kind(self.image.direct.is_some(), ", direct"),
            kind(!self.writeback, ", writethrough"),
            kind(self.fails(), "operations fail; "),
            kind(self.calls_only, "driven by calls; "),
            kind(self.polled, "no kicks; "),
            kind(self.offer.packed, "packed rings offered; "),
            kind(self.offer.in_order, "order offered; "),
            self.polling,
            self.protocol.map_or("no protocol features".into(), |protocol| {
                let names: Vec<_> = protocol.iter_names().map(|(name, _)| name).collect();
                names.join(" ")
            }),
        )
    }
}

/// One of these.
pub(crate) fn pick<'a, T>(random: &mut Rng, from: &'a [T]) -> &'a T {
    #[expect(clippy::indexing_slicing, reason = "the index is one of the slice's")]
    &from[random.usize(..from.len())]
}

/// What most front-ends take, and what only some do.
fn protocol(random: &mut Rng) -> ProtocolFeatures {
    type P = ProtocolFeatures;
    let mut taken = P::CONFIG;
    let often = [
        P::MQ,
        P::REPLY_ACK,
        P::INFLIGHT_SHMFD,
        P::CONFIGURE_MEM_SLOTS,
        P::STATUS,
        P::RESET_DEVICE,
    ];
    for feature in often {
        taken.set(feature, random.u8(..5) > 0);
    }
    taken
}

fn image(random: &mut Rng, sectors: u64) -> Description {
    let medium = *pick(random, &[Medium::File, Medium::File, Medium::BlockDevice]);
    let logical = *pick(random, &[512, 512, 512, 1024]);
    let direct = (random.u8(..4) == 0)
        .then(|| Alignment { memory: *pick(random, &[1, 16, 512]), offset: logical });
    Description {
        medium,
        bytes: sectors * SECTOR as u64,
        read_only: false,
        sizes: BlockSizes { logical, physical: 4096, minimum_io: 4096, optimal_io: 0 },
        direct,
        abilities: Abilities { discard: Some(logical), unmap: random.bool(), secure_erase: false },
    }
}

fn faults(random: &mut Rng) -> Faults {
    let faults = match random.u8(..8) {
        0 => Faults::none(),
        1..=4 => Faults::reordering(),
        _ => Faults::failing(),
    };
    Faults { at_once: *pick(random, &[0.0, 0.1, 0.5]), ..faults }
}

fn polling(random: &mut Rng) -> PollWindow {
    match random.u8(..4) {
        0 => PollWindow::Auto,
        1 => PollWindow::Fixed(Duration::from_micros(1)),
        _ => PollWindow::Fixed(Duration::ZERO),
    }
}
