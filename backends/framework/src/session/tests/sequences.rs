//! Any sequence of messages: no panic, and each is answered as its sender expects.

use proptest::prelude::*;
use virtio_spec::vhost_user::{ConfigHeader, F_LOG_ALL, Inflight, Log, TransferDirection};

use super::*;

/// Every protocol feature that the device offers.
const ALL: ProtocolFeatures = ProtocolFeatures::MQ
    .union(ProtocolFeatures::REPLY_ACK)
    .union(ProtocolFeatures::CONFIG)
    .union(ProtocolFeatures::STATUS)
    .union(ProtocolFeatures::RESET_DEVICE)
    .union(ProtocolFeatures::INFLIGHT_SHMFD)
    .union(ProtocolFeatures::CONFIGURE_MEM_SLOTS)
    .union(ProtocolFeatures::LOG_SHMFD)
    .union(ProtocolFeatures::DEVICE_STATE)
    .union(ProtocolFeatures::INBAND_NOTIFICATIONS)
    .union(ProtocolFeatures::BACKEND_REQ);

/// A message without its descriptors, which are made when it is sent.
#[derive(Clone, Debug)]
enum Message {
    SetFeatures(u64),
    SetProtocolFeatures(u64),
    SetMemTable(Vec<(u64, u64)>),
    AddMemReg(u64, u64),
    RemMemReg(u64, u64),
    SetLogBase(u64, u64, bool),
    Num(u32, u32),
    Base(u32, u32),
    Addr(u32, u64, u32, u64),
    Kick(u8, bool),
    Call(u8, bool),
    Err(u8, bool),
    Enable(u32, bool),
    GetBase(u32),
    InbandKick(u32),
    GetConfig(u32, u32),
    SetConfig(u32, u32, Vec<u8>),
    GetInflight(u16, u16),
    SetInflight(u64, u64, u16, u16),
    SetStatus(u8),
    State(bool, u32),
    Plain(u8),
    Retry,
    NotYet,
    RefuseStart,
    RingFailed(u16),
}

fn index() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..4_u32, 1 => any::<u32>()]
}

fn message() -> impl Strategy<Value = Message> {
    use Message::*;
    let features = prop_oneof![
        8 => prop::sample::select(vec![FEATURES, FEATURES | mask(F_LOG_ALL), mask(VERSION_1)]),
        1 => any::<u64>(),
    ];
    let place = || (0..8_u64, prop_oneof![8 => 1..3_u64, 1 => any::<u64>()]);
    prop_oneof![
        features.prop_map(SetFeatures),
        prop_oneof![8 => Just(ALL.bits()), 1 => any::<u64>()].prop_map(SetProtocolFeatures),
        prop::collection::vec(place(), 0..4).prop_map(SetMemTable),
        place().prop_map(|(at, size)| AddMemReg(at, size)),
        place().prop_map(|(at, size)| RemMemReg(at, size)),
        (0..10_000_u64, 0..3_u64, any::<bool>()).prop_map(|(s, o, fd)| SetLogBase(s, o * 2048, fd)),
        (index(), prop_oneof![4 => Just(64), 1 => any::<u32>()]).prop_map(|(i, n)| Num(i, n)),
        (index(), any::<u32>()).prop_map(|(i, n)| Base(i, n)),
        (index(), 0..2_u64, 0..2_u32, 0..0x9000_u64).prop_map(|(i, a, f, l)| Addr(i, a, f, l)),
        (0..5_u8, any::<bool>()).prop_map(|(i, fd)| Kick(i, fd)),
        (0..5_u8, any::<bool>()).prop_map(|(i, fd)| Kick(i, fd)),
        (0..5_u8, any::<bool>()).prop_map(|(i, fd)| Call(i, fd)),
        (0..5_u8, any::<bool>()).prop_map(|(i, fd)| Err(i, fd)),
        (index(), any::<bool>()).prop_map(|(i, e)| Enable(i, e)),
        index().prop_map(GetBase),
        index().prop_map(InbandKick),
        (0..10_u32, 0..10_u32).prop_map(|(o, s)| GetConfig(o, s)),
        (0..10_u32, 0..3_u32, prop::collection::vec(any::<u8>(), 0..4))
            .prop_map(|(o, f, d)| SetConfig(o, f, d)),
        (0..6_u16, 0..300_u16).prop_map(|(q, s)| GetInflight(q, s)),
        (0..100_000_u64, 0..2_u64, 0..6_u16, 0..300_u16).prop_map(|(m, o, q, s)| SetInflight(
            m,
            o * 4096,
            q,
            s
        )),
        any::<u8>().prop_map(SetStatus),
        (any::<bool>(), 0..2_u32).prop_map(|(load, phase)| State(load, phase)),
        (0..12_u8).prop_map(Plain),
        Just(Retry),
        Just(NotYet),
        Just(RefuseStart),
        (0..6_u16).prop_map(RingFailed),
    ]
}

impl Message {
    /// The request, or what else happens.
    fn request(&self) -> Option<Request> {
        let place = |at: u64, size: u64| MemoryRegion {
            guest_addr: at.wrapping_mul(4096),
            user_addr: USER.wrapping_add(at.wrapping_mul(4096)),
            size: size.wrapping_mul(4096),
            mmap_offset: 0,
        };
        let fd = |there: bool| there.then(event);
        Some(match *self {
            Message::SetFeatures(bits) => Request::SetFeatures(bits),
            Message::SetProtocolFeatures(bits) => Request::SetProtocolFeatures(bits),
            Message::SetMemTable(ref places) => Request::SetMemTable(
                places.iter().map(|&(at, size)| (place(at, size), memfd(8192))).collect(),
            ),
            Message::AddMemReg(at, size) => Request::AddMemReg(place(at, size), memfd(8192)),
            Message::RemMemReg(at, size) => Request::RemMemReg(place(at, size)),
            Message::SetLogBase(mmap_size, mmap_offset, with) => {
                Request::SetLogBase(Log { mmap_size, mmap_offset }, with.then(|| memfd(8192)))
            }
            Message::Num(index, num) => Request::SetVringNum(VringState { index, num }),
            Message::Base(index, num) => Request::SetVringBase(VringState { index, num }),
            Message::Addr(index, other, flags, log) => Request::SetVringAddr(VringAddr {
                index,
                flags,
                log,
                used: USER + other * 4096,
                ..addresses(index % 4)
            }),
            Message::Kick(index, with) => Request::SetVringKick { index, fd: fd(with) },
            Message::Call(index, with) => Request::SetVringCall { index, fd: fd(with) },
            Message::Err(index, with) => Request::SetVringErr { index, fd: fd(with) },
            Message::Enable(index, enable) => Request::SetVringEnable { index, enable },
            Message::GetBase(index) => Request::GetVringBase { index },
            Message::InbandKick(index) => Request::VringKick { index },
            Message::GetConfig(offset, size) => {
                Request::GetConfig(ConfigHeader { offset, size, flags: 0 })
            }
            Message::SetConfig(offset, flags, ref data) => {
                let size = u32::try_from(data.len()).unwrap();
                Request::SetConfig {
                    access: ConfigHeader { offset, size, flags },
                    data: data.clone(),
                }
            }
            Message::GetInflight(num_queues, queue_size) => Request::GetInflightFd(Inflight {
                mmap_size: 0,
                mmap_offset: 0,
                num_queues,
                queue_size,
            }),
            Message::SetInflight(mmap_size, mmap_offset, num_queues, queue_size) => {
                let region = Inflight { mmap_size, mmap_offset, num_queues, queue_size };
                Request::SetInflightFd(region, memfd(50_000))
            }
            Message::SetStatus(status) => Request::SetStatus(status),
            Message::State(load, phase) => Request::SetDeviceStateFd {
                direction: if load { TransferDirection::Load } else { TransferDirection::Save },
                phase,
                fd: memfd(100),
            },
            Message::Plain(number) => plain(number),
            Message::Retry | Message::NotYet | Message::RefuseStart | Message::RingFailed(_) => {
                return None;
            }
        })
    }
}

fn plain(number: u8) -> Request {
    match number {
        0 => Request::GetFeatures,
        1 => Request::GetProtocolFeatures,
        2 => Request::SetOwner,
        3 => Request::ResetOwner,
        4 => Request::GetQueueNum,
        5 => Request::SetLogFd(event()),
        6 => Request::SetBackendReqFd(event()),
        7 => Request::ResetDevice,
        8 => Request::GetMaxMemSlots,
        9 => Request::GetStatus,
        10 => Request::CheckDeviceState,
        _ => Request::Unknown { code: 77 },
    }
}

/// Whether the session goes on.
fn play(bench: &mut Bench, message: &Message, need_reply: bool) -> bool {
    let Bench { session, device, knobs, notes } = bench;
    match message {
        Message::NotYet => knobs.not_yet.store(2, std::sync::atomic::Ordering::SeqCst),
        Message::RefuseStart => notes.refuse_start = true,
        Message::Retry => {
            session.retry(device, notes).unwrap();
            while bench.answer().is_some() {}
        }
        Message::RingFailed(queue) => {
            let failed = Answer::RingFailed { queue: *queue, why: "a test".into() };
            let _ = session.answered(device, 0, failed).unwrap();
        }
        _ => {}
    }
    let Some(request) = message.request() else { return true };
    let (has_reply, acks) = (request.has_reply(), bench.session.acknowledges());
    let mut seen = bench.say(request, need_reply);
    seen = bench.through(seen);
    if matches!(seen, Seen::Waits) {
        seen = super::seen(bench.session.continue_transfer(&mut bench.device));
    }
    let acks = acks || bench.session.acknowledges();
    match seen {
        Seen::Reply(Reply::Ack(_)) if !has_reply => assert!(need_reply && acks),
        Seen::Reply(_) => assert!(has_reply),
        Seen::Nothing => assert!(!has_reply),
        Seen::Waits => panic!("{message:?} is never answered"),
        Seen::Closed(_) => return false,
    }
    assert!(!bench.session.is_waiting());
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn each_message_of_any_sequence_is_answered_as_expected(
        messages in prop::collection::vec((message(), any::<bool>()), 1..60),
        prepared: bool,
    ) {
        let mut bench = if prepared { Bench::running() } else { Bench::silent() };
        for (message, need_reply) in &messages {
            if !play(&mut bench, message, *need_reply) {
                break;
            }
            while bench.session.next_backend_request().is_some() {}
            let _ = bench.session.describe(virtio_spec::DeviceType::BLOCK);
        }
        bench.close();
        prop_assert!(bench.session.is_closed());
        let (held, given) = (&bench.knobs.acquired, &bench.knobs.released);
        let order = std::sync::atomic::Ordering::SeqCst;
        prop_assert_eq!(held.load(order), given.load(order));
    }
}
