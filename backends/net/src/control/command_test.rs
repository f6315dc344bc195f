use proptest::prelude::*;

use super::*;

fn bytes(kind: Kind, data: &[u8]) -> Vec<u8> {
    [&kind.header().to_bytes()[..], data].concat()
}

fn parse(kind: Kind, data: &[u8]) -> Result<Command, Refused> {
    Command::parse(&bytes(kind, data))
}

#[test]
fn modes_are_on_or_off_and_nothing_else() {
    assert_eq!(parse(Kind::RxPromisc, &[1]), Ok(Command::Mode(Modes::PROMISCUOUS, true)));
    assert_eq!(parse(Kind::RxNoBroadcast, &[0]), Ok(Command::Mode(Modes::NO_BROADCAST, false)));
    assert_eq!(parse(Kind::RxAllMulti, &[2]), Err(Refused::Value));
    assert_eq!(parse(Kind::RxAllMulti, &[]), Err(Refused::Length));
}

#[test]
fn a_table_is_two_counts_with_their_addresses() {
    let data = [&[1, 0, 0, 0][..], &[2; 6], &[2, 0, 0, 0], &[3; 12]].concat();
    let table = MacTable::new(&[[2; 6]], &[[3; 6], [3; 6]]);
    assert_eq!(parse(Kind::MacTableSet, &data), Ok(Command::MacTable(table)));
    for length in 0..data.len() {
        assert_eq!(parse(Kind::MacTableSet, &data[..length]), Err(Refused::Length), "{length}");
    }
}

#[test]
fn counts_that_nothing_could_hold_are_refused() {
    let data = [[0xff; 4], [0; 4], [0; 4]].concat();
    assert_eq!(parse(Kind::MacTableSet, &data), Err(Refused::Length));
}

#[test]
fn hashes_that_cannot_be_computed_are_refused() {
    let config = |hash_types, hash_key_length: u8| {
        let head = HashConfigHead { hash_types, reserved: [0; 4], hash_key_length };
        let data = [&head.to_bytes()[..], &vec![7; hash_key_length.into()]].concat();
        parse(Kind::MqHashConfig, &data)
    };
    let settings = HashSettings { types: SUPPORTED, key: vec![7; 40] };
    assert_eq!(config(0x3f, 40), Ok(Command::Hash(settings)));
    assert_eq!(config(0x3f, 41), Err(Refused::Value));
    assert_eq!(config(0x40, 40), Err(Refused::Value));
    assert_eq!(config(1 << 20, 40), Err(Refused::Value));
}

/// What follows the command's header, and of it, what is said of the table.
fn rss(mask: u16, table: &[u16], key: &[u8]) -> Vec<u8> {
    let head = RssHead { hash_types: 0x3f, indirection_table_mask: mask, unclassified_queue: 1 };
    let hash_key_length = u8::try_from(key.len()).unwrap();
    let tail = RssTail { max_tx_vq: 2, hash_key_length };
    let table = table.iter().flat_map(|pair| pair.to_le_bytes()).collect::<Vec<_>>();
    [&head.to_bytes()[..], &table, &tail.to_bytes(), key].concat()
}

#[test]
fn receive_side_scaling_is_understood_as_a_whole() {
    let data = rss(3, &[0, 1, 1, 0], &[7; 40]);
    let hash = HashSettings { types: SUPPORTED, key: vec![7; 40] };
    let expected = RssSettings { hash, table: vec![0, 1, 1, 0], unclassified: 1, transmit: 2 };
    assert_eq!(parse(Kind::MqRssConfig, &data), Ok(Command::Rss(expected)));
    for length in 0..data.len() {
        assert_eq!(parse(Kind::MqRssConfig, &data[..length]), Err(Refused::Length), "{length}");
    }
}

#[test]
fn indirection_tables_that_cannot_be_are_refused() {
    let table = |mask, length| parse(Kind::MqRssConfig, &rss(mask, &vec![0; length], &[7; 40]));
    assert!(table(127, 128).is_ok());
    for (mask, length) in [(2, 3), (255, 256), (u16::MAX, 1 << 14), (128, 129)] {
        assert_eq!(table(mask, length), Err(Refused::Value), "{mask}");
    }
    let long_key = parse(Kind::MqRssConfig, &rss(0, &[0], &[7; 41]));
    assert_eq!(long_key, Err(Refused::Value));
}

#[test]
fn coalescing_is_understood() {
    let coalesce = Coalesce { max_packets: 5, max_usecs: 9 };
    let expected = Command::CoalesceAll { receive: true, coalesce };
    assert_eq!(parse(Kind::CoalesceRxSet, &coalesce.to_bytes()), Ok(expected));
    // Whatever is in `reserved`.
    let queue = CoalesceQueue { vq_index: 3, reserved: 0xffff, coalesce };
    let expected = Command::CoalesceQueue { queue: 3, coalesce };
    assert_eq!(parse(Kind::CoalesceQueueSet, &queue.to_bytes()), Ok(expected));
    assert_eq!(parse(Kind::CoalesceQueueGet, &[3, 0, 0, 0]), Ok(Command::CoalesceGet { queue: 3 }));
}

#[test]
fn what_is_not_implemented_is_unknown() {
    for kind in [Kind::HashTunnelSet, Kind::StatsQuery, Kind::StatsGet] {
        assert_eq!(parse(kind, &[0; 64]), Err(Refused::Unknown));
    }
    assert_eq!(Command::parse(&[9, 9, 0]), Err(Refused::Unknown));
}

proptest! {
    #[test]
    fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::parse(&bytes);
    }

    #[test]
    fn no_data_are_too_odd(
        class in 0..9_u8, command in 0..6_u8,
        data in proptest::collection::vec(prop_oneof![0..3_u8, any::<u8>()], 0..100),
    ) {
        let _ = Command::parse(&[&[class, command], &data[..]].concat());
    }
}
