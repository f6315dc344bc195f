//! A console served to a guest, with a user at it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Plan, Programs};
use crate::error::{Error, Result};
use crate::guest::{Generic, Guest, Setup};
use crate::job::Job;
use crate::kit::Kit;
use crate::place::{Place, RunDir};

/// What the guest does (`guest/console.sh`), and who may log in there.
const JOB: &str = "desk";
const USER: (&str, &str) = ("root", "secret");
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// When all is there that was kept.
const QUIET: Duration = Duration::from_millis(300);
/// For a question after a name, and how often that is given.
const SHORT: Duration = Duration::from_secs(3);
const TRIES: u32 = 10;

/// A guest with a console of three ports: `con`, which is hvc0 with a login, `agent`, where requests are
/// answered, and `bulk`. On the host, each is a socket of its name.
#[derive(Debug)]
pub struct ConsoleScene<'kit> {
    /// Names the run and its logs.
    pub name: String,
    /// What to boot: User Mode Linux, or a QEMU with a generic device.
    pub kit: &'kit Kit,
    /// Where the daemon's program is.
    pub programs: Programs,
    /// Whether the daemon offers packed rings and the front-end asks for them.
    pub packed: bool,
    /// What the guest does.
    pub job: Job,
    /// From power on to the last line.
    pub limit: Duration,
}

/// A scene with everybody on stage.
#[derive(Debug)]
pub struct Desk {
    /// The guest; it is ended before the daemon and the files are.
    pub guest: Guest,
    /// The back-end.
    pub daemon: Daemon,
    /// How to start it again.
    pub plan: Plan,
    run: RunDir,
}

/// One end of a port on the host.
#[derive(Debug)]
pub struct Typist {
    socket: UnixStream,
    path: PathBuf,
}

impl<'kit> ConsoleScene<'kit> {
    /// A login and an agent, with split rings, and a minute and a half for everything.
    #[must_use]
    pub fn new(name: &str, kit: &'kit Kit) -> Self {
        Self {
            name: name.to_owned(),
            kit,
            programs: Programs::on_demand(),
            packed: false,
            job: Job::of_shell(JOB),
            limit: Duration::from_secs(90),
        }
    }

    /// Starts the daemon and boots the guest.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn start(&self, place: &Place) -> Result<Desk> {
        let run = RunDir::create(place, &self.name)?;
        let port = |name: &str, more: &str| {
            format!("--port=name={name},backend=unix:{}{more}", run.socket(name).display())
        };
        let ports = [port("con", ",log=64"), port("agent", ""), port("bulk", "")];
        let state = format!("--state-path={}", run.file("console.state").display());
        let directory = format!("--port-directory={}", run.file("late").display());
        std::fs::create_dir(run.file("late")).map_err(Error::file("make", &run.file("late")))?;
        let mut arguments = vec!["--max-ports=4", &state, &directory];
        arguments.extend(self.packed.then_some("--packed"));
        arguments.extend(ports.iter().map(String::as_str));
        let plan = Plan::new(&run, &self.programs, "console", &arguments)?;
        let daemon = plan.start()?;
        // Two for each port, and two for messages about them.
        let device = Generic {
            packed: self.packed,
            queues: 10,
            ..Generic::console(plan.socket().to_path_buf())
        };
        let setup = Setup { devices: vec![device], ..Setup::new(self.job.clone(), self.limit) };
        let guest = Guest::boot(&run, self.kit, &setup)?;
        Ok(Desk { guest, daemon, plan, run })
    }
}

impl Desk {
    /// Waits until the guest is ready for its `first` or `second` user.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn await_user(&mut self, which: &str) -> Result<()> {
        while self.guest.wait_for("desk")? != which {}
        Ok(())
    }

    /// Somebody at a port.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn attach(&self, port: &str) -> Result<Typist> {
        let path = self.run.socket(port);
        let socket = UnixStream::connect(&path).map_err(Error::file("connect to", &path))?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(Error::file("set up", &path))?;
        let typist = Typist { socket, path };
        typist.be_patient(PATIENCE)?;
        Ok(typist)
    }

    /// Somebody at the console who has logged in.
    ///
    /// # Errors
    /// When the guest does not let them.
    pub fn log_in(&self) -> Result<Typist> {
        let mut console = self.attach("con")?;
        // What is kept for whoever comes has old questions in it.
        console.be_patient(QUIET)?;
        console.skip();
        // What is typed before the guest asks is lost.
        console.be_patient(SHORT)?;
        let mut tries = 1;
        while let Err(error) = console.ask(USER.0, "Password: ") {
            if tries == TRIES {
                return Err(error);
            }
            tries += 1;
        }
        console.be_patient(PATIENCE)?;
        console.ask(USER.1, "# ")?;
        Ok(console)
    }

    /// Adds a port while the guest runs, and gives the file that gets its output, below the directory that
    /// was named at the start.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn add_port(&self, name: &str) -> Result<PathBuf> {
        let file = self.run.file("late").join(name);
        let backend = format!("file:{}", file.display());
        self.daemon.control(&json!({"cmd": "add-port", "name": name, "backend": backend}))?;
        Ok(file)
    }

    /// Removes a port while the guest runs.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn remove_port(&self, name: &str) -> Result<()> {
        self.daemon.control(&json!({"cmd": "remove-port", "name": name})).map(drop)
    }

    /// Makes the console's terminal another size.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = json!({"cmd": "resize", "cols": columns, "rows": rows});
        self.daemon.control(&size).map(drop)
    }

    /// The program whose `console` attaches a terminal.
    ///
    /// # Errors
    /// When it is not there and cannot be built.
    pub fn outrigger(&self) -> Result<PathBuf> {
        Programs::on_demand().path("outrigger")
    }

    /// Where the daemon takes commands.
    #[must_use]
    pub fn control(&self) -> &Path {
        self.plan.control()
    }

    /// The features that driver and device agreed on, in the specification's words.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn features(&self) -> Result<Vec<String>> {
        let stats = self.daemon.control(&json!({"cmd": "stats"}))?;
        let named = stats.pointer("/connection/features").and_then(Value::as_array);
        let names = named.into_iter().flatten().filter_map(Value::as_str);
        Ok(names.map(str::to_owned).collect())
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
    /// Waits for so long for anything that is to come.
    fn be_patient(&self, limit: Duration) -> Result<()> {
        self.socket.set_read_timeout(Some(limit)).map_err(Error::file("set up", &self.path))
    }

    /// Reads what comes, until nothing does.
    fn skip(&mut self) {
        let mut piece = [0; 4096];
        while self.socket.read(&mut piece).is_ok_and(|count| count > 0) {}
    }

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
