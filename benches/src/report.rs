//! What the reports of the benchmarks have in common.
//!
//! A benchmark makes a [`Report`], notes in it what came of each measurement, and has it written as
//! JSON and as a page for people, also before the end: a run takes long, and what is there is worth
//! having if it is broken off. The [`Page`] is the benchmark's own, put together from tables and
//! [`Verdict`]s; where figures come from stands at its head, and what failed at its end.

mod page;
mod verdict;

use std::fmt::Display;
use std::fs;
use std::path::Path;

use anyhow::{Context, Error, Result, bail};
use serde::Serialize;

use crate::machine::{self, Machine};
use crate::statistics::Spread;
pub(crate) use page::{Page, median, spread};
pub(crate) use verdict::{Verdict, Wanted};

/// The samples of a run, and where they come from. `P` says what was measured, of whom; `S` is what
/// came of it. Both are shown to a person who waits.
#[derive(Debug, Serialize)]
pub(crate) struct Report<P, S> {
    /// The name of its files.
    benchmark: &'static str,
    date: String,
    commit: String,
    machine: Machine,
    facts: Vec<Fact>,
    rows: Vec<Row<P, S>>,
    failures: Vec<String>,
}

/// Something else that the figures depend on.
#[derive(Debug, Serialize)]
struct Fact {
    what: String,
    value: String,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Row<P, S> {
    #[serde(flatten)]
    place: P,
    /// Counted from 1.
    round: u16,
    #[serde(flatten)]
    sample: S,
}

impl<P, S> Report<P, S>
where
    P: Copy + PartialEq + Display + Serialize,
    S: Display + Serialize,
{
    /// A report without samples; its files will have this name.
    pub(crate) fn begin(benchmark: &'static str) -> Self {
        Self {
            benchmark,
            date: machine::date(),
            commit: machine::commit(),
            machine: Machine::describe(),
            facts: Vec::new(),
            rows: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// States something else that the figures depend on: a version, a setting.
    pub(crate) fn fact(&mut self, what: &str, value: impl Display) {
        self.facts.push(Fact { what: what.to_owned(), value: value.to_string() });
    }

    /// Notes what came of a measurement, and tells a waiting person; rounds are counted from 1.
    pub(crate) fn note(&mut self, place: P, round: u16, result: Result<S>) {
        match result {
            Ok(sample) => {
                eprintln!("round {round}, {place}: {sample}");
                self.rows.push(Row { place, round, sample });
            }
            Err(error) => {
                eprintln!("round {round}, {place}: FAILED: {error:#}");
                self.fail(&format!("{place} in round {round}"), &error);
            }
        }
    }

    /// Notes that something else has failed.
    pub(crate) fn fail(&mut self, what: &str, error: &Error) {
        let why = format!("{error:#}");
        self.failures.push(format!("{what}: {}", why.lines().next().unwrap_or_default()));
    }

    /// Success, or an error that says how many measurements failed.
    pub(crate) fn verdict(&self) -> Result<()> {
        match self.failures.len() {
            0 => Ok(()),
            count => bail!("{count} measurements failed; the report says which and why"),
        }
    }

    /// What was measured, in the order in which it first was.
    pub(crate) fn places(&self) -> Vec<P> {
        let mut places: Vec<P> = Vec::new();
        for row in &self.rows {
            if !places.contains(&row.place) {
                places.push(row.place);
            }
        }
        places
    }

    /// How many rounds there were.
    pub(crate) fn rounds(&self) -> u16 {
        self.rows.iter().map(|row| row.round).max().unwrap_or_default()
    }

    /// One figure over all rounds; none if it was not measured.
    pub(crate) fn spread<F>(&self, place: P, figure: impl Fn(&S) -> F) -> Option<Spread>
    where
        F: Into<Option<f64>>,
    {
        Spread::of(self.of(place).filter_map(|row| figure(&row.sample).into()))
    }

    /// One figure by another's, taken within each round.
    pub(crate) fn ratio<F>(&self, ours: P, theirs: P, figure: impl Fn(&S) -> F) -> Option<Spread>
    where
        F: Into<Option<f64>>,
    {
        let in_same_round = |row: &Row<P, S>| {
            let other = self.of(theirs).find(|other| other.round == row.round)?;
            Some(figure(&row.sample).into()? / figure(&other.sample).into()?)
        };
        let ratios = self.of(ours).filter_map(in_same_round);
        Spread::of(ratios.filter(|ratio| ratio.is_finite()))
    }

    /// The head of a page: the title, and where the figures come from.
    pub(crate) fn page(&self, title: &str) -> Page {
        let machine = &self.machine;
        let virtual_machine = if machine.virtualized { ", a virtual machine" } else { "" };
        let mut page = Page::new(title);
        let own = [
            ("date", self.date.clone()),
            ("commit", self.commit.clone()),
            ("CPU", format!("{}, {} cores{virtual_machine}", machine.cpu, machine.cores)),
            ("memory", format!("{} MiB", machine.memory_mib)),
            ("kernel", machine.kernel.clone()),
            ("distribution", machine.distribution.clone()),
            ("load average before", machine.load_before.clone()),
        ];
        let facts = self.facts.iter().map(|fact| vec![fact.what.clone(), fact.value.clone()]);
        let rows = own.map(|(what, value)| vec![what.to_owned(), value]);
        page.listing(rows.into_iter().chain(facts));
        page
    }

    /// Writes the report into a folder, as JSON and as the given page.
    ///
    /// # Errors
    /// The folder or a file cannot be written.
    pub(crate) fn write(&self, folder: &Path, mut page: Page) -> Result<()> {
        if !self.failures.is_empty() {
            page.heading("Failures");
            page.list(self.failures.iter().map(String::as_str));
        }
        let document = Document { report: self, targets: page.verdicts() };
        let json = serde_json::to_string_pretty(&document)? + "\n";
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (extension, text) in [("json", json.as_str()), ("md", page.text())] {
            let path = folder.join(format!("{}.{extension}", self.benchmark));
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn of(&self, place: P) -> impl Iterator<Item = &Row<P, S>> {
        self.rows.iter().filter(move |row| row.place == place)
    }
}

/// What stands in the JSON file.
#[derive(Serialize)]
struct Document<'run, P, S> {
    #[serde(flatten)]
    report: &'run Report<P, S>,
    targets: &'run [Verdict],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Serialize)]
    struct Place {
        who: &'static str,
    }

    impl Display for Place {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.who)
        }
    }

    #[derive(Serialize)]
    struct Sample {
        figure: f64,
    }

    impl Display for Sample {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{}", self.figure)
        }
    }

    const OURS: Place = Place { who: "ours" };
    const THEIRS: Place = Place { who: "theirs" };

    fn report() -> Report<Place, Sample> {
        let mut report = Report::begin("example");
        for (round, ours, theirs) in [(1, 10.0, 5.0), (2, 90.0, 30.0), (3, 8.0, 1.0)] {
            report.note(THEIRS, round, Ok(Sample { figure: theirs }));
            report.note(OURS, round, Ok(Sample { figure: ours }));
        }
        report
    }

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        let ratio = report().ratio(OURS, THEIRS, |sample| sample.figure).unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (2.0, 3.0, 8.0));
        assert_eq!(report().ratio(OURS, THEIRS, |_| None), None);
    }

    #[test]
    fn both_files_say_what_was_measured_wanted_and_what_failed() {
        let mut report = report();
        report.note(OURS, 4, Err(anyhow::anyhow!("it rained\nall day")));
        assert!(report.verdict().is_err());
        let mut page = report.page("An example");
        let ratio = report.ratio(OURS, THEIRS, |sample| sample.figure);
        page.targets(Verdict::on("rate", Wanted::AtLeast(4.0), "× theirs", ratio));
        let folder = tempfile::tempdir().unwrap();
        report.write(folder.path(), page).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let (page, json) = (read("example.md"), read("example.json"));
        assert!(page.contains("| rate | ≥ 4 × theirs | 3.00 (2.00–8.00) | **missed** |"), "{page}");
        assert!(page.ends_with("- ours in round 4: it rained\n"), "{page}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["targets"][0]["reached"], false);
        assert_eq!(json["rows"][1]["who"], "ours");
        assert_eq!(json["rows"][1]["figure"], 10.0);
    }
}
