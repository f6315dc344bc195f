//! The client: a process of its own, pinned to its own CPU, so that neither its time nor its
//! memory is mistaken for a back-end's. `start` runs in `bench blk`, `serve` in the client.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::load;
use super::plan::Operation;
use crate::accounting::Resident;
use crate::process::spawn_on;

/// What the client drives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Target {
    /// A vhost-user back-end that listens here.
    Socket(PathBuf),
    /// A file, with the client's own io_uring.
    File { path: PathBuf, direct: bool },
}

/// When a measurement ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Until {
    /// After so much time.
    Elapsed(Duration),
    /// After so many requests.
    Requests(u64),
}

/// One measurement, as the client is told of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) target: Target,
    pub(crate) operation: Operation,
    pub(crate) depth: u16,
    /// Bytes of the medium that are used; the device may not be smaller.
    pub(crate) size: u64,
    /// Whether the medium's stamps are to be found in what is read.
    pub(crate) verify: bool,
    /// Load before the measurement begins; `None` to measure from the first request on.
    pub(crate) warm_up: Option<Duration>,
    pub(crate) until: Until,
    /// How long the back-end is watched doing nothing after the load; `None` not to.
    pub(crate) idle: Option<Duration>,
    /// Ask for completions all the time instead of sleeping until one is signalled.
    pub(crate) busy_poll: bool,
    /// Of the random offsets; the same for all that are compared.
    pub(crate) seed: u64,
    /// Process of the back-end, whose use of CPU and memory is to be told.
    pub(crate) back_end: Option<u32>,
}

/// What one measurement found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// Latency in microseconds: median, 99th percentile, longest.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// CPU time of the client.
    pub(crate) client_cpu_seconds: f64,
    /// CPU time of everything else on the machine but client and back-end.
    pub(crate) other_cpu_seconds: f64,
    /// CPU time that the hypervisor gave to others.
    pub(crate) stolen_seconds: f64,
    pub(crate) back_end: Option<BackEndUse>,
}

/// What a back-end used while it was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BackEndUse {
    pub(crate) cpu_seconds: f64,
    /// At the end of the load.
    pub(crate) resident: Resident,
    pub(crate) idle: Option<Idle>,
}

/// A back-end with a connected driver and nothing to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    pub(crate) seconds: f64,
    /// Voluntary context switches of all its threads.
    pub(crate) wakeups: u64,
    pub(crate) cpu_seconds: f64,
}

/// Runs one measurement in a client process on `cpu`.
///
/// # Errors
/// The client's, or that it has not finished after `patience`.
pub(crate) fn start(spec: &Spec, cpu: usize, patience: Duration) -> Result<Outcome> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.arg("blk-client").arg(serde_json::to_string(spec)?);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn_on(cpu, &mut command)?;
    let answer = read_in_background(child.stdout.take());
    let complaint = read_in_background(child.stderr.take());
    // Its output ends when it does; nothing here runs, and disturbs, until then.
    let answer = answer.recv_timeout(patience);
    if answer.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    let answer = answer.with_context(|| format!("no result after {patience:?}: requests hang"))?;
    if !status.success() {
        bail!("{}", complaint.recv().unwrap_or_default().trim());
    }
    serde_json::from_str(&answer).context("the client's answer is not understood")
}

/// The client process: does what `spec` says, prints the outcome.
///
/// # Errors
/// Whatever keeps the measurement from being made or being true.
pub(crate) fn serve(spec: &str) -> Result<()> {
    let spec = serde_json::from_str(spec).context("the measurement is not understood")?;
    let outcome = load::measure(&spec)?;
    serde_json::to_writer(std::io::stdout(), &outcome)?;
    Ok(std::io::stdout().flush()?)
}

fn read_in_background(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut pipe) = pipe {
            // What could be read until an error is still worth showing.
            let _ = pipe.read_to_string(&mut text);
        }
        let _ = sender.send(text);
    });
    receiver
}
