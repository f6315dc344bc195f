//! What the user types for this program, among what is for the guest.

use std::fmt;
use std::str::FromStr;

/// Ctrl-C, with which one leaves who only looks on.
const CTRL_C: u8 = 0x03;

/// The escape key: a control character. With `q` behind it, it leaves; twice, it is one for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escape(u8);

impl Default for Escape {
    fn default() -> Self {
        Self(0x1d)
    }
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "^{}", char::from(self.0 ^ 0x40))
    }
}

impl FromStr for Escape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            [b'^', key] if matches!(key.to_ascii_uppercase(), b'@'..=b'_') => {
                Ok(Self(key.to_ascii_uppercase() ^ 0x40))
            }
            _ => Err(format!("{text:?} is no control character: say ^ and a letter, such as ^A")),
        }
    }
}

/// Looks through what is typed.
#[derive(Debug)]
pub(super) struct Keys {
    escape: Escape,
    pub(super) looks_on: bool,
    pressed: bool,
}

impl Keys {
    pub(super) fn new(escape: Escape, looks_on: bool) -> Self {
        Self { escape, looks_on, pressed: false }
    }

    /// Adds what is for the guest to `rest`. True: the user leaves; what is typed behind that is nobody's.
    pub(super) fn look(&mut self, typed: &[u8], rest: &mut Vec<u8>) -> bool {
        for &key in typed {
            let pressed = std::mem::take(&mut self.pressed);
            if pressed && matches!(key, b'q' | b'Q') || self.looks_on && key == CTRL_C {
                return true;
            }
            if key == self.escape.0 && !pressed {
                self.pressed = true;
            } else if !self.looks_on {
                rest.push(key);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn typed(looks_on: bool, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = Keys::new(Escape::default(), looks_on);
        let mut rest = Vec::new();
        let left = pieces.iter().any(|piece| keys.look(piece, &mut rest));
        (rest, left)
    }

    #[test]
    fn the_escape_leaves_wherever_input_is_cut() {
        assert_eq!(typed(false, &[b"ls\r\x1d", b"qrm"]), (b"ls\r".to_vec(), true));
        assert_eq!(typed(false, &[b"\x1d\x1dq\x03"]), (b"\x1dq\x03".to_vec(), false));
        assert_eq!(typed(true, &[b"ls\r", b"\x03"]), (Vec::new(), true));
    }

    #[test]
    fn keys_are_named() {
        for (text, key) in [("^]", 0x1d), ("^a", 1), ("^A", 1), ("^@", 0)] {
            assert_eq!(text.parse(), Ok(Escape(key)));
        }
        assert_eq!(Escape(1).to_string(), "^A");
        for text in ["", "a", "^", "^1", "^ab"] {
            assert!(text.parse::<Escape>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn all_else_comes_through(bytes in prop::collection::vec(0x1e..=0xffu8, 0..100)) {
            prop_assert_eq!(typed(false, &[&bytes]), (bytes, false));
        }
    }
}
