//! The hash of a received packet: Toeplitz over addresses and ports (virtio 1.4, 5.1.6.4.3).

use virtio_spec::net::{HashReport, HashTypes};

/// The kinds of packets that can be hashed. Extension headers of IPv6 are passed over.
pub const SUPPORTED: HashTypes = HashTypes::from_bits_truncate(0x3f);
/// Bytes of the longest key.
pub const KEY_MAX: usize = 40;
/// How many bytes of a frame are looked at.
pub const LOOKED_AT: usize = 128;

/// Two IPv6 addresses and two ports: the longest input.
const INPUT_MAX: usize = 36;
/// The most extension headers that are passed over.
const EXTENSIONS_MAX: usize = 8;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TAGS: [u16; 2] = [0x8100, 0x88a8];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What the driver has chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashSettings {
    /// The kinds of packets that are hashed.
    pub types: HashTypes,
    /// The key, at most [`KEY_MAX`] bytes.
    pub key: Vec<u8>,
}

/// A hash and what it was computed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    /// The value.
    pub value: u32,
    /// What it was computed over.
    pub report: HashReport,
}

impl Hash {
    /// No hash.
    pub const NONE: Hash = Hash { value: 0, report: HashReport::None };
}

/// A key that was made ready: for each half byte of the input, what each of its values contributes.
#[derive(Clone)]
pub struct Hasher {
    types: HashTypes,
    tables: Box<[[u32; 16]; 2 * INPUT_MAX]>,
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").field("types", &self.types).finish_non_exhaustive()
    }
}

impl Hasher {
    /// Makes a key ready; one that is too short goes on with zeroes.
    pub fn new(settings: &HashSettings) -> Self {
        let mut tables = Box::new([[0; 16]; 2 * INPUT_MAX]);
        for (position, table) in tables.iter_mut().enumerate() {
            for (entry, value) in table.iter_mut().zip(0_u32..) {
                let bits = (0..4).filter(|bit| value & 8 >> bit != 0);
                *entry = bits.fold(0, |sum, bit| sum ^ window(&settings.key, 4 * position + bit));
            }
        }
        Hasher { types: settings.types, tables }
    }

    /// The hash of a frame that starts with these bytes: [`LOOKED_AT`] of them, or the whole frame.
    pub fn hash(&self, frame: &[u8]) -> Hash {
        let Some(flow) = Flow::of(frame) else { return Hash::NONE };
        let (protocol, alone, tcp, udp) = if flow.addresses.len() == 8 {
            (
                [HashReport::Ipv4, HashReport::TcpV4, HashReport::UdpV4],
                HashTypes::IPV4,
                HashTypes::TCPV4,
                HashTypes::UDPV4,
            )
        } else {
            (
                [HashReport::Ipv6, HashReport::TcpV6, HashReport::UdpV6],
                HashTypes::IPV6,
                HashTypes::TCPV6,
                HashTypes::UDPV6,
            )
        };
        let [addresses, with_tcp, with_udp] = protocol;
        let wanted = |kind| self.types.contains(kind);
        let (report, ports) = match flow.ports {
            Some((TCP, ports)) if wanted(tcp) => (with_tcp, ports),
            Some((UDP, ports)) if wanted(udp) => (with_udp, ports),
            _ if wanted(alone) => (addresses, &[][..]),
            _ => return Hash::NONE,
        };
        Hash { value: self.toeplitz(flow.addresses.iter().chain(ports)), report }
    }

    fn toeplitz<'a>(&self, input: impl Iterator<Item = &'a u8>) -> u32 {
        let halves = input.flat_map(|byte| [byte >> 4, byte & 15]);
        let pairs = self.tables.iter().zip(halves);
        pairs.fold(0, |sum, (table, half)| sum ^ table.get(usize::from(half)).unwrap_or(&0))
    }
}

/// A number that packets of a connection have in common, whichever way they go. None: it is no IP packet.
pub fn of_both_ways(frame: &[u8]) -> Option<u32> {
    let flow = Flow::of(frame)?;
    let (pairs, _) = flow.addresses.as_chunks::<4>();
    let mut sum = pairs.iter().fold(0, |sum, four| sum ^ u32::from_be_bytes(*four));
    if let Some((protocol, [a, b, c, d])) = flow.ports
        && [TCP, UDP].contains(&protocol)
    {
        sum ^= u32::from(u16::from_be_bytes([*a, *b]) ^ u16::from_be_bytes([*c, *d])) << 8;
    }
    // The high bits of a product depend on all bits of its factors.
    Some(sum.wrapping_mul(0x9e37_79b1) >> 16)
}

/// 32 bits of the key, from this bit on.
fn window(key: &[u8], bit: usize) -> u32 {
    let byte = |n| u64::from(key.get(bit / 8 + n).copied().unwrap_or(0));
    let five = (0..5).fold(0, |bits, n| bits << 8 | byte(n));
    u32::try_from(five >> (8 - bit % 8) & 0xffff_ffff).unwrap_or(0)
}

/// What a packet says about the connection that it belongs to.
struct Flow<'a> {
    /// Source and destination, one after the other.
    addresses: &'a [u8],
    /// The protocol, with source and destination port; not of fragments, which mostly have none.
    ports: Option<(u8, &'a [u8])>,
}

impl<'a> Flow<'a> {
    /// None: it is no IP packet, or is cut off.
    fn of(frame: &'a [u8]) -> Option<Self> {
        let mut at = 12;
        let mut kind = be16(frame, at)?;
        while TAGS.contains(&kind) && at < 20 {
            at += 4;
            kind = be16(frame, at)?;
        }
        let packet = frame.get(at + 2..)?;
        match (kind, packet.first()? >> 4) {
            (IPV4, 4) => Self::of_ipv4(packet),
            (IPV6, 6) => Self::of_ipv6(packet),
            _ => None,
        }
    }

    fn of_ipv4(packet: &'a [u8]) -> Option<Self> {
        let addresses = packet.get(12..20)?;
        let header = usize::from(packet.first()? & 15) * 4;
        // More fragments, or not the first one.
        let fragment = be16(packet, 6)? & 0x3fff != 0;
        let ports = packet.get(header..header + 4).filter(|_| !fragment && header >= 20);
        Some(Flow { addresses, ports: packet.get(9).copied().zip(ports) })
    }

    fn of_ipv6(packet: &'a [u8]) -> Option<Self> {
        let addresses = packet.get(8..40)?;
        let (mut next, mut at) = (*packet.get(6)?, 40);
        for _ in 0..EXTENSIONS_MAX {
            // Hop-by-hop options, routing, destination options: 8 bytes and a length in eights.
            let (0 | 43 | 60, Some([following, length])) = (next, packet.get(at..at + 2)) else {
                break;
            };
            next = *following;
            at += 8 + 8 * usize::from(*length);
        }
        Some(Flow { addresses, ports: packet.get(at..at + 4).map(|ports| (next, ports)) })
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[path = "hash_test.rs"]
mod tests;
