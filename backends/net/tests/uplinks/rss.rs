//! A driver that says which queue gets which packets, at a switch.

use std::time::{Duration, Instant};

use virtio_spec::net::control::{ACK_ERR, ACK_OK, Command, RssHead, RssTail};
use virtio_spec::net::{HashTypes, MQ, RSS};

use crate::card::{Card, LONG};
use crate::driver_with_commands::Driver;
use crate::program::Daemon;

const FLOWS: u8 = 40;

/// A datagram to everybody, or a frame of no protocol that is hashed.
fn datagram(flow: u8, kind: [u8; 2]) -> Vec<u8> {
    let ip = [0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let udp = [0, flow, 0, 7, 0, 16, 0, 0];
    [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &kind, &ip, &udp, b"datagram"].concat()
}

/// What a driver says: a table, and what else there may be.
fn config(table: &[u16], unclassified_queue: u16) -> Vec<u8> {
    let mask = u16::try_from(table.len() - 1).unwrap();
    let hash_types = HashTypes::UDPV4.bits();
    let head = RssHead { hash_types, indirection_table_mask: mask, unclassified_queue };
    let tail = RssTail { max_tx_vq: 2, hash_key_length: 40 };
    let table = table.iter().flat_map(|pair| pair.to_le_bytes()).collect::<Vec<_>>();
    let key: Vec<u8> = (1..=40_u8).map(|n| n.wrapping_mul(37)).collect();
    [&head.to_bytes()[..], &table, &tail.to_bytes(), &key].concat()
}

/// Sends a frame of each flow; gives how many came by which pair.
fn send(card: &mut Card, driver: &mut Driver, kind: [u8; 2]) -> [usize; 2] {
    // Other workers learn of commands a moment later.
    std::thread::sleep(Duration::from_millis(50));
    card.send(&(0..FLOWS).map(|flow| datagram(flow, kind)).collect::<Vec<_>>());
    let until = Instant::now() + LONG;
    let mut sums = [0, 0];
    while sums[0] + sums[1] < FLOWS.into() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
        let more = driver.datagrams();
        sums = [sums[0] + more[0], sums[1] + more[1]];
    }
    sums
}

#[test]
fn the_driver_says_which_queue_gets_which_packets() {
    let arguments = ["--switch", "--queue-pairs=2", "--ctrl-vq", "--socket-path=DIR/s1"];
    let daemon = Daemon::start(&arguments);
    let mut card = Card::connect(&daemon.path("s"), &[]);
    let mut driver = Driver::connect(&daemon.path("s1"), &[MQ, RSS]);
    let (ip, other) = ([8, 0], [0x88, 0xb5]);
    let all = usize::from(FLOWS);
    assert_eq!(driver.command(Command::MqPairsSet, &[2, 0]), ACK_OK);
    assert_eq!(send(&mut card, &mut driver, ip), [all, 0], "nobody has said anything");
    for (table, unclassified, expected) in
        [(&[1_u16][..], 0, [[0, all], [all, 0]]), (&[0, 0, 0, 0], 1, [[all, 0], [0, all]])]
    {
        let config = config(table, unclassified);
        assert_eq!(driver.command(Command::MqRssConfig, &config), ACK_OK);
        let found = [ip, other].map(|kind| send(&mut card, &mut driver, kind));
        assert_eq!(found, expected, "{table:?}");
    }
    assert_eq!(driver.command(Command::MqRssConfig, &config(&[0, 1], 0)), ACK_OK);
    let [first, second] = send(&mut card, &mut driver, ip);
    assert!(first > 0 && second > 0 && first + second == all, "{first} and {second}");
    for refused in [config(&[2], 0), config(&[0], 2), config(&[0; 256], 0)] {
        assert_eq!(driver.command(Command::MqRssConfig, &refused), ACK_ERR);
    }
}
