//! While all rings are stopped, the device is suspended (vhost-user, "Suspended device state").

use driver::Deadline;
use virtio_spec::Status;
use virtio_spec::block::Config;
use virtio_spec::vhost_user::VringState;
use wire::Request;

use crate::back_end::{BOTH, BackEnd, PAUSE, submit_read};

/// Requests that were in flight, and some that come later, change nothing once the stop was
/// acknowledged; messages are answered all the same.
#[test]
fn a_suspended_device_writes_nothing_calls_nobody_and_answers() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().unwatched().negotiated(wanted);
        back_end.front_end.open_back_channel().unwrap();
        let (mut queue, events) = back_end.disk(0).into_parts();
        for sector in 0..10 {
            submit_read(&mut queue, sector);
        }
        events.kick.inject().unwrap();
        back_end.front_end.stop_ring(0).unwrap();
        events.call.take().unwrap();
        submit_read(&mut queue, 11);
        events.kick.inject().unwrap();
        let region = back_end.memory.regions()[0];
        let memory = back_end.memory.area(region.guest_addr, region.size as usize).unwrap();
        let before = memory.to_vec();
        std::thread::sleep(PAUSE);
        assert!(memory.to_vec() == before);
        assert_eq!(events.call.take().unwrap(), 0);

        let config = back_end.front_end.read_config(0, Config::SIZE as u32).unwrap();
        assert_eq!(config.len(), Config::SIZE);
        back_end.front_end.set_status(Status::ACKNOWLEDGE).unwrap();
        assert_eq!(back_end.front_end.status().unwrap(), Status::ACKNOWLEDGE);
        let mut front_end = back_end.front_end.with_limit(PAUSE);
        assert!(front_end.next_backend_request().is_err(), "nothing is said");
    }
}

/// vhost-user, "Migrating back-end state": it is transferred while the device is suspended.
#[test]
fn only_a_suspended_device_saves_its_state() {
    let mut back_end = BackEnd::start().unwatched().negotiated(BOTH[0]);
    let mut disk = back_end.disk(0);
    disk.read(1, 512).unwrap();
    assert!(back_end.front_end.save_state().is_err(), "it is not suspended");
    back_end.front_end.stop_ring(0).unwrap();
    let state = back_end.front_end.save_state().unwrap();
    back_end.front_end.load_state(&state).unwrap();
    back_end.end();
}

/// A ring that cannot be started makes the device ask for a reset; the driver hears of it when the
/// device is no longer suspended.
#[test]
fn what_is_to_be_said_while_suspended_is_said_later() {
    let mut back_end = BackEnd::start().unwatched().negotiated(BOTH[0]);
    back_end.front_end.open_back_channel().unwrap();
    let running = Status::FEATURES_OK | Status::DRIVER_OK;
    back_end.front_end.set_status(running).unwrap();
    let queue = back_end.queue(16);
    back_end.front_end.configure_ring(1, &queue, 0).unwrap();
    back_end.front_end.call(Request::SetVringNum(VringState { index: 1, num: 15 })).unwrap();
    assert!(back_end.front_end.call(Request::SetVringKick { index: 1, fd: None }).is_err());
    let asks = running | Status::DEVICE_NEEDS_RESET;
    assert_eq!(back_end.front_end.status().unwrap(), asks);
    back_end.front_end = back_end.front_end.with_limit(PAUSE);
    assert!(back_end.front_end.next_backend_request().is_err(), "it is suspended");
    back_end.front_end = back_end.front_end.with_limit(Deadline::DEFAULT);
    let _disk = back_end.disk(0);
    back_end.front_end.wait_for_config_change().unwrap();
    back_end.end();
}
