//! Split rings, and what both kinds of rings have in common.

use super::breaches;
use super::scene::{AREAS, Scene, readable, then, wish, writable};
use crate::features::{EVENT_IDX, IN_ORDER, INDIRECT_DESC};
use crate::observer::clause::ring::*;
use crate::observer::{Area, RingSetup, RingStart, RingStep, SplitBuffer, Step};
use crate::split::{DESC_F_INDIRECT, DESC_F_NEXT, Descriptor, UsedElem};

fn table_of(len: u32) -> Descriptor {
    Descriptor { addr: 0x9000, len, flags: DESC_F_INDIRECT, next: 0 }
}

breaches! {
    a_head_that_was_never_available breaks USED_KNOWN: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.give(0, 0);
        scene.fine_ring(RingStep::UsedIdx(1));
        scene.used(3, 0)
    }

    a_head_used_again breaks USED_ONCE: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.give(0, 0);
        scene.give(1, 1);
        scene.fine_ring(RingStep::UsedIdx(2));
        scene.used(0, 0).unwrap();
        scene.used(0, 0)
    }

    a_length_beyond_the_buffer breaks USED_LEN: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.give(0, 0);
        scene.fine_ring(RingStep::UsedIdx(1));
        scene.used(0, 513)
    }

    buffers_out_of_order breaks USED_IN_ORDER: {
        let mut scene = Scene::new();
        scene.split(4, &[IN_ORDER]);
        scene.give(0, 0);
        scene.give(1, 1);
        scene.fine_ring(RingStep::UsedIdx(1));
        scene.used(1, 0)
    }

    an_entry_that_changes breaks USED_STAYS: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.give(0, 0);
        scene.fine_ring(RingStep::UsedIdx(1));
        scene.used(0, 512).unwrap();
        scene.fine_ring(RingStep::UsedAgain { back: 0, elem: UsedElem { id: 0, len: 512 } });
        scene.ring(RingStep::UsedAgain { back: 0, elem: UsedElem { id: 0, len: 1 } })
    }

    a_write_into_a_read_only_buffer breaks READ_ONLY_STAYS: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.ring(RingStep::Changed(Area::ReadOnlyBuffer(0)))
    }

    a_write_into_descriptors breaks DESCRIPTORS_STAY: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.ring(RingStep::Changed(Area::Descriptors))
    }

    a_write_into_the_available_ring breaks DRIVER_AREA_STAYS: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.ring(RingStep::Changed(Area::DriverArea))
    }

    a_write_beside_everything breaks NOWHERE_ELSE: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.ring(RingStep::Changed(Area::Elsewhere))
    }

    a_missing_call breaks CALL_REQUIRED: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.give(0, 0);
        scene.fine_ring(RingStep::Kicked);
        scene.fine_ring(RingStep::UsedIdx(1));
        scene.step(Step::Quiesce)
    }

    a_call_for_a_queue_that_was_reset breaks QUEUE_RESET_IDLE: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.fine_ring(RingStep::Reset);
        scene.ring(RingStep::Called)
    }

    odd_flags_of_the_device breaks DEVICE_FLAGS: {
        let mut scene = Scene::new();
        scene.split(4, &[EVENT_IDX]);
        scene.ring(RingStep::DeviceSuppress(wish(1, 0)))
    }

    a_used_index_out_of_thin_air breaks USED_IDX: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.give(0, 0);
        scene.ring(RingStep::UsedIdx(2))
    }

    an_unaligned_area breaks AREA_ALIGNED: {
        let mut scene = Scene::new();
        scene.negotiated(&[]);
        let areas = [0x1008, AREAS[1], AREAS[2]];
        let setup = RingSetup { size: 4, areas, start: RingStart::Split(0) };
        scene.ring(RingStep::Configured(setup))
    }

    a_queue_of_three breaks QUEUE_SIZE: {
        let mut scene = Scene::new();
        scene.negotiated(&[]);
        let setup = RingSetup { size: 3, areas: AREAS, start: RingStart::Split(0) };
        scene.ring(RingStep::Configured(setup))
    }

    a_table_without_the_feature breaks INDIRECT_NEGOTIATED: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.chain_with_table(&[(0, table_of(16))], &[readable(1)])
    }

    a_table_in_a_table breaks INDIRECT_NOT_NESTED: {
        let mut scene = Scene::new();
        scene.split(4, &[INDIRECT_DESC]);
        scene.chain_with_table(&[(0, table_of(16))], &[table_of(16)])
    }

    a_table_in_mid_chain breaks INDIRECT_ENDS_CHAIN: {
        let mut scene = Scene::new();
        scene.split(4, &[INDIRECT_DESC]);
        let chain = [(0, then(table_of(16), 1)), (1, readable(1))];
        scene.chain_with_table(&chain, &[readable(1)])
    }

    half_a_descriptor_in_a_table breaks INDIRECT_WHOLE: {
        let mut scene = Scene::new();
        scene.split(4, &[INDIRECT_DESC]);
        scene.chain_with_table(&[(0, table_of(24))], &[readable(1)])
    }

    a_buffer_to_read_at_the_end breaks WRITABLE_LAST: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.chain(&[(0, then(writable(1), 1)), (1, readable(1))])
    }

    a_chain_longer_than_the_queue breaks CHAIN_LENGTH: {
        let mut scene = Scene::new();
        scene.split(2, &[INDIRECT_DESC]);
        let table = [then(readable(1), 1), then(readable(1), 2), readable(1)];
        scene.chain_with_table(&[(0, table_of(48))], &table)
    }

    more_than_4_gib breaks CHAIN_BYTES: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.chain(&[(0, then(readable(u32::MAX), 1)), (1, readable(2))])
    }

    a_chain_with_a_gap breaks CHAIN_LINKED: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.chain(&[(0, then(readable(1), 3)), (1, readable(1))])
    }

    a_descriptor_that_is_taken breaks DESCRIPTOR_FREE: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.give(0, 0);
        let descriptors = [(0, writable(1))];
        let buffer = SplitBuffer { position: 1, head: 0, descriptors: &descriptors, table: &[] };
        scene.ring(RingStep::SplitAvailable(buffer))
    }

    descriptors_out_of_order breaks IN_ORDER_DESCRIPTORS: {
        let mut scene = Scene::new();
        scene.split(4, &[IN_ORDER]);
        scene.chain(&[(1, writable(1))])
    }

    a_missing_kick breaks KICK_REQUIRED: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.give(0, 0);
        scene.step(Step::Quiesce)
    }

    odd_flags_of_the_driver breaks DRIVER_FLAGS: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.ring(RingStep::DriverSuppress(wish(2, 0)))
    }

    a_skipped_entry breaks AVAIL_POSITION: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        let descriptors = [(0, writable(1))];
        let buffer = SplitBuffer { position: 1, head: 0, descriptors: &descriptors, table: &[] };
        scene.ring(RingStep::SplitAvailable(buffer))
    }

    an_available_index_that_goes_back breaks AVAIL_IDX: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.give(0, 0);
        scene.ring(RingStep::AvailIdx(0))
    }

    an_entry_read_early breaks USED_READ_EARLY: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.give(0, 0);
        scene.used(0, 0)
    }
}

#[test]
fn a_chain_must_not_be_used_before_the_index_covers_it() {
    let mut scene = Scene::new();
    scene.split(4, &[]);
    scene.put(0, 0);
    assert_eq!(scene.ring(RingStep::UsedIdx(1)).unwrap_err().clause, &USED_IDX);
    assert_eq!(scene.used(0, 0).unwrap_err().clause, &USED_KNOWN);
}

#[test]
fn a_loop_is_no_chain() {
    let mut scene = Scene::new();
    scene.split(4, &[INDIRECT_DESC]);
    let table = [then(readable(1), 0)];
    let looped = scene.chain_with_table(&[(0, table_of(16))], &table);
    assert_eq!(looped.unwrap_err().clause, &CHAIN_LINKED);
    let endless = [(1, Descriptor { flags: DESC_F_NEXT, next: 1, ..readable(1) })];
    let position = 1;
    let buffer = SplitBuffer { position, head: 1, descriptors: &endless, table: &[] };
    let looped = scene.ring(RingStep::SplitAvailable(buffer));
    assert_eq!(looped.unwrap_err().clause, &CHAIN_LINKED);
}

#[test]
fn a_call_before_the_driver_looks_may_be_for_what_it_then_finds() {
    let mut scene = Scene::new();
    scene.split(4, &[]);
    scene.give(0, 0);
    scene.fine_ring(RingStep::Kicked);
    scene.fine_ring(RingStep::Called);
    scene.fine_ring(RingStep::UsedIdx(1));
    scene.fine(Step::Quiesce);
}

#[test]
fn a_wish_that_the_device_may_have_read_excuses_it() {
    let mut scene = Scene::new();
    scene.split(4, &[]);
    scene.give(0, 0);
    scene.fine_ring(RingStep::Kicked);
    scene.fine_ring(RingStep::DriverSuppress(wish(1, 0)));
    scene.fine_ring(RingStep::UsedIdx(1));
    scene.fine_ring(RingStep::DriverSuppress(wish(0, 0)));
    scene.fine(Step::Quiesce);
}

#[test]
fn what_the_driver_reads_after_publishing_decides_about_the_kick() {
    for (read, owed) in [(0, true), (1, false)] {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.fine_ring(RingStep::DeviceSuppress(wish(1 - read, 0)));
        scene.give(0, 0);
        scene.fine_ring(RingStep::DeviceSuppress(wish(read, 0)));
        scene.fine_ring(RingStep::DeviceSuppress(wish(0, 0)));
        assert_eq!(scene.step(Step::Quiesce).is_err(), owed);
    }
}

#[test]
fn the_event_index_tells_which_buffer_is_called_for() {
    let mut scene = Scene::new();
    scene.split(4, &[EVENT_IDX]);
    scene.fine_ring(RingStep::DriverSuppress(wish(0, 1)));
    scene.fine_ring(RingStep::UsedIdx(0));
    for position in 0..2 {
        scene.give(position, position);
    }
    scene.fine_ring(RingStep::Kicked);
    scene.fine_ring(RingStep::UsedIdx(1));
    scene.fine(Step::Quiesce);
    scene.fine_ring(RingStep::UsedIdx(2));
    assert_eq!(scene.step(Step::Quiesce).unwrap_err().clause, &CALL_REQUIRED);
}
