//! Runs in which everyone does what they owe: the observer has nothing to say.

use super::scene::{Scene, asking, backend, packed_wish, reply, wish};
use crate::features::{EVENT_IDX, IN_ORDER};
use crate::observer::{DeviceStep, Message, RingStep, Step};
use crate::packed::{EVENT_F_DESC, Position};
use crate::split::UsedElem;
use crate::vhost_user::{BackendRequest, FrontendRequest, ProtocolFeatures};
use proptest::prelude::*;

#[test]
fn a_life_from_first_status_to_reset() {
    let mut scene = Scene::new();
    scene.split(4, &[]);
    scene.driver_ok();
    scene.give(0, 0);
    scene.fine_ring(RingStep::Kicked);
    scene.fine_ring(RingStep::UsedIdx(1));
    scene.fine_ring(RingStep::Called);
    scene.used(0, 512).unwrap();
    scene.fine(DeviceStep::ConfigChanged);
    scene.fine(Step::Quiesce);
    scene.reset();
    assert!(scene.observer.violations().is_empty());
}

#[test]
fn a_batch_in_order_is_ended_by_its_last_buffer() {
    let mut scene = Scene::new();
    scene.split(4, &[IN_ORDER]);
    for turn in 0..10_u16 {
        let position = turn.wrapping_mul(4);
        for head in 0..4 {
            scene.give(position + head, head);
        }
        scene.fine_ring(RingStep::Kicked);
        scene.fine_ring(RingStep::UsedIdx(position + 4));
        scene.fine_ring(RingStep::Called);
        scene.used(2, 0).unwrap();
        scene.used(3, 512).unwrap();
        scene.fine(Step::Quiesce);
    }
}

#[test]
fn a_ring_is_stopped_and_started_again() {
    let mut scene = Scene::new();
    let protocol = ProtocolFeatures::REPLY_ACK
        | ProtocolFeatures::BACKEND_REQ
        | ProtocolFeatures::CONFIG
        | ProtocolFeatures::MQ;
    scene.split(4, &[]);
    scene.connect(protocol);
    scene.exchange(FrontendRequest::GetQueueNum, &[], 1);
    scene.start();
    scene.give(0, 0);
    scene.fine_ring(RingStep::Kicked);
    scene.fine(backend(BackendRequest::ConfigChangeMsg, &[]));
    scene.stop(1);
    scene.fine_ring(RingStep::UsedIdx(1));
    scene.fine_ring(RingStep::Used(UsedElem { id: 0, len: 512 }));
    scene.fine(Step::Quiesce);
    scene.start();
    scene.give(1, 0);
    scene.fine_ring(RingStep::Kicked);
    scene.fine_ring(RingStep::UsedIdx(2));
    scene.fine_ring(RingStep::Called);
    scene.fine(Step::Quiesce);
    scene.fine(Message::Closed);
}

#[test]
fn a_new_connection_takes_up_what_was_in_flight() {
    let mut scene = Scene::new();
    scene.split(4, &[]);
    scene.connect(ProtocolFeatures::empty());
    scene.start();
    scene.give(0, 0);
    scene.give(1, 1);
    scene.fine_ring(RingStep::Kicked);
    // The old back-end used one buffer before it died; the driver finds it only now.
    scene.connect(ProtocolFeatures::empty());
    scene.fine_ring(RingStep::UsedIdx(1));
    scene.start();
    scene.fine_ring(RingStep::UsedIdx(2));
    scene.fine_ring(RingStep::Called);
    scene.used(1, 1).unwrap();
    scene.used(0, 1).unwrap();
    scene.fine(Step::Quiesce);
}

#[test]
fn answers_come_in_the_order_of_requests() {
    let mut scene = Scene::new();
    scene.connect(ProtocolFeatures::REPLY_ACK);
    scene.fine(asking(FrontendRequest::SetOwner, &[]));
    scene.send(FrontendRequest::GetFeatures, &[]);
    scene.fine(reply(FrontendRequest::SetOwner, &0_u64.to_le_bytes(), 0));
    let features = 1_u64 << 30 | 1 << 32;
    scene.fine(reply(FrontendRequest::GetFeatures, &features.to_le_bytes(), 0));
    scene.fine(Step::Quiesce);
}

proptest! {
    /// A split ring under a device that takes its time and a driver that looks when it likes.
    #[test]
    fn any_order_of_completion_conforms(
        choices in proptest::collection::vec((0..8_usize, 0..4_u16), 1..200),
        event_idx: bool,
    ) {
        let mut scene = Scene::new();
        let bits: &[u32] = if event_idx { &[EVENT_IDX] } else { &[] };
        scene.split(8, bits);
        let mut free: Vec<u16> = (0..8).collect();
        let (mut held, mut avail, mut used) = (Vec::new(), 0_u16, 0_u16);
        for (which, batch) in choices {
            for _ in 0..batch {
                let Some(head) = free.pop() else { break };
                scene.give(avail, head);
                avail = avail.wrapping_add(1);
                held.push(head);
            }
            scene.fine_ring(RingStep::Kicked);
            scene.fine_ring(RingStep::DriverSuppress(wish(0, used)));
            scene.fine_ring(RingStep::UsedIdx(used));
            if held.is_empty() {
                continue;
            }
            let head = held.remove(which % held.len());
            used = used.wrapping_add(1);
            scene.fine_ring(RingStep::UsedIdx(used));
            scene.fine_ring(RingStep::Called);
            prop_assert_eq!(scene.used(u32::from(head), 512), Ok(()));
            free.push(head);
            scene.fine(Step::Quiesce);
        }
    }

    /// A packed ring over many turns, completed out of order.
    #[test]
    fn any_order_of_completion_conforms_in_packed_rings(
        size in 1..9_u16,
        choices in proptest::collection::vec((0..8_usize, 0..4_u16), 1..200),
    ) {
        let mut scene = Scene::new();
        scene.packed(size, &[EVENT_IDX]);
        let mut free: Vec<u16> = (0..size).collect();
        let (mut held, mut next_used) = (Vec::new(), Position::START);
        for (which, batch) in choices {
            for _ in 0..batch {
                let Some(id) = free.pop() else { break };
                scene.give_packed(id);
                held.push(id);
            }
            scene.fine_ring(RingStep::Kicked);
            let event = packed_wish(EVENT_F_DESC, next_used.to_bits());
            scene.fine_ring(RingStep::DriverSuppress(event));
            if held.is_empty() {
                continue;
            }
            let id = held.remove(which % held.len());
            prop_assert_eq!(scene.used_packed(id, 512, next_used.wrap), Ok(()));
            next_used = next_used.advance(1, size);
            scene.fine_ring(RingStep::Called);
            free.push(id);
            scene.fine(Step::Quiesce);
        }
    }
}
