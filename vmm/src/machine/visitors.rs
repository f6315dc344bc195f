//! Whom the main thread attends to besides the machine itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;

use super::body::Machine;
use super::desk::Desk;
use super::relay::Relay;
use super::requests::Office;
use super::watch::{Next, Visitor};
use crate::control;
use crate::devices::serial::Port;

/// How long the guest's last words may take to reach whoever reads them.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What COM1 is connected to.
pub struct SerialPort(pub Port);

impl Visitor<Machine> for SerialPort {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn attend(&mut self, _desk: &mut Desk<Machine>) -> Next {
        self.0.serve();
        Next::Stay
    }

    fn farewell(&mut self) {
        self.0.flush(LAST_WORDS);
    }
}

/// The control socket, and the daemons that answer through it.
pub struct ControlSocket {
    server: control::Server,
    relay: Relay,
    /// Readable when one of them is.
    epoll: OwnedFd,
}

impl ControlSocket {
    /// Attends to both.
    ///
    /// # Errors
    /// When the kernel has no epoll for this process.
    pub fn new(server: control::Server, relay: Relay) -> rustix::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&epoll, &server, data, epoll::EventFlags::IN)?;
        epoll::add(&epoll, &relay, data, epoll::EventFlags::IN)?;
        Ok(Self { server, relay, epoll })
    }
}

impl Visitor<Machine> for ControlSocket {
    fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    fn attend(&mut self, desk: &mut Desk<Machine>) -> Next {
        self.relay.work();
        self.server.serve(&mut Office { desk, relay: &mut self.relay });
        Next::Stay
    }

    fn follow_up(&mut self, desk: &mut Desk<Machine>) {
        self.server.answer_late(&mut Office { desk, relay: &mut self.relay });
    }
}
