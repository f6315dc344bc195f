//! A back-end that answers messages as a well-behaved one does, serves no ring, and remembers what
//! it was asked: for tests of the front-end's messages.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{MemfdFlags, memfd_create};
use virtio_spec::features;
use virtio_spec::vhost_user::{
    F_LOG_ALL, F_PROTOCOL_FEATURES, Inflight, ProtocolFeatures, TransferDirection, VringState,
};
use wire::{BackendRequest, Channel, Config, Frame, Reply, Request};

use crate::Deadline;

/// Device feature bits that it offers: VERSION_1 and these of transports.
pub(crate) fn offered() -> u64 {
    [features::VERSION_1, features::RING_PACKED, F_LOG_ALL, F_PROTOCOL_FEATURES]
        .into_iter()
        .map(features::mask)
        .sum()
}

/// Starts a back-end with these protocol features. Returns the front-end's socket and the names of
/// requests as they arrive.
pub(crate) fn start(protocol: ProtocolFeatures) -> (UnixStream, Receiver<String>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (seen, names) = channel();
    thread::spawn(move || {
        let mut script = Script { protocol, status: 0, state: b"state".to_vec(), loading: None };
        let mut requests = Channel::new(theirs.into());
        let mut back_channel = None;
        while let Some(frame) = next(&mut requests) {
            let (code, need_reply) = (frame.code, frame.need_reply);
            let request = Request::decode(frame).unwrap();
            let _ = seen.send(request.name());
            let answers = request.has_reply();
            let reply = script.answer(request, &mut back_channel);
            if answers || need_reply {
                send(&mut requests, reply.encode(code));
            }
        }
    });
    (ours, names)
}

struct Script {
    protocol: ProtocolFeatures,
    status: u8,
    state: Vec<u8>,
    loading: Option<File>,
}

impl Script {
    fn answer(&mut self, request: Request, back_channel: &mut Option<Channel>) -> Reply {
        match request {
            Request::GetFeatures => Reply::U64(offered()),
            Request::GetProtocolFeatures => Reply::U64(self.protocol.bits()),
            Request::GetQueueNum => Reply::U64(4),
            Request::GetMaxMemSlots => Reply::U64(509),
            Request::GetStatus => Reply::U64(self.status.into()),
            Request::SetStatus(status) => {
                self.status = status;
                Reply::ack(true)
            }
            Request::GetVringBase { index } => Reply::VringState(VringState { index, num: 7 }),
            Request::GetConfig(access) => Reply::Config(Config {
                offset: access.offset,
                flags: access.flags,
                data: vec![0x55; access.size as usize],
            }),
            Request::SetBackendReqFd(fd) => {
                *back_channel = Some(Channel::new(fd));
                Reply::ack(true)
            }
            Request::VringKick { index } => {
                let call = BackendRequest::VringCall { index }.encode();
                send(back_channel.as_mut().unwrap(), call.needing_reply(true));
                Reply::ack(true)
            }
            Request::SetConfig { .. } => {
                send(back_channel.as_mut().unwrap(), BackendRequest::ConfigChange.encode());
                Reply::ack(true)
            }
            other => self.answer_about_files(other),
        }
    }

    fn answer_about_files(&mut self, request: Request) -> Reply {
        match request {
            Request::GetInflightFd(wish) => {
                Reply::Inflight(Inflight { mmap_size: 4096, ..wish }, memfd())
            }
            Request::SetInflightFd(inflight, file) => {
                // Whoever gets the region later sees that it is the same one.
                let stamp = [inflight.queue_size.to_le_bytes(), [1, 2]].concat();
                File::from(file).write_all(&stamp).unwrap();
                Reply::ack(true)
            }
            Request::SetLogBase(log, file) => {
                // Pages 1 and 9 are dirty.
                std::os::unix::fs::FileExt::write_at(
                    &File::from(file.unwrap()),
                    &[2, 2],
                    log.mmap_offset,
                )
                .unwrap();
                Reply::Ack(0)
            }
            Request::SetDeviceStateFd { direction: TransferDirection::Save, fd, .. } => {
                File::from(fd).write_all(&self.state).unwrap();
                Reply::DeviceState { error: 0, fd: None }
            }
            Request::SetDeviceStateFd { fd, .. } => {
                self.loading = Some(fd.into());
                Reply::DeviceState { error: 0, fd: None }
            }
            Request::CheckDeviceState => {
                let mut state = Vec::new();
                if let Some(mut file) = self.loading.take() {
                    file.read_to_end(&mut state).unwrap();
                    return Reply::U64(u64::from(state != b"state"));
                }
                Reply::U64(0)
            }
            _ => Reply::ack(true),
        }
    }
}

fn memfd() -> OwnedFd {
    memfd_create("inflight", MemfdFlags::CLOEXEC).unwrap()
}

fn next(channel: &mut Channel) -> Option<Frame> {
    loop {
        match channel.receive() {
            Ok(Some(frame)) => return Some(frame),
            Ok(None) => {
                let deadline = Deadline::after(Duration::from_secs(10));
                deadline.wait(&*channel, PollFlags::IN).unwrap();
            }
            Err(_) => return None,
        }
    }
}

fn send(channel: &mut Channel, frame: Frame) {
    channel.queue(frame).unwrap();
    assert!(channel.flush().unwrap());
}
