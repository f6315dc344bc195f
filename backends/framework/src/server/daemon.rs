//! A back-end's life: everything is opened, the process is confined, then the loop runs.

use std::num::NonZeroU16;
use std::sync::Arc;

use serde_json::Value;

use super::interest::Poller;
use super::port::{Port, PortSetup};
use super::workers::{AnswerPath, Seats};
use super::{About, Server, new_waker};
use crate::control;
use crate::device::Device;
use crate::engine::Choice;
use crate::error::Result;
use crate::program::inherited::ListenFds;
use crate::program::listener::Endpoint;
use crate::program::notify::Notifier;
use crate::program::options::{CommonOptions, EngineChoice, PollTime, SandboxMode};
use crate::program::signals::Signals;
use crate::program::state_file::StateFile;
use crate::sandbox::Sandbox;
use crate::session::RingOffer;
use crate::worker::{PollWindow, ThreadSettings};

/// What a back-end's `main` knows beside its device.
#[derive(Debug)]
pub struct Daemon<'a> {
    /// A short word for threads and metrics, such as `blk`.
    pub name: &'a str,
    /// The command line.
    pub options: &'a CommonOptions,
    /// What the device needs after its set-up.
    pub sandbox: Sandbox,
    /// What the control command `config` shows, an object.
    pub config: Value,
}

/// Serves one device until a signal, or the end of the only connection, ends it. To be called before
/// any thread is started; the device's own files are open already.
///
/// # Errors
/// Whatever is missing to serve.
pub fn run<D: Device>(device: D, daemon: Daemon<'_>) -> Result<()> {
    run_all(vec![device], daemon)
}

/// Serves several devices, each with a front-end of its own: the n-th one at the n-th `--socket-path`.
/// Else like [`run`].
///
/// # Errors
/// Whatever is missing to serve.
pub fn run_all<D: Device>(devices: Vec<D>, daemon: Daemon<'_>) -> Result<()> {
    let signals = Signals::block()?;
    let notifier = Notifier::from_env();
    let options = daemon.options;
    let mut passed = ListenFds::from_env()?;
    let control = control::server::Server::open(options, &mut passed)?;
    let endpoints = Endpoint::open_all(options, &mut passed, devices.len())?;
    let sandbox = endpoints.iter().fold(daemon.sandbox, Sandbox::endpoint);
    let settings = thread_settings(daemon.name, options);
    let mut ports = Vec::new();
    for (device, endpoint) in devices.into_iter().zip(endpoints) {
        let kind = device.device_type().0;
        let state = match ports.len() {
            0 => StateFile::open(options, &mut passed, &notifier, kind)?,
            number => StateFile::open_further(options, number, kind)?,
        };
        let seats = Seats::reserve(&device, &settings)?;
        ports.push(PortSetup { device, endpoint, state, seats });
    }
    let sandbox = match control.as_ref().and_then(control::server::Server::listener) {
        Some(listener) => sandbox.listener(listener),
        None => sandbox,
    };

    let report = sandbox.apply()?;
    tracing::info!(sandbox = %report, "confined");
    let config = with_common(daemon.config, options);
    let about = About { name: daemon.name.to_owned(), sandbox: report, config };
    let parts = Parts { control, signals, notifier, about };
    let mut server = Server::new(ports, ring_offer(options), &settings, parts)?;
    server.notifier.ready();
    server.serve()
}

/// What a loop has besides its ports.
pub(super) struct Parts {
    pub(super) control: Option<control::server::Server>,
    pub(super) signals: Signals,
    pub(super) notifier: Notifier,
    pub(super) about: About,
}

impl<D: Device> Server<D> {
    /// A loop over these ports.
    ///
    /// # Errors
    /// When the system has no descriptors left, or a device's saved state cannot be read.
    pub(super) fn new(
        setups: Vec<PortSetup<D>>,
        offer: RingOffer,
        settings: &ThreadSettings,
        parts: Parts,
    ) -> Result<Self> {
        let (sender, answers) = crossbeam_channel::unbounded();
        let waker = new_waker()?;
        let path = AnswerPath { sender, waker: Arc::clone(&waker) };
        let ports = (0..)
            .zip(setups)
            .map(|(number, setup)| Port::new(number, setup, offer, settings.clone(), path.clone()));
        let ports = ports.collect::<Result<Vec<_>>>()?;
        let Parts { control, signals, notifier, about } = parts;
        let poller = Poller::new()?;
        let stopping = false;
        Ok(Server { poller, ports, answers, waker, control, signals, notifier, stopping, about })
    }
}

/// What `config` shows: the device's own settings and those that all back-ends have.
fn with_common(mut config: Value, options: &CommonOptions) -> Value {
    let common = [
        ("packed", options.packed.into()),
        ("in_order", options.in_order.into()),
        ("inband", options.inband.into()),
        ("poll_us", options.poll_us.to_string().into()),
        ("cpus", options.cpus.as_ref().map(ToString::to_string).into()),
        ("workers", options.workers.map(NonZeroU16::get).into()),
    ];
    if let Value::Object(members) = &mut config {
        members.extend(common.map(|(name, value)| (name.to_owned(), value)));
    }
    config
}

fn ring_offer(options: &CommonOptions) -> RingOffer {
    let CommonOptions { packed, in_order, inband, .. } = *options;
    RingOffer { packed, in_order, inband }
}

fn thread_settings(name: &str, options: &CommonOptions) -> ThreadSettings {
    ThreadSettings {
        name: name.to_owned(),
        engine: match options.engine {
            EngineChoice::Auto => Choice::Auto,
            EngineChoice::IoUring => Choice::Uring,
            EngineChoice::Threads => Choice::Threads,
        },
        restricted: options.sandbox == SandboxMode::On,
        polling: match options.poll_us {
            PollTime::Auto => PollWindow::Auto,
            PollTime::Fixed(time) => PollWindow::Fixed(time),
        },
        cpus: options.cpus.clone(),
    }
}
