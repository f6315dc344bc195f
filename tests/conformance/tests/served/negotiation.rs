//! Features and protocol features.

use driver::Negotiation;
use virtio_spec::Status;
use virtio_spec::block::{
    BLK_SIZE, CONFIG_WCE, DISCARD, FLUSH, MQ, SEG_MAX, SIZE_MAX, TOPOLOGY, WRITE_ZEROES,
};
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, RING_PACKED, RING_RESET, VERSION_1, mask};
use virtio_spec::vhost_user::{F_LOG_ALL, F_PROTOCOL_FEATURES, ProtocolFeatures};
use wire::{Reply, Request};

use crate::back_end::{BackEnd, USUAL};

const BEGUN: Status = Status::ACKNOWLEDGE.union(Status::DRIVER);
const AGREED: Status = BEGUN.union(Status::FEATURES_OK);

fn number(back_end: &mut BackEnd, request: Request) -> u64 {
    match back_end.front_end.call(request).unwrap() {
        Reply::U64(value) => value,
        other => panic!("{other:?}"),
    }
}

/// Goes through a driver's initialisation up to the point where the device has agreed or not.
fn agree(back_end: &mut BackEnd, wanted: u64) -> Status {
    let front_end = &mut back_end.front_end;
    front_end.negotiate(&Negotiation::new(wanted)).unwrap();
    front_end.set_status(BEGUN).unwrap();
    front_end.set_status(AGREED).unwrap();
    let status = front_end.status().unwrap();
    front_end.set_status(Status::RESET).unwrap();
    assert_eq!(front_end.status().unwrap(), Status::RESET);
    status
}

/// virtio 1.4, 2.2.2 and 6.2: what is implemented, and nothing else.
#[test]
fn only_what_is_implemented_is_offered() {
    let mut back_end = BackEnd::start();
    let offered = number(&mut back_end, Request::GetFeatures);
    let bits = [
        SIZE_MAX,
        SEG_MAX,
        BLK_SIZE,
        FLUSH,
        TOPOLOGY,
        CONFIG_WCE,
        MQ,
        DISCARD,
        WRITE_ZEROES,
        INDIRECT_DESC,
        EVENT_IDX,
        VERSION_1,
        RING_PACKED,
        RING_RESET,
        F_LOG_ALL,
        F_PROTOCOL_FEATURES,
    ];
    assert_eq!(offered, bits.iter().map(|bit| mask(*bit)).sum::<u64>());
    back_end.end();
}

/// virtio 1.4, 2.2.2 and 5.2.5.2: an offer is whole.
#[test]
fn an_offered_feature_comes_with_those_that_it_needs() {
    for arguments in [&["--packed", "--in-order"][..], &["--read-only"], &["--discard=off"]] {
        let mut back_end = BackEnd::with(arguments);
        let offered = number(&mut back_end, Request::GetFeatures);
        // CONFIG_WCE stands on it.
        assert_eq!(offered & mask(CONFIG_WCE) != 0, offered & mask(FLUSH) != 0, "{arguments:?}");
        assert_ne!(offered & mask(FLUSH), 0);
        assert_ne!(offered & mask(VERSION_1), 0);
        back_end.end();
    }
}

/// virtio 1.4, 2.2.2: a driver may take as little as it likes.
#[test]
fn any_subset_of_the_features_is_accepted() {
    let mut back_end = BackEnd::start();
    let offered = number(&mut back_end, Request::GetFeatures);
    let own = mask(F_LOG_ALL) | mask(F_PROTOCOL_FEATURES);
    for bit in (0..64).filter(|bit| offered & mask(*bit) & !own != 0) {
        for wanted in [mask(bit), offered & !own & !mask(bit)] {
            assert_eq!(agree(&mut back_end, wanted), AGREED, "bit {bit}, {wanted:#x}");
        }
    }
    assert_eq!(agree(&mut back_end, 0), AGREED);
    back_end.end();
}

/// virtio 1.4, 2.2.2.
#[test]
fn the_same_features_are_accepted_again_after_a_reset() {
    let mut back_end = BackEnd::start().unwatched();
    for _ in 0..3 {
        assert_eq!(agree(&mut back_end, USUAL), AGREED);
        back_end.front_end.set_status(AGREED).unwrap();
        back_end.front_end.reset_device().unwrap();
        assert_eq!(back_end.front_end.status().unwrap(), Status::RESET);
    }
    back_end.end();
}

/// virtio 1.4, 6.2: legacy drivers are told no.
#[test]
fn without_version_1_features_ok_does_not_stand() {
    let mut back_end = BackEnd::start().unwatched();
    back_end.front_end.negotiate(&Negotiation::new(USUAL)).unwrap();
    let features = mask(F_PROTOCOL_FEATURES) | mask(FLUSH);
    back_end.front_end.call(Request::SetFeatures(features)).unwrap();
    back_end.front_end.set_status(AGREED).unwrap();
    assert_eq!(back_end.front_end.status().unwrap(), BEGUN);
    back_end.end();
}

/// vhost-user, GET_PROTOCOL_FEATURES and SET_PROTOCOL_FEATURES.
#[test]
fn protocol_features_come_before_all_others() {
    let mut back_end = BackEnd::start();
    let offered = number(&mut back_end, Request::GetProtocolFeatures);
    back_end.front_end.call(Request::SetProtocolFeatures(offered)).unwrap();
    assert_eq!(number(&mut back_end, Request::GetQueueNum), 2);
    assert_ne!(number(&mut back_end, Request::GetFeatures) & mask(F_PROTOCOL_FEATURES), 0);
    back_end.end();
}

/// vhost-user, "Multiple queue support" and "Protocol features".
#[test]
fn only_protocol_features_that_are_implemented_are_offered() {
    let mut back_end = BackEnd::with(&["--inband"]);
    let offered = number(&mut back_end, Request::GetProtocolFeatures);
    let expected = ProtocolFeatures::MQ
        | ProtocolFeatures::CONFIG
        | ProtocolFeatures::REPLY_ACK
        | ProtocolFeatures::BACKEND_REQ
        | ProtocolFeatures::CONFIGURE_MEM_SLOTS
        | ProtocolFeatures::RESET_DEVICE
        | ProtocolFeatures::STATUS
        | ProtocolFeatures::LOG_SHMFD
        | ProtocolFeatures::INFLIGHT_SHMFD
        | ProtocolFeatures::DEVICE_STATE
        | ProtocolFeatures::INBAND_NOTIFICATIONS;
    assert_eq!(ProtocolFeatures::from_bits_retain(offered), expected);
    back_end.end();
}

/// vhost-user, "In-band notifications".
#[test]
fn in_band_notifications_without_their_channel_end_the_connection() {
    let inband = ProtocolFeatures::INBAND_NOTIFICATIONS;
    for with in
        [ProtocolFeatures::empty(), ProtocolFeatures::REPLY_ACK, ProtocolFeatures::BACKEND_REQ]
    {
        let mut back_end = BackEnd::with(&["--inband"]).unwatched();
        let deadline = back_end.front_end.deadline().instant();
        let request = Request::SetProtocolFeatures((inband | with).bits());
        back_end.front_end.client().send(request, deadline).unwrap();
        back_end.front_end.wait_for_close().unwrap();
        back_end.end();
    }
}
