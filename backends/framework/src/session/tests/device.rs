//! Config space, status, reset, state, network messages, the back-end's own requests.

use std::io::{Read, Write};
use std::sync::atomic::Ordering::SeqCst;

use virtio_spec::Status;
use virtio_spec::vhost_user::{ConfigFlags, ConfigHeader, TransferDirection};
use wire::{BackendRequest, Config};

use super::*;

fn access(offset: u32, size: u32) -> ConfigHeader {
    ConfigHeader { offset, size, flags: 0 }
}

fn read(bench: &mut Bench, offset: u32, size: u32) -> Option<Vec<u8>> {
    match bench.ask(Request::GetConfig(access(offset, size))) {
        Seen::Reply(Reply::Config(Config { data, .. })) => Some(data),
        Seen::Reply(Reply::ConfigRefused) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn config_is_read_within_its_bounds() {
    let mut bench = Bench::negotiated();
    assert_eq!(read(&mut bench, 0, 8).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(read(&mut bench, 6, 2).unwrap(), [7, 8]);
    for (offset, size) in [(0, 9), (8, 1), (7, 2), (0, 0), (u32::MAX, 1), (1, u32::MAX)] {
        assert_eq!(read(&mut bench, offset, size), None, "{offset} {size}");
    }
}

#[test]
fn config_is_written_by_the_right_writer() {
    let mut bench = Bench::negotiated();
    let mut write = |offset, data: &[u8], flags| {
        let access = ConfigHeader { flags, ..access(offset, u32::try_from(data.len()).unwrap()) };
        bench.ask_ack(Request::SetConfig { access, data: data.to_vec() }).acked()
    };
    assert!(write(4, &[9], 0));
    assert!(!write(0, &[9], 0), "read-only");
    assert!(write(0, &[9], ConfigFlags::MIGRATION.bits()));
    assert!(!write(7, &[9, 9], 0), "past the end");
    assert!(!write(4, &[8], 0x8000), "unknown flags");
    assert!(!write(4, &[], 0));
    assert_eq!(read(&mut bench, 0, 8).unwrap(), [9, 2, 3, 4, 9, 6, 7, 8]);
    // A driver can provoke that at any time: no reason to end the connection.
    let request = Request::SetConfig { access: access(0, 1), data: vec![1] };
    assert!(matches!(bench.ask(request), Seen::Nothing));
}

#[test]
fn the_status_is_what_the_driver_wrote() {
    let mut bench = Bench::negotiated();
    assert_eq!(bench.ask(Request::GetStatus).number(), 0);
    bench.tell(Request::SetStatus(11));
    assert_eq!(bench.ask(Request::GetStatus).number(), 11);
    bench.tell(Request::SetStatus(Status::DEVICE_NEEDS_RESET.bits()));
    assert_eq!(bench.ask(Request::GetStatus).number(), 0, "not the driver's to set");
}

#[test]
fn features_without_version_1_are_not_ok() {
    let mut bench = Bench::negotiated();
    bench.tell(Request::SetFeatures(mask(F_PROTOCOL_FEATURES)));
    bench.tell(Request::SetStatus(11));
    assert_eq!(bench.ask(Request::GetStatus).number(), 3);
}

#[test]
fn status_zero_stops_rings_and_keeps_the_device() {
    let mut bench = Bench::running();
    bench.start(1);
    bench.told();
    bench.tell(Request::SetStatus(0));
    let told = bench.told();
    assert!(matches!(told[..], [Command::Stop { queue: 0 }, Command::Stop { queue: 1 }]));
    assert_eq!(bench.knobs.resets.load(SeqCst), 0);
    assert_eq!(bench.ask(Request::GetVringBase { index: 1 }).base(), STOPPED_AT);
    assert!(bench.told().is_empty(), "it is stopped already");
}

#[test]
fn a_reset_ends_workers_and_resets_the_device() {
    let mut bench = Bench::running();
    bench.told();
    assert!(matches!(bench.say(Request::ResetDevice, true), Seen::Waits));
    assert!(matches!(bench.told()[..], [Command::Quit]));
    assert_eq!(bench.knobs.resets.load(SeqCst), 0, "not before its rings have drained");
    assert!(bench.answer().unwrap().acked());
    assert_eq!((bench.knobs.resets.load(SeqCst), bench.knobs.released.load(SeqCst)), (1, 1));
    assert_eq!(bench.ask(Request::GetVringBase { index: 0 }).base(), 0);
    assert!(!bench.ask_ack(Request::SetVringKick { index: 0, fd: None }).acked());
    bench.start(0);
    assert_eq!(bench.notes.spawned.len(), 2, "with a worker that remembers nothing");
}

#[test]
fn only_network_devices_have_mtu_and_rarp() {
    let mut bench = Bench::negotiated();
    assert!(!bench.ask_ack(Request::NetSetMtu(1500)).acked());
    assert!(!bench.ask_ack(Request::SendRarp([2; 6])).acked());
}

#[test]
fn config_changes_are_told_once_and_not_while_suspended() {
    let mut bench = Bench::negotiated();
    bench.tell(Request::SetBackendReqFd(event()));
    assert!(bench.session.take_backend_channel().is_some());
    assert!(bench.session.take_backend_channel().is_none());
    bench.session.config_changed();
    bench.session.config_changed();
    assert_eq!(bench.session.next_backend_request(), None, "no ring runs");
    bench.start(0);
    assert_eq!(bench.session.next_backend_request(), Some(BackendRequest::ConfigChange));
    assert_eq!(bench.session.next_backend_request(), None);
}

fn transfer(bench: &mut Bench, direction: TransferDirection, fd: OwnedFd) -> bool {
    let seen = bench.ask(Request::SetDeviceStateFd { direction, phase: 0, fd });
    let Seen::Reply(Reply::DeviceState { error, fd: None }) = seen else { panic!("{seen:?}") };
    error == 0
}

fn pipe() -> (std::fs::File, std::fs::File) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (read.into(), write.into())
}

#[test]
fn the_state_is_saved_and_loaded() {
    let mut from = Bench::negotiated();
    let (mut read_end, write_end) = pipe();
    assert!(transfer(&mut from, TransferDirection::Save, write_end.into()));
    assert!(matches!(from.say(Request::CheckDeviceState, false), Seen::Waits));
    assert_eq!(seen(from.session.continue_transfer(&mut from.device)).number(), 0);
    let mut state = Vec::new();
    read_end.read_to_end(&mut state).unwrap();

    let mut to = Bench::negotiated();
    to.device = Echo::new(&to.knobs);
    let (read_end, mut write_end) = pipe();
    assert!(transfer(&mut to, TransferDirection::Load, read_end.into()));
    write_end.write_all(&state).unwrap();
    assert!(matches!(seen(to.session.continue_transfer(&mut to.device)), Seen::Nothing));
    assert!(matches!(to.say(Request::CheckDeviceState, false), Seen::Waits), "no end of it yet");
    drop(write_end);
    assert_eq!(seen(to.session.continue_transfer(&mut to.device)).number(), 0);
    assert!(to.session.take_state_changed());
}

#[test]
fn bad_states_are_found_out() {
    let mut bench = Bench::negotiated();
    assert_eq!(bench.ask(Request::CheckDeviceState).number(), 1, "nothing was transferred");
    for size in [0, 100, 1 << 20] {
        assert!(transfer(&mut bench, TransferDirection::Load, memfd(size)));
        let _ = bench.session.continue_transfer(&mut bench.device).unwrap();
        assert_eq!(bench.ask(Request::CheckDeviceState).number(), 1, "{size} zeroes");
    }
    let fd = event();
    let (direction, phase) = (TransferDirection::Load, 1);
    let seen = bench.ask(Request::SetDeviceStateFd { direction, phase, fd });
    assert!(matches!(seen, Seen::Reply(Reply::DeviceState { error: 1, .. })));
}

#[test]
fn a_state_is_that_of_a_suspended_device() {
    let mut bench = Bench::running();
    let (read_end, write_end) = pipe();
    assert!(!transfer(&mut bench, TransferDirection::Save, write_end.into()));
    bench.ask(Request::GetVringBase { index: 0 }).base();
    assert!(transfer(&mut bench, TransferDirection::Load, read_end.into()));
    bench.start(0);
    assert!(bench.session.transfer().is_none(), "given up");
    assert_eq!(bench.ask(Request::CheckDeviceState).number(), 1);
}
