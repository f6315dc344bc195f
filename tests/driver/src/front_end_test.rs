//! The front-end against a scripted back-end for its messages, and against the back-end of
//! `vhost-user-backend` with rings and data.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::Receiver;

use virtio_spec::Status;
use virtio_spec::features::{EVENT_IDX, RING_PACKED, mask};
use wire::BackendRequest;

use super::*;
use crate::{Queue, RegionSpec, script};

fn memory() -> Memory {
    Memory::new(1 << 20).unwrap()
}

/// A front-end that has agreed with a scripted back-end on these protocol features.
fn agreed(protocol: ProtocolFeatures) -> (FrontEnd, Receiver<String>) {
    let (socket, names) = script::start(protocol);
    let mut front_end = FrontEnd::new(socket, &memory());
    front_end.negotiate(&Negotiation::new(0).with_protocol(ProtocolFeatures::all())).unwrap();
    names.try_iter().for_each(drop);
    (front_end, names)
}

fn all_but_in_band() -> ProtocolFeatures {
    ProtocolFeatures::all() - ProtocolFeatures::INBAND_NOTIFICATIONS
}

#[test]
fn negotiation_takes_what_is_wanted_and_offered() {
    let (socket, names) = script::start(all_but_in_band());
    let mut front_end = FrontEnd::new(socket, &memory());
    let negotiated = front_end.negotiate(&Negotiation::new(mask(EVENT_IDX))).unwrap();
    assert_eq!(negotiated.bits(), mask(features::VERSION_1), "EVENT_IDX is not offered");
    assert_eq!(front_end.max_queues(), Some(4));
    assert!(front_end.protocol().contains(ProtocolFeatures::CONFIG));
    let names: Vec<String> = names.try_iter().collect();
    let expected = [
        "GET_FEATURES",
        "GET_PROTOCOL_FEATURES",
        "SET_PROTOCOL_FEATURES",
        "GET_QUEUE_NUM",
        "SET_OWNER",
        "SET_FEATURES",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_required_feature_that_is_missing_ends_the_negotiation() {
    let (socket, _names) = script::start(ProtocolFeatures::empty());
    let wanted = Negotiation::new(0).requiring(mask(EVENT_IDX));
    let error = FrontEnd::new(socket, &memory()).negotiate(&wanted).unwrap_err();
    assert!(matches!(error, Error::NotOffered(_)), "{error}");
}

#[test]
fn what_was_not_agreed_on_is_not_sent() {
    let (mut front_end, names) = agreed(ProtocolFeatures::REPLY_ACK);
    assert!(matches!(front_end.read_config(0, 8), Err(Error::NotOffered(_))));
    assert!(matches!(front_end.set_status(Status::RESET), Err(Error::NotOffered(_))));
    assert!(matches!(front_end.kick_in_band(0), Err(Error::NotOffered(_))));
    assert_eq!(names.try_iter().count(), 0);
}

#[test]
fn memory_is_shared_as_a_table_or_by_region() {
    for (protocol, expected) in [
        (ProtocolFeatures::REPLY_ACK, "SET_MEM_TABLE"),
        (ProtocolFeatures::REPLY_ACK | ProtocolFeatures::CONFIGURE_MEM_SLOTS, "ADD_MEM_REG"),
    ] {
        let (mut front_end, names) = agreed(protocol);
        front_end.share_memory().unwrap();
        assert_eq!(names.try_iter().collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn regions_are_plugged_and_unplugged() {
    let (mut front_end, names) = agreed(all_but_in_band());
    front_end.plug(RegionSpec::new(1 << 30, 1 << 16)).unwrap();
    front_end.memory.write(1 << 30, b"there").unwrap();
    front_end.unplug(1 << 30).unwrap();
    assert!(front_end.memory.write(1 << 30, b"there").is_err());
    assert_eq!(names.try_iter().collect::<Vec<_>>(), ["ADD_MEM_REG", "REM_MEM_REG"]);
    assert_eq!(front_end.max_mem_slots().unwrap(), 509);
}

#[test]
fn a_ring_is_started_in_order_and_stopped() {
    let (mut front_end, names) = agreed(all_but_in_band());
    let queue = Queue::new(&front_end.memory, 8, front_end.negotiated()).unwrap();
    front_end.start_ring(2, &queue, 0).unwrap();
    assert_eq!(front_end.stop_ring(2).unwrap(), 7);
    let names: Vec<String> = names.try_iter().collect();
    let expected = [
        "SET_VRING_NUM",
        "SET_VRING_BASE",
        "SET_VRING_ADDR",
        "SET_VRING_ERR",
        "SET_VRING_CALL",
        "SET_VRING_KICK",
        "SET_VRING_ENABLE",
        "GET_VRING_BASE",
    ];
    assert_eq!(names, expected);
}

#[test]
fn configuration_status_and_reset() {
    let (mut front_end, _names) = agreed(all_but_in_band());
    assert_eq!(front_end.read_config(4, 3).unwrap(), [0x55; 3]);
    let status = Status::ACKNOWLEDGE | Status::DRIVER;
    front_end.set_status(status).unwrap();
    assert_eq!(front_end.status().unwrap(), status);
    front_end.reset_device().unwrap();
}

#[test]
fn the_back_ends_requests_are_received() {
    let (front_end, _names) = agreed(ProtocolFeatures::all());
    let mut front_end = front_end.with_limit(Duration::from_secs(2));
    assert!(matches!(front_end.wait_for_config_change(), Err(Error::NotSetUp(_))));
    front_end.open_back_channel().unwrap();
    let queue = front_end.queue(3, 8).unwrap();
    front_end.start_ring(3, &queue, 0).unwrap();
    front_end.write_config(32, &[1]).unwrap();
    front_end.wait_for_config_change().unwrap();
    front_end.kick_in_band(3).unwrap();
    let call = front_end.next_backend_request().unwrap();
    assert_eq!(call, BackendRequest::VringCall { index: 3 });
    let mut front_end = front_end.with_limit(Duration::from_millis(20));
    assert!(matches!(front_end.next_backend_request(), Err(Error::Timeout(_))));
}

#[test]
fn the_inflight_region_survives_the_back_end() {
    let (mut front_end, _names) = agreed(all_but_in_band());
    front_end.open_back_channel().unwrap();
    front_end.set_up_inflight(2, 128).unwrap();
    let (socket, names) = script::start(all_but_in_band());
    front_end.reconnect(socket).unwrap();
    let names: Vec<String> = names.try_iter().collect();
    assert_eq!(names[names.len() - 2..], ["ADD_MEM_REG", "SET_INFLIGHT_FD"]);
    let (inflight, file) = front_end.inflight().unwrap();
    assert_eq!((inflight.num_queues, inflight.queue_size), (2, 128));
    // Both back-ends left their stamp, at the file's common position.
    let mut stamps = [0; 8];
    File::from(file).read_exact_at(&mut stamps, 0).unwrap();
    assert_eq!(stamps, [128, 0, 1, 2, 128, 0, 1, 2]);
}

#[test]
fn a_back_end_that_offers_less_than_before_is_refused() {
    let (socket, _names) = script::start(ProtocolFeatures::empty());
    let mut front_end = FrontEnd::new(socket, &memory());
    front_end.negotiate(&Negotiation::new(mask(RING_PACKED))).unwrap();
    assert!(front_end.negotiated().has(RING_PACKED));
    front_end.agreed.as_mut().unwrap().features |= mask(EVENT_IDX);
    let (socket, _names) = script::start(ProtocolFeatures::empty());
    assert!(matches!(front_end.reconnect(socket), Err(Error::NotOffered(_))));
}

#[test]
fn the_dirty_log_is_read_once() {
    let (mut front_end, _names) = agreed(all_but_in_band());
    let log = front_end.start_log().unwrap();
    assert_eq!(log.take(), [0x1000, 0x9000]);
    assert!(log.take().is_empty());
    assert!(!front_end.negotiated().has(F_LOG_ALL), "no business of the driver's");
    front_end.set_log_all(false).unwrap();
}

#[test]
fn the_devices_state_is_saved_and_loaded() {
    let (mut front_end, _names) = agreed(all_but_in_band());
    let state = front_end.save_state().unwrap();
    assert_eq!(state, b"state");
    front_end.load_state(&state).unwrap();
    assert!(matches!(front_end.load_state(b"spoilt"), Err(Error::Device(_))));
}

#[test]
fn the_end_of_a_connection_is_noticed() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut front_end = FrontEnd::new(ours, &memory());
    drop(theirs);
    front_end.wait_for_close().unwrap();
}
