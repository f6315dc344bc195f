//! What a front-end sends, as input.

use arbitrary::Arbitrary;
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, RING_PACKED, VERSION_1, mask};
use virtio_spec::vhost_user::{
    ConfigHeader, F_LOG_ALL, F_PROTOCOL_FEATURES, Inflight, Log, ProtocolFeatures,
    TransferDirection, VringAddr, VringState,
};
use wire::Request;

use super::fds::{Fds, Kind};
use super::memory::{Shared, USER};

/// One thing that the front-end does, or lets happen.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Call {
    Message {
        message: Message,
        need_reply: bool,
    },
    /// All messages that start a ring, in order.
    SetUpRing(u8),
    Turns(u8),
    Guest(GuestChain),
    /// The file behind the memory has only so many pages left.
    Truncate(u8),
    /// Bytes on the sockets that the back-end was given.
    Feed([u8; 8]),
    ConfigChanged,
    Retry,
}

/// A request that the guest makes available.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct GuestChain {
    pub(super) ring: u8,
    pub(super) kind: u8,
    pub(super) sector: u8,
    pub(super) pages: u8,
    pub(super) at: u16,
    pub(super) jump: Option<u16>,
}

/// A number that is likely to matter.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Number {
    Small(u8),
    Pages(u8),
    Any(u64),
}

impl Number {
    pub(super) fn value(self) -> u64 {
        match self {
            Number::Small(n) => n.into(),
            Number::Pages(n) => u64::from(n) * 4096,
            Number::Any(n) => n,
        }
    }

    fn word(self) -> u32 {
        self.value() as u32
    }
}

/// A region: all of the memory, a part of it, or something else.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum RegionInput {
    Whole,
    Part { first: u8, pages: u8 },
    Other { kind: Kind, guest: Number, user: Number, size: Number, offset: Number },
}

#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Message {
    GetFeatures,
    SetFeatures(Bits),
    SetOwner,
    ResetOwner,
    GetProtocolFeatures,
    SetProtocolFeatures(Bits),
    GetQueueNum,
    SetMemTable(Vec<RegionInput>),
    AddMemReg(RegionInput),
    RemMemReg(RegionInput),
    GetMaxMemSlots,
    Num {
        ring: u8,
        size: Number,
    },
    Addr {
        ring: u8,
        at: [Number; 3],
        log: Number,
        flags: u8,
    },
    /// As it should be, with the log switched or not.
    OwnAddr {
        ring: u8,
        logged: bool,
    },
    Base {
        ring: u8,
        base: Number,
    },
    Kick {
        ring: u8,
        fd: Option<Kind>,
    },
    Call {
        ring: u8,
        fd: Option<Kind>,
    },
    Err {
        ring: u8,
        fd: Option<Kind>,
    },
    Enable {
        ring: u8,
        enable: bool,
    },
    GetBase(u8),
    LogBase {
        size: Number,
        offset: Number,
        fd: Option<Kind>,
    },
    LogFd(Kind),
    GetInflight {
        queues: u8,
        size: Number,
    },
    /// The region that the back-end made, or another.
    SetInflight {
        own: bool,
        queues: u8,
        queue_size: Number,
        size: Number,
        offset: Number,
        kind: Kind,
    },
    GetConfig {
        offset: Number,
        size: Number,
    },
    SetConfig {
        offset: Number,
        data: Vec<u8>,
        flags: u8,
    },
    SetStatus(u8),
    GetStatus,
    ResetDevice,
    BackendFd(Kind),
    DeviceState {
        load: bool,
        phase: Number,
        kind: Kind,
    },
    CheckDeviceState,
    VringKick(u8),
    Mtu(u16),
    Rarp([u8; 6]),
}

/// Feature bits: those that all want, with some more, or anything.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Bits {
    Usual,
    Fewer(u64),
    WithLog,
    Any(u64),
}

impl Bits {
    fn features(self, usual: u64) -> u64 {
        match self {
            Bits::Usual => usual,
            Bits::Fewer(bits) => usual & bits,
            Bits::WithLog => usual | mask(F_LOG_ALL),
            Bits::Any(bits) => bits,
        }
    }
}

/// What the block device offers, in-band notifications aside.
fn usual_protocol() -> u64 {
    use ProtocolFeatures as P;
    let ring = P::MQ | P::REPLY_ACK | P::INFLIGHT_SHMFD | P::LOG_SHMFD | P::CONFIGURE_MEM_SLOTS;
    let device = P::CONFIG | P::BACKEND_REQ | P::RESET_DEVICE | P::STATUS | P::DEVICE_STATE;
    (ring | device).bits()
}

impl Message {
    /// The message itself.
    pub(super) fn request(&self, shared: &Shared, fds: &mut Fds) -> Request {
        match self {
            Message::GetFeatures => Request::GetFeatures,
            Message::SetFeatures(bits) => {
                let packed = if shared.packed { mask(RING_PACKED) } else { 0 };
                let ring = mask(VERSION_1) | mask(EVENT_IDX) | mask(INDIRECT_DESC) | packed;
                Request::SetFeatures(bits.features(ring | mask(F_PROTOCOL_FEATURES)))
            }
            Message::SetOwner => Request::SetOwner,
            Message::ResetOwner => Request::ResetOwner,
            Message::GetProtocolFeatures => Request::GetProtocolFeatures,
            Message::SetProtocolFeatures(bits) => {
                Request::SetProtocolFeatures(bits.features(usual_protocol()))
            }
            Message::GetQueueNum => Request::GetQueueNum,
            Message::SetMemTable(regions) => {
                let regions = regions.iter().take(8).map(|region| shared.region(*region, fds));
                Request::SetMemTable(regions.collect())
            }
            Message::AddMemReg(region) => {
                let (region, fd) = shared.region(*region, fds);
                Request::AddMemReg(region, fd)
            }
            Message::RemMemReg(region) => Request::RemMemReg(shared.region(*region, fds).0),
            Message::GetMaxMemSlots => Request::GetMaxMemSlots,
            other => other.ring_request(shared, fds),
        }
    }

    fn ring_request(&self, shared: &Shared, fds: &mut Fds) -> Request {
        let state = |ring: &u8, num: &Number| VringState { index: index(*ring), num: num.word() };
        let mut fd = |kind: &Option<Kind>| kind.map(|kind| fds.make(kind));
        match self {
            Message::Num { ring, size } => Request::SetVringNum(state(ring, size)),
            Message::Addr { ring, at: [descriptor, used, available], log, flags } => {
                Request::SetVringAddr(VringAddr {
                    index: index(*ring),
                    flags: (*flags).into(),
                    descriptor: USER.wrapping_add(descriptor.value()),
                    used: USER.wrapping_add(used.value()),
                    available: USER.wrapping_add(available.value()),
                    log: log.value(),
                })
            }
            Message::OwnAddr { ring, logged } => {
                Request::SetVringAddr(shared.addresses(ring % 4, (*logged).into()))
            }
            Message::Base { ring, base } => Request::SetVringBase(state(ring, base)),
            Message::Kick { ring, fd: kind } => {
                Request::SetVringKick { index: ring % 6, fd: fd(kind) }
            }
            Message::Call { ring, fd: kind } => {
                Request::SetVringCall { index: ring % 6, fd: fd(kind) }
            }
            Message::Err { ring, fd: kind } => {
                Request::SetVringErr { index: ring % 6, fd: fd(kind) }
            }
            Message::Enable { ring, enable } => {
                Request::SetVringEnable { index: index(*ring), enable: *enable }
            }
            Message::GetBase(ring) => Request::GetVringBase { index: index(*ring) },
            Message::VringKick(ring) => Request::VringKick { index: index(*ring) },
            Message::LogBase { size, offset, fd: kind } => {
                let log = Log { mmap_size: size.value(), mmap_offset: offset.value() };
                Request::SetLogBase(log, fd(kind))
            }
            Message::LogFd(kind) => Request::SetLogFd(fds.make(*kind)),
            other => other.device_request(shared, fds),
        }
    }

    fn device_request(&self, shared: &Shared, fds: &mut Fds) -> Request {
        match self {
            Message::GetInflight { queues, size } => Request::GetInflightFd(Inflight {
                mmap_size: 0,
                mmap_offset: 0,
                num_queues: u16::from(queues % 6),
                queue_size: size.word() as u16,
            }),
            Message::SetInflight { own, queues, queue_size, size, offset, kind } => {
                match &shared.inflight {
                    Some((region, fd)) if *own => {
                        Request::SetInflightFd(*region, fd.try_clone().unwrap())
                    }
                    _ => {
                        let region = Inflight {
                            mmap_size: size.value(),
                            mmap_offset: offset.value(),
                            num_queues: u16::from(queues % 6),
                            queue_size: queue_size.word() as u16,
                        };
                        Request::SetInflightFd(region, fds.make(*kind))
                    }
                }
            }
            Message::GetConfig { offset, size } => Request::GetConfig(ConfigHeader {
                offset: offset.word(),
                size: size.word() % 4096,
                flags: 0,
            }),
            Message::SetConfig { offset, data, flags } => {
                let (size, flags) = (data.len() as u32, u32::from(flags % 4));
                let access = ConfigHeader { offset: offset.word(), size, flags };
                Request::SetConfig { access, data: data.clone() }
            }
            Message::SetStatus(status) => Request::SetStatus(*status),
            Message::ResetDevice => Request::ResetDevice,
            Message::BackendFd(kind) => Request::SetBackendReqFd(fds.make(*kind)),
            Message::DeviceState { load, phase, kind } => Request::SetDeviceStateFd {
                direction: if *load { TransferDirection::Load } else { TransferDirection::Save },
                phase: phase.word() & 1,
                fd: fds.make(*kind),
            },
            Message::CheckDeviceState => Request::CheckDeviceState,
            Message::Mtu(mtu) => Request::NetSetMtu((*mtu).into()),
            Message::Rarp(mac) => Request::SendRarp(*mac),
            _ => Request::GetStatus,
        }
    }
}

/// The index of a ring, mostly of one that there is.
fn index(ring: u8) -> u32 {
    match ring {
        0xff => u32::MAX,
        0x80..=0xfe => u32::from(ring % 6),
        _ => u32::from(ring % 4),
    }
}
