//! How a driver is called: told that there is something in the used ring.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;

/// Where calls go.
#[derive(Clone, Debug, Default)]
pub enum Call {
    /// Nowhere: the driver polls.
    #[default]
    None,
    /// To an eventfd (or a pipe) of the front-end.
    Fd(CallFd),
    /// As a message on the back-end's own channel (in-band notifications): the connection thread
    /// looks at the count when it is woken.
    Message(Arc<MessageCall>),
    /// To a counter: simulations and drivers in the same process.
    Counter(Arc<AtomicU64>),
}

/// A call descriptor.
#[derive(Clone, Debug)]
pub struct CallFd(Arc<OwnedFd>);

/// Calls that the connection thread sends on.
#[derive(Debug)]
pub struct MessageCall {
    /// The queue's index on the device.
    pub queue: u16,
    /// Calls not sent yet; several become one message.
    pub pending: AtomicU64,
    /// Wakes the connection thread.
    pub waker: Arc<OwnedFd>,
}

impl Call {
    /// A call by descriptor.
    pub fn to_fd(fd: Arc<OwnedFd>) -> Self {
        Call::Fd(CallFd(fd))
    }

    /// Calls the driver. A descriptor that is full has a call pending anyway: nothing is waited for.
    #[inline]
    pub(crate) fn signal(&self) {
        match self {
            Call::None => {}
            Call::Fd(call) => call.signal(),
            Call::Message(call) => {
                call.pending.fetch_add(1, Ordering::Release);
                let _ = rustix::io::write(&call.waker, &1u64.to_ne_bytes());
            }
            Call::Counter(count) => {
                count.fetch_add(1, Ordering::Release);
            }
        }
    }
}

impl CallFd {
    /// Whether a write blocks is a flag of the open file, which the front-end shares and may change
    /// at any time: so it is asked for each time, and where a write may block, whether there is room.
    fn signal(&self) {
        if self.never_blocks() || self.has_room() {
            let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
        }
    }

    /// The rule, since most front-ends make their eventfds so; and quicker to ask than poll.
    fn never_blocks(&self) -> bool {
        rustix::fs::fcntl_getfl(&self.0).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
    }

    fn has_room(&self) -> bool {
        let mut fds = [PollFd::new(&*self.0, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1))
    }
}
