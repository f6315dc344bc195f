//! One measurement of one back-end: start it, drive it, end it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tempfile::TempDir;

use super::client::{self, Outcome, Spec, Target, Until};
use super::medium::Prepared;
use super::options::Options;
use super::peer::Programs;
use super::plan::{BackEnd, Cell, Medium, Operation};
use crate::process::Daemon;

/// What a client may need beyond the time it was told to run.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a run was made, for the report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) media: Vec<Medium>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) depths: Vec<u16>,
    pub(crate) back_ends: Vec<BackEnd>,
    pub(crate) rounds: u16,
    pub(crate) runtime_seconds: f64,
    pub(crate) warm_up_seconds: f64,
    pub(crate) idle_seconds: f64,
    /// Of each medium, in bytes.
    pub(crate) size: u64,
    pub(crate) client_cpu: usize,
    pub(crate) back_end_cpu: usize,
    pub(crate) client_busy_polls: bool,
    pub(crate) optimized_client: bool,
}

/// A run: its settings, its programs and its places.
pub(crate) struct Bench {
    pub(crate) settings: Settings,
    pub(crate) programs: Programs,
    pub(crate) out: PathBuf,
    pub(crate) name: String,
    pub(crate) callgrind_requests: u64,
    directory: PathBuf,
    tmpfs_directory: PathBuf,
    /// For sockets, whose paths must be short, and logs.
    scratch: TempDir,
}

impl Bench {
    /// A run with the options of the command line.
    ///
    /// # Errors
    /// Options that contradict each other, or no room for scratch files.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let settings = settings(options);
        ensure!(
            settings.client_cpu != settings.back_end_cpu,
            "client and back-end share CPU {}: give them two with --client-cpu and --back-end-cpu",
            settings.client_cpu
        );
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let own_directory = own.parent().unwrap_or(Path::new(".")).to_owned();
        let out = if options.quick { "target/bench" } else { "benches/results" };
        let name = if options.callgrind { "blk-callgrind" } else { "blk" };
        Ok(Self {
            settings,
            programs: Programs::find(options.bin_dir.as_ref().unwrap_or(&own_directory)),
            out: options.out.clone().unwrap_or_else(|| out.into()),
            name: options.name.clone().unwrap_or_else(|| name.to_owned()),
            callgrind_requests: options.callgrind_requests,
            directory: options.dir.clone(),
            tmpfs_directory: options.tmpfs_dir.clone(),
            scratch: tempfile::Builder::new().prefix("bench-blk-").tempdir()?,
        })
    }

    /// The back-ends that were asked for and are there.
    pub(crate) fn available(&self) -> Vec<BackEnd> {
        let there = |back_end: &BackEnd| self.programs.missing(*back_end).is_none();
        self.settings.back_ends.iter().copied().filter(there).collect()
    }

    /// Where a medium's file is.
    pub(crate) fn directory(&self, medium: Medium) -> &Path {
        if medium == Medium::Tmpfs { &self.tmpfs_directory } else { &self.directory }
    }

    /// A file in the scratch directory.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Measures one cell once.
    ///
    /// # Errors
    /// The back-end or the client failed; the back-end's own words are in the error.
    pub(crate) fn measure(
        &self,
        cell: Cell,
        back_end: BackEnd,
        round: u16,
        medium: &Prepared,
    ) -> Result<Outcome> {
        let settings = &self.settings;
        // Being idle takes as long as being measured; once for each load is enough.
        let watched = round == 0 && settings.depths.iter().max() == Some(&cell.depth);
        let spec = Spec {
            target: self.target(back_end, medium),
            operation: cell.operation,
            depth: cell.depth,
            size: settings.size,
            verify: !cell.operation.writes() && medium.path.is_some(),
            warm_up: Some(Duration::from_secs_f64(settings.warm_up_seconds)),
            until: Until::Elapsed(Duration::from_secs_f64(settings.runtime_seconds)),
            idle: (watched && settings.idle_seconds > 0.0)
                .then(|| Duration::from_secs_f64(settings.idle_seconds)),
            busy_poll: settings.client_busy_polls,
            seed: round.into(),
            back_end: None,
        };
        let socket = self.scratch("blk.sock");
        match self.programs.command(back_end, medium, &socket, settings.back_end_cpu, true) {
            Some(mut command) => self.drive(&mut command, spec),
            None => client::start(&spec, settings.client_cpu, self.patience()),
        }
    }

    /// What the client is to drive.
    pub(crate) fn target(&self, back_end: BackEnd, medium: &Prepared) -> Target {
        match (&medium.path, back_end) {
            (Some(path), BackEnd::None) => {
                Target::File { path: path.clone(), direct: medium.medium == Medium::Direct }
            }
            _ => Target::Socket(self.scratch("blk.sock")),
        }
    }

    /// Starts a back-end, lets the client do what `spec` says, ends the back-end.
    ///
    /// # Errors
    /// Either of the two failed.
    pub(crate) fn drive(&self, command: &mut Command, mut spec: Spec) -> Result<Outcome> {
        let (socket, log) = (self.scratch("blk.sock"), self.scratch("back-end.log"));
        // Left behind by a back-end that does not remove its own.
        let _ = std::fs::remove_file(&socket);
        let cpu = self.settings.back_end_cpu;
        let daemon = Daemon::start(cpu, command, &socket, &log, PATIENCE)
            .context("the back-end does not start")?;
        spec.back_end = Some(daemon.pid());
        let outcome = client::start(&spec, self.settings.client_cpu, self.patience())
            .with_context(|| format!("the back-end said:\n{}\nthe client", daemon.said()));
        let stopped = daemon.stop(PATIENCE);
        let outcome = outcome?;
        stopped.context("the back-end does not stop")?;
        Ok(outcome)
    }

    fn patience(&self) -> Duration {
        let settings = &self.settings;
        let told = settings.runtime_seconds + settings.warm_up_seconds + settings.idle_seconds;
        PATIENCE + Duration::from_secs_f64(told)
    }
}

/// The settings that the options mean.
fn settings(options: &Options) -> Settings {
    Settings {
        media: options.media.clone(),
        operations: options.ops.clone(),
        depths: options.depths.clone(),
        back_ends: options.back_ends.clone(),
        rounds: options.rounds,
        runtime_seconds: options.runtime,
        warm_up_seconds: options.warm_up,
        idle_seconds: options.idle,
        size: options.size << 20,
        client_cpu: options.client_cpu,
        back_end_cpu: options.back_end_cpu,
        client_busy_polls: options.client_poll,
        optimized_client: !cfg!(debug_assertions),
    }
}
