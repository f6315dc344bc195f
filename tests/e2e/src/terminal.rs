//! A console served to a guest, with a user at it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, Plan, Programs};
use crate::error::{Error, Result};
use crate::guest::{Guest, Setup};
use crate::job::Job;
use crate::kit::Kit;
use crate::place::{Place, RunDir};
use crate::{initrd, uml};

/// What the guest does (`wait_for_port`, a shell on hvc0, an agent).
const JOB: &str = include_str!("../guest/console.sh");
/// The device's type, as the kernel wants it behind the socket's path (virtio 1.4, 5.3).
const CONSOLE: u32 = 3;
/// From power on to the last line.
const LIMIT: Duration = Duration::from_secs(90);
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A guest of User Mode Linux with a console of three ports: `con`, which is hvc0 with a shell, `agent`,
/// where each line is answered, and `bulk`. On the host, each is a socket of its name.
#[derive(Debug)]
pub struct Desk {
    /// The guest; it is ended before the daemon and the files are.
    pub guest: Guest,
    /// The back-end.
    pub daemon: Daemon,
    run: RunDir,
}

/// One end of a port on the host.
#[derive(Debug)]
pub struct Typist {
    socket: UnixStream,
    path: PathBuf,
}

impl Desk {
    /// Starts the daemon, boots the guest, and waits for its shell.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn start(place: &Place, kit: &Kit, name: &str) -> Result<Self> {
        let run = RunDir::create(place, name)?;
        let port = |name: &str, more: &str| {
            format!("--port=name={name},backend=unix:{}{more}", run.socket(name).display())
        };
        let ports = [port("con", ",log=64"), port("agent", ""), port("bulk", "")];
        let arguments: Vec<_> = ports.iter().map(String::as_str).collect();
        let plan = Plan::new(&run, &Programs::on_demand(), "console", &arguments)?;
        let daemon = plan.start()?;
        let setup = Setup {
            disks: Vec::new(),
            balloon: None,
            card: None,
            job: Job::of_shell(JOB),
            cpus: 1,
            limit: LIMIT,
        };
        let initrd = run.file("initrd");
        initrd::write(&initrd, kit, &["virtio_console"], setup.job.shell())?;
        let mut command = uml::command(kit, &run, &setup, &initrd);
        command
            .arg(format!("virtio_uml.device={}:{CONSOLE}", plan.socket().display()))
            .stdin(Stdio::null());
        let log = run.log("guest")?;
        let mut guest = Guest::start(name, command, &log, Instant::now() + LIMIT)?;
        guest.wait_for("console")?;
        Ok(Self { guest, daemon, run })
    }

    /// Somebody at a port.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn attach(&self, port: &str) -> Result<Typist> {
        let path = self.run.socket(port);
        let socket = UnixStream::connect(&path).map_err(Error::file("connect to", &path))?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(Error::file("set up", &path))?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(Error::file("set up", &path))?;
        Ok(Typist { socket, path })
    }

    /// Waits until the guest has done its job, and ends the daemon.
    ///
    /// # Errors
    /// When the job fails, or the daemon does not end as it should.
    pub fn finish(self) -> Result<()> {
        self.guest.finish()?;
        self.daemon.stop()
    }
}

impl Typist {
    /// Sends bytes.
    ///
    /// # Errors
    /// When nobody takes them.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.write_all(bytes).map_err(Error::file("write to", &self.path))
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// When they do not come.
    pub fn receive(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.socket.read_exact(&mut bytes).map_err(Error::file("read from", &self.path))?;
        Ok(bytes)
    }

    /// Sends a line, and reads until a text has come. What was read is returned.
    ///
    /// # Errors
    /// When it does not come.
    pub fn ask(&mut self, line: &str, answer: &str) -> Result<String> {
        self.send(format!("{line}\n").as_bytes())?;
        self.read_until(answer)
    }

    /// Reads until a text has come. What was read is returned.
    ///
    /// # Errors
    /// When it does not come.
    pub fn read_until(&mut self, text: &str) -> Result<String> {
        let (mut all, mut piece) = (String::new(), [0; 4096]);
        while !all.contains(text) {
            let count = self.socket.read(&mut piece).map_err(|source| Error::Daemon {
                daemon: self.path.display().to_string(),
                detail: format!("{text:?} does not come ({source}), but {all:?}"),
            })?;
            all.push_str(&String::from_utf8_lossy(piece.get(..count).unwrap_or(&[])));
            if count == 0 {
                return Err(Error::Daemon {
                    daemon: self.path.display().to_string(),
                    detail: format!("it ended before {text:?} came: {all:?}"),
                });
            }
        }
        Ok(all)
    }
}
