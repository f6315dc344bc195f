//! What the host hears.

use core::fmt::{self, Write};

use crate::ports;

/// Takes text.
const DEBUG: u16 = 0xe9;
/// Takes a mark: the host notes the time.
const MARK: u16 = 0xea;
/// Takes the exit status.
const EXIT: u16 = 0xf4;

/// Says a line.
pub fn say(line: fmt::Arguments<'_>) {
    let mut text = Line { bytes: [0; 160], length: 0 };
    // What does not fit is cut.
    let _ = text.write_fmt(line);
    let _ = text.write_str("\n");
    ports::write_bytes(DEBUG, &text.bytes[..text.length]);
}

/// Runs something between two marks, of the same number, for the host to measure.
pub fn measured(number: u32, what: impl FnOnce()) {
    ports::write32(MARK, number);
    what();
    ports::write32(MARK, number);
}

/// Ends the guest.
pub fn end(status: u8) -> ! {
    loop {
        ports::write8(EXIT, status);
    }
}

struct Line {
    bytes: [u8; 160],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = &mut self.bytes[self.length..];
        let fits = text.len().min(left.len());
        left[..fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.length += fits;
        Ok(())
    }
}
