//! What was wanted, and whether a run reached it.

use serde::Serialize;

use crate::statistics::Spread;

/// A bound on a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Wanted {
    fn is_met_by(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
        }
    }
}

/// A target and what was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    what: String,
    wanted: Wanted,
    unit: String,
    measured: Spread,
    reached: bool,
}

impl Verdict {
    /// The median against a bound; nothing where nothing was measured. The unit follows the bound:
    /// "KiB", "× the peer's".
    pub(crate) fn on(
        what: &str,
        wanted: Wanted,
        unit: &str,
        measured: Option<Spread>,
    ) -> Option<Self> {
        let measured = measured?;
        let reached = wanted.is_met_by(measured.median);
        Some(Self { what: what.to_owned(), wanted, unit: unit.to_owned(), measured, reached })
    }

    /// In a table of its own or of the benchmark's: reached or missed.
    pub(crate) const fn word(&self) -> &'static str {
        if self.reached { "reached" } else { "**missed**" }
    }

    /// What, wanted, measured, reached or missed.
    pub(super) fn row(&self) -> Vec<String> {
        let wanted = match self.wanted {
            Wanted::AtLeast(bound) => format!("≥ {bound} {}", self.unit),
            Wanted::AtMost(bound) => format!("≤ {bound} {}", self.unit),
        };
        let digits = if self.measured.median >= 100.0 { 0 } else { 2 };
        let cells = [&self.what, &wanted, &self.measured.shown(digits)].map(String::clone);
        cells.into_iter().chain([self.word().to_owned()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_decides() {
        let measured = Some(Spread { min: 1.0, median: 2.0, max: 9.0 });
        let on = |wanted| Verdict::on("x", wanted, "s", measured).unwrap().reached;
        assert!(on(Wanted::AtLeast(2.0)) && on(Wanted::AtMost(2.0)));
        assert!(!on(Wanted::AtLeast(2.1)) && !on(Wanted::AtMost(1.9)));
        assert!(Verdict::on("x", Wanted::AtMost(1.0), "s", None).is_none());
    }
}
