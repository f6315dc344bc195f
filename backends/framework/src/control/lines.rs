//! Cutting what clients send into lines, each with the descriptors that came with it.

use std::{mem, os::fd::OwnedFd};

/// The longest line, without its end.
pub const LINE_MAX: usize = 64 * 1024;
/// The most descriptors that may come with one line.
pub const FDS_MAX: usize = 8;

/// A line without its end, and the descriptors that came with it.
#[derive(Debug)]
pub struct Line {
    /// The bytes before the newline.
    pub text: Vec<u8>,
    /// At most [`FDS_MAX`].
    pub fds: Vec<OwnedFd>,
}

/// How a client broke the rules for lines. Nothing that it sends later can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// More than [`LINE_MAX`] bytes without a newline.
    #[error("a line has more than {LINE_MAX} bytes")]
    TooLong,
    /// More than [`FDS_MAX`] descriptors.
    #[error("more than {FDS_MAX} file descriptors came with one line")]
    TooManyFds,
}

/// The line that is not complete yet.
#[derive(Debug, Default)]
pub struct LineBuffer {
    text: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl LineBuffer {
    /// Takes what one `recvmsg` brought, appends the lines that are complete now to `lines`, and keeps the
    /// rest. Empty lines are left out.
    ///
    /// The kernel ends a read after the message that descriptors came with, so they belong to the last line
    /// that begins in these bytes. A client that sends a line and its descriptors in one `sendmsg` is
    /// always understood.
    ///
    /// # Errors
    /// [`LineError`]; the lines before the mistake are in `lines`.
    pub fn push(
        &mut self,
        bytes: &[u8],
        fds: Vec<OwnedFd>,
        lines: &mut Vec<Line>,
    ) -> Result<(), LineError> {
        let mut pieces = bytes.split_inclusive(|&byte| byte == b'\n').peekable();
        let mut fds = Some(fds);
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                self.fds.extend(fds.take().into_iter().flatten());
            }
            if self.fds.len() > FDS_MAX {
                return Err(LineError::TooManyFds);
            }
            let (text, complete) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if self.text.len() + text.len() > LINE_MAX {
                return Err(LineError::TooLong);
            }
            self.text.extend_from_slice(text);
            if complete {
                let line = Line { text: mem::take(&mut self.text), fds: mem::take(&mut self.fds) };
                if !line.text.trim_ascii().is_empty() {
                    lines.push(line);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn fds(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| std::io::pipe().unwrap().0.into()).collect()
    }

    /// The text and the number of descriptors of each line.
    fn shown(lines: &[Line]) -> Vec<(&str, usize)> {
        lines.iter().map(|l| (str::from_utf8(&l.text).unwrap(), l.fds.len())).collect()
    }

    #[test]
    fn lines_come_in_pieces_or_several_at_once() {
        let (mut buffer, mut lines) = (LineBuffer::default(), Vec::new());
        for piece in ["{\"a", "\":1}\n\n  \n{}\n{", "}\n"] {
            buffer.push(piece.as_bytes(), vec![], &mut lines).unwrap();
        }
        assert_eq!(shown(&lines), [("{\"a\":1}", 0), ("{}", 0), ("{}", 0)]);
    }

    #[test]
    fn descriptors_belong_to_the_last_line_that_begins() {
        let (mut buffer, mut lines) = (LineBuffer::default(), Vec::new());
        buffer.push(b"end of a line\nwhole\n", fds(1), &mut lines).unwrap();
        buffer.push(b"first\nbeg", fds(2), &mut lines).unwrap();
        buffer.push(b"in\nlater\n", vec![], &mut lines).unwrap();
        assert_eq!(
            shown(&lines),
            [("end of a line", 0), ("whole", 1), ("first", 0), ("begin", 2), ("later", 0)]
        );
    }

    #[test]
    fn the_length_is_bounded_with_and_without_an_end() {
        let mut lines = Vec::new();
        let long = vec![b'x'; LINE_MAX];
        let mut buffer = LineBuffer::default();
        buffer.push(&[&long[..], b"\n"].concat(), vec![], &mut lines).unwrap();
        assert_eq!(lines.len(), 1);
        buffer.push(&long, vec![], &mut lines).unwrap();
        assert_eq!(buffer.push(b"x", vec![], &mut lines), Err(LineError::TooLong));
        assert_eq!(buffer.push(b"x\n", vec![], &mut lines), Err(LineError::TooLong));
    }

    #[test]
    fn the_number_of_descriptors_is_bounded() {
        let mut lines = Vec::new();
        let mut buffer = LineBuffer::default();
        for _ in 0..FDS_MAX {
            buffer.push(b"x", fds(1), &mut lines).unwrap();
        }
        assert_eq!(buffer.push(b"x", fds(1), &mut lines), Err(LineError::TooManyFds));
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(
            pieces in vec("[a-c\n]{0,5}", 0..20)
        ) {
            let whole = pieces.concat();
            let (mut buffer, mut lines) = (LineBuffer::default(), Vec::new());
            for piece in &pieces {
                buffer.push(piece.as_bytes(), vec![], &mut lines).unwrap();
            }
            let complete = whole.rsplit_once('\n').map_or("", |(complete, _)| complete);
            let expected: Vec<_> = complete.split('\n').filter(|l| !l.is_empty()).collect();
            let found: Vec<_> = shown(&lines).into_iter().map(|(text, _)| text).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
