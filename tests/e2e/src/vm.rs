//! A virtual machine of `outrigger`'s at a [`Site`].

use std::time::Duration;

use serde_json::Value;

use crate::block::Report;
use crate::console::Results;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::site::{Running, Site};

/// How long the processes of a machine may take to be gone once it is.
const GONE: u32 = 50;

/// A machine to be booted.
#[derive(Debug, Clone)]
pub struct VmSetup {
    /// Names its files and logs.
    pub name: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// What its guest does.
    pub job: Job,
    /// Added to the kernel's command line.
    pub cmdline: String,
    /// Further arguments of `outrigger run`: its devices.
    pub arguments: Vec<String>,
    /// From the start to the end.
    pub limit: Duration,
}

impl VmSetup {
    /// Two CPUs, 256 MiB, no devices.
    #[must_use]
    pub fn new(name: &str, job: Job) -> Self {
        Self {
            name: name.to_owned(),
            cpus: 2,
            memory: 256,
            job,
            cmdline: String::new(),
            arguments: Vec::new(),
            limit: Duration::from_secs(90),
        }
    }

    /// With a disk of that file, served by a daemon that the VMM starts.
    #[must_use]
    pub fn with_disk(self, image: &str) -> Self {
        self.with(&format!("--disk path={image}"))
    }

    /// With further arguments.
    #[must_use]
    pub fn with(mut self, arguments: &str) -> Self {
        self.arguments.push(arguments.to_owned());
        self
    }

    /// The command that starts it; its control socket is `NAME.control`.
    ///
    /// # Errors
    /// When its initrd cannot be made.
    pub fn command(&self, site: &Site) -> Result<String> {
        let Self { name, cpus, memory, cmdline, .. } = self;
        Ok(format!(
            "exec outrigger run --kernel {} --initrd {} --cpus {cpus} --memory {memory}M \
             --cmdline 'console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests {cmdline}' --serial stdio \
             --control {name}.control {}",
            site.kernel(),
            site.initrd(name, &self.job)?,
            self.arguments.join(" "),
        ))
    }
}

/// A running virtual machine: its guest's console, and its VMM.
#[derive(Debug)]
pub struct Vm<'site> {
    site: &'site Site,
    name: String,
    /// The VMM; its guest speaks through it.
    pub guest: Running,
}

impl Site {
    /// Starts a machine.
    ///
    /// # Errors
    /// When its initrd cannot be made or the VMM not started.
    pub fn boot(&self, setup: &VmSetup) -> Result<Vm<'_>> {
        let guest = self.start(&setup.name, &setup.command(self)?, setup.limit)?;
        Ok(Vm { site: self, name: setup.name.clone(), guest })
    }

    /// Plays a whole scene with a fresh disk of so many bytes: the guest does its job, and its daemon
    /// says what it did.
    ///
    /// # Errors
    /// At the first thing that goes wrong.
    pub fn play(&self, setup: VmSetup, size: u64, packed: bool) -> Result<Report> {
        let name = setup.name.clone();
        self.run(&format!("truncate -s {size} {name}.img"))?;
        let packed = if packed { ",packed=on" } else { "" };
        let disk = format!("--disk path={name}.img,control={name}.disk{packed}");
        // The daemon ends with its machine, so it has to be asked before.
        let setup = VmSetup { job: setup.job.clone().hear(), ..setup }.with(&disk);
        let mut vm = self.boot(&setup)?;
        vm.guest.wait_for("waiting")?;
        let stats = self.ask(&format!("{name}.disk"), "stats")?;
        vm.guest.say("enough")?;
        Ok(Report { results: vm.finish()?, stats })
    }

    /// Asks a machine or a daemon something through its control socket.
    fn ask(&self, socket: &str, command: &str) -> Result<Value> {
        let text = self.run(&format!("outrigger ctl --json {socket} {command}"))?;
        serde_json::from_str(&text).map_err(|error| Error::Daemon {
            daemon: socket.into(),
            detail: format!("its answer to {command} is not JSON ({error}): {text}"),
        })
    }

    /// The processes whose program has this name, and whose arguments hold this text.
    ///
    /// # Errors
    /// When the site does not answer.
    pub fn processes(&self, program: &str, argument: &str) -> Result<Vec<u32>> {
        let found = self.run(&format!(
            "for p in $(pidof {program}); do \
             tr '\\0' ' ' < /proc/$p/cmdline | grep -qF -- '{argument}' && echo $p; done; true"
        ))?;
        Ok(found.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    /// Waits until there is no such process.
    ///
    /// # Errors
    /// When there still is one after a while.
    pub fn await_none(&self, program: &str, argument: &str) -> Result<()> {
        for _ in 0..GONE {
            if self.processes(program, argument)?.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(Error::Daemon { daemon: program.into(), detail: "it is still there".into() })
    }

    /// Sends a signal to a process.
    ///
    /// # Errors
    /// When there is none.
    pub fn signal(&self, pid: u32, signal: &str) -> Result<()> {
        self.run(&format!("kill -{signal} {pid}")).map(drop)
    }
}

impl Vm<'_> {
    /// Says something to the machine's control socket, and returns the answer.
    ///
    /// # Errors
    /// When `outrigger ctl` fails or does not print JSON.
    pub fn ctl(&self, command: &str) -> Result<Value> {
        self.site.ask(&format!("{}.control", self.name), command)
    }

    /// Sends a signal to the VMM.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: &str) -> Result<()> {
        self.site.signal(self.guest.pid(), signal)
    }

    /// What the machine and its daemons say of themselves, and what their threads wait for: for the message
    /// of a test whose guest does not go on.
    #[must_use]
    pub fn state_of_affairs(&self) -> String {
        let told = ["stats", "devices", r#"device disk '{"cmd":"stats"}'"#].map(|command| {
            let answer = self.ctl(command);
            format!(
                "{command}: {}",
                answer.map_or_else(|error| error.to_string(), |it| it.to_string())
            )
        });
        let threads = self.site.run(
            "dmesg | tail -n 5; for t in $(ls -d /proc/[0-9]*/task/[0-9]*); do \
             case $(cat $t/comm) in outrigger*|worker*|vcpu*|iou*|disk*) \
             echo $t $(cat $t/comm) $(cat $t/wchan) $(grep -m 1 State $t/status);; esac; done; true",
        );
        let threads = threads.unwrap_or_else(|error| error.to_string());
        format!("{}\n{threads}", told.join("\n"))
    }

    /// Waits until the guest has done its job and the VMM has ended with status 0.
    ///
    /// # Errors
    /// When the guest reports a failure, or the VMM ends otherwise.
    pub fn finish(mut self) -> Result<Results> {
        self.guest.wait_for("done")?;
        self.guest.finish()
    }
}
