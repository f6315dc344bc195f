//! A little theatre: a driver, a device and a front-end whose steps read like their names.

use crate::DeviceType;
use crate::features::{Offered, RING_PACKED, VERSION_1};
use crate::observer::{
    DeviceStep, Message, Observer, PackedBuffer, RingSetup, RingStart, RingStep, SplitBuffer, Step,
    Suppress, Violation,
};
use crate::packed::{self, EventSuppress, Position};
use crate::split::{DESC_F_NEXT, DESC_F_WRITE, Descriptor, UsedElem};
use crate::status::Status;
use crate::vhost_user::{
    BackendRequest, F_PROTOCOL_FEATURES, FrontendRequest, MessageFlags, ProtocolFeatures,
    VringState,
};

pub(super) const AREAS: [u64; 3] = [0x1000, 0x2000, 0x3000];

/// What a step came to.
pub(super) type Outcome = Result<(), Violation>;

pub(super) struct Scene {
    pub(super) observer: Observer,
    /// Where the next list of a packed ring goes.
    next_avail: Position,
    size: u16,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::of(DeviceType(0))
    }

    pub(super) fn of(device: DeviceType) -> Self {
        Self { observer: Observer::of(device), next_avail: Position::START, size: 0 }
    }

    /// The step may break a clause.
    pub(super) fn step<'a>(&mut self, step: impl Into<Step<'a>>) -> Outcome {
        self.observer.observe(step)
    }

    /// The step breaks none.
    pub(super) fn fine<'a>(&mut self, step: impl Into<Step<'a>>) {
        let step = step.into();
        if let Err(violation) = self.observer.observe(step) {
            panic!("{step:?}: {violation}");
        }
    }

    pub(super) fn ring(&mut self, step: RingStep<'_>) -> Outcome {
        self.step((0, step))
    }

    pub(super) fn fine_ring(&mut self, step: RingStep<'_>) {
        self.fine((0, step));
    }

    // The device's life.

    /// Negotiates these features besides VERSION_1.
    pub(super) fn negotiated(&mut self, bits: &[u32]) {
        let offered = Offered::of(bits).with(VERSION_1);
        self.fine(DeviceStep::FeaturesOffered(offered));
        self.fine(DeviceStep::FeaturesAcked(offered.bits()));
    }

    pub(super) fn status(&mut self, status: Status) {
        self.fine(DeviceStep::StatusWritten(status));
        self.fine(DeviceStep::StatusRead(status));
    }

    /// Goes through the driver's sequence up to DRIVER_OK.
    pub(super) fn driver_ok(&mut self) {
        let mut status = Status::RESET;
        for next in [Status::ACKNOWLEDGE, Status::DRIVER, Status::FEATURES_OK, Status::DRIVER_OK] {
            status |= next;
            self.status(status);
        }
    }

    pub(super) fn reset(&mut self) {
        self.fine(DeviceStep::StatusWritten(Status::RESET));
        self.fine(DeviceStep::StatusRead(Status::RESET));
    }

    // A split ring.

    /// Sets up ring 0 as a split ring with these features.
    pub(super) fn split(&mut self, size: u16, bits: &[u32]) {
        self.negotiated(bits);
        let setup = RingSetup { size, areas: AREAS, start: RingStart::Split(0) };
        self.fine_ring(RingStep::Configured(setup));
    }

    /// Puts a chain of one descriptor of 512 writable bytes in.
    pub(super) fn put(&mut self, position: u16, head: u16) {
        let step = RingStep::SplitAvailable(SplitBuffer {
            position,
            head,
            descriptors: &[(head, writable(512))],
            table: &[],
        });
        self.fine_ring(step);
    }

    /// Puts a chain in and makes it available.
    pub(super) fn give(&mut self, position: u16, head: u16) {
        self.put(position, head);
        self.fine_ring(RingStep::AvailIdx(position.wrapping_add(1)));
    }

    pub(super) fn chain(&mut self, descriptors: &[(u16, Descriptor)]) -> Outcome {
        self.chain_with_table(descriptors, &[])
    }

    pub(super) fn chain_with_table(
        &mut self,
        descriptors: &[(u16, Descriptor)],
        table: &[Descriptor],
    ) -> Outcome {
        let head = descriptors.first().map_or(0, |(index, _)| *index);
        self.ring(RingStep::SplitAvailable(SplitBuffer { position: 0, head, descriptors, table }))
    }

    pub(super) fn used(&mut self, id: u32, len: u32) -> Outcome {
        self.ring(RingStep::Used(UsedElem { id, len }))
    }

    // A packed ring.

    /// Sets up ring 0 as a packed ring with these features.
    pub(super) fn packed(&mut self, size: u16, bits: &[u32]) {
        let mut all = vec![RING_PACKED];
        all.extend(bits);
        self.negotiated(&all);
        let setup = RingSetup { size, areas: AREAS, start: RingStart::Packed(Position::START) };
        self.fine_ring(RingStep::Configured(setup));
        self.size = size;
    }

    /// The flags of a descriptor that the driver makes available next.
    pub(super) fn avail_flags(&self) -> u16 {
        packed::avail_flags(self.next_avail.wrap)
    }

    /// Makes a buffer of one writable descriptor available.
    pub(super) fn give_packed(&mut self, id: u16) {
        let flags = DESC_F_WRITE | self.avail_flags();
        let descriptor = packed::Descriptor { addr: 0x8000, len: 512, id, flags };
        let outcome = self.list(id, &[descriptor]);
        assert_eq!(outcome, Ok(()));
    }

    pub(super) fn list(&mut self, id: u16, descriptors: &[packed::Descriptor]) -> Outcome {
        let position = self.next_avail;
        let count = u16::try_from(descriptors.len()).unwrap();
        self.next_avail = position.advance(count, self.size);
        let buffer = PackedBuffer { position, id, descriptors, table: &[] };
        self.ring(RingStep::PackedAvailable(buffer))
    }

    pub(super) fn used_packed(&mut self, id: u16, len: u32, wrap: bool) -> Outcome {
        let flags = packed::used_flags(wrap, true);
        self.ring(RingStep::PackedNext(packed::Descriptor { addr: 0, len, id, flags }))
    }

    // Messages.

    /// Connects with these protocol features, set and offered, and gives the back-end a channel
    /// if it may have one.
    pub(super) fn connect(&mut self, protocol: ProtocolFeatures) {
        let features = 1 << F_PROTOCOL_FEATURES | 1 << VERSION_1;
        self.fine(Message::Connected);
        self.exchange(FrontendRequest::GetFeatures, &[], features);
        self.exchange(FrontendRequest::GetProtocolFeatures, &[], protocol.bits());
        self.send(FrontendRequest::SetProtocolFeatures, &protocol.bits().to_le_bytes());
        self.send(FrontendRequest::SetFeatures, &features.to_le_bytes());
        if protocol.contains(ProtocolFeatures::BACKEND_REQ) {
            self.fine(message(FrontendRequest::SetBackendReqFd, &[], 1));
        }
    }

    /// Sends a request that has no answer.
    pub(super) fn send(&mut self, request: FrontendRequest, payload: &[u8]) {
        self.fine(message(request, payload, 0));
    }

    /// Sends a request that is answered with a number.
    pub(super) fn exchange(&mut self, request: FrontendRequest, payload: &[u8], answer: u64) {
        self.send(request, payload);
        self.fine(reply(request, &answer.to_le_bytes(), 0));
    }

    /// Starts and enables ring 0, with a way to call.
    pub(super) fn start(&mut self) {
        self.fine(message(FrontendRequest::SetVringCall, &0_u64.to_le_bytes(), 1));
        self.fine(message(FrontendRequest::SetVringKick, &0_u64.to_le_bytes(), 1));
        self.send(FrontendRequest::SetVringEnable, &state(0, 1));
    }

    /// Stops ring 0, at this base.
    pub(super) fn stop(&mut self, base: u32) {
        self.send(FrontendRequest::GetVringBase, &state(0, 0));
        self.fine(reply(FrontendRequest::GetVringBase, &state(0, base), 0));
    }
}

pub(super) fn state(index: u32, num: u32) -> [u8; VringState::SIZE] {
    VringState { index, num }.to_bytes()
}

/// A front-end's request without need-reply.
pub(super) fn message(request: FrontendRequest, payload: &[u8], fds: usize) -> Message<'_> {
    Message::Request { request, flags: MessageFlags::REQUEST, payload, fds }
}

/// A front-end's request with need-reply.
pub(super) fn asking(request: FrontendRequest, payload: &[u8]) -> Message<'_> {
    let flags = MessageFlags::REQUEST | MessageFlags::NEED_REPLY;
    Message::Request { request, flags, payload, fds: 0 }
}

/// A back-end's answer.
pub(super) fn reply(request: FrontendRequest, payload: &[u8], fds: usize) -> Message<'_> {
    Message::Reply { request: request.number(), flags: MessageFlags::ANSWER, payload, fds }
}

/// A back-end's request without need-reply.
pub(super) fn backend(request: BackendRequest, payload: &[u8]) -> Message<'_> {
    Message::BackendRequest { request, flags: MessageFlags::REQUEST, payload, fds: 0 }
}

pub(super) fn writable(len: u32) -> Descriptor {
    Descriptor { addr: 0x8000, len, flags: DESC_F_WRITE, next: 0 }
}

pub(super) fn readable(len: u32) -> Descriptor {
    Descriptor { addr: 0x8000, len, flags: 0, next: 0 }
}

/// The descriptor, going on at `next`.
pub(super) fn then(descriptor: Descriptor, next: u16) -> Descriptor {
    Descriptor { flags: descriptor.flags | DESC_F_NEXT, next, ..descriptor }
}

pub(super) fn wish(flags: u16, event: u16) -> Suppress {
    Suppress::Split { flags, event }
}

pub(super) fn packed_wish(flags: u16, off_wrap: u16) -> Suppress {
    Suppress::Packed(EventSuppress { off_wrap, flags })
}
