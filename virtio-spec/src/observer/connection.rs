//! A vhost-user connection: what each side may send, what it owes, and in which states the rings
//! are.

mod backend_requests;
mod memory;
mod replies;
mod rings;
mod rules;

pub(super) use rings::Phase;

use super::clause::vhost_user::*;
use super::ring::{Standing, Ways};
use super::step::Message;
use super::violation::Findings;
use crate::features::mask;
use crate::vhost_user::{
    F_LOG_ALL, F_PROTOCOL_FEATURES, FrontendRequest, MessageFlags, ProtocolFeatures, VERSION,
    VringFd, VringState,
};
use backend_requests::BackendRequests;
use memory::Regions;
use replies::{Came, Owed, Replies};
use rings::Rings;
use rules::{Answer, Gate, number};

/// What a message means for a ring or for the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing beyond the connection.
    None,
    /// SET_FEATURES: these are the driver's features.
    Features(u64),
    /// An in-band kick.
    Kicked(u16),
    /// An in-band call.
    Called(u16),
}

/// The state of the connection.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// A message was seen; without one, rings know no vhost-user states.
    in_use: bool,
    serial: u64,
    offered: Option<u64>,
    acked: u64,
    protocol_offered: Option<ProtocolFeatures>,
    protocol: ProtocolFeatures,
    queue_num: Option<u64>,
    replies: Replies,
    rings: Rings,
    regions: Regions,
    backend: BackendRequests,
}

/// A request on its way.
#[derive(Debug, Clone, Copy)]
struct Request<'a> {
    request: FrontendRequest,
    flags: MessageFlags,
    payload: &'a [u8],
    fds: usize,
}

impl Connection {
    /// Whether the back-end may use this ring. Without any message it may.
    pub(super) fn phase(&self, ring: u16) -> Phase {
        if self.in_use { self.rings.phase(u32::from(ring)) } else { Phase::Running }
    }

    /// Whether the ring is certainly disabled.
    pub(super) fn is_disabled(&self, ring: u16) -> bool {
        self.in_use && self.rings.is_disabled(u32::from(ring))
    }

    /// Whether the device is certainly suspended.
    pub(super) fn is_suspended(&self) -> bool {
        self.in_use && self.rings.are_stopped()
    }

    /// How the ring's sides can notify each other, if it is served at all.
    pub(super) fn ways(&self, ring: u16) -> Ways {
        if !self.in_use {
            return Ways::BOTH;
        }
        let by_fd = self.rings.ways(u32::from(ring));
        let inband = self.protocol.contains(ProtocolFeatures::INBAND_NOTIFICATIONS)
            && self.phase(ring) == Phase::Running
            && !self.is_disabled(ring);
        Ways { call: by_fd.call || inband, kick: by_fd.kick || inband }
    }

    /// The driver looked at a ring, which stands there.
    pub(super) fn looked(&mut self, ring: u16, standing: Standing, findings: &mut Findings) {
        let Some(base) = self.rings.looked(u32::from(ring)) else { return };
        if self.protocol.contains(ProtocolFeatures::GET_VRING_BASE_INFLIGHT) {
            return;
        }
        let (told, expected, reserved) = match standing {
            Standing::Split(used) => (base & 0xffff, u32::from(used), base >> 16),
            // Both positions, the available one in the low half.
            Standing::Packed(used) => (base, u32::from(used.to_bits()) * 0x1_0001, 0),
        };
        findings.check(reserved == 0, &BASE_INDEX, || format!("the base is {base:#x}"));
        let drained = told == expected;
        findings.check(drained, &BASE_DRAINED, || {
            format!("ring {ring} stopped at {base:#x}, the driver sees it at {standing:?}")
        });
    }

    pub(super) fn observe(&mut self, message: Message<'_>, findings: &mut Findings) -> Meaning {
        self.in_use = true;
        match message {
            Message::Connected => self.connected(),
            Message::Closed => {
                self.replies.forget();
                self.backend = BackendRequests::default();
            }
            Message::Request { request, flags, payload, fds } => {
                return self.request(Request { request, flags, payload, fds }, findings);
            }
            Message::Reply { request, flags, payload, fds } => {
                self.reply(Came { request, flags, payload, fds }, findings);
            }
            Message::BackendRequest { request, flags, payload, fds } => {
                let suspended = self.rings.are_stopped();
                findings.check(!suspended, &SUSPENDED_MESSAGE, || {
                    format!("{} was sent", request.name())
                });
                let request = backend_requests::Request { request, flags, payload, fds };
                return self.backend.request(request, self.protocol, self.acked, findings);
            }
            Message::BackendReply { payload } => self.backend.reply(payload, findings),
        }
        Meaning::None
    }

    /// What both sides still owe when nothing moves.
    pub(super) fn quiesce(&mut self, findings: &mut Findings) {
        self.replies.quiesce(findings);
        self.backend.quiesce(findings);
    }

    fn connected(&mut self) {
        let mut rings = std::mem::take(&mut self.rings);
        rings.disconnected();
        *self = Self { in_use: true, rings, ..Self::default() };
    }

    fn has_log_shmfd(&self) -> bool {
        self.protocol.contains(ProtocolFeatures::LOG_SHMFD)
    }

    fn request(&mut self, sent: Request<'_>, findings: &mut Findings) -> Meaning {
        self.serial += 1;
        self.judge_request(sent, findings);
        self.owe(sent);
        self.regions.request(sent.request, sent.payload, findings);
        self.apply(sent, findings)
    }

    fn judge_request(&self, sent: Request<'_>, findings: &mut Findings) {
        let Request { request, flags, payload, fds } = sent;
        let name = request.name();
        let may_ask = self.protocol.contains(ProtocolFeatures::REPLY_ACK);
        let header =
            flags.version() == VERSION && !flags.is_reply() && (may_ask || !flags.needs_reply());
        findings.check(header, &REQUEST_HEADER, || format!("{name} has flags {:#x}", flags.bits()));
        findings.check(
            rules::payload_fits(request, payload, self.has_log_shmfd()),
            &REQUEST_PAYLOAD,
            || format!("{name} has {} bytes", payload.len()),
        );
        findings.check(
            rules::fds_fit(request, payload, fds, self.has_log_shmfd()),
            &REQUEST_FDS,
            || format!("{name} carries {fds} descriptors"),
        );
        findings.check(self.passes(rules::gate(request)), &REQUEST_GATED, || {
            format!("{name} was sent")
        });
        let early = request == FrontendRequest::SetDeviceStateFd && !self.rings.are_stopped();
        findings.check(!early, &STATE_SUSPENDED, || format!("{name} was sent"));
        self.judge_ring_request(request, payload, findings);
    }

    fn judge_ring_request(
        &self,
        request: FrontendRequest,
        payload: &[u8],
        findings: &mut Findings,
    ) {
        use FrontendRequest as R;
        let Some(ring) = rules::ring_index(request, payload) else { return };
        let exists = self.queue_num.is_none_or(|queues| u64::from(ring) < queues);
        findings.check(exists, &RING_INDEX, || format!("{} names ring {ring}", request.name()));
        let sets_up = matches!(request, R::SetVringNum | R::SetVringBase);
        let running = self.rings.is_in_use(ring);
        findings.check(!(sets_up && running), &RING_STOPPED, || {
            format!("{} for ring {ring}, which runs", request.name())
        });
        let reserved = match request {
            R::GetVringBase | R::VringKick => {
                VringState::from_prefix(payload).map_or(0, |state| u64::from(state.num))
            }
            R::SetVringKick | R::SetVringCall | R::SetVringErr => rules::vring_fd(payload)
                .map_or(0, |fd| fd.difference(VringFd::INDEX_MASK | VringFd::NO_FD).bits()),
            _ => 0,
        };
        findings.check(reserved == 0, &RESERVED_ZERO, || {
            format!("{} has {reserved:#x}", request.name())
        });
    }

    fn passes(&self, gate: Gate) -> bool {
        let bit = mask(F_PROTOCOL_FEATURES);
        match gate {
            Gate::Open => true,
            Gate::ProtocolOffered => self.offered.is_none_or(|offered| offered & bit != 0),
            Gate::ProtocolAcked => self.acked & bit != 0,
            Gate::Offered(feature) => {
                self.protocol_offered.is_none_or(|offered| offered.contains(feature))
            }
            Gate::Set(feature) => self.protocol.contains(feature),
        }
    }

    fn owe(&mut self, sent: Request<'_>) {
        let answer = rules::answer(sent.request, self.has_log_shmfd());
        let acks = self.protocol.contains(ProtocolFeatures::REPLY_ACK) && sent.flags.needs_reply();
        if answer == Answer::None && !acks {
            return;
        }
        self.replies.owe(Owed {
            serial: self.serial,
            request: sent.request,
            answer,
            is_ack: answer == Answer::None,
            payload: sent.payload.to_vec(),
        });
    }

    fn apply(&mut self, sent: Request<'_>, findings: &mut Findings) -> Meaning {
        use FrontendRequest as R;
        let payload = sent.payload;
        let ring = rules::ring_index(sent.request, payload);
        match (sent.request, ring) {
            (R::SetFeatures, _) => return self.set_features(payload, findings),
            (R::SetProtocolFeatures, _) => self.set_protocol_features(payload, findings),
            (R::SetVringKick, Some(ring)) => self.rings.set_kick(ring, sent.fds > 0),
            (R::SetVringCall, Some(ring)) => self.rings.set_call(ring, sent.fds > 0),
            (R::VringKick, Some(ring)) => {
                self.rings.start(ring);
                return u16::try_from(ring).map_or(Meaning::None, Meaning::Kicked);
            }
            (R::SetVringEnable, Some(ring)) => {
                match VringState::from_prefix(payload).map(|state| state.num) {
                    Some(0) | None => self.rings.disable(ring, self.serial),
                    Some(_) => self.rings.enable(ring),
                }
            }
            (R::ResetDevice, _) => self.rings.reset(self.serial),
            (R::SetBackendReqFd, _) => self.backend.connected(),
            _ => {}
        }
        Meaning::None
    }

    fn set_features(&mut self, payload: &[u8], findings: &mut Findings) -> Meaning {
        let Some(bits) = number(payload) else { return Meaning::None };
        let unoffered = self.offered.map_or(0, |offered| bits & !offered);
        findings.check(unoffered == 0, &FEATURES_ACCEPT, || format!("{unoffered:#x} was set"));
        self.acked = bits;
        if bits & mask(F_PROTOCOL_FEATURES) == 0 {
            self.rings.enable_all();
        }
        Meaning::Features(bits & !mask(F_PROTOCOL_FEATURES) & !mask(F_LOG_ALL))
    }

    fn set_protocol_features(&mut self, payload: &[u8], findings: &mut Findings) {
        let Some(bits) = number(payload) else { return };
        let set = ProtocolFeatures::from_bits_retain(bits);
        let unoffered = self.protocol_offered.map_or(0, |offered| bits & !offered.bits());
        let lacking = set.lacking_support();
        findings.check(unoffered == 0 && lacking.is_empty(), &PROTOCOL_ACCEPT, || {
            format!("{set:?} was set: not offered {unoffered:#x}, without support {lacking:?}")
        });
        self.protocol = set;
    }

    fn reply(&mut self, came: Came<'_>, findings: &mut Findings) {
        let Some(owed) = self.replies.came(came, findings) else { return };
        self.rings.answered(owed.serial);
        match owed.request {
            FrontendRequest::GetFeatures => self.features_offered(came.payload, findings),
            FrontendRequest::GetProtocolFeatures => {
                let Some(bits) = number(came.payload) else { return };
                let offered = ProtocolFeatures::from_bits_retain(bits);
                let lacking = offered.lacking_support();
                findings.check(lacking.is_empty(), &OFFER_PROTOCOL_WHOLE, || {
                    format!("{lacking:?} was offered without what it needs")
                });
                self.protocol_offered = Some(offered);
            }
            FrontendRequest::GetQueueNum => self.queue_num = number(came.payload),
            FrontendRequest::GetVringBase => {
                if let Some(base) = VringState::from_prefix(came.payload) {
                    self.rings.stopped(base.index, base.num);
                }
            }
            _ => {}
        }
    }

    fn features_offered(&mut self, payload: &[u8], findings: &mut Findings) {
        let Some(bits) = number(payload) else { return };
        let before = self.offered.replace(bits);
        findings.check(before.is_none_or(|before| before == bits), &FEATURES_STABLE, || {
            format!("{before:#x?} became {bits:#x}")
        });
    }
}
