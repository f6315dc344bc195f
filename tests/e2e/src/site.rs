//! Where `outrigger` runs: on this machine, or nested in a guest of QEMU whose emulated CPU can
//! virtualize.
//!
//! ```text
//! test ◀─ lines ─▶ guest-agent ─▶ outrigger run … ─▶ inner guest
//!                  └───── QEMU, Debian's kernel, KVM ─────┘      (or, natively, none of that)
//! ```
//! Both look alike to a test: a folder to work in, programs by their names, `/inner/kernel` and
//! `/inner/initrd` for guests, and commands that are started through an agent, which passes on what
//! they print. The kernel that boots nested is a stock one and uses KVM as it would anywhere: only the
//! machine below it is emulated.

mod agent;
mod contents;
mod libraries;
mod machine;
mod running;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::daemon::Programs;
use crate::error::{Error, Result, output_of};
use crate::initrd;
use crate::job::Job;
use crate::kit::Kit;
use crate::place::{Place, RunDir};
use crate::process::{self, Process};
use crate::tools::compiled;
use agent::Agent;
pub use contents::Contents;
pub use running::Running;

/// How long an outer guest may take until its agent answers.
const BOOT: Duration = Duration::from_secs(90);
/// For small commands.
const MOMENT: Duration = Duration::from_secs(30);
/// What fits on a line that a shell is given.
const CHUNK: usize = 16 << 10;

/// What is below the VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// This machine's own KVM.
    Native,
    /// KVM in a guest of QEMU, on emulated CPUs.
    Nested,
}

impl Ground {
    /// This machine, if `outrigger check` says that its KVM runs kernels natively.
    #[must_use]
    pub fn best(programs: &Programs) -> Self {
        let native = programs.path("outrigger").is_ok_and(|outrigger| {
            output_of(std::process::Command::new(outrigger).arg("check")).is_ok()
        });
        if native { Self::Native } else { Self::Nested }
    }
}

/// A place where the VMM can run. All that was started there ends when this is dropped.
#[derive(Debug)]
pub struct Site {
    ground: Ground,
    name: String,
    agent: Agent,
    /// Before absolute paths there.
    root: String,
    /// The outer guest's console.
    log: PathBuf,
    run: RunDir,
    took: Duration,
    _process: Process,
}

impl Site {
    /// On this machine if its KVM runs kernels natively, else nested.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn best(
        place: &Place,
        name: &str,
        kit: &Kit,
        (programs, contents): (&Programs, &Contents),
    ) -> Result<Self> {
        Self::open(place, name, Ground::best(programs), kit, (programs, contents))
    }

    /// Makes such a place; `kit` is that of a QEMU, and its kernel is used both outside and inside.
    ///
    /// # Errors
    /// When a program is missing, or the outer guest does not boot.
    pub fn open(
        place: &Place,
        name: &str,
        ground: Ground,
        kit: &Kit,
        (programs, contents): (&Programs, &Contents),
    ) -> Result<Self> {
        let run = RunDir::create(place, name)?;
        let log = run.log("outer")?;
        let folder = run.file("root");
        let (mut command, root) = match ground {
            Ground::Native => {
                contents.link(place, (&run, kit), programs, &folder)?;
                let mut command = process::command(compiled(place, "agent")?);
                command.current_dir(folder.join("site")).env("PATH", search_path(&folder)?);
                (command, folder.display().to_string())
            }
            Ground::Nested => {
                let initrd = run.file("outer-initrd");
                contents.write_initrd(place, (&run, kit), programs, &initrd)?;
                (machine::command(kit, &initrd, &log), String::new())
            }
        };
        let begun = Instant::now();
        let errors = std::fs::File::options().append(true).open(&log);
        let errors = errors.map_err(Error::file("open", &log))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut process = Process::start(name, command)?;
        let (Some(input), Some(output)) = (process.take_stdin(), process.take_stdout()) else {
            return Err(Error::Missing {
                what: "the line to the agent".into(),
                how: "this is a bug: standard input and output were not piped".into(),
            });
        };
        let agent = Agent::new(input, output);
        let (name, took) = (name.to_owned(), Duration::ZERO);
        let mut site = Self { ground, name, agent, root, log, run, took, _process: process };
        site.start("hello", "true", BOOT)?.finish()?;
        site.took = begun.elapsed();
        Ok(site)
    }

    /// What is below the VMM here.
    #[must_use]
    pub const fn ground(&self) -> Ground {
        self.ground
    }

    /// How long it took until the first command had run.
    #[must_use]
    pub const fn took(&self) -> Duration {
        self.took
    }

    /// The kernel for guests.
    #[must_use]
    pub fn kernel(&self) -> String {
        format!("{}/inner/kernel", self.root)
    }

    /// Makes an initrd for a guest that does this job.
    ///
    /// # Errors
    /// When it cannot be made there.
    pub fn initrd(&self, name: &str, job: &Job) -> Result<String> {
        let file = format!("{name}.initrd");
        self.put(&format!("{name}.job"), &initrd::job(job.shell()))?;
        self.run(&format!("cat {}/inner/initrd {name}.job > {file}", self.root))?;
        Ok(file)
    }

    /// Writes a small file there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, path: &str, content: &[u8]) -> Result<()> {
        self.run(&format!(": > {path}"))?;
        for chunk in content.chunks(CHUNK) {
            let octal: String = chunk.iter().map(|byte| format!("\\0{byte:03o}")).collect();
            self.run(&format!("printf '%b' '{octal}' >> {path}"))?;
        }
        Ok(())
    }

    /// Runs a small command, which has to succeed, and returns what it printed.
    ///
    /// # Errors
    /// When it fails or takes longer than a moment.
    pub fn run(&self, command: &str) -> Result<String> {
        let mut running = self.start("command", command, MOMENT)?;
        match running.status()? {
            0 => running.printed(),
            status => Err(Error::Guest {
                guest: self.name.clone(),
                detail: format!("`{command}` ended with status {status}"),
                console: self.log.clone(),
                tail: running.printed()?,
            }),
        }
    }

    /// Starts a command of one line, and lets it take so long; what it prints is kept in a file of that name.
    /// Begin it with `exec` to be told the process id of the program itself.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, name: &str, command: &str, limit: Duration) -> Result<Running> {
        Running::start(
            &self.agent,
            (&format!("{}.{name}", self.name), &self.run.log(name)?, &self.log),
            limit,
            command,
        )
    }
}

/// The programs of a site on this machine, and everybody else's.
fn search_path(folder: &std::path::Path) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = [folder.join("programs")];
    let paths = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)));
    paths.map_err(|error| Error::Missing {
        what: format!("a search path with {} in it ({error})", folder.display()),
        how: "move the checkout to a path without a colon".into(),
    })
}
