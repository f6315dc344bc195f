//! A guest with one of the consoles, and lines to what serves them in it.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Generic, Guest, Job, Kit, Place, RunDir, Setup};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Pid;

use super::Options;
use super::line::Line;
use super::plan::{Console, Load};
use super::report::Sample;
use super::server::{End, Ends, Server, free_port};
use crate::process::{Daemon, on_cpu, pin_thread};

/// From power on to the last line.
const LIMIT: Duration = Duration::from_secs(120);
/// The first stream is to find out how long one has to be: so many bytes, and then up to so many times
/// as many.
const TRIAL: usize = 64 << 10;
const MOST: f64 = 4096.0;

/// A guest, what serves its console, and the host's ends of its lines.
pub(super) struct Stage {
    terminal: Line,
    port: Option<Line>,
    _guest: Guest,
    _daemon: Option<Daemon>,
    _run: RunDir,
}

/// What a guest is booted with.
struct Cast {
    setup: Setup,
    daemon: Option<Daemon>,
    /// How the terminal and the port are reached.
    terminal: End,
    port: Option<End>,
    /// What the guest has of this process.
    inherited: Option<OwnedFd>,
}

impl Stage {
    /// Starts what serves the console and boots the guest.
    pub(super) fn start(
        options: &Options,
        place: &Place,
        kit: &Kit,
        (console, peer): (Console, Option<&Path>),
    ) -> Result<Self> {
        let run = RunDir::create(place, "bench-console")?;
        let cpu = options.back_end_cpu;
        let cast = match console {
            Console::UmlOutrigger => served(Server::outrigger(&run, cpu, Ends::Unix)?, 8),
            Console::QemuOutrigger => served(Server::outrigger(&run, cpu, Ends::Tcp)?, 8),
            Console::UmlOwn => own()?,
            Console::QemuVirtioSerial => virtio_serial()?,
            Console::QemuCrate => {
                let mut cast =
                    served(Server::peer(&run, cpu, peer.context("it is not built")?)?, 4);
                cast.setup.job = Job::of_shell("echo hello >/dev/hvc0; serve_terminal hvc0");
                cast
            }
        };
        let mut guest = on_cpu(options.guest_cpu, || Guest::boot(&run, kit, &cast.setup))??;
        guest.wait_for("serving").context("booting the guest")?;
        if !console.is_in_uml() {
            part(guest.pid(), options)?;
        }
        // The guest has it now.
        drop(cast.inherited);
        pin_thread(None, cpu)?;
        let mut terminal = cast.terminal.line()?;
        if console == Console::QemuCrate {
            terminal.greeted().context("no greeting")?;
        }
        let port = cast.port.map(End::line).transpose()?;
        Ok(Self { terminal, port, _guest: guest, _daemon: cast.daemon, _run: run })
    }

    /// Does one thing with the console.
    pub(super) fn measure(&mut self, options: &Options, load: Load) -> Result<Sample> {
        let line = if load.is_port() { self.port.as_mut() } else { Some(&mut self.terminal) };
        let line = line.context("there is no port")?;
        if load == Load::Keys {
            return Ok(Sample::keys(line.keys(options.keys)?));
        }
        let mut flow = |count| match load {
            Load::TerminalToGuest => line.paste(count),
            load if load.is_to_host() => line.receive(count),
            _ => line.send(count),
        };
        let trial = flow(TRIAL)?;
        let wanted = trial.bytes_per_second * Duration::from_millis(options.stream).as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within bounds"
        )]
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let count = (wanted / TRIAL as f64).clamp(1.0, MOST) as usize * TRIAL;
        let flow = flow(count)?;
        Ok(Sample::stream(flow, count, load))
    }
}

/// The guest serves its terminal, and its port if it has one.
fn setup(terminal: &str, port: bool) -> Setup {
    let second = if port { "wait_for_ports bulk; serve_port bulk &\n" } else { "" };
    Setup::new(Job::of_shell(&format!("{second}serve_terminal {terminal}")), LIMIT)
}

/// A back-end, and a guest with it.
fn served(server: Server, queues: u16) -> Cast {
    let Server { daemon, socket, terminal, port } = server;
    let device = Generic { queues, ..Generic::console(socket) };
    let setup = Setup { devices: vec![device], ..setup("hvc0", port.is_some()) };
    Cast { setup, daemon: Some(daemon), terminal, port, inherited: None }
}

/// User Mode Linux writes into a descriptor that it inherits.
fn own() -> Result<Cast> {
    let (ours, theirs) = UnixStream::pair()?;
    // It is open in the guest as long as the guest is there.
    fcntl_setfd(&theirs, FdFlags::empty())?;
    let fd = OwnedFd::from(theirs);
    let argument = format!("con1=fd:{}", fd.as_raw_fd());
    let setup = Setup { arguments: vec![argument], ..setup("tty1", false) };
    Ok(Cast {
        setup,
        daemon: None,
        terminal: End::Connected(ours),
        port: None,
        inherited: Some(fd),
    })
}

/// QEMU's device, with a console and a port.
fn virtio_serial() -> Result<Cast> {
    let ports = [free_port()?, free_port()?];
    let mut arguments = vec!["-device".to_owned(), "virtio-serial-pci".into()];
    for (device, port) in ["virtconsole", "virtserialport"].into_iter().zip(ports) {
        let socket = format!("socket,id={device},host=127.0.0.1,port={port},server=on,wait=off");
        let name = if device == "virtserialport" { ",name=bulk" } else { "" };
        let port = format!("{device},chardev={device}{name}");
        arguments.extend(["-chardev".into(), socket, "-device".into(), port]);
    }
    let setup = Setup { arguments, ..setup("hvc0", true) };
    let [terminal, port] = ports.map(End::Tcp);
    Ok(Cast { setup, daemon: None, terminal, port: Some(port), inherited: None })
}

/// The guest's CPU stays where it is; QEMU's other threads, which serve devices, go to the other CPU.
fn part(pid: Pid, options: &Options) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
        let task = task?;
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let is_guest = name.starts_with("CPU ");
        let id = Pid::from_raw(task.file_name().to_string_lossy().parse()?);
        pin_thread(id, if is_guest { options.guest_cpu } else { options.back_end_cpu })?;
    }
    Ok(())
}
