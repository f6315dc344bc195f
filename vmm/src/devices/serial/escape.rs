//! The escape that a person at a raw terminal has, where Ctrl-C belongs to the guest.

/// Ctrl-A: what follows is meant for the VMM.
const ESCAPE: u8 = 0x01;

/// Looks for escapes in what is typed.
#[derive(Debug, Default)]
pub(super) struct Escapes {
    escaped: bool,
}

impl Escapes {
    /// What of `typed` is for the guest, and whether Ctrl-A x was typed, which ends the VMM. Ctrl-A
    /// twice is Ctrl-A once for the guest; before another character it is both.
    pub(super) fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let (mut input, mut quit) = (Vec::with_capacity(typed.len() + 1), false);
        for &byte in typed {
            match (self.escaped, byte) {
                (false, ESCAPE) => {
                    self.escaped = true;
                    continue;
                }
                (true, b'x' | b'X') => quit = true,
                (true, ESCAPE) => input.push(ESCAPE),
                (true, _) => input.extend([ESCAPE, byte]),
                (false, _) => input.push(byte),
            }
            self.escaped = false;
        }
        (input, quit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_found_wherever_the_input_is_cut() {
        let typed = b"a\x01\x01b\x01cd\x01x";
        for cut in 0..=typed.len() {
            let mut escapes = Escapes::default();
            let (mut input, first) = escapes.filter(&typed[..cut]);
            let (rest, second) = escapes.filter(&typed[cut..]);
            input.extend(rest);
            assert_eq!((input.as_slice(), first | second), (&b"a\x01b\x01cd"[..], true));
        }
    }
}
