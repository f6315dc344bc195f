//! Streams between real guests and their host, whoever serves the guest's card.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::{
    Contents, Ground, Kind, Kit, PEERS, Place as Cache, Programs, Root, Server, Site, Stream,
    StreamScene,
};

use super::plan::{Guest, Place, Row, Side};
use super::report::{Report, Sample};
use crate::accounting;

/// From power on to the last line.
const LIMIT: Duration = Duration::from_secs(90);

/// Guests of one kind, ready to be booted.
pub(super) struct Guests {
    guest: Guest,
    kit: Kit,
    cache: Cache,
    programs: Programs,
    /// Where nested guests boot.
    site: Option<Site>,
    seconds: u32,
}

impl Guests {
    pub(super) fn new(guest: Guest, seconds: u32) -> Result<Self> {
        let cache = Cache::of_workspace()?;
        let kind = match guest {
            Guest::Uml => Kind::Uml,
            Guest::Qemu => Kind::NewQemu,
            Guest::Nested => Kind::Qemu,
        };
        let kit = Kit::fetch(&cache, kind)?;
        if guest == Guest::Uml {
            let _lock = cache.lock()?;
            Root::fetch(&cache, &PEERS)?;
        }
        let folder = std::env::current_exe()?.parent().map(std::path::PathBuf::from);
        let programs = Programs::built_in(folder.context("this program is in no folder")?);
        let site = (guest == Guest::Nested).then(|| nested(&cache, &kit, &programs)).transpose()?;
        Ok(Self { guest, kit, cache, programs, site, seconds })
    }

    /// One round: all take their turn.
    pub(super) fn round(&self, round: u16, report: &mut Report) {
        for &side in self.guest.sides() {
            let mut open = Stream::ALL.to_vec();
            let measured = self.measure(side, |stream, sample| {
                open.retain(|other| *other != stream);
                report.note(self.place(stream, side), round, Ok(sample));
            });
            if let Err(error) = measured {
                let stream = open.first().copied().unwrap_or(Stream::ALL[0]);
                report.note(self.place(stream, side), round, Err(error));
            }
        }
    }

    fn place(&self, stream: Stream, side: Side) -> Place {
        Place { row: Row::Stream { guest: self.guest, stream }, side }
    }

    fn measure(&self, side: Side, mut note: impl FnMut(Stream, Sample)) -> Result<()> {
        let server = match side {
            Side::Outrigger => Server::Outrigger,
            Side::Passt => Server::Passt,
            _ => Server::Own,
        };
        if let Some(site) = &self.site {
            let results =
                site.play_streams("streams", server, &Stream::ALL, self.seconds, LIMIT)?;
            for stream in Stream::ALL {
                let rate = Some(stream.rate(&results)?);
                note(stream, Sample { rate, ..Sample::default() });
            }
            return Ok(());
        }
        let scene = StreamScene {
            name: "bench".into(),
            kit: &self.kit,
            programs: self.programs.clone(),
            server,
            streams: Stream::ALL.into(),
            seconds: self.seconds,
            limit: LIMIT,
        };
        let mut stage = scene.start(&self.cache)?;
        let pid = stage.server().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        for stream in Stream::ALL {
            stage.guest.wait_for(&format!("begins_{}", stream.key()))?;
            let begun = Instant::now();
            let cpu = pid.map(accounting::cpu_time).transpose()?;
            let rate = stage.guest.wait_for(&format!("stream_{}", stream.key()))?;
            let seconds = begun.elapsed().as_secs_f64();
            let used = pid.map(accounting::cpu_time).transpose()?;
            let used = used.zip(cpu).map(|(after, before)| (after - before).as_secs_f64());
            let resident = pid.map(accounting::resident).transpose()?;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let memory_kib = resident.map(|resident| resident.anon_kib as f64);
            let rate = rate.parse().with_context(|| format!("{rate:?} is no rate"))?;
            let cpu = used.map(|used| used / seconds);
            note(stream, Sample { rate: Some(rate), cpu, memory_kib, ..Sample::default() });
        }
        stage.guest.finish().map(drop).map_err(Into::into)
    }
}

fn nested(cache: &Cache, kit: &Kit, programs: &Programs) -> Result<Site> {
    let contents = Contents::new()
        .with_network()
        .with_peers(kit.root(), &["usr/bin/qemu-system-x86_64"])
        .with_peers(kit.network(), &["usr/bin/iperf3"]);
    Ok(Site::open(cache, "bench-net", Ground::best(programs), kit, (programs, &contents))?)
}
