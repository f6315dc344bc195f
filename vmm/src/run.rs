//! From a command line to a running machine, and to its exit status.

use std::cell::Cell;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hypervisor::kvm;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use supervisor::Supervisor;

use crate::config::Config;
use crate::config::cli::Run;
use crate::config::settings::{OnPanic, OnTripleFault};
use crate::control::Server;
use crate::devices::serial::Port;
use crate::machine::assembly::{Ground, Supplies, assemble};
use crate::machine::body::Machine;
use crate::machine::desk::{Body as _, Desk};
use crate::machine::lifecycle::{Event, Policy};
use crate::machine::loading::Loading;
use crate::machine::mailbox::Mailbox;
use crate::machine::outcome::{Force, Outcome};
use crate::machine::relay::Relay;
use crate::machine::signals::Signals;
use crate::machine::visitors::{ControlSocket, SerialPort};
use crate::machine::watch::Watch;
use crate::machine::window::Window;
use crate::machine::{Error, Result, back_ends, guest};
use crate::sandbox::{Sandbox, ThreadKind};

/// The status for a command line that makes no sense.
const USAGE: u8 = 2;

/// How long the daemons may take to end after the machine. They are told to, and then killed.
const DAEMONS_LIMIT: Duration = Duration::from_secs(15);
/// How often is looked meanwhile whether somebody has lost patience.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// `outrigger run`.
#[must_use]
pub fn run(arguments: &Run) -> ExitCode {
    match arguments.resolve() {
        Err(error) => {
            complain(&error);
            ExitCode::from(USAGE)
        }
        Ok(config) if arguments.dry_run => print(&config),
        Ok(config) => {
            let outcome = live(&config).unwrap_or_else(|error| Outcome::Failed(error.to_string()));
            if outcome != Outcome::PoweredOff {
                complain(&outcome);
            }
            outcome.exit_code()
        }
    }
}

#[expect(clippy::print_stdout, reason = "it is what was asked for")]
fn print(config: &Config) -> ExitCode {
    match config.to_toml() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn complain(what: &dyn std::fmt::Display) {
    eprintln!("outrigger: {what}");
}

/// The whole life of a machine and its daemons.
fn live(config: &Config) -> Result<Outcome> {
    crate::logging::start(config.log.as_deref())?;
    raise_descriptor_limit();
    // What is likely to be missing is looked for before anything is started.
    let payload = guest::open(config)?;
    let kvm = kvm::Kvm::open()?;
    let daemons = back_ends::daemons(&config.devices)?;
    let files = config.files_made().map(Path::to_owned).collect();
    // The supervisor is forked from a process without threads, and before signals are blocked.
    let (supervisor, links) = supervisor::start(daemons, files)?;
    let signals = Signals::new().map_err(Error::system("waiting for signals"))?;
    Window::block().map_err(Error::system("waiting for signals"))?;
    let topology = config.cpus.topology;
    let loading = Loading::begin(payload, config, topology, kvm.physical_bits());
    let supplies = loading.map(|loading| Supplies { loading, links });
    let outcome = supplies.and_then(|supplies| {
        let machine = kvm::Machine::new(&kvm, &kvm::Config { topology, dedicated: false })?;
        live_with(config, Arc::new(machine), &signals, supplies)
    });
    // The links are gone by now, however it went.
    wait_for_daemons(&supervisor, &signals);
    match outcome {
        Err(Error::Cancelled) => Ok(Outcome::Forced(Force::NotStarted)),
        Err(Error::Ended(outcome)) => Ok(outcome),
        outcome => outcome,
    }
}

/// Whoever sends a signal now has no time to wait; the supervisor has.
fn wait_for_daemons(supervisor: &Supervisor, signals: &Signals) {
    let end = Instant::now() + DAEMONS_LIMIT;
    while !supervisor.wait(end.min(Instant::now() + LOOK_AROUND)) {
        if Instant::now() >= end || signals.take().is_some() {
            tracing::warn!("a daemon does not end; the supervisor will kill it");
            return;
        }
    }
}

/// Each vCPU takes a descriptor, each queue two, and the usual limit is made for programs that use `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Who runs out of descriptors says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// The life of a machine whose daemons are being started.
fn live_with(
    config: &Config,
    machine: Arc<dyn hypervisor::Machine>,
    signals: &Signals,
    supplies: Supplies,
) -> Result<Outcome> {
    let start = Instant::now();
    let mailbox = Mailbox::new().map_err(Error::system("waiting for events"))?;
    end_on_panics(&mailbox);
    let control = config.control.as_deref().map(Server::listen).transpose()?;
    let sandbox = Arc::new(Sandbox::new(config)?);
    let ground = Ground { machine, mailbox: mailbox.clone(), sandbox };
    let interrupted = || match (signals.take(), mailbox.fatal()) {
        (Some(_), _) => Err(Error::Cancelled),
        (None, Some(outcome)) => Err(Error::Ended(outcome)),
        (None, None) => Ok(()),
    };
    let (machine, serial) = assemble(config, supplies, &ground, &interrupted)?;
    introduce(&serial);
    let mut watch = Watch::new(signals.clone(), mailbox)?;
    watch.admit(Box::new(SerialPort(serial)))?;
    if let Some(server) = control {
        let relay = Relay::new(machine.back_ends().commands());
        let socket = relay.and_then(|relay| ControlSocket::new(server, relay));
        watch.admit(Box::new(socket.map_err(Error::system("waiting for commands"))?))?;
    }
    if let Some(bell) = machine.back_ends().bell() {
        let window = Window::new(bell).map_err(Error::system("waiting for signals"))?;
        watch.admit(Box::new(window))?;
    }
    ground.sandbox.enter(ThreadKind::Main)?;
    // Of all threads up to here, and without the guest's.
    let cpu = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
    tracing::debug!(
        after_us = start.elapsed().as_micros(),
        cpu_us = cpu.as_micros(),
        "the guest starts"
    );
    let outcome = watch_over(config, &mut watch, machine, signals);
    watch.close();
    outcome
}

/// Says where the guest can be talked to.
fn introduce(serial: &Port) {
    if let Some(path) = serial.path() {
        tracing::info!(path = %path.display(), "serial port");
    }
    if serial.is_terminal() {
        tracing::info!("this terminal is the serial port; Ctrl-A x stops the machine");
    }
}

/// A thread that panics takes the machine with it, instead of leaving it half alive.
fn end_on_panics(mailbox: &Mailbox) {
    let (mailbox, usual) = (mailbox.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        let what = "the VMM itself panicked; this is a bug, please report the message above";
        mailbox.post(Event::Fatal(Outcome::Failed(what.to_owned())));
    }));
}

/// Lets the machine run, and takes it down at its end. A signal during that is one too many: what is not
/// done by then is left.
fn watch_over(
    config: &Config,
    watch: &mut Watch<Machine>,
    mut machine: Machine,
    signals: &Signals,
) -> Result<Outcome> {
    machine.release();
    let mut desk = Desk::new(policy(config), machine);
    let outcome = watch.run(&mut desk);
    let hurried = Cell::new(false);
    let hurry = || {
        hurried.set(hurried.get() || signals.take().is_some());
        hurried.get()
    };
    let finished = desk.into_body().take_down(&hurry);
    match outcome {
        Ok(Outcome::PoweredOff) if hurried.get() && !finished => {
            Ok(Outcome::Forced(Force::SecondSignal))
        }
        outcome => outcome,
    }
}

fn policy(config: &Config) -> Policy {
    Policy {
        grace: config.grace,
        reset_on_triple_fault: config.on_triple_fault == OnTripleFault::Reset,
        end_on_panic: config.on_panic == OnPanic::Stop,
    }
}
