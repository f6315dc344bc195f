//! Amounts of memory.

use std::fmt;
use std::str::FromStr;

use super::text::written_as_text;

/// A number of bytes; written with the largest unit that it is a multiple of, such as `512M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let (number, shift) = UNITS
            .iter()
            .find_map(|(unit, shift)| Some((upper.strip_suffix(*unit)?, *shift)))
            .unwrap_or((&upper, 0));
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .then(|| number.parse::<u64>().ok()?.checked_mul(1 << shift))
            .flatten()
            .map(Size)
            .ok_or_else(|| {
                format!("{text:?} is not a size: give bytes, or a number with K, M, G or T")
            })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, shift)| self.0 != 0 && self.0.is_multiple_of(1 << shift));
        match unit {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

written_as_text!(Size);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("2m", 2 << 20), ("1G", 1 << 30)] {
            assert_eq!(text.parse(), Ok(Size(bytes)));
        }
        for text in ["", "G", "-1", "+1", "1.5G", "1GB", "99999999T"] {
            assert!(text.parse::<Size>().unwrap_err().contains("not a size"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes: u64, shift in 0_u32..50) {
            let size = Size(bytes >> shift << shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
