//! Classes of mistakes that a front-end leads to, through the socket of a daemon.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use driver::{FrontEnd, Memory, Negotiation, Queue, Watch};
use virtio_spec::vhost_user::{
    ConfigHeader, FrontendRequest, Inflight, Log, MemoryRegion, ProtocolFeatures, VringAddr,
    VringState,
};
use wire::{Frame, Reply, Request};

use crate::device::{CONFIG, QUEUE_SIZE, QUEUES};
use crate::served::{Guest, assert_closed, event, memory, traced, with_connection};

/// A front-end that is not held to the rules.
fn misbehaving(socket: UnixStream, memory: &Memory) -> FrontEnd {
    FrontEnd::new(socket, memory).watched_by(Watch::none())
}

/// CVE-2019-14818, CVE-2020-10726, CVE-2022-0669.
#[test]
fn fds_leaked_by_messages_that_should_carry_none_or_repeated() {
    let (served, socket) = with_connection();
    let memory = memory();
    let mut front_end = misbehaving(socket, &memory);
    let mut guest = Guest::start(&mut front_end, &memory, 0);
    guest.echoes(b"before");

    // Messages that carry none: what comes with them is closed at once.
    let mut traces = Vec::new();
    let mut gift = |count: usize| -> Vec<OwnedFd> {
        let (given, kept): (Vec<_>, Vec<_>) = (0..count).map(|_| traced()).unzip();
        traces.extend(kept);
        given
    };
    let deadline = front_end.deadline().instant();
    for code in [FrontendRequest::GetFeatures, FrontendRequest::GetQueueNum] {
        for count in [1, 32] {
            let frame = Frame::request(code.number(), Vec::new()).with_fds(gift(count));
            front_end.client().send_frame(frame, deadline).unwrap();
            front_end.client().receive_frame(deadline).unwrap();
        }
    }
    // More than a message may carry: all but one of a kick's are closed.
    let mut frame = Request::SetVringErr { index: 0, fd: Some(event()) }.encode();
    frame.fds.extend(gift(7));
    front_end.client().send_frame(frame.needing_reply(true), deadline).unwrap();
    front_end.client().receive_frame(deadline).unwrap();
    traces.iter().for_each(assert_closed);

    // Messages that are repeated: the one before is closed.
    let mut last = Vec::new();
    for _ in 0..50 {
        for make in repeated() {
            let (given, trace) = traced();
            front_end.call(make(given)).unwrap();
            last.push(trace);
        }
    }
    let still_used = last.split_off(last.len() - repeated().len());
    last.iter().for_each(assert_closed);
    guest.echoes(b"after");
    drop(front_end);
    served.assert_ends();
    still_used.iter().for_each(assert_closed);
}

fn repeated() -> [fn(OwnedFd) -> Request; 5] {
    [
        |fd| Request::SetVringCall { index: 1, fd: Some(fd) },
        |fd| Request::SetVringErr { index: 1, fd: Some(fd) },
        |fd| Request::SetVringErr { index: 0, fd: Some(fd) },
        Request::SetLogFd,
        Request::SetBackendReqFd,
    ]
}

/// CVE-2020-10723, CVE-2020-10722, CVE-2026-86561.
#[test]
fn vring_index_mmap_offset_log_offset_region_size_unchecked() {
    let (served, socket) = with_connection();
    let memory = memory();
    let mut front_end = misbehaving(socket, &memory);
    let mut guest = Guest::start(&mut front_end, &memory, 0);
    for wrong in wrong_messages() {
        let shown = format!("{wrong:?}");
        let answer = front_end.call(wrong);
        let refused = match &answer {
            Err(driver::Error::Wire(wire::Error::Refused { .. })) => true,
            // Where failure has a reply of its own.
            Ok(Reply::Ack(value)) => *value != 0,
            _ => false,
        };
        assert!(refused, "{shown} is answered with {answer:?}");
        guest.echoes(b"it lives on");
    }
    drop(front_end);
    served.assert_ends();
}

fn wrong_messages() -> Vec<Request> {
    let beyond = [u32::from(QUEUES), 0xff, u32::MAX];
    let region = |size, mmap_offset| MemoryRegion {
        guest_addr: 1 << 40,
        user_addr: 1 << 40,
        size,
        mmap_offset,
    };
    let file = || memory().file(0).unwrap();
    let mut wrong = Vec::new();
    for index in beyond {
        wrong.push(Request::SetVringNum(VringState { index, num: 8 }));
        wrong.push(Request::SetVringBase(VringState { index, num: 0 }));
        wrong.push(Request::SetVringAddr(VringAddr {
            index,
            flags: 0,
            descriptor: 0,
            used: 0,
            available: 0,
            log: 0,
        }));
        wrong.push(Request::SetVringEnable { index, enable: true });
    }
    let index = QUEUES as u8;
    wrong.push(Request::SetVringKick { index, fd: Some(event()) });
    wrong.push(Request::SetVringCall { index: 0xff, fd: Some(event()) });
    wrong.push(Request::SetVringErr { index, fd: None });
    for num in [0, u32::from(QUEUE_SIZE) + 1, 0x1_0000, u32::MAX] {
        wrong.push(Request::SetVringNum(VringState { index: 1, num }));
    }
    for (size, offset) in
        [(0, 0), (u64::MAX, 0), (4096, 1), (4096, u64::MAX), (u64::MAX - 4095, 4096)]
    {
        wrong.push(Request::AddMemReg(region(size, offset), file()));
    }
    let wraps = MemoryRegion { guest_addr: u64::MAX - 4095, ..region(8192, 0) };
    wrong.push(Request::AddMemReg(wraps, file()));
    for (mmap_size, mmap_offset) in [(0, 0), (u64::MAX, 0), (4096, 1), (4096, u64::MAX - 4095)] {
        wrong.push(Request::SetLogBase(Log { mmap_size, mmap_offset }, Some(file())));
    }
    let inflight = |mmap_size, mmap_offset, num_queues, queue_size| {
        Request::SetInflightFd(Inflight { mmap_size, mmap_offset, num_queues, queue_size }, file())
    };
    wrong.push(inflight(64, 0, 1, 0));
    wrong.push(inflight(64, 0, 0xffff, 0xffff));
    wrong.push(inflight(u64::MAX, u64::MAX, 1, 8));
    wrong
}

/// ubicloud pull request 4739.
#[test]
fn get_config_length_ignored_or_offset_plus_size_past_the_end() {
    let (served, socket) = with_connection();
    let memory = memory();
    let mut front_end = misbehaving(socket, &memory);
    front_end.negotiate(&Negotiation::new(0)).unwrap();
    for offset in 0..8 {
        for size in 1..=8 - offset {
            let right = &CONFIG[offset as usize..(offset + size) as usize];
            assert_eq!(front_end.read_config(offset, size).unwrap(), right);
        }
    }
    for (offset, size) in
        [(0, 9), (8, 1), (1, 8), (7, 2), (0, 0), (9, 1), (u32::MAX, 1), (0x100, 64)]
    {
        assert!(front_end.read_config(offset, size).is_err(), "{offset} {size}");
    }
    // A size that is that of no message at all: the message cannot be right.
    let access = ConfigHeader { offset: 0, size: u32::MAX, flags: 0 };
    let frame = Frame::request(FrontendRequest::GetConfig.number(), access.to_bytes().to_vec());
    let deadline = front_end.deadline().instant();
    front_end.client().send_frame(frame, deadline).unwrap();
    let reply = front_end.client().receive_frame(deadline).unwrap();
    assert!(reply.payload.len() < CONFIG.len());
    drop(front_end);
    served.assert_ends();
}

/// rust-vmm/vhost#217: the front-end waits for a reply whether it asked for one or not.
#[test]
fn set_log_base_hangs_for_want_of_a_reply() {
    let all = ProtocolFeatures::all() - ProtocolFeatures::INBAND_NOTIFICATIONS;
    for protocol in [all, all - ProtocolFeatures::REPLY_ACK] {
        let (served, socket) = with_connection();
        let memory = memory();
        let mut front_end = FrontEnd::new(socket, &memory);
        front_end.negotiate(&Negotiation::new(0).with_protocol(protocol)).unwrap();
        front_end.share_memory().unwrap();
        let log = front_end.start_log().unwrap();
        let queue = Queue::new(&memory, 16, front_end.negotiated()).unwrap();
        let events = front_end.start_ring(0, &queue, 0).unwrap();
        let mut guest = Guest::new(&memory, queue, events);
        guest.echoes(b"logged");
        assert!(!log.take().is_empty());
        drop(front_end);
        served.assert_ends();
    }
}

/// CVE-2026-5747: only the log fields of an address may change while the ring runs.
#[test]
fn queue_size_or_address_changed_after_the_device_is_live() {
    let (served, socket) = with_connection();
    let memory = memory();
    let mut front_end = misbehaving(socket, &memory);
    let mut guest = Guest::start(&mut front_end, &memory, 0);
    let other = Queue::new(&memory, 16, front_end.negotiated()).unwrap();
    assert!(front_end.log_ring(0, &other, false).is_err(), "the ring may not move");
    for num in [8, 32] {
        assert!(front_end.call(Request::SetVringNum(VringState { index: 0, num })).is_err());
    }
    assert!(front_end.call(Request::SetVringBase(VringState { index: 0, num: 7 })).is_err());
    guest.echoes(b"as it was");
    front_end.log_ring(0, &guest.queue, true).unwrap();
    front_end.log_ring(0, &guest.queue, false).unwrap();
    guest.echoes(b"log fields may change");
    drop(front_end);
    served.assert_ends();
}

/// QEMU#3879.
#[test]
fn feature_bits_acknowledged_that_were_never_offered() {
    for bits in [u64::MAX, 1 << 1, 1 << 33, 1 << 63] {
        let (served, socket) = with_connection();
        let memory = memory();
        let mut front_end = misbehaving(socket, &memory);
        front_end.negotiate(&Negotiation::new(0)).unwrap();
        let deadline = front_end.deadline().instant();
        front_end.client().send(Request::SetFeatures(bits), deadline).unwrap();
        front_end.wait_for_close().unwrap();
        served.assert_ends();
    }
}
