//! The back-end's end of a connection.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{SendFlags, send};
use virtio_spec::features::{RING_PACKED, RING_RESET, VERSION_1, mask};
use virtio_spec::net::feature::MTU;
use virtio_spec::vhost_user::{F_PROTOCOL_FEATURES, Inflight, ProtocolFeatures, VringState};
use wire::{BackendRequest, Channel, Frame, Reply, Request};

use super::deed::Twist;

/// A back-end that can answer as it should.
pub(super) struct Peer {
    channel: Channel,
    requests: Option<Channel>,
}

impl Peer {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { channel: Channel::new(socket), requests: None }
    }

    /// Answers the request that has come, if one has.
    pub(super) fn answer(&mut self, twist: Option<&Twist>) {
        let Ok(Some(frame)) = self.channel.receive() else { return };
        let (code, need_reply) = (frame.code, frame.need_reply);
        let request = Request::decode(frame).expect("the front-end's messages are whole");
        let Some(reply) = self.proper(request, need_reply) else { return };
        let mut frame = reply.encode(code);
        if let Some(twist) = twist {
            twist.change(&mut frame);
        }
        self.send(frame);
    }

    fn proper(&mut self, request: Request, need_reply: bool) -> Option<Reply> {
        let bits = [VERSION_1, RING_RESET, RING_PACKED, F_PROTOCOL_FEATURES, MTU];
        Some(match request {
            Request::GetFeatures => Reply::U64(bits.iter().map(|bit| mask(*bit)).sum()),
            Request::GetProtocolFeatures => {
                let inband = ProtocolFeatures::INBAND_NOTIFICATIONS;
                Reply::U64((ProtocolFeatures::all() - inband).bits())
            }
            Request::GetQueueNum => Reply::U64(4),
            Request::GetMaxMemSlots => Reply::U64(8),
            Request::GetStatus => Reply::U64(0),
            Request::GetConfig(access) if access.size > 60 => Reply::ConfigRefused,
            Request::GetConfig(access) => {
                let data = vec![7; access.size as usize];
                let (offset, flags) = (access.offset, access.flags);
                Reply::Config(wire::Config { offset, flags, data })
            }
            Request::GetInflightFd(wish) => {
                let file = memfd_create("region", MemfdFlags::CLOEXEC).unwrap();
                ftruncate(&file, 0x8000).unwrap();
                Reply::Inflight(Inflight { mmap_size: 0x8000, ..wish }, file)
            }
            Request::GetVringBase { index } => Reply::VringState(VringState { index, num: 0 }),
            Request::SetBackendReqFd(fd) => {
                self.requests = Some(Channel::new(fd));
                return need_reply.then_some(Reply::Ack(0));
            }
            _ => return need_reply.then_some(Reply::Ack(0)),
        })
    }

    /// Sends a message, or as much of it as the socket takes.
    pub(super) fn send(&mut self, frame: Frame) {
        if self.channel.queue(frame).is_ok() {
            // Who has gone hears nothing.
            let _ = self.channel.flush();
        }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let _ = send(&self.channel, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    /// Sends a request on the back-end's own channel, if there is one.
    pub(super) fn request(&mut self, frame: Option<Frame>) {
        let Some(channel) = &mut self.requests else { return };
        let change = || BackendRequest::ConfigChange.encode().needing_reply(true);
        if channel.queue(frame.unwrap_or_else(change)).is_ok() {
            let _ = channel.flush();
        }
    }
}
