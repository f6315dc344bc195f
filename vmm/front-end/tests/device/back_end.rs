//! A back-end that does as its script says.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use front_end::Socket;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{Shutdown, shutdown};
use tempfile::TempDir;
use virtio_spec::features::{RING_PACKED, RING_RESET, VERSION_1, mask};
use virtio_spec::vhost_user::{F_PROTOCOL_FEATURES, Inflight, ProtocolFeatures, VringState};
use wire::{Channel, Frame, Reply, Request};

/// What a back-end does when it has got a request.
pub(crate) enum Reaction {
    /// As the protocol wants it.
    Proper,
    /// Nothing, and never again, but it holds the connection.
    Hang,
    /// Ends the connection.
    Close,
    /// Sends this instead.
    Send(Frame),
}

/// Decides from the request and the number of connections before this one.
pub(crate) type Script = dyn Fn(&Request, usize) -> Reaction + Send + Sync;

/// A back-end that listens on a socket file.
pub(crate) struct BackEnd {
    directory: TempDir,
    pub(crate) seen: Arc<Seen>,
}

/// What a back-end has seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// Names of requests, of all connections.
    pub(crate) requests: Mutex<Vec<String>>,
    /// The channel for its own requests.
    pub(crate) channel: Mutex<Option<OwnedFd>>,
    /// Its configuration space.
    pub(crate) config: Mutex<Vec<u8>>,
    connections: Mutex<Vec<UnixStream>>,
}

impl BackEnd {
    /// A back-end that keeps to the protocol.
    pub(crate) fn proper() -> Self {
        Self::scripted(|_, _| Reaction::Proper)
    }

    pub(crate) fn scripted(
        script: impl Fn(&Request, usize) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let seen = Arc::new(Seen { config: Mutex::new(vec![7; 60]), ..Seen::default() });
        let theirs = Arc::clone(&seen);
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || {
            for (count, socket) in listener.incoming().enumerate() {
                let Ok(socket) = socket else { return };
                theirs.connections.lock().unwrap().push(socket.try_clone().unwrap());
                serve(socket, &theirs, &script, count);
            }
        });
        Self { directory, seen }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    pub(crate) fn source(&self) -> Socket {
        Socket::new(self.path())
    }

    /// Ends the connection of now.
    pub(crate) fn cut(&self) {
        for socket in self.seen.connections.lock().unwrap().drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.seen.requests.lock().unwrap().iter().filter(|there| *there == name).count()
    }
}

impl Drop for BackEnd {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Serves one connection to its end.
pub(crate) fn serve(socket: UnixStream, seen: &Seen, script: &Arc<Script>, connection: usize) {
    let mut channel = Channel::new(socket.into());
    loop {
        let frame = match channel.receive() {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                poll(&mut [PollFd::new(&channel, PollFlags::IN)], None).unwrap();
                continue;
            }
            Err(_) => return,
        };
        let (code, need_reply) = (frame.code, frame.need_reply);
        let request = Request::decode(frame).unwrap();
        seen.requests.lock().unwrap().push(request.name());
        let frame = match script(&request, connection) {
            Reaction::Proper => proper(request, need_reply, seen).map(|reply| reply.encode(code)),
            Reaction::Hang => {
                while !matches!(channel.receive(), Err(wire::Error::Closed)) {
                    thread::sleep(Duration::from_millis(5));
                }
                return;
            }
            Reaction::Close => {
                let _ = shutdown(&channel, Shutdown::Both);
                return;
            }
            Reaction::Send(frame) => Some(frame),
        };
        if let Some(frame) = frame {
            channel.queue(frame).unwrap();
            if channel.flush().is_err() {
                return;
            }
        }
    }
}

/// The features of a back-end that keeps to the protocol.
pub(crate) fn features() -> u64 {
    mask(VERSION_1) | mask(RING_RESET) | mask(RING_PACKED) | mask(F_PROTOCOL_FEATURES)
}

/// The answer that the protocol wants.
fn proper(request: Request, need_reply: bool, seen: &Seen) -> Option<Reply> {
    Some(match request {
        Request::GetFeatures => Reply::U64(features()),
        Request::GetProtocolFeatures => {
            let without = ProtocolFeatures::DEVICE_STATE | ProtocolFeatures::INBAND_NOTIFICATIONS;
            Reply::U64((ProtocolFeatures::all() - without).bits())
        }
        Request::GetQueueNum => Reply::U64(2),
        Request::GetMaxMemSlots => Reply::U64(8),
        Request::GetStatus => Reply::U64(0),
        Request::GetConfig(access) => {
            let config = seen.config.lock().unwrap();
            let end = usize::try_from(access.offset + access.size).unwrap();
            match config.get(usize::try_from(access.offset).unwrap()..end) {
                Some(data) => {
                    let (offset, flags) = (access.offset, access.flags);
                    Reply::Config(wire::Config { offset, flags, data: data.to_vec() })
                }
                None => Reply::ConfigRefused,
            }
        }
        Request::GetInflightFd(wish) => {
            let file = memfd_create("region", MemfdFlags::CLOEXEC).unwrap();
            ftruncate(&file, 0x4000).unwrap();
            Reply::Inflight(Inflight { mmap_size: 0x4000, ..wish }, file)
        }
        Request::GetVringBase { index } => Reply::VringState(VringState { index, num: 0 }),
        Request::SetLogBase(log, _) => Reply::Log(log),
        Request::SetBackendReqFd(fd) => {
            *seen.channel.lock().unwrap() = Some(fd);
            return need_reply.then_some(Reply::Ack(0));
        }
        _ => return need_reply.then_some(Reply::Ack(0)),
    })
}
