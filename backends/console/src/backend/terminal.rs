//! What a terminal can do: raw mode, and a size.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use virtio_spec::console::Resize;

/// The `ioctl` commands of terminals: attributes, size, and whose they are.
pub const IOCTLS: [u32; 9] = [
    TCGETS2,
    TCSETS2,
    TCSETS2 + 1,
    TCSETS2 + 2,
    constant(libc::TCGETS),
    constant(libc::TCSETS),
    constant(libc::TCSETSW),
    constant(libc::TIOCGWINSZ),
    constant(libc::TIOCSCTTY),
];

/// `_IOR('T', 0x2a, struct termios2)`.
const TCGETS2: u32 = 0x802c_542a;
/// `_IOW('T', 0x2b, struct termios2)`; those that wait or flush first come after it.
const TCSETS2: u32 = 0x402c_542b;

#[expect(clippy::cast_possible_truncation, reason = "the kernel takes 32 bits of it")]
const fn constant(command: libc::Ioctl) -> u32 {
    command as u32
}

/// The size of a terminal. None: it is none, or has none.
pub fn size_of(fd: impl AsFd) -> Option<Resize> {
    let size = tcgetwinsize(fd).ok()?;
    Some(Resize { cols: size.ws_col, rows: size.ws_row })
}

/// A terminal that passes every key on, until this is dropped.
#[derive(Debug)]
pub struct RawMode {
    terminal: Arc<OwnedFd>,
    before: Termios,
}

impl RawMode {
    /// Sets a terminal to raw mode.
    ///
    /// # Errors
    /// When it is no terminal.
    pub fn enter(terminal: Arc<OwnedFd>) -> rustix::io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(RawMode { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone; nobody is troubled by its mode then.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
