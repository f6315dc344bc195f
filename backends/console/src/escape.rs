//! The escape key of a terminal that passes all other keys on.
//!
//! Ctrl-] and then `q` leaves; Ctrl-] twice is one for the guest; before any other key it is
//! nothing.

/// Ctrl-].
pub const KEY: u8 = 0x1d;

/// Looks for the escape key in what is typed.
#[derive(Debug, Default)]
pub struct Escape {
    armed: bool,
}

impl Escape {
    /// Takes escapes out of what was typed; the rest is for the guest. True: the user leaves, and what
    /// was typed behind that is nobody's.
    pub fn filter(&mut self, typed: &[u8], rest: &mut Vec<u8>) -> bool {
        rest.clear();
        for &byte in typed {
            match (std::mem::take(&mut self.armed), byte) {
                (false, KEY) => self.armed = true,
                (true, b'q' | b'Q') => return true,
                _ => rest.push(byte),
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let (mut escape, mut all, mut rest) = (Escape::default(), Vec::new(), Vec::new());
        for piece in pieces {
            let left = escape.filter(piece, &mut rest);
            all.extend(&rest);
            if left {
                return (all, true);
            }
        }
        (all, false)
    }

    #[test]
    fn escape_and_q_leaves_even_in_two_pieces() {
        assert_eq!(typed(&[b"ls\r\x1d", b"qmore"]), (b"ls\r".to_vec(), true));
        assert_eq!(typed(&[b"\x1d\x1dq"]), (b"\x1dq".to_vec(), false));
        assert_eq!(typed(&[b"\x1dx\x03"]), (b"x\x03".to_vec(), false));
    }

    proptest! {
        #[test]
        fn all_else_comes_through(bytes in prop::collection::vec(0..KEY, 0..100)) {
            prop_assert_eq!(typed(&[&bytes]), (bytes, false));
        }
    }
}
