//! What is said of several rounds: the median, and how far they lie apart.

use serde::Serialize;

/// The least, middle and greatest of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of the values, or none if there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let lower =
            if sorted.len().is_multiple_of(2) { sorted.get(middle - 1).copied()? } else { upper };
        Some(Self {
            min: *sorted.first()?,
            median: f64::midpoint(lower, upper),
            max: *sorted.last()?,
        })
    }

    /// For people: the median, and in parentheses the least and the greatest.
    pub(crate) fn shown(self, digits: usize) -> String {
        let Self { min, median, max } = self;
        format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_spread() {
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        let spread = Spread { min: 1.0, median: 2.5, max: 9.0 };
        assert_eq!(Spread::of([9.0, 1.0, 3.0, 2.0]), Some(spread));
    }

    #[test]
    fn the_median_of_an_odd_count_is_the_middle_one() {
        let spread = Spread { min: 1.0, median: 3.0, max: 9.0 };
        assert_eq!(Spread::of([3.0, 9.0, 1.0]), Some(spread));
    }
}
