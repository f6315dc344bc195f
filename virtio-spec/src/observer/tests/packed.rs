//! Packed rings.

use super::breaches;
use super::scene::{Scene, packed_wish};
use crate::features::INDIRECT_DESC;
use crate::observer::clause::ring::*;
use crate::observer::{PackedBuffer, RingStep, Step};
use crate::packed::{
    DESC_F_AVAIL, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_USED, DESC_F_WRITE, Descriptor,
    EVENT_F_DESC, EVENT_F_DISABLE, Position,
};

fn descriptor(flags: u16) -> Descriptor {
    Descriptor { addr: 0x8000, len: 16, id: 0, flags }
}

breaches! {
    marks_of_the_wrong_turn breaks PACKED_USED_FLAGS: {
        let mut scene = Scene::new();
        scene.packed(4, &[]);
        scene.give_packed(0);
        scene.ring(RingStep::PackedNext(descriptor(0)))
    }

    a_device_event_without_the_feature breaks PACKED_DEVICE_FLAGS: {
        let mut scene = Scene::new();
        scene.packed(4, &[]);
        scene.ring(RingStep::DeviceSuppress(packed_wish(EVENT_F_DESC, 0)))
    }

    a_driver_event_without_the_feature breaks PACKED_DRIVER_FLAGS: {
        let mut scene = Scene::new();
        scene.packed(4, &[]);
        scene.ring(RingStep::DriverSuppress(packed_wish(EVENT_F_DESC, 0)))
    }

    a_list_without_marks breaks PACKED_AVAIL_FLAGS: {
        let mut scene = Scene::new();
        scene.packed(4, &[]);
        scene.list(0, &[descriptor(0)])
    }

    a_list_with_a_gap breaks PACKED_NEXT_FLAGS: {
        let mut scene = Scene::new();
        scene.packed(4, &[]);
        let flags = scene.avail_flags();
        scene.list(0, &[descriptor(flags), descriptor(flags)])
    }

    a_list_without_room breaks PACKED_SPACE: {
        let mut scene = Scene::new();
        scene.packed(2, &[]);
        scene.give_packed(0);
        let first = scene.avail_flags() | DESC_F_NEXT;
        // The second descriptor is past the ring's end, on the next turn.
        scene.list(1, &[descriptor(first), descriptor(DESC_F_USED)])
    }

    a_table_with_flags breaks PACKED_TABLE_FLAGS: {
        let mut scene = Scene::new();
        scene.packed(4, &[INDIRECT_DESC]);
        let flags = scene.avail_flags() | DESC_F_INDIRECT;
        let descriptors = [descriptor(flags)];
        let table = [descriptor(DESC_F_NEXT)];
        let position = Position::START;
        let buffer = PackedBuffer { position, id: 0, descriptors: &descriptors, table: &table };
        scene.ring(RingStep::PackedAvailable(buffer))
    }
}

#[test]
fn ids_are_used_once_and_known() {
    let mut scene = Scene::new();
    scene.packed(4, &[]);
    scene.give_packed(7);
    scene.give_packed(8);
    assert_eq!(scene.used_packed(9, 0, true).unwrap_err().clause, &USED_KNOWN);
    scene.used_packed(7, 512, true).unwrap();
    assert_eq!(scene.used_packed(7, 0, true).unwrap_err().clause, &USED_ONCE);
}

#[test]
fn an_id_with_the_device_is_not_free() {
    let mut scene = Scene::new();
    scene.packed(4, &[]);
    scene.give_packed(7);
    let flags = scene.avail_flags();
    assert_eq!(scene.list(7, &[descriptor(flags)]).unwrap_err().clause, &DESCRIPTOR_FREE);
}

#[test]
fn a_length_counts_only_with_the_write_flag() {
    let mut scene = Scene::new();
    scene.packed(4, &[]);
    scene.give_packed(0);
    scene.give_packed(1);
    let flags = DESC_F_AVAIL | DESC_F_USED;
    scene.fine_ring(RingStep::PackedNext(Descriptor { addr: 0, len: 9999, id: 0, flags }));
    let flags = flags | DESC_F_WRITE;
    let used = scene.ring(RingStep::PackedNext(Descriptor { addr: 0, len: 9999, id: 1, flags }));
    assert_eq!(used.unwrap_err().clause, &USED_LEN);
}

#[test]
fn a_descriptor_half_way_to_being_used_is_not_used() {
    let mut scene = Scene::new();
    scene.packed(4, &[]);
    let flags = scene.avail_flags() | DESC_F_WRITE;
    scene.give_packed(0);
    scene.fine_ring(RingStep::PackedNext(Descriptor { addr: 0, len: 1, id: 0, flags }));
}

#[test]
fn using_when_there_is_nothing_to_use_is_noticed() {
    let mut scene = Scene::new();
    scene.packed(4, &[]);
    assert_eq!(scene.used_packed(0, 0, true).unwrap_err().clause, &USED_KNOWN);
}

#[test]
fn calls_are_owed_for_packed_rings_too() {
    let mut scene = Scene::new();
    scene.packed(4, &[]);
    scene.give_packed(0);
    scene.fine_ring(RingStep::Kicked);
    scene.used_packed(0, 1, true).unwrap();
    assert_eq!(scene.step(Step::Quiesce).unwrap_err().clause, &CALL_REQUIRED);
    scene.fine_ring(RingStep::DriverSuppress(packed_wish(EVENT_F_DISABLE, 0)));
    scene.give_packed(0);
    scene.fine_ring(RingStep::Kicked);
    scene.used_packed(0, 1, true).unwrap();
    scene.fine(Step::Quiesce);
}
