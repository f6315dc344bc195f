//! Rings: set-up, starting, changes while they run, stopping, failing.

use std::sync::atomic::Ordering::SeqCst;

use virtio_spec::Status;
use virtio_spec::features::RING_PACKED;
use wire::BackendRequest;

use super::*;
use crate::ring::Call;

#[test]
fn a_ring_starts_with_all_that_was_set() {
    let mut bench = Bench::negotiated();
    bench.tell(Request::SetMemTable(vec![region(0, USER, 1 << 20)]));
    bench.set_up(3);
    bench.tell(Request::SetVringBase(VringState { index: 3, num: 42 }));
    bench.tell(Request::SetVringCall { index: 3, fd: Some(event()) });
    bench.tell(Request::SetVringErr { index: 3, fd: Some(event()) });
    bench.tell(Request::SetVringKick { index: 3, fd: Some(event()) });
    let told = bench.told();
    let [Command::Start(setup)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((setup.queue, setup.size, setup.base), (3, 64, 42));
    assert_eq!(setup.descriptors.0, addresses(3).descriptor);
    assert_eq!(setup.driver.0, addresses(3).available);
    assert_eq!(setup.device.0, addresses(3).used);
    assert_eq!(setup.features.bits(), mask(VERSION_1), "the driver's features alone");
    assert!(setup.kick.is_some() && setup.error.is_some() && !setup.enabled);
    assert!(matches!(setup.call, Call::Fd(_)));
    assert_eq!(bench.notes.spawned, [(1, vec![2, 3])], "its worker, and no other");

    bench.start(2);
    assert_eq!(bench.notes.spawned.len(), 1, "the worker is there already");
    assert_eq!(bench.knobs.acquired.load(SeqCst), 1);
}

#[test]
fn a_ring_does_not_start_without_its_set_up() {
    let mut bench = Bench::negotiated();
    let kick = || Request::SetVringKick { index: 0, fd: Some(event()) };
    assert!(!bench.ask_ack(kick()).acked());
    bench.tell(Request::SetVringNum(VringState { index: 0, num: 64 }));
    let error = bench.ask(kick()).error();
    assert!(error.to_string().contains("SET_VRING_ADDR"), "{error}");
    bench.tell(Request::SetVringAddr(addresses(0)));
    bench.tell(kick());
}

#[test]
fn indexes_and_sizes_are_checked() {
    let mut bench = Bench::negotiated();
    for index in [4, 255, u32::MAX] {
        let state = VringState { index, num: 0 };
        let byte = index.min(255) as u8;
        for request in [
            Request::SetVringNum(VringState { index, num: 64 }),
            Request::SetVringBase(state),
            Request::SetVringAddr(VringAddr { index, ..addresses(0) }),
            Request::SetVringEnable { index, enable: true },
            Request::SetVringKick { index: byte, fd: None },
            Request::SetVringCall { index: byte, fd: None },
            Request::SetVringErr { index: byte, fd: None },
        ] {
            let name = request.name();
            assert!(!bench.ask_ack(request).acked(), "{name} {index}");
        }
        let error = bench.ask(Request::GetVringBase { index }).error();
        assert!(matches!(error, Error::NoSuchRing { .. }), "{error}");
    }
    for num in [0, 257, 65_535, 65_536 + 64, u32::MAX] {
        assert!(!bench.ask_ack(Request::SetVringNum(VringState { index: 0, num })).acked());
    }
}

#[test]
fn only_packed_rings_have_any_size() {
    for (features, expected) in [(FEATURES, false), (FEATURES | mask(RING_PACKED), true)] {
        let mut bench = Bench::negotiated();
        bench.tell(Request::SetFeatures(features));
        bench.set_up(0);
        bench.tell(Request::SetVringNum(VringState { index: 0, num: 100 }));
        let kick = Request::SetVringKick { index: 0, fd: None };
        assert_eq!(bench.ask_ack(kick).acked(), expected);
    }
}

#[test]
fn legacy_drivers_are_not_served() {
    let mut bench = Bench::negotiated();
    bench.tell(Request::SetFeatures(mask(F_PROTOCOL_FEATURES)));
    bench.set_up(0);
    assert!(!bench.ask_ack(Request::SetVringKick { index: 0, fd: None }).acked());
    assert!(bench.told().is_empty());
}

#[test]
fn a_running_ring_takes_few_changes() {
    let mut bench = Bench::running();
    bench.told();
    bench.tell(Request::SetVringNum(VringState { index: 0, num: 64 }));
    bench.tell(Request::SetVringCall { index: 0, fd: Some(event()) });
    bench.tell(Request::SetVringErr { index: 0, fd: None });
    bench.tell(Request::SetVringKick { index: 0, fd: Some(event()) });
    bench.tell(Request::SetVringEnable { index: 0, enable: false });
    let told = bench.told();
    assert!(
        matches!(
            &told[..],
            [
                Command::SetCall { call: Call::Fd(_), .. },
                Command::SetError { error: None, .. },
                Command::SetKick { kick: Some(_), .. },
                Command::Enable { enabled: false, .. },
            ]
        ),
        "{told:?}"
    );
    bench.tell(Request::SetVringEnable { index: 0, enable: true });
    bench.told();
    let moved = VringAddr { used: USER, ..addresses(0) };
    for request in [
        Request::SetVringNum(VringState { index: 0, num: 32 }),
        Request::SetVringBase(VringState { index: 0, num: 5 }),
        Request::SetVringAddr(moved),
    ] {
        let name = request.name();
        assert!(!bench.ask_ack(request).acked(), "{name}");
    }
    assert_eq!(bench.session.rings[0].addresses, Some(addresses(0)));
    assert!(bench.told().is_empty());
}

#[test]
fn stopping_waits_for_the_worker_and_gives_the_base() {
    let mut bench = Bench::running();
    assert!(matches!(bench.say(Request::GetVringBase { index: 0 }, false), Seen::Waits));
    assert!(bench.session.is_waiting());
    let early = bench.say(Request::GetFeatures, false).error();
    assert!(matches!(early, Error::RequestTooEarly { .. }));
    assert_eq!(bench.answer().unwrap().base(), STOPPED_AT);
    assert_eq!(bench.knobs.released.load(SeqCst), 1, "it was the last ring");
    assert_eq!(bench.ask(Request::GetVringBase { index: 0 }).base(), STOPPED_AT);

    bench.told();
    bench.tell(Request::SetVringKick { index: 0, fd: Some(event()) });
    let told = bench.told();
    assert!(matches!(&told[..], [Command::Start(setup)] if setup.base == STOPPED_AT));
}

/// As User Mode Linux does when its driver has left and comes again.
#[test]
fn a_disabled_ring_that_is_set_up_anew_is_stopped_first() {
    let mut bench = Bench::running();
    bench.tell(Request::SetVringEnable { index: 0, enable: false });
    bench.told();
    let base = Request::SetVringBase(VringState { index: 0, num: 0 });
    assert!(matches!(bench.say(base, true), Seen::Waits));
    assert!(matches!(&bench.told()[..], [Command::Stop { queue: 0 }]));
    bench.answer();
    let moved = VringAddr { used: USER, ..addresses(0) };
    bench.tell(Request::SetVringAddr(moved));
    bench.tell(Request::SetVringKick { index: 0, fd: Some(event()) });
    let told = bench.told();
    assert!(matches!(&told[..], [Command::Start(setup)] if setup.base == 0), "{told:?}");
}

#[test]
fn the_device_is_held_until_the_last_ring_has_stopped() {
    let mut bench = Bench::running();
    bench.start(1);
    bench.ask(Request::GetVringBase { index: 0 }).base();
    assert_eq!(bench.knobs.released.load(SeqCst), 0);
    bench.ask(Request::GetVringBase { index: 1 }).base();
    assert_eq!(bench.knobs.released.load(SeqCst), 1);
}

#[test]
fn rings_wait_for_the_device() {
    let mut bench = Bench::negotiated();
    bench.knobs.not_yet.store(3, SeqCst);
    bench.start(0);
    bench.start(1);
    assert!(bench.session.wants_retry() && bench.told().is_empty());
    // Both starts have asked already.
    assert_eq!(bench.ask(Request::GetVringBase { index: 1 }).base(), 0, "at once");
    bench.session.retry(&mut bench.device, &mut bench.notes).unwrap();
    assert!(bench.told().is_empty());
    bench.session.retry(&mut bench.device, &mut bench.notes).unwrap();
    let told = bench.told();
    assert!(matches!(&told[..], [Command::Start(setup)] if setup.queue == 0 && setup.enabled));
    assert!(bench.session.is_waiting(), "no message before the ring runs");
    assert!(matches!(bench.answer(), Some(Seen::Nothing)));
    assert!(!bench.session.wants_retry());
}

#[test]
fn a_ring_that_cannot_start_is_the_drivers_fault() {
    let mut bench = Bench::running();
    bench.notes.refuse_start = true;
    bench.set_up(1);
    assert!(!bench.ask_ack(Request::SetVringKick { index: 1, fd: None }).acked());
    let status = bench.ask(Request::GetStatus).number();
    assert_ne!(status & u64::from(Status::DEVICE_NEEDS_RESET.bits()), 0);
    // The other ring and the connection go on; so does this one, once it is set up well.
    bench.tell(Request::SetVringKick { index: 1, fd: None });
    assert_eq!(bench.ask(Request::GetVringBase { index: 1 }).base(), STOPPED_AT);
}

#[test]
fn a_failed_ring_shows_in_the_status_and_calls_the_driver() {
    let mut bench = Bench::running();
    bench.tell(Request::SetStatus((Status::DRIVER_OK | Status::FEATURES_OK).bits()));
    assert!(bench.session.next_backend_request().is_none());
    let failed = Answer::RingFailed { queue: 0, why: "a loop".into() };
    assert!(matches!(bench.session.answered(&mut bench.device, 0, failed), Ok(Action::NoReply)));
    assert_eq!(bench.session.next_backend_request(), Some(BackendRequest::ConfigChange));
    let status = bench.ask(Request::GetStatus).number();
    assert_ne!(status & u64::from(Status::DEVICE_NEEDS_RESET.bits()), 0);
    let ring = bench.session.describe(virtio_spec::DeviceType::BLOCK)["rings"][0].clone();
    assert_eq!(ring["failure"], "a loop");
    assert_eq!(bench.ask(Request::GetVringBase { index: 0 }).base(), STOPPED_AT);
}

#[test]
fn in_band_kicks_start_and_kick_rings() {
    let mut bench = Bench::silent();
    let all = bench.ask(Request::GetProtocolFeatures).number();
    bench.tell(Request::SetProtocolFeatures(all));
    bench.tell(Request::SetFeatures(FEATURES));
    bench.set_up(0);
    bench.tell(Request::VringKick { index: 0 });
    let told = bench.told();
    let [Command::Start(setup)] = &told[..] else { panic!("{told:?}") };
    assert!(setup.kick.is_none());
    let Call::Message(call) = &setup.call else { panic!("{:?}", setup.call) };
    bench.tell(Request::VringKick { index: 0 });
    assert!(matches!(bench.told()[..], [Command::Kick { queue: 0 }]));

    call.pending.store(3, SeqCst);
    let request = bench.session.next_backend_request();
    assert_eq!(request, Some(BackendRequest::VringCall { index: 0 }), "three calls, one message");
    assert_eq!(bench.session.next_backend_request(), None);
    let failed = Answer::RingFailed { queue: 0, why: String::new() };
    let _ = bench.session.answered(&mut bench.device, 0, failed).unwrap();
    let request = bench.session.next_backend_request();
    assert_eq!(request, Some(BackendRequest::VringErr { index: 0 }));
}
