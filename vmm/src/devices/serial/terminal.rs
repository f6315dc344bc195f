//! The terminal that a person sits at: raw while the guest has it, and as it was afterwards.

use std::io::stdin;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{OptionalActions, OutputModes, Termios, tcgetattr, tcsetattr};

/// Standard input in raw mode, until this is dropped; it is then what it was before.
///
/// Should the process be killed, its supervisor restores the terminal.
#[derive(Debug)]
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes standard input raw, if it is a terminal.
    pub(super) fn stdin() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        make_raw(stdin().as_fd(), &before).ok()?;
        Some(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nothing to be done if the terminal is gone.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// Each byte as it comes, nothing echoed, no signals. Output is still processed: our own messages
/// end lines with a line feed only.
fn make_raw(terminal: BorrowedFd<'_>, now: &Termios) -> rustix::io::Result<()> {
    let mut raw = now.clone();
    raw.make_raw();
    raw.output_modes |= now.output_modes & (OutputModes::OPOST | OutputModes::ONLCR);
    tcsetattr(terminal, OptionalActions::Now, &raw)
}

/// Makes a pseudoterminal raw in both directions: it is a cable, not a place to sit at.
pub(super) fn make_cable(terminal: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut raw = tcgetattr(terminal)?;
    raw.make_raw();
    tcsetattr(terminal, OptionalActions::Now, &raw)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::LocalModes;

    use super::*;

    #[test]
    fn a_raw_terminal_leaves_control_characters_to_the_guest_and_line_feeds_to_us() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal = open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let before = tcgetattr(&terminal).unwrap();
        let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        assert!(before.local_modes.contains(cooked));
        make_raw(terminal.as_fd(), &before).unwrap();
        let raw = tcgetattr(&terminal).unwrap();
        assert!(!raw.local_modes.intersects(cooked));
        assert_eq!(raw.output_modes, before.output_modes);
        make_cable(terminal.as_fd()).unwrap();
        let cable = tcgetattr(&terminal).unwrap();
        assert!(!cable.output_modes.contains(OutputModes::OPOST));
    }
}
