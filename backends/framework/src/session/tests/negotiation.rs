//! Features, protocol features, and messages that need them.

use virtio_spec::features::{
    ACCESS_PLATFORM, EVENT_IDX, IN_ORDER, INDIRECT_DESC, NOTIFICATION_DATA, ORDER_PLATFORM,
    RING_PACKED, RING_RESET,
};
use virtio_spec::vhost_user::F_LOG_ALL;

use super::*;

#[test]
fn what_rings_and_connection_can_do_is_offered() {
    let offered = Bench::silent().ask(Request::GetFeatures).number();
    let bits = [
        VERSION_1,
        INDIRECT_DESC,
        EVENT_IDX,
        RING_RESET,
        RING_PACKED,
        IN_ORDER,
        F_LOG_ALL,
        F_PROTOCOL_FEATURES,
        0,
    ];
    assert_eq!(offered, bits.into_iter().fold(0, |all, bit| all | mask(bit)));
    assert_eq!(offered & mask(ACCESS_PLATFORM), 0);
    assert_eq!(offered & (mask(ORDER_PLATFORM) | mask(NOTIFICATION_DATA)), 0);
}

#[test]
fn feature_bits_that_were_not_offered_end_the_connection() {
    for bit in [1, ACCESS_PLATFORM, 63] {
        let error = Bench::silent().ask(Request::SetFeatures(mask(bit))).error();
        assert!(error.to_string().contains("never offered"), "{error}");
        // Even a front-end that asks for an answer.
        assert!(matches!(
            Bench::negotiated().ask_ack(Request::SetFeatures(mask(bit))),
            Seen::Closed(Error::UnofferedFeatures(_))
        ));
    }
}

#[test]
fn protocol_features_that_were_not_offered_end_the_connection() {
    for bits in [1 << 63, ProtocolFeatures::PAGEFAULT.bits(), ProtocolFeatures::RARP.bits()] {
        let error = Bench::silent().ask(Request::SetProtocolFeatures(bits)).error();
        assert!(error.ends_connection(), "{error}");
    }
}

#[test]
fn in_band_notifications_need_two_other_features() {
    let inband = ProtocolFeatures::INBAND_NOTIFICATIONS;
    let with = inband | ProtocolFeatures::REPLY_ACK;
    let error = Bench::silent().ask(Request::SetProtocolFeatures(with.bits())).error();
    assert!(error.to_string().contains("BACKEND_REQ"), "{error}");
    let all = with | ProtocolFeatures::BACKEND_REQ;
    Bench::silent().tell(Request::SetProtocolFeatures(all.bits()));
}

#[test]
fn extensions_have_to_be_negotiated() {
    let mut bench = Bench::silent();
    bench.tell(Request::SetFeatures(FEATURES));
    for request in [
        Request::GetStatus,
        Request::GetMaxMemSlots,
        Request::CheckDeviceState,
        Request::SetStatus(1),
        Request::VringKick { index: 0 },
    ] {
        let error = bench.ask(request).error();
        assert!(matches!(error, Error::NotNegotiated { .. }), "{error}");
    }
    // It is enough that this one is offered.
    assert_eq!(bench.ask(Request::GetQueueNum).number(), 4);
}

#[test]
fn unknown_requests_are_refused() {
    let mut bench = Bench::negotiated();
    assert!(!bench.ask_ack(Request::Unknown { code: 99 }).acked());
    assert!(matches!(
        bench.ask(Request::Unknown { code: 99 }).error(),
        Error::UnknownRequest { .. }
    ));
}

#[test]
fn acknowledgements_need_their_feature() {
    let mut bench = Bench::silent();
    assert!(matches!(bench.ask_ack(Request::SetOwner), Seen::Nothing));
    bench.tell(Request::SetProtocolFeatures(ProtocolFeatures::REPLY_ACK.bits()));
    assert!(bench.ask_ack(Request::SetOwner).acked());
    assert!(matches!(bench.ask(Request::SetOwner), Seen::Nothing));
    assert!(bench.ask_ack(Request::GetFeatures).number() > 0, "a reply of its own is enough");
}

#[test]
fn running_rings_freeze_the_features_except_the_log() {
    let mut bench = Bench::running();
    bench.told();
    bench.tell(Request::SetFeatures(FEATURES | mask(F_LOG_ALL)));
    assert!(matches!(bench.told()[..], [Command::Log(None)]), "there is no log yet");
    assert!(!bench.ask_ack(Request::SetFeatures(FEATURES | mask(EVENT_IDX))).acked());
    assert!(matches!(
        bench.ask(Request::SetFeatures(FEATURES | mask(EVENT_IDX))).error(),
        Error::FeaturesFrozen { .. }
    ));
    let less = ProtocolFeatures::REPLY_ACK.bits();
    assert!(!bench.ask_ack(Request::SetProtocolFeatures(less)).acked());
}

#[test]
fn without_protocol_features_all_rings_are_enabled() {
    let mut bench = Bench::silent();
    bench.tell(Request::SetFeatures(mask(VERSION_1)));
    bench.tell(Request::SetMemTable(vec![region(0, USER, 1 << 20)]));
    bench.set_up(2);
    bench.tell(Request::SetVringKick { index: 2, fd: Some(event()) });
    let told = bench.told();
    assert!(matches!(&told[..], [Command::Start(setup)] if setup.enabled), "{told:?}");
}
