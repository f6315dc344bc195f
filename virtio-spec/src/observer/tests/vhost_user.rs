//! vhost-user messages, ring states, the in-flight region.

use super::breaches;
use super::scene::{Outcome, Scene, asking, backend, message, reply, state};
use crate::observer::clause::vhost_user::*;
use crate::observer::{Area, Message, RingStep, Step};
use crate::vhost_user::inflight::{
    DescStatePacked, DescStateSplit, QueueRegionPacked, QueueRegionSplit, VERSION,
};
use crate::vhost_user::{
    BackendRequest, ConfigHeader, FrontendRequest as R, Inflight, MemoryRegion, MessageFlags,
    ProtocolFeatures as P, SingleMemoryRegion, VringFd,
};

const NUMBER: [u8; 8] = [0; 8];

/// A ring that runs with these protocol features, with one buffer in it.
fn running(scene: &mut Scene, protocol: P) {
    scene.split(4, &[]);
    scene.connect(protocol);
    scene.start();
    scene.give(0, 0);
    scene.fine_ring(RingStep::Kicked);
}

fn config(offset: u32, size: u32) -> Vec<u8> {
    let mut payload = ConfigHeader { offset, size, flags: 0 }.to_bytes().to_vec();
    payload.resize(ConfigHeader::SIZE + size as usize, 0);
    payload
}

fn region(guest_addr: u64) -> Vec<u8> {
    let user_addr = guest_addr + 0x10_0000;
    let region = MemoryRegion { guest_addr, size: 0x1000, user_addr, mmap_offset: 0 };
    SingleMemoryRegion { padding: 0, region }.to_bytes().to_vec()
}

/// A split ring's part of the in-flight region in which these heads have these counters.
fn split_part(used_idx: u16, marks: &[(usize, u64)]) -> Vec<u8> {
    let header =
        QueueRegionSplit { version: VERSION, desc_num: 4, used_idx, ..QueueRegionSplit::default() };
    let mut states = [DescStateSplit::default(); 4];
    for (head, counter) in marks {
        states[*head] =
            DescStateSplit { inflight: 1, counter: *counter, ..DescStateSplit::default() };
    }
    let states = states.iter().flat_map(|state| state.to_bytes());
    header.to_bytes().into_iter().chain(states).collect()
}

fn inflight(scene: &mut Scene, part: &[u8]) -> Outcome {
    scene.ring(RingStep::InflightRegion(part))
}

breaches! {
    a_question_without_answer breaks REPLY_DUE: {
        let mut scene = Scene::new();
        scene.fine(Message::Connected);
        scene.send(R::GetFeatures, &[]);
        scene.step(Step::Quiesce)
    }

    a_missing_acknowledgement breaks ACK_DUE: {
        let mut scene = Scene::new();
        scene.connect(P::REPLY_ACK);
        scene.fine(asking(R::SetOwner, &[]));
        scene.step(Step::Quiesce)
    }

    an_answer_to_nothing breaks REPLY_UNASKED: {
        let mut scene = Scene::new();
        scene.connect(P::empty());
        scene.send(R::SetOwner, &[]);
        scene.step(reply(R::SetOwner, &NUMBER, 0))
    }

    an_answer_to_another_request breaks REPLY_REQUEST: {
        let mut scene = Scene::new();
        scene.fine(Message::Connected);
        scene.send(R::GetFeatures, &[]);
        scene.step(reply(R::GetQueueNum, &NUMBER, 0))
    }

    an_answer_without_the_reply_flag breaks REPLY_FLAGS: {
        let mut scene = Scene::new();
        scene.fine(Message::Connected);
        scene.send(R::GetFeatures, &[]);
        let (request, flags) = (R::GetFeatures.number(), MessageFlags::REQUEST);
        scene.step(Message::Reply { request, flags, payload: &NUMBER, fds: 0 })
    }

    half_a_number breaks REPLY_SIZE: {
        let mut scene = Scene::new();
        scene.fine(Message::Connected);
        scene.send(R::GetFeatures, &[]);
        scene.step(reply(R::GetFeatures, &[0; 4], 0))
    }

    an_inflight_region_without_descriptor breaks REPLY_FDS: {
        let mut scene = Scene::new();
        scene.connect(P::INFLIGHT_SHMFD);
        let asked = Inflight { mmap_size: 0, mmap_offset: 0, num_queues: 1, queue_size: 4 };
        scene.send(R::GetInflightFd, &asked.to_bytes());
        let answer = Inflight { mmap_size: 128, ..asked };
        scene.step(reply(R::GetInflightFd, &answer.to_bytes(), 0))
    }

    a_short_configuration breaks CONFIG_REPLY_SIZE: {
        let mut scene = Scene::new();
        scene.connect(P::CONFIG);
        scene.send(R::GetConfig, &config(0, 8));
        scene.step(reply(R::GetConfig, &config(0, 4), 0))
    }

    another_part_of_the_configuration breaks CONFIG_REPLY_RANGE: {
        let mut scene = Scene::new();
        scene.connect(P::CONFIG);
        scene.send(R::GetConfig, &config(0, 8));
        scene.step(reply(R::GetConfig, &config(4, 8), 0))
    }

    an_error_with_a_descriptor breaks DEVICE_STATE_REPLY: {
        let mut scene = Scene::new();
        scene.connect(P::DEVICE_STATE);
        scene.fine(message(R::SetDeviceStateFd, &NUMBER, 1));
        scene.step(reply(R::SetDeviceStateFd, &1_u64.to_le_bytes(), 1))
    }

    in_band_notifications_without_a_channel breaks OFFER_PROTOCOL_WHOLE: {
        let mut scene = Scene::new();
        scene.fine(Message::Connected);
        scene.send(R::GetProtocolFeatures, &[]);
        let offered = P::INBAND_NOTIFICATIONS.bits().to_le_bytes();
        scene.step(reply(R::GetProtocolFeatures, &offered, 0))
    }

    features_that_change breaks FEATURES_STABLE: {
        let mut scene = Scene::new();
        scene.fine(Message::Connected);
        scene.exchange(R::GetFeatures, &[], 1 << 32);
        scene.send(R::GetFeatures, &[]);
        scene.step(reply(R::GetFeatures, &NUMBER, 0))
    }

    a_buffer_used_in_a_stopped_ring breaks STOPPED_IDLE: {
        let mut scene = Scene::new();
        running(&mut scene, P::empty());
        scene.stop(0);
        scene.fine_ring(RingStep::UsedIdx(0));
        scene.ring(RingStep::UsedIdx(1))
    }

    a_call_for_a_stopped_ring breaks STOPPED_CALL: {
        let mut scene = Scene::new();
        running(&mut scene, P::empty());
        scene.stop(0);
        scene.fine_ring(RingStep::UsedIdx(0));
        scene.ring(RingStep::Called)
    }

    data_for_a_disabled_ring breaks DISABLED_EFFECTS: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.connect(P::empty());
        scene.fine(message(R::SetVringKick, &NUMBER, 1));
        scene.give(0, 0);
        scene.fine_ring(RingStep::UsedIdx(1));
        scene.used(0, 100)
    }

    the_base_of_another_ring breaks BASE_INDEX: {
        let mut scene = Scene::new();
        running(&mut scene, P::empty());
        scene.send(R::GetVringBase, &state(0, 0));
        scene.step(reply(R::GetVringBase, &state(1, 0), 0))
    }

    a_base_ahead_of_what_was_used breaks BASE_DRAINED: {
        let mut scene = Scene::new();
        running(&mut scene, P::empty());
        scene.stop(1);
        scene.ring(RingStep::UsedIdx(0))
    }

    a_write_while_suspended breaks SUSPENDED_WRITE: {
        let mut scene = Scene::new();
        running(&mut scene, P::empty());
        scene.stop(0);
        scene.fine_ring(RingStep::UsedIdx(0));
        scene.ring(RingStep::Changed(Area::Elsewhere))
    }

    a_message_while_suspended breaks SUSPENDED_MESSAGE: {
        let mut scene = Scene::new();
        scene.connect(P::BACKEND_REQ | P::CONFIG);
        scene.step(backend(BackendRequest::ConfigChangeMsg, &[]))
    }

    a_back_end_s_request_without_channel breaks BACKEND_CHANNEL: {
        let mut scene = Scene::new();
        running(&mut scene, P::CONFIG);
        scene.step(backend(BackendRequest::ConfigChangeMsg, &[]))
    }

    a_back_end_that_needs_replies breaks BACKEND_HEADER: {
        let mut scene = Scene::new();
        running(&mut scene, P::BACKEND_REQ | P::CONFIG);
        let flags = MessageFlags::REQUEST | MessageFlags::NEED_REPLY;
        let request = BackendRequest::ConfigChangeMsg;
        scene.step(Message::BackendRequest { request, flags, payload: &[], fds: 0 })
    }

    a_change_without_config breaks BACKEND_GATED: {
        let mut scene = Scene::new();
        running(&mut scene, P::BACKEND_REQ);
        scene.step(backend(BackendRequest::ConfigChangeMsg, &[]))
    }

    a_change_with_a_payload breaks BACKEND_PAYLOAD: {
        let mut scene = Scene::new();
        running(&mut scene, P::BACKEND_REQ | P::CONFIG);
        scene.step(backend(BackendRequest::ConfigChangeMsg, &NUMBER))
    }

    an_unwritten_region breaks INFLIGHT_HEADER: {
        let mut scene = Scene::new();
        running(&mut scene, P::empty());
        inflight(&mut scene, &[0; 128])
    }

    a_mark_for_nothing breaks INFLIGHT_KNOWN: {
        let mut scene = Scene::new();
        running(&mut scene, P::empty());
        inflight(&mut scene, &split_part(0, &[(3, 0)]))
    }

    a_buffer_that_would_be_lost breaks INFLIGHT_COMPLETE: {
        let mut scene = Scene::new();
        running(&mut scene, P::empty());
        scene.give(1, 1);
        inflight(&mut scene, &split_part(0, &[(1, 1)]))
    }

    counters_out_of_order breaks INFLIGHT_ORDER: {
        let mut scene = Scene::new();
        running(&mut scene, P::empty());
        scene.give(1, 1);
        inflight(&mut scene, &split_part(0, &[(0, 2), (1, 1)]))
    }

    a_request_of_version_0 breaks REQUEST_HEADER: {
        let mut scene = Scene::new();
        let (request, flags) = (R::GetFeatures, MessageFlags::empty());
        scene.step(Message::Request { request, flags, payload: &[], fds: 0 })
    }

    half_a_ring_state breaks REQUEST_PAYLOAD: {
        let mut scene = Scene::new();
        scene.step(message(R::SetVringNum, &[0; 4], 0))
    }

    a_kick_without_descriptor breaks REQUEST_FDS: {
        let mut scene = Scene::new();
        scene.step(message(R::SetVringKick, &NUMBER, 0))
    }

    a_request_without_its_feature breaks REQUEST_GATED: {
        let mut scene = Scene::new();
        scene.connect(P::empty());
        scene.step(message(R::GetConfig, &config(0, 8), 0))
    }

    protocol_features_that_were_not_offered breaks PROTOCOL_ACCEPT: {
        let mut scene = Scene::new();
        scene.connect(P::empty());
        scene.step(message(R::SetProtocolFeatures, &1_u64.to_le_bytes(), 0))
    }

    features_that_were_not_offered breaks FEATURES_ACCEPT: {
        let mut scene = Scene::new();
        scene.fine(Message::Connected);
        scene.exchange(R::GetFeatures, &[], 1 << 32);
        scene.step(message(R::SetFeatures, &1_u64.to_le_bytes(), 0))
    }

    regions_that_overlap breaks MEMORY_OVERLAP: {
        let mut scene = Scene::new();
        scene.connect(P::CONFIGURE_MEM_SLOTS);
        scene.fine(message(R::AddMemReg, &region(0), 1));
        scene.step(message(R::AddMemReg, &region(0x800), 1))
    }

    a_region_that_was_never_added breaks MEMORY_KNOWN: {
        let mut scene = Scene::new();
        scene.connect(P::CONFIGURE_MEM_SLOTS);
        scene.fine(message(R::AddMemReg, &region(0), 1));
        scene.fine(message(R::RemMemReg, &region(0), 0));
        scene.step(message(R::RemMemReg, &region(0), 0))
    }

    a_ring_that_does_not_exist breaks RING_INDEX: {
        let mut scene = Scene::new();
        scene.connect(P::MQ);
        scene.exchange(R::GetQueueNum, &[], 1);
        scene.step(message(R::SetVringNum, &state(1, 4), 0))
    }

    a_size_for_a_running_ring breaks RING_STOPPED: {
        let mut scene = Scene::new();
        running(&mut scene, P::empty());
        scene.step(message(R::SetVringNum, &state(0, 4), 0))
    }

    a_reserved_number breaks RESERVED_ZERO: {
        let mut scene = Scene::new();
        running(&mut scene, P::empty());
        scene.step(message(R::GetVringBase, &state(0, 1), 0))
    }

    a_state_transfer_while_rings_run breaks STATE_SUSPENDED: {
        let mut scene = Scene::new();
        running(&mut scene, P::DEVICE_STATE);
        scene.step(message(R::SetDeviceStateFd, &NUMBER, 1))
    }

    a_front_end_that_answers_unasked breaks FRONTEND_REPLY: {
        let mut scene = Scene::new();
        running(&mut scene, P::BACKEND_REQ | P::CONFIG);
        scene.fine(backend(BackendRequest::ConfigChangeMsg, &[]));
        scene.step(Message::BackendReply { payload: &NUMBER })
    }
}

#[test]
fn a_region_that_marks_what_is_in_flight_is_right() {
    let mut scene = Scene::new();
    running(&mut scene, P::empty());
    scene.give(1, 1);
    scene.give(2, 2);
    for marks in [&[][..], &[(0, 7)], &[(0, 7), (1, 9)]] {
        assert_eq!(inflight(&mut scene, &split_part(0, marks)), Ok(()));
    }
}

#[test]
fn a_packed_region_is_judged_by_the_lists_last_descriptors() {
    let mut scene = Scene::new();
    scene.packed(4, &[]);
    scene.give_packed(5);
    scene.give_packed(6);
    let header = QueueRegionPacked {
        version: VERSION,
        desc_num: 4,
        used_wrap_counter: 1,
        ..QueueRegionPacked::default()
    };
    let part = |id: u16| {
        let head = DescStatePacked { inflight: 1, num: 1, id, ..DescStatePacked::default() };
        let rest = [DescStatePacked::default(); 3];
        let states = std::iter::once(head).chain(rest).flat_map(|state| state.to_bytes());
        header.to_bytes().into_iter().chain(states).collect::<Vec<_>>()
    };
    assert_eq!(inflight(&mut scene, &part(5)), Ok(()));
    assert_eq!(inflight(&mut scene, &part(6)).unwrap_err().clause, &INFLIGHT_COMPLETE);
    assert_eq!(inflight(&mut scene, &part(7)).unwrap_err().clause, &INFLIGHT_KNOWN);
}

#[test]
fn bits_of_a_split_base_that_mean_nothing_are_zero() {
    let mut scene = Scene::new();
    running(&mut scene, P::empty());
    scene.stop(0x1_0000);
    assert_eq!(scene.ring(RingStep::UsedIdx(0)).unwrap_err().clause, &BASE_INDEX);
}

#[test]
fn a_packed_ring_stops_with_both_positions() {
    for (base, drained) in [(0x8001_8001, true), (0x8001_8000, false)] {
        let mut scene = Scene::new();
        scene.packed(4, &[]);
        scene.connect(P::empty());
        scene.start();
        scene.give_packed(0);
        scene.used_packed(0, 1, true).unwrap();
        scene.stop(base);
        // Nothing new where the next used descriptor will be: this look settles it.
        let looked = scene.ring(RingStep::PackedNext(crate::packed::Descriptor::default()));
        assert_eq!(looked.is_ok(), drained);
    }
}

#[test]
fn a_disabled_ring_counts_as_disabled_once_a_later_answer_came() {
    let mut scene = Scene::new();
    running(&mut scene, P::empty());
    scene.send(R::SetVringEnable, &state(0, 0));
    scene.give(1, 1);
    scene.exchange(R::GetFeatures, &[], 1 << 30 | 1 << 32);
    scene.give(2, 2);
    scene.fine_ring(RingStep::UsedIdx(3));
    // The first two may have been taken before the back-end saw the message.
    scene.used(0, 1).unwrap();
    scene.used(1, 1).unwrap();
    assert_eq!(scene.used(2, 1).unwrap_err().clause, &DISABLED_EFFECTS);
}

#[test]
fn polled_rings_have_no_descriptor() {
    let mut scene = Scene::new();
    let payload = VringFd::NO_FD.bits().to_le_bytes();
    scene.fine(message(R::SetVringCall, &payload, 0));
}

#[test]
fn calls_are_owed_where_there_is_a_way_to_call() {
    for (fds, owed) in [(1, true), (0, false)] {
        let mut scene = Scene::new();
        running(&mut scene, P::empty());
        let no_fd = if fds == 0 { VringFd::NO_FD.bits() } else { 0 };
        scene.fine(message(R::SetVringCall, &no_fd.to_le_bytes(), fds));
        scene.fine_ring(RingStep::UsedIdx(1));
        assert_eq!(scene.step(Step::Quiesce).is_err(), owed);
    }
}

#[test]
fn a_device_that_was_reset_is_set_up_again() {
    let mut scene = Scene::new();
    running(&mut scene, P::RESET_DEVICE | P::REPLY_ACK);
    scene.fine(asking(R::ResetDevice, &[]));
    // Until the answer comes, the back-end may still be at work.
    scene.fine_ring(RingStep::UsedIdx(1));
    scene.fine(message(R::SetVringNum, &state(0, 4), 0));
    scene.fine(reply(R::ResetDevice, &NUMBER, 0));
    scene.fine_ring(RingStep::UsedIdx(1));
    scene.give(1, 1);
    assert_eq!(scene.ring(RingStep::UsedIdx(2)).unwrap_err().clause, &STOPPED_IDLE);
    scene.start();
    scene.fine_ring(RingStep::UsedIdx(2));
}

#[test]
fn in_band_notifications_count() {
    let mut scene = Scene::new();
    let inband = P::INBAND_NOTIFICATIONS | P::BACKEND_REQ | P::REPLY_ACK;
    scene.split(4, &[]);
    scene.connect(inband);
    scene.give(0, 0);
    scene.send(R::SetVringEnable, &state(0, 1));
    scene.send(R::VringKick, &state(0, 0));
    scene.fine_ring(RingStep::UsedIdx(1));
    scene.fine(backend(BackendRequest::VringCall, &state(0, 0)));
    scene.fine(Step::Quiesce);
}
