//! A switch that leads to a tap.

use std::time::{Duration, Instant};

use virtio_spec::net::{CSUM, GUEST_CSUM, HOST_TSO4, Header};

use crate::card::{Card, LONG, MAC, frame};
use crate::interface::{
    NAME, bring_up, enter_new_network, ip, is_datagram, packets, send_datagram, shown,
};
use crate::program::Daemon;

/// What the host has as its address.
const HOST: [u8; 4] = [10, 9, 0, 1];
/// The guest that datagrams are for.
const GUEST: [u8; 4] = [10, 9, 0, 2];
/// The port to which it sends.
const PORT: u16 = 7000;

fn start(bits: [&[u32]; 2]) -> Option<(Daemon, Vec<Card>)> {
    if !enter_new_network() {
        return None;
    }
    let daemon = Daemon::start(&["--switch", "--tap=tap0", "--socket-path=DIR/s1"]);
    daemon.wait_until_there();
    bring_up();
    let connect = |(name, bits): (&str, &[u32])| Card::connect(&daemon.path(name), bits);
    let mut cards: Vec<Card> = ["s", "s1"].into_iter().zip(bits).map(connect).collect();
    for card in &mut cards {
        card.post(100, 2048);
        // A port takes frames once its guest has looked for some.
        while card.receive(Duration::from_millis(100)).is_some() {}
    }
    Some((daemon, cards))
}

/// Whether a datagram of the host arrives at this guest.
fn receives(card: &mut Card) -> Option<Vec<u8>> {
    send_datagram();
    let until = Instant::now() + LONG;
    while Instant::now() < until {
        if let Some((header, frame)) = card.receive(Duration::from_millis(200))
            && is_datagram(&frame)
        {
            assert_eq!(header.gso_type, 0);
            return Some(frame);
        }
    }
    None
}

/// From the guest with the address [`MAC`]; the host is spoken to as everybody, which it is in.
fn from_guest(length: usize) -> Vec<u8> {
    let mut frame = frame(length, length);
    frame[6..12].copy_from_slice(&MAC);
    frame
}

/// The sum of a datagram as its receiver computes it (RFC 768): all ones where nothing is wrong.
fn sum_of_datagram(frame: &[u8]) -> u16 {
    let (ip, udp) = (&frame[14..34], &frame[34..]);
    let words = |bytes: &[u8]| -> u32 {
        let word =
            |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        bytes.chunks(2).map(word).sum()
    };
    let mut sum =
        words(&ip[12..]) + 17 + u32::from(u16::from_be_bytes([udp[4], udp[5]])) + words(udp);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

#[test]
fn guests_and_the_host_reach_each_other() {
    let Some((daemon, mut cards)) = start([&[], &[]]) else { return };
    // Nobody has heard of the guest yet: both get it.
    assert!(receives(&mut cards[0]).is_some() && receives(&mut cards[1]).is_some());
    let before = packets();
    cards[0].send(&(60..160).map(from_guest).collect::<Vec<_>>());
    let until = Instant::now() + LONG;
    while packets() < before + 100 {
        assert!(Instant::now() < until, "{} of 100", packets() - before);
        std::thread::sleep(Duration::from_millis(10));
    }
    // Now it has been heard, at the first port.
    while cards[1].receive(Duration::from_millis(200)).is_some() {}
    assert!(receives(&mut cards[0]).is_some());
    while let Some((_, frame)) = cards[1].receive(Duration::from_millis(200)) {
        assert!(!is_datagram(&frame), "it is none of its business");
    }
    let stats = daemon.control(r#"{"cmd":"stats"}"#);
    let uplink = &stats["ports"][0]["device_stats"]["switch"]["uplink"];
    assert!(uplink["rx_frames"].as_u64() >= Some(100), "{stats}");
    assert_eq!(uplink["uplink_errors"].as_u64().unwrap_or(0), 0);
}

/// The kernel leaves the checksum of a datagram to whoever takes it; a guest that does not has it done.
#[test]
fn a_checksum_that_the_host_has_left_is_completed_for_who_does_not_take_it() {
    let Some((_daemon, mut cards)) = start([&[GUEST_CSUM], &[]]) else { return };
    let frame = receives(&mut cards[1]).unwrap();
    assert_eq!(sum_of_datagram(&frame), 0xffff);
}

/// What a guest leaves to the host, the kernel does.
#[test]
fn a_checksum_that_a_guest_has_left_is_completed_by_the_host() {
    let Some((_daemon, mut cards)) = start([&[CSUM, HOST_TSO4], &[]]) else { return };
    let socket = std::net::UdpSocket::bind(("10.9.0.1", PORT)).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let udp = [&[0x20, 0, PORT.to_be_bytes()[0], PORT.to_be_bytes()[1], 0, 13, 0, 0][..], b"hello"];
    let mut ip = vec![0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0, 0];
    ip.extend([GUEST, HOST].concat());
    let words = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [&host_mac()[..], &MAC, &[8, 0], &ip, &udp.concat()].concat();
    // What the sender has to put there: the sum of the pseudo-header.
    let pseudo = [&GUEST[..], &HOST, &[0, 17, 0, 13]].concat();
    let sum: u32 = pseudo.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[40..42].copy_from_slice(&sum.to_be_bytes());
    let header = Header { flags: 1, csum_start: 34, csum_offset: 6, ..Header::default() };
    cards[0].submit_with(&header, &frame);
    cards[0].kick();
    let mut bytes = [0; 100];
    let length = socket.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"hello");
}

/// The address of the host's end.
fn host_mac() -> [u8; 6] {
    let shown = shown();
    let text = shown["address"].as_str().unwrap();
    let bytes: Vec<u8> =
        text.split(':').map(|part| u8::from_str_radix(part, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

#[test]
fn an_interface_that_is_down_stops_no_guest_and_comes_up_again() {
    let Some((daemon, mut cards)) = start([&[], &[]]) else { return };
    assert!(ip(&format!("link set {NAME} down")));
    cards[0].send(&[from_guest(99)]);
    while cards[1].receive(LONG).unwrap().1 != from_guest(99) {}
    let uplink = || {
        let stats = daemon.control(r#"{"cmd":"stats"}"#);
        let uplink = &stats["ports"][0]["device_stats"]["switch"]["uplink"];
        ["uplink_errors", "rx_frames", "rx_bytes"].map(|name| uplink[name].as_u64().unwrap())
    };
    let until = Instant::now() + LONG;
    while uplink()[0] == 0 {
        assert!(Instant::now() < until, "nobody is told that the interface is down");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(uplink()[1..], [0, 0], "what was not taken is not counted");
    bring_up();
    // Its address has been heard at the first port.
    assert!(receives(&mut cards[0]).is_some());
    let before = packets();
    cards[0].send(&[from_guest(98)]);
    let until = Instant::now() + LONG;
    while packets() == before {
        assert!(Instant::now() < until, "nothing crosses any more");
        std::thread::sleep(Duration::from_millis(10));
    }
}
