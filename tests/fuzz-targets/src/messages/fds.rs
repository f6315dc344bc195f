//! Descriptors of all kinds, made so that one that is never closed shows: the other end of each
//! stays here.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use arbitrary::Arbitrary;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::MemfdFlags;

/// What comes as a descriptor.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Kind {
    Eventfd,
    /// One whose counter is full, so that a write to it blocks.
    FullEventfd,
    Socket,
    /// The end of a pipe that is read.
    PipeOut,
    /// The end of a pipe that is written.
    PipeIn,
    /// A pipe that is full.
    FullPipe,
    Memfd(u8),
}

/// The other ends.
#[derive(Debug, Default)]
pub(super) struct Fds {
    ends: Vec<OwnedFd>,
    sockets: Vec<UnixStream>,
}

impl Fds {
    /// A new descriptor.
    pub(super) fn make(&mut self, kind: Kind) -> OwnedFd {
        match kind {
            Kind::Eventfd => eventfd(1, EventfdFlags::CLOEXEC).unwrap(),
            Kind::FullEventfd => {
                let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
                rustix::io::write(&fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
                fd
            }
            Kind::Socket => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                ours.set_nonblocking(true).unwrap();
                self.sockets.push(ours);
                theirs.into()
            }
            Kind::PipeOut => {
                let (read, write) = std::io::pipe().unwrap();
                self.ends.push(write.into());
                read.into()
            }
            Kind::PipeIn | Kind::FullPipe => {
                let (read, write) = std::io::pipe().unwrap();
                let write = OwnedFd::from(write);
                if matches!(kind, Kind::FullPipe) {
                    rustix::pipe::fcntl_setpipe_size(&write, 4096).unwrap();
                    rustix::io::write(&write, &[0; 4096]).unwrap();
                }
                self.ends.push(read.into());
                write
            }
            Kind::Memfd(pages) => {
                let fd = rustix::fs::memfd_create("fuzz", MemfdFlags::CLOEXEC).unwrap();
                rustix::fs::ftruncate(&fd, u64::from(pages % 16) * 4096).unwrap();
                fd
            }
        }
    }

    /// Sends bytes on all sockets, and takes what has come.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for socket in &mut self.sockets {
            let _ = socket.write(bytes);
            let _ = socket.read(&mut [0; 4096]);
        }
    }

    /// Ends all input, and takes what has come: nobody waits for these any more.
    pub(super) fn finish(&mut self) {
        self.feed(&[]);
        for socket in &self.sockets {
            let _ = socket.shutdown(std::net::Shutdown::Write);
        }
        let is_read = |fd: &OwnedFd| {
            let flags = rustix::fs::fcntl_getfl(fd).unwrap();
            !flags.intersects(rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::RDWR)
        };
        self.ends.retain(is_read);
        for end in &self.ends {
            while is_ready(end, PollFlags::IN) && rustix::io::read(end, &mut [0; 4096]) != Ok(0) {}
        }
    }

    /// Whether the other side of each is closed.
    pub(super) fn assert_closed(&self) {
        let sockets = self.sockets.iter().map(AsFd::as_fd);
        for fd in self.ends.iter().map(AsFd::as_fd).chain(sockets) {
            assert!(is_ready(fd, PollFlags::HUP | PollFlags::ERR), "a descriptor was leaked");
        }
    }
}

fn is_ready(fd: impl AsFd, wanted: PollFlags) -> bool {
    let mut fds = [PollFd::new(&fd, wanted)];
    poll(&mut fds, Some(&Timespec::default())) == Ok(1) && fds[0].revents().intersects(wanted)
}
