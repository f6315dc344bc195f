//! Every message through its encoding and back, the quirks of known front-ends, and random bytes.

use std::fs::File;
use std::os::fd::OwnedFd;

use proptest::collection::vec;
use proptest::prelude::*;

use virtio_spec::vhost_user::{
    ConfigHeader, FrontendRequest as Code, Inflight, Log, MemoryRegion, TransferDirection,
    VringAddr, VringState,
};

use crate::{BackendRequest, Config, Frame, Reply, Request};

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn fds(count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| null()).collect()
}

/// The debug form with descriptor numbers removed.
fn text(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let mut parts = text.split("OwnedFd { fd: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + "fd" + part.trim_start_matches(|c: char| c.is_numeric()))
}

fn region() -> impl Strategy<Value = MemoryRegion> {
    any::<[u64; 4]>().prop_map(|[guest_addr, size, user_addr, mmap_offset]| MemoryRegion {
        guest_addr,
        size,
        user_addr,
        mmap_offset,
    })
}

fn inflight() -> impl Strategy<Value = Inflight> {
    any::<(u64, u64, u16, u16)>().prop_map(|(mmap_size, mmap_offset, num_queues, queue_size)| {
        Inflight { mmap_size, mmap_offset, num_queues, queue_size }
    })
}

fn state() -> impl Strategy<Value = VringState> {
    any::<(u32, u32)>().prop_map(|(index, num)| VringState { index, num })
}

fn address() -> impl Strategy<Value = VringAddr> {
    any::<(u32, u32, [u64; 4])>().prop_map(|(index, flags, [descriptor, used, available, log])| {
        VringAddr { index, flags, descriptor, used, available, log }
    })
}

fn maybe_fd(present: bool) -> Option<OwnedFd> {
    present.then(null)
}

/// Requests of every kind; built anew at each call since descriptors cannot be cloned.
fn requests() -> Vec<BoxedStrategy<Request>> {
    let plain = |make: fn() -> Request| Just(()).prop_map(move |()| make()).boxed();
    let ring_fd = |make: fn(u8, Option<OwnedFd>) -> Request| {
        any::<(u8, bool)>().prop_map(move |(index, fd)| make(index, maybe_fd(fd))).boxed()
    };
    vec![
        plain(|| Request::GetFeatures),
        plain(|| Request::SetOwner),
        plain(|| Request::ResetOwner),
        plain(|| Request::GetProtocolFeatures),
        plain(|| Request::GetQueueNum),
        plain(|| Request::ResetDevice),
        plain(|| Request::GetMaxMemSlots),
        plain(|| Request::GetStatus),
        plain(|| Request::CheckDeviceState),
        plain(|| Request::SetLogFd(null())),
        plain(|| Request::SetBackendReqFd(null())),
        any::<u64>().prop_map(Request::SetFeatures).boxed(),
        any::<u64>().prop_map(Request::SetProtocolFeatures).boxed(),
        any::<u64>().prop_map(Request::NetSetMtu).boxed(),
        any::<u8>().prop_map(Request::SetStatus).boxed(),
        any::<[u8; 6]>().prop_map(Request::SendRarp).boxed(),
        ring_fd(|index, fd| Request::SetVringKick { index, fd }),
        ring_fd(|index, fd| Request::SetVringCall { index, fd }),
        ring_fd(|index, fd| Request::SetVringErr { index, fd }),
        state().prop_map(Request::SetVringNum).boxed(),
        state().prop_map(Request::SetVringBase).boxed(),
        any::<u32>().prop_map(|index| Request::GetVringBase { index }).boxed(),
        any::<u32>().prop_map(|index| Request::VringKick { index }).boxed(),
        any::<(u32, bool)>()
            .prop_map(|(index, enable)| Request::SetVringEnable { index, enable })
            .boxed(),
        address().prop_map(Request::SetVringAddr).boxed(),
        vec(region(), 0..9)
            .prop_map(|table| Request::SetMemTable(table.into_iter().zip(fds(8)).collect()))
            .boxed(),
        region().prop_map(|region| Request::AddMemReg(region, null())).boxed(),
        region().prop_map(Request::RemMemReg).boxed(),
        inflight().prop_map(Request::GetInflightFd).boxed(),
        inflight().prop_map(|inflight| Request::SetInflightFd(inflight, null())).boxed(),
        any::<(u64, u64, bool)>()
            .prop_map(|(mmap_size, mmap_offset, fd)| {
                Request::SetLogBase(Log { mmap_size, mmap_offset }, maybe_fd(fd))
            })
            .boxed(),
        any::<(u32, u8, u32)>()
            .prop_map(|(offset, size, flags)| {
                Request::GetConfig(ConfigHeader { offset, size: size.into(), flags })
            })
            .boxed(),
        (any::<(u32, u32)>(), vec(any::<u8>(), 0..256))
            .prop_map(|((offset, flags), data)| {
                let size = u32::try_from(data.len()).unwrap();
                Request::SetConfig { access: ConfigHeader { offset, size, flags }, data }
            })
            .boxed(),
        any::<(bool, u32)>()
            .prop_map(|(load, phase)| {
                let direction =
                    if load { TransferDirection::Load } else { TransferDirection::Save };
                Request::SetDeviceStateFd { direction, phase, fd: null() }
            })
            .boxed(),
        (45_u32..).prop_map(|code| Request::Unknown { code }).boxed(),
    ]
}

fn replies() -> impl Strategy<Value = (Code, Reply)> {
    prop_oneof![
        any::<u64>().prop_map(|value| (Code::GetFeatures, Reply::U64(value))),
        any::<u64>().prop_map(|value| (Code::SetMemTable, Reply::Ack(value))),
        state().prop_map(|state| (Code::GetVringBase, Reply::VringState(state))),
        Just(()).prop_map(|()| (Code::GetConfig, Reply::ConfigRefused)),
        any::<(u64, u64)>().prop_map(|(mmap_size, mmap_offset)| {
            (Code::SetLogBase, Reply::Log(Log { mmap_size, mmap_offset }))
        }),
        (any::<(u32, u32)>(), vec(any::<u8>(), 0..256)).prop_map(|((offset, flags), data)| {
            (Code::GetConfig, Reply::Config(Config { offset, flags, data }))
        }),
        inflight()
            .prop_map(|inflight| { (Code::GetInflightFd, Reply::Inflight(inflight, null())) }),
        (1_u8..)
            .prop_map(|error| { (Code::SetDeviceStateFd, Reply::DeviceState { error, fd: None }) }),
        any::<bool>().prop_map(|fd| {
            (Code::SetDeviceStateFd, Reply::DeviceState { error: 0, fd: maybe_fd(fd) })
        }),
    ]
}

proptest! {
    #[test]
    fn every_request_comes_back_as_it_was(
        request in prop::strategy::Union::new(requests()),
    ) {
        let before = text(&request);
        let after = Request::decode(request.encode()).unwrap();
        prop_assert_eq!(text(&after), before);
    }

    #[test]
    fn every_reply_comes_back_as_it_was((code, reply) in replies()) {
        let before = text(&reply);
        let after = Reply::decode(code.number(), reply.encode(code.number())).unwrap();
        prop_assert_eq!(text(&after), before);
    }

    #[test]
    fn every_back_end_request_comes_back_as_it_was(code in 0_u32..12, index in any::<u32>()) {
        let request = match code {
            2 => BackendRequest::ConfigChange,
            4 => BackendRequest::VringCall { index },
            5 => BackendRequest::VringErr { index },
            code => BackendRequest::Unknown { code },
        };
        prop_assert_eq!(BackendRequest::decode(request.encode()).unwrap(), request);
    }

    #[test]
    fn random_payloads_never_panic(
        code in 0_u32..48,
        payload in vec(any::<u8>(), 0..400),
        count in 0_usize..4,
    ) {
        let frame = || Frame::request(code, payload.clone()).with_fds(fds(count));
        let _ = Request::decode(frame());
        let _ = BackendRequest::decode(frame());
        let reply = Frame::reply(code, payload.clone()).with_fds(fds(count));
        let _ = Reply::decode(code, reply);
    }
}

fn numbers(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn frame(code: Code, payload: Vec<u8>, count: usize) -> Frame {
    Frame::request(code.number(), payload).with_fds(fds(count))
}

#[test]
fn an_inflight_description_is_accepted_with_and_without_its_padding() {
    for size in [20, 24] {
        let mut payload = vec![0; size];
        payload[16] = 3;
        let request = Request::decode(frame(Code::GetInflightFd, payload, 0)).unwrap();
        let Request::GetInflightFd(inflight) = request else { panic!("{request:?}") };
        assert_eq!((inflight.num_queues, inflight.queue_size), (3, 0));
    }
}

#[test]
fn a_ring_without_descriptor_says_so_in_bit_8() {
    let request = Request::decode(frame(Code::SetVringCall, numbers(&[0x103]), 0)).unwrap();
    assert!(matches!(request, Request::SetVringCall { index: 3, fd: None }));
    let error = Request::decode(frame(Code::SetVringCall, numbers(&[3]), 0)).unwrap_err();
    assert!(error.to_string().contains("SET_VRING_CALL"), "{error}");
}

#[test]
fn rem_mem_reg_may_carry_a_descriptor() {
    let payload = numbers(&[0, 1, 2, 3, 4]);
    let request = Request::decode(frame(Code::RemMemReg, payload, 1)).unwrap();
    assert!(matches!(request, Request::RemMemReg(MemoryRegion { guest_addr: 1, size: 2, .. })));
}

#[test]
fn get_config_may_leave_out_the_room_for_its_reply() {
    let payload = ConfigHeader { offset: 0, size: 60, flags: 0 }.to_bytes().to_vec();
    let request = Request::decode(frame(Code::GetConfig, payload, 0)).unwrap();
    assert!(matches!(request, Request::GetConfig(ConfigHeader { size: 60, .. })));
}

#[test]
fn a_memory_table_may_be_sent_with_its_unused_entries() {
    let mut payload = numbers(&[2]);
    payload.extend([0; 8 * 32]);
    let request = Request::decode(frame(Code::SetMemTable, payload, 2)).unwrap();
    assert!(matches!(request, Request::SetMemTable(table) if table.len() == 2));
}

#[test]
fn bad_counts_sizes_and_values_are_errors_that_name_the_request() {
    let cases = [
        (Code::SetMemTable, numbers(&[1]), 1),
        (Code::SetMemTable, numbers(&[33]), 33),
        (Code::SetMemTable, numbers(&[1, 0, 0, 0, 0]), 0),
        (Code::AddMemReg, numbers(&[0, 0, 0, 0, 0]), 0),
        (Code::AddMemReg, numbers(&[0, 0, 0, 0]), 1),
        (Code::SetFeatures, vec![0; 4], 0),
        (Code::GetFeatures, vec![0; 8], 0),
        (Code::SetVringEnable, numbers(&[2 << 32]), 0),
        (Code::SetVringKick, numbers(&[0x200]), 1),
        (Code::SetConfig, ConfigHeader { offset: 0, size: 9, flags: 0 }.to_bytes().to_vec(), 0),
        (Code::GetConfig, numbers(&[0, 0]), 0),
        (Code::SetStatus, numbers(&[256]), 0),
        (Code::SetInflightFd, vec![0; 24], 0),
        (Code::SetInflightFd, vec![0; 22], 1),
        (Code::SetBackendReqFd, Vec::new(), 0),
        (Code::SetDeviceStateFd, numbers(&[2]), 1),
        (Code::SetLogBase, numbers(&[0]), 1),
    ];
    for (code, payload, count) in cases {
        let error = Request::decode(frame(code, payload, count)).unwrap_err();
        assert!(error.to_string().contains(code.name()), "{code:?}: {error}");
        assert!(!error.is_fatal(), "{code:?}: {error}");
    }
}

#[test]
fn a_reply_without_its_descriptor_is_an_error() {
    let code = Code::GetInflightFd;
    assert!(Reply::decode(code.number(), Frame::reply(code.number(), vec![0; 20])).is_err());
    let code = Code::SetDeviceStateFd;
    assert!(Reply::decode(code.number(), Frame::reply(code.number(), vec![0; 8])).is_err());
}
