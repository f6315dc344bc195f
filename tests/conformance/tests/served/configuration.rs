//! The configuration space.

use driver::Negotiation;
use virtio_spec::block::{CONFIG_WCE, Config, FLUSH, WRITEBACK_OFFSET};
use virtio_spec::features::mask;
use virtio_spec::vhost_user::{ConfigHeader, ProtocolFeatures};
use wire::{Reply, Request};

use crate::back_end::{BackEnd, SECTORS, USUAL};

fn space(back_end: &mut BackEnd) -> Config {
    let bytes = back_end.front_end.read_config(0, Config::SIZE as u32).unwrap();
    Config::from_prefix(&bytes).unwrap()
}

fn get(back_end: &mut BackEnd, offset: u32, size: u32) -> Option<Vec<u8>> {
    let access = ConfigHeader { offset, size, flags: 0 };
    match back_end.front_end.call(Request::GetConfig(access)).unwrap() {
        Reply::Config(config) => Some(config.data),
        Reply::ConfigRefused => None,
        other => panic!("{other:?}"),
    }
}

/// virtio 1.4, 2.5.2.
#[test]
fn every_field_can_be_read_before_features_are_agreed_on() {
    let mut back_end = BackEnd::start().unwatched();
    let protocol = ProtocolFeatures::CONFIG | ProtocolFeatures::REPLY_ACK;
    back_end.front_end.call(Request::SetProtocolFeatures(protocol.bits())).unwrap();
    let whole = get(&mut back_end, 0, Config::SIZE as u32).unwrap();
    assert_eq!(Config::from_prefix(&whole).unwrap().capacity, SECTORS);
    for field in Config::FIELDS {
        let (offset, size) = (field.offset, field.size);
        let data = get(&mut back_end, offset as u32, size as u32).unwrap();
        assert_eq!(data, whole[offset..offset + size], "{}", field.name);
    }
    back_end.end();
}

/// vhost-user, GET_CONFIG: as much as was asked for, or nothing at all.
#[test]
fn a_part_that_does_not_exist_is_answered_with_nothing() {
    let mut back_end = BackEnd::start().negotiated(USUAL);
    let size = Config::SIZE as u32;
    for (offset, size) in [(0, size + 1), (size, 1), (u32::MAX, 1), (4, u32::MAX)] {
        if size < 4096 {
            assert_eq!(get(&mut back_end, offset, size), None, "{offset} {size}");
        }
    }
    assert_eq!(get(&mut back_end, 3, 9).unwrap().len(), 9);
    back_end.end();
}

/// vhost-user, SET_CONFIG: the driver writes what is writable, a migration writes all.
#[test]
fn read_only_fields_are_written_by_a_migration_alone() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    let before = space(&mut back_end);
    assert!(back_end.front_end.write_config(0, &1_u64.to_le_bytes()).is_err());
    assert!(back_end.front_end.write_config(0, &before.to_bytes()).is_err());
    assert_eq!(space(&mut back_end), before);
    let writeback = Config { writeback: 0, ..before };
    back_end.front_end.restore_config(0, &writeback.to_bytes()).unwrap();
    assert_eq!(space(&mut back_end), writeback);
    back_end.front_end.write_config(WRITEBACK_OFFSET as u32, &[1]).unwrap();
    assert_eq!(space(&mut back_end), before);
    back_end.end();
}

/// virtio 1.4, 5.2.5.2: padding, and the fields of features that are not offered.
#[test]
fn padding_and_fields_of_zones_are_zero() {
    for arguments in [&["--packed"][..], &["--read-only"], &["--discard=off"]] {
        let mut back_end = BackEnd::with(arguments).negotiated(USUAL);
        let space = space(&mut back_end);
        assert_eq!((space.unused0, space.unused1), (0, [0; 3]), "{arguments:?}");
        assert_eq!(space.zoned, Config::default().zoned);
        back_end.end();
    }
}

/// virtio 1.4, 5.2.5.2: such a driver could not flush a cache.
#[test]
fn without_flush_the_cache_starts_as_writethrough() {
    for (wanted, writeback) in
        [(mask(CONFIG_WCE), 0), (mask(CONFIG_WCE) | mask(FLUSH), 1), (mask(FLUSH), 1)]
    {
        let mut back_end = BackEnd::start();
        back_end.front_end.negotiate(&Negotiation::new(wanted)).unwrap();
        assert_eq!(space(&mut back_end).writeback, writeback, "{wanted:#x}");
        back_end.end();
    }
}

/// virtio 1.4, 5.2.6.2: the flag says what write zeroes may do to the image.
#[test]
fn zeroes_may_unmap_only_where_space_is_given_back() {
    for (arguments, expected) in [(&[][..], 1), (&["--discard=off"], 0), (&["--read-only"], 0)] {
        let mut back_end = BackEnd::with(arguments).negotiated(USUAL);
        assert_eq!(space(&mut back_end).write_zeroes_may_unmap, expected, "{arguments:?}");
        back_end.end();
    }
}
