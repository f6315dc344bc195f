//! Descriptors that are read and written without ever waiting, whoever else uses them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fcntl_setfl, fstat, open};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// What a pipe that is ready takes without blocking (PIPE_BUF).
const READY: usize = 4096;

/// One direction of a link.
#[derive(Debug)]
pub(super) struct End {
    fd: OwnedFd,
    how: How,
}

/// How not to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It is non-blocking.
    NonBlocking,
    /// A socket that is not ours to make non-blocking.
    Socket,
    /// A regular file never waits.
    File,
    /// Something else that is not ours: only as much as it is ready for.
    WhenReady,
}

impl End {
    /// A descriptor of our own, made non-blocking.
    pub(super) fn own(fd: OwnedFd) -> rustix::io::Result<Self> {
        fcntl_setfl(&fd, rustix::fs::fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        Ok(Self { fd, how: How::NonBlocking })
    }

    /// A copy of a descriptor that others use, too (standard input or output). They would not
    /// expect it to be non-blocking, so terminals and pipes are opened a second time.
    pub(super) fn shared(fd: BorrowedFd<'_>, flags: OFlags) -> rustix::io::Result<Self> {
        let how = match FileType::from_raw_mode(fstat(fd)?.st_mode) {
            FileType::RegularFile => How::File,
            FileType::Socket => How::Socket,
            _ => {
                if let Ok(fd) = reopen(fd, flags) {
                    return Ok(Self { fd, how: How::NonBlocking });
                }
                How::WhenReady
            }
        };
        Ok(Self { fd: rustix::io::fcntl_dupfd_cloexec(fd, 3)?, how })
    }

    /// Reads what there is; [`Errno::AGAIN`] if there is nothing now, 0 at the end.
    pub(super) fn read(&self, into: &mut [u8]) -> rustix::io::Result<usize> {
        match self.how {
            How::NonBlocking | How::File => {}
            How::Socket | How::WhenReady => self.ready(PollFlags::IN)?,
        }
        rustix::io::read(&self.fd, into)
    }

    /// Writes what can be written now; [`Errno::AGAIN`] if that is nothing.
    pub(super) fn write(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        match self.how {
            How::NonBlocking | How::File => rustix::io::write(&self.fd, bytes),
            How::Socket => send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            How::WhenReady => {
                self.ready(PollFlags::OUT)?;
                rustix::io::write(&self.fd, bytes.get(..READY).unwrap_or(bytes))
            }
        }
    }

    fn ready(&self, flags: PollFlags) -> rustix::io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.fd, flags)];
        if poll(&mut fds, Some(&now))? == 0 { Err(Errno::AGAIN) } else { Ok(()) }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Another open file description of the same terminal or pipe, which can be non-blocking on its
/// own.
fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    open(path, flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::io::pipe;
    use std::os::unix::net::UnixStream;

    use rustix::fs::fcntl_getfl;

    use super::*;

    /// Writes until nothing more is taken; it would block for ever if it blocked at all.
    fn fill(end: &End) -> usize {
        let mut total = 0;
        loop {
            match end.write(&[b'x'; 10_000]) {
                Ok(count) => total += count,
                Err(error) => {
                    assert_eq!(error, Errno::AGAIN);
                    return total;
                }
            }
        }
    }

    #[test]
    fn a_pipe_that_others_use_never_blocks_us_and_stays_blocking_for_them() {
        let (reader, writer) = pipe().unwrap();
        let end = End::shared(writer.as_fd(), OFlags::WRONLY).unwrap();
        assert_eq!(end.how, How::NonBlocking, "opened a second time");
        assert!(fill(&end) >= READY);
        assert!(!fcntl_getfl(&writer).unwrap().contains(OFlags::NONBLOCK));
        let input = End::shared(reader.as_fd(), OFlags::RDONLY).unwrap();
        while input.read(&mut [0; 4096]).is_ok() {}
        assert_eq!(input.read(&mut [0; 1]), Err(Errno::AGAIN));
    }

    #[test]
    fn what_cannot_be_opened_again_is_only_written_when_it_is_ready() {
        let (reader, writer) = pipe().unwrap();
        let end = End { fd: writer.into(), how: How::WhenReady };
        assert!(fill(&end) >= READY);
        let input = End { fd: reader.into(), how: How::WhenReady };
        assert_eq!(input.read(&mut [0; 4096]), Ok(4096));
        assert_eq!(fill(&end), READY);
    }

    #[test]
    fn a_socket_that_others_use_never_blocks_us() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let end = End::shared(ours.as_fd(), OFlags::WRONLY).unwrap();
        assert_eq!(end.how, How::Socket);
        assert!(fill(&end) > 0);
        assert_eq!(end.read(&mut [0; 1]), Err(Errno::AGAIN));
        drop(theirs);
        assert!(end.write(b"x").is_err(), "without SIGPIPE");
    }
}
