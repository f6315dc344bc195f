//! The network card: headers of packets, frames, and sequences of commands.

use arbitrary::{Arbitrary, Unstructured};
use outrigger_net::control::Command;
use outrigger_net::driver_state::{DriverState, Given};
use outrigger_net::hash::{HashSettings, Hasher, SUPPORTED};
use outrigger_net::header::{FRAME_MAX, FRAME_MIN, Rules};
use virtio_spec::features::Negotiated;
use virtio_spec::net::{CSUM, HashReport, Header};

/// The longest saved state, bytes.
const STATE_MAX: usize = 16 * 1024;

/// A header of a guest, and the frame behind it.
#[derive(Debug, Arbitrary)]
struct Packet<'a> {
    features: u64,
    header: [u8; Header::SIZE],
    length: u32,
    key: [u8; 40],
    frame: &'a [u8],
}

/// One header: what is believed of it stays inside the frame, and inside of what was negotiated. One
/// frame: it has a hash, or none.
pub fn headers(data: &[u8]) {
    let Ok(packet) = Packet::arbitrary(&mut Unstructured::new(data)) else { return };
    let features = Negotiated::assume(packet.features);
    let length = packet.length as usize % (FRAME_MAX + 100);
    if let Ok(header) = Rules::new(features).check(&packet.header, length) {
        assert!((FRAME_MIN..=FRAME_MAX).contains(&length));
        let end = usize::from(header.csum_start) + usize::from(header.csum_offset) + 2;
        let plain = header.flags == 0;
        assert!(plain || (features.has(CSUM) && end <= length));
        assert!(!plain || header == Header::default());
        assert!(header.gso_type == 0 || (!plain && header.gso_size > 0));
    }
    let settings = HashSettings { types: SUPPORTED, key: packet.key.to_vec() };
    let hash = Hasher::new(&settings).hash(packet.frame);
    assert!(hash.report != HashReport::None || hash.value == 0);
}

/// What a driver does in its life.
#[derive(Debug, Arbitrary)]
struct Life<'a> {
    features: u64,
    max_pairs: u16,
    saved: &'a [u8],
    commands: Vec<(u8, u8, &'a [u8])>,
    frames: Vec<&'a [u8]>,
}

/// A sequence of commands: one that is refused changes nothing, and whatever the others have made can
/// be saved and loaded.
pub fn commands(data: &[u8]) {
    let Ok(life) = Life::arbitrary(&mut Unstructured::new(data)) else { return };
    let max_pairs = life.max_pairs.clamp(1, 0x8000);
    let given = Given { mac: None, mtu: None, max_pairs, link_up: true };
    let loaded = DriverState::from_bytes(life.saved).ok();
    let begun = || DriverState::begin(Negotiated::assume(life.features));
    let mut state = loaded.unwrap_or_else(begun);
    for (class, command, data) in &life.commands {
        // Classes and commands that there are, most of the time.
        let bytes = [&[class % 10, command % 6][..], data].concat();
        let Ok(command) = Command::parse(&bytes) else { continue };
        let before = state.clone();
        if command.apply(&mut state, &given).is_err() {
            assert_eq!(state, before);
        }
        let saved = state.to_bytes();
        assert!(saved.len() <= STATE_MAX + 10 * state.coalescing.queues.len());
        assert_eq!(DriverState::from_bytes(&saved).unwrap(), state);
        assert!(state.pairs_in_use(&given) <= max_pairs);
    }
    for frame in life.frames {
        let _ = state.filter(&given).map(|filter| filter.accepts(frame));
    }
}
