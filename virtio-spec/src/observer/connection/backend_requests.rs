//! What a back-end asks of a front-end, on the socket that it was given for that.

use super::super::clause::vhost_user::*;
use super::super::violation::Findings;
use super::Meaning;
use super::rules;
use crate::features::{ACCESS_PLATFORM, mask};
use crate::vhost_user::{BackendRequest, MessageFlags, ProtocolFeatures, VERSION, VringState};

/// The back-end's channel.
#[derive(Debug, Default)]
pub(super) struct BackendRequests {
    connected: bool,
    /// The request that the front-end still has to answer.
    unanswered: Option<BackendRequest>,
}

/// A back-end's request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) request: BackendRequest,
    pub(super) flags: MessageFlags,
    pub(super) payload: &'a [u8],
    pub(super) fds: usize,
}

impl BackendRequests {
    /// The front-end sent the socket.
    pub(super) fn connected(&mut self) {
        self.connected = true;
    }

    pub(super) fn request(
        &mut self,
        sent: Request<'_>,
        protocol: ProtocolFeatures,
        features: u64,
        findings: &mut Findings,
    ) -> Meaning {
        let Request { request, flags, payload, fds } = sent;
        let name = request.name();
        findings.check(self.connected, &BACKEND_CHANNEL, || format!("{name} was sent"));
        let may_ask = protocol.contains(ProtocolFeatures::REPLY_ACK);
        let header =
            flags.version() == VERSION && !flags.is_reply() && (may_ask || !flags.needs_reply());
        findings.check(header, &BACKEND_HEADER, || format!("{name} has flags {:#x}", flags.bits()));
        let gated = match rules::backend_gate(request) {
            Some(feature) => protocol.contains(feature),
            None => features & mask(ACCESS_PLATFORM) != 0,
        };
        let with_fds = fds == 0 || protocol.contains(ProtocolFeatures::BACKEND_SEND_FD);
        findings.check(gated && with_fds, &BACKEND_GATED, || {
            format!("{name} was sent with {fds} descriptors")
        });
        findings.check(
            rules::backend_payload_fits(request, payload, fds),
            &BACKEND_PAYLOAD,
            || format!("{name} has {} bytes and {fds} descriptors", payload.len()),
        );
        let answered = flags.needs_reply() || request == BackendRequest::SharedObjectLookup;
        self.unanswered = answered.then_some(request);
        meaning(request, payload)
    }

    /// The front-end answered.
    pub(super) fn reply(&mut self, payload: &[u8], findings: &mut Findings) {
        let asked = self.unanswered.take();
        let fits = asked.is_some() && payload.len() == size_of::<u64>();
        findings.check(fits, &FRONTEND_REPLY, || {
            format!("{asked:?} was answered with {} bytes", payload.len())
        });
    }

    pub(super) fn quiesce(&mut self, findings: &mut Findings) {
        if let Some(request) = self.unanswered.take() {
            findings.breach(&FRONTEND_REPLY, format!("{} was not answered", request.name()));
        }
    }
}

/// An in-band call counts as a call.
fn meaning(request: BackendRequest, payload: &[u8]) -> Meaning {
    let ring = VringState::from_prefix(payload).and_then(|state| u16::try_from(state.index).ok());
    match (request, ring) {
        (BackendRequest::VringCall, Some(ring)) => Meaning::Called(ring),
        _ => Meaning::None,
    }
}
