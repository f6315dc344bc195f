use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

/// The key of the verification suite that Microsoft publishes for RSS.
const KEY: [u8; KEY_MAX] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

fn hasher(types: HashTypes) -> Hasher {
    Hasher::new(&HashSettings { types, key: KEY.to_vec() })
}

fn ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &kind.to_be_bytes(), packet].concat()
}

fn ipv4(protocol: u8, from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend(from.0.parse::<Ipv4Addr>().unwrap().octets());
    packet.extend(to.0.parse::<Ipv4Addr>().unwrap().octets());
    packet.extend(from.1.to_be_bytes());
    packet.extend(to.1.to_be_bytes());
    ethernet(IPV4, &packet)
}

fn ipv6(next: u8, extension: &[u8], from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 20, next, 64];
    packet.extend(from.0.parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(to.0.parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(extension);
    packet.extend(from.1.to_be_bytes());
    packet.extend(to.1.to_be_bytes());
    ethernet(IPV6, &packet)
}

/// Source, destination, hash of the addresses, hash with the ports.
type Vector = ((&'static str, u16), (&'static str, u16), u32, u32);

const V4: [Vector; 5] = [
    (("66.9.149.187", 2794), ("161.142.100.80", 1766), 0x323e_8fc2, 0x51cc_c178),
    (("199.92.111.2", 14230), ("65.69.140.83", 4739), 0xd718_262a, 0xc626_b0ea),
    (("24.19.198.95", 12898), ("12.22.207.184", 38024), 0xd2d0_a5de, 0x5c2b_394a),
    (("38.27.205.30", 48228), ("209.142.163.6", 2217), 0x8298_9176, 0xafc7_327f),
    (("153.39.163.191", 44251), ("202.188.127.2", 1303), 0x5d18_09c5, 0x10e8_28a2),
];

const V6: [Vector; 3] = [
    (("3ffe:2501:200:1fff::7", 2794), ("3ffe:2501:200:3::1", 1766), 0x2cc1_8cd5, 0x4020_7d3d),
    (("3ffe:501:8::260:97ff:fe40:efab", 14230), ("ff02::1", 4739), 0x0f0c_461c, 0xdde5_1bbf),
    (
        ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251),
        ("fe80::200:f8ff:fe21:67cf", 38024),
        0x4b61_e985,
        0x02d1_feef,
    ),
];

#[test]
fn the_verification_suite_of_rss_over_ipv4() {
    for (from, to, addresses, ports) in V4 {
        let all = hasher(SUPPORTED);
        let expected = Hash { value: ports, report: HashReport::TcpV4 };
        assert_eq!(all.hash(&ipv4(TCP, from, to)), expected);
        let expected = Hash { value: ports, report: HashReport::UdpV4 };
        assert_eq!(all.hash(&ipv4(UDP, from, to)), expected);
        let expected = Hash { value: addresses, report: HashReport::Ipv4 };
        assert_eq!(all.hash(&ipv4(1, from, to)), expected);
        assert_eq!(hasher(HashTypes::IPV4).hash(&ipv4(TCP, from, to)), expected);
    }
}

#[test]
fn the_verification_suite_of_rss_over_ipv6() {
    let options = [TCP, 0, 1, 4, 0, 0, 0, 0];
    for (from, to, addresses, ports) in V6 {
        let all = hasher(SUPPORTED);
        let expected = Hash { value: ports, report: HashReport::TcpV6 };
        assert_eq!(all.hash(&ipv6(TCP, &[], from, to)), expected);
        assert_eq!(all.hash(&ipv6(60, &options, from, to)), expected, "behind an extension header");
        let expected = Hash { value: addresses, report: HashReport::Ipv6 };
        assert_eq!(all.hash(&ipv6(58, &[], from, to)), expected);
    }
}

#[test]
fn fragments_and_strangers_have_no_ports() {
    let all = hasher(SUPPORTED);
    let (from, to, addresses, _) = V4[0];
    let mut fragment = ipv4(UDP, from, to);
    fragment[14 + 6] = 0x20;
    assert_eq!(all.hash(&fragment), Hash { value: addresses, report: HashReport::Ipv4 });
    assert_eq!(all.hash(&ethernet(0x0806, &[0; 28])), Hash::NONE);
    assert_eq!(hasher(HashTypes::TCPV4).hash(&ipv4(UDP, from, to)), Hash::NONE);
}

#[test]
fn tags_are_passed_over() {
    let (from, to, _, ports) = V4[0];
    let plain = ipv4(TCP, from, to);
    let tagged = [&plain[..12], &[0x81, 0, 0, 5], &plain[12..]].concat();
    assert_eq!(hasher(SUPPORTED).hash(&tagged).value, ports);
}

proptest! {
    #[test]
    fn no_frame_is_too_odd(
        mut frame in proptest::collection::vec(any::<u8>(), 0..LOOKED_AT),
        kind in prop_oneof![Just(IPV4), Just(IPV6), Just(0x8100), any::<u16>()],
        key in proptest::collection::vec(any::<u8>(), 0..=KEY_MAX),
    ) {
        if let Some(place) = frame.get_mut(12..14) {
            place.copy_from_slice(&kind.to_be_bytes());
        }
        let hash = Hasher::new(&HashSettings { types: SUPPORTED, key }).hash(&frame);
        prop_assert!(hash.report != HashReport::None || hash.value == 0);
    }
}
