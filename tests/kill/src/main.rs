//! `kill-campaign`: runs all series, and writes a summary.
#![expect(clippy::print_stdout, reason = "a command for people, whose output is its result")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use e2e::{Kit, Place, Programs};
use kill_campaign::{
    Error, GUESTS, GuestSeries, KILLED, Row, SLOW, Series, Stage, Summary, TERMINATED, Tally, kills,
};

/// Kill outrigger-blk at random moments under load, again and again, and check that nothing is lost
#[derive(Debug, Parser)]
#[command(name = "kill-campaign", bin_name = "cargo xtask kill")]
struct Options {
    /// How often, over all series
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// What series are started with, to see one again [default: a random number]
    #[arg(long)]
    seed: Option<u64>,
    /// Only series with this in their name; each then gets all the kills
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Write the summary as Markdown to this file
    #[arg(long, alias = "report", value_name = "FILE")]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let begun = Instant::now();
    let stage = Stage { place: Place::of_workspace()?, programs: Programs::on_demand() };
    let mut campaign = Campaign {
        options,
        seeds: fastrand::Rng::new(),
        summary: Summary::default(),
        missed: Vec::new(),
    };
    for series in [&KILLED[..], &SLOW, &TERMINATED].concat() {
        campaign.series(series.name, series.share, |kills, seed| {
            Ok(Series::run(&series, &stage, kills, seed)?)
        })?;
    }
    for guest in GUESTS {
        campaign.series(guest.name, guest.share, |kills, seed| {
            let kit = Kit::cached(&stage.place, GuestSeries::KIND)?;
            Ok(guest.run(&stage, &kit, kills, seed)?)
        })?;
    }
    for series in SLOW.map(Series::without_lock) {
        campaign.without_lock(&series, &stage)?;
    }
    campaign.finish(begun)
}

/// A campaign under way.
struct Campaign<'a> {
    options: &'a Options,
    seeds: fastrand::Rng,
    summary: Summary,
    /// How the lock was missed where there was none.
    missed: Vec<String>,
}

impl Campaign<'_> {
    fn series(
        &mut self,
        name: &'static str,
        share: u32,
        run: impl FnOnce(u32, u64) -> Result<Tally>,
    ) -> Result<()> {
        let kills = match &self.options.only {
            Some(only) if !name.contains(only) => return Ok(()),
            Some(_) => self.options.times,
            None => kills(share, self.options.times),
        };
        let seed = self.options.seed.unwrap_or_else(|| self.seeds.u64(..));
        println!("{name}: {kills} kills, seed {seed} ...");
        let tally = run(kills, seed)?;
        self.summary.push(Row { series: name, seed, tally });
        Ok(())
    }

    /// A series of daemons to which every lock is free: it has to fail.
    fn without_lock(&mut self, series: &Series, stage: &Stage) -> Result<()> {
        if self.options.only.is_some() {
            return Ok(());
        }
        let seed = self.options.seed.unwrap_or_else(|| self.seeds.u64(..));
        println!("{} without the lock, seed {seed} ...", series.name);
        match series.run(stage, 100, seed) {
            Err(Error::Series { series, kills, why, .. })
                if matches!(*why, Error::DidNotWait { .. } | Error::Data { .. }) =>
            {
                self.missed.push(format!("- {series}, seed {seed}, after {kills} kills: {why}"));
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(_) => bail!("{}, seed {seed}: nobody has missed the lock", series.name),
        }
    }

    fn finish(self, begun: Instant) -> Result<()> {
        ensure!(self.summary.kills() > 0, "no series has such a name");
        let mut text = format!(
            "{} kills in {} s. Every request that was submitted ended, once, and every sector \
             that was read held what it had to hold.\n\n{}",
            self.summary.kills(),
            begun.elapsed().as_secs(),
            self.summary
        );
        if !self.missed.is_empty() {
            text += "\nThe same with daemons to which every lock on the image is free, as they have to, \
                     fail:\n\n";
            text += &self.missed.join("\n");
            text += "\n";
        }
        println!("\n{text}");
        if let Some(output) = &self.options.output {
            std::fs::write(output, format!("# Kill campaign\n\n{text}"))
                .with_context(|| format!("could not write {}", output.display()))?;
        }
        Ok(())
    }
}
