//! Whom the main thread attends to besides the machine itself.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::body::Machine;
use super::desk::Desk;
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

/// The control socket.
pub struct ControlSocket(pub control::Server);

impl Visitor<Machine> for ControlSocket {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn attend(&mut self, desk: &mut Desk<Machine>) -> Next {
        self.0.serve(desk);
        Next::Stay
    }

    fn follow_up(&mut self, desk: &mut Desk<Machine>) {
        self.0.answer_late(desk);
    }
}
