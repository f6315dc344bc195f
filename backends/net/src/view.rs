//! What the data side goes by: made anew whenever the state has changed.

use std::sync::Arc;

use framework::ring::{Chain, Ring};
use virtio_spec::net::{
    CTRL_VQ, GsoType, HASH_REPORT, Header, HeaderHash, MQ, MRG_RXBUF, MTU, RSS,
};

use crate::capture::{Capture, Direction};
use crate::coalesce::Coalescing;
use crate::driver_state::{DriverState, Given};
use crate::filter::Filter;
use crate::hash::{Hash, Hasher};
use crate::header::{FRAME_MIN, Rules};
use crate::service::Role;
use crate::uplink::tap::Offloads;

/// How many bytes a VLAN tag adds to what the MTU counts.
const TAG_LEN: usize = 4;

/// The longest header.
pub(crate) const HEADER_MAX: usize = Header::SIZE + HeaderHash::SIZE;
/// The most bytes of a packet that are looked at.
pub(crate) const START_MAX: usize = HEADER_MAX + crate::hash::LOOKED_AT;

/// What the data side goes by.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) rules: Rules,
    /// The size of the header before each packet, bytes.
    pub(crate) header: usize,
    /// Whether a packet may fill several chains.
    pub(crate) mergeable: bool,
    /// Whether packets longer than the MTU may come.
    pub(crate) long: bool,
    /// How many queue pairs are in use.
    pub(crate) pairs: u16,
    pub(crate) link_up: bool,
    pub(crate) budget: Budget,
    /// What crosses is written down there.
    pub(crate) capture: Option<Arc<Capture>>,
    /// Index of the control queue, if there is one.
    control: Option<u16>,
    pub(crate) coalescing: Option<Coalescing>,
    inspection: Inspection,
}

/// The most frames of one go; then the other direction has its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) receive: usize,
    pub(crate) transmit: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { receive: 256, transmit: 256 }
    }
}

/// What of received packets is looked at before the driver gets them.
#[derive(Clone, Debug)]
struct Inspection {
    filter: Option<Filter>,
    /// The longest frame that is not segmented.
    frame_max: Option<usize>,
    /// What packets may leave to the guest.
    offloads: Offloads,
    /// Whether hashes are reported, and how they are computed.
    hasher: Option<Option<Hasher>>,
}

/// Why a received packet is not given to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwanted {
    /// The driver's filters do not let it pass.
    Filtered,
    /// It is longer than the MTU that was agreed on.
    TooLong,
    /// It leaves to the driver what the driver does not take.
    Offload,
}

impl View {
    pub(crate) fn new(state: &DriverState, given: &Given) -> Self {
        let has = |bit| state.features.has(bit);
        let reports = has(HASH_REPORT);
        let pairs = if has(MQ) || has(RSS) { given.max_pairs } else { 1 };
        let mtu = given.mtu.filter(|_| has(MTU));
        let offloads = state.effective_offloads();
        View {
            rules: Rules::new(state.features),
            header: Header::SIZE + if reports { HeaderHash::SIZE } else { 0 },
            mergeable: has(MRG_RXBUF),
            long: !(offloads - Offloads::CSUM).is_empty(),
            pairs: state.pairs_in_use(given),
            link_up: given.link_up,
            budget: Budget::default(),
            capture: None,
            control: has(CTRL_VQ).then_some(2 * pairs),
            coalescing: state.coalescing.is_on().then(|| state.coalescing.clone()),
            inspection: Inspection {
                filter: state.filter(given),
                frame_max: mtu.map(|mtu| usize::from(mtu) + FRAME_MIN + TAG_LEN),
                offloads,
                hasher: reports.then(|| state.hash.as_ref().map(Hasher::new)),
            },
        }
    }

    /// What a queue is for.
    #[inline]
    pub(crate) fn role(&self, queue: u16) -> Role {
        match queue {
            queue if self.control == Some(queue) => Role::Control,
            queue if queue.is_multiple_of(2) => Role::Receive,
            _ => Role::Transmit,
        }
    }

    /// How many bytes of a packet are looked at, header and frame, before the driver gets it.
    #[inline]
    pub(crate) fn looked_at(&self) -> usize {
        let frame = match self.inspection.hasher {
            Some(Some(_)) => crate::hash::LOOKED_AT,
            _ if self.inspection.filter.is_some() => crate::filter::DECISIVE,
            _ => 0,
        };
        self.header + frame
    }

    /// Whether the driver is to have a packet of this length that starts with these bytes
    /// ([`View::looked_at`] of them), header included.
    ///
    /// # Errors
    /// Why it is not.
    #[inline]
    pub(crate) fn inspect(&self, start: &[u8], length: usize) -> Result<(), Unwanted> {
        let inspection = &self.inspection;
        let [flags, gso_type, ..] = start else { return Err(Unwanted::Filtered) };
        if *gso_type == 0 {
            if inspection.frame_max.is_some_and(|max| length - self.header.min(length) > max) {
                return Err(Unwanted::TooLong);
            }
            if *flags & 1 != 0 && !inspection.offloads.contains(Offloads::CSUM) {
                return Err(Unwanted::Offload);
            }
        } else if !takes(inspection.offloads, *gso_type) {
            return Err(Unwanted::Offload);
        }
        let frame = start.get(self.header..).unwrap_or_default();
        match &inspection.filter {
            Some(filter) if !filter.accepts(frame) => Err(Unwanted::Filtered),
            _ => Ok(()),
        }
    }

    /// A header of ours, as long as headers are ([`View::header`]); there is no hash in it.
    #[inline]
    pub(crate) fn encode(&self, header: &Header) -> ([u8; HEADER_MAX], usize) {
        let mut bytes = [0; HEADER_MAX];
        if let Some(start) = bytes.first_chunk_mut() {
            *start = header.to_bytes();
        }
        (bytes, self.header.min(HEADER_MAX))
    }

    /// Whether a header that the uplink has made may say anything about checksums.
    #[inline]
    pub(crate) fn takes_checksums(&self) -> bool {
        self.inspection.offloads.contains(Offloads::CSUM)
    }

    /// Has a frame of the guest written down, if anybody wants to see it.
    #[inline]
    pub(crate) fn show_sent(&self, ring: &Ring, chain: &Chain, length: usize) {
        if let Some(capture) = &self.capture {
            capture.frame(Direction::Outbound, ring.readable(chain), 0, length);
        }
    }

    /// Likewise a packet for the guest, header included, that is in so many chains looked at.
    #[inline]
    pub(crate) fn show_received(&self, ring: &Ring, chains: usize, length: usize) {
        if let Some(capture) = &self.capture {
            let segments = (0..chains).flat_map(|chain| ring.looked_writable(chain));
            let frame = length.saturating_sub(self.header);
            capture.frame(Direction::Inbound, segments, self.header, frame);
        }
    }

    /// Whether the driver takes packets that are to be segmented in this way.
    #[inline]
    pub(crate) fn takes_segments(&self, gso_type: u8) -> bool {
        takes(self.inspection.offloads, gso_type)
    }

    /// What is to be written behind the header of a packet that starts with these bytes, where hashes
    /// are reported.
    pub(crate) fn hash_report(&self, start: &[u8]) -> Option<HeaderHash> {
        let hasher = self.inspection.hasher.as_ref()?;
        let frame = start.get(self.header..).unwrap_or_default();
        let hash = hasher.as_ref().map_or(Hash::NONE, |hasher| hasher.hash(frame));
        Some(HeaderHash {
            hash_value: hash.value,
            hash_report: hash.report as u16,
            padding_reserved: 0,
        })
    }
}

/// Whether a driver that takes these offloads takes packets of this `gso_type`.
fn takes(offloads: Offloads, gso_type: u8) -> bool {
    let kind = match GsoType::from_u8(gso_type) {
        Some(GsoType::None) => Offloads::empty(),
        Some(GsoType::TcpV4) => Offloads::TSO4,
        Some(GsoType::TcpV6) => Offloads::TSO6,
        Some(GsoType::Udp) => Offloads::UFO,
        Some(GsoType::UdpL4) => return offloads.intersects(Offloads::USO4 | Offloads::USO6),
        None => return false,
    };
    offloads.contains(kind)
}
