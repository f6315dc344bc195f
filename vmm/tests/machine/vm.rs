//! The program under test, running one of the tiny guests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::program::Program;

/// Nothing here takes longer, on any machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A running `outrigger`.
pub(crate) struct Vm {
    child: Child,
    directory: TempDir,
    kept: Vec<TempDir>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: Option<i32>,
    /// What it said on stderr.
    pub(crate) words: String,
    /// What the guest wrote to COM1.
    pub(crate) serial: String,
}

impl Vm {
    /// Starts it, or says why there is nothing to test on this machine.
    pub(crate) fn start(program: &Program, arguments: &[&str]) -> Option<Self> {
        Self::start_by(program, arguments, |_| Command::new(env!("CARGO_BIN_EXE_outrigger")))
    }

    /// The same by a command to which arguments are added; it is made when there is a directory.
    pub(crate) fn start_by(
        program: &Program,
        arguments: &[&str],
        command: impl FnOnce(&Path) -> Command,
    ) -> Option<Self> {
        if !Path::new("/dev/kvm").exists() {
            eprintln!("skipped: there is no /dev/kvm");
            return None;
        }
        let directory = TempDir::new().expect("a directory");
        let path = |name| directory.path().join(name);
        let words = fs::File::create(path("words")).expect("a file for its words");
        let kernel = program.save(directory.path());
        let child = command(directory.path())
            .arg("run")
            .arg("--kernel")
            .arg(kernel)
            .args(["--memory=32M", "--serial"])
            .arg(format!("file:{}", path("serial").display()))
            .arg("--control")
            .arg(path("control"))
            .args(arguments)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stderr(words)
            .spawn()
            .expect("outrigger starts");
        Some(Self { child, directory, kept: Vec::new() })
    }

    /// A file in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until the guest has written this.
    pub(crate) fn await_serial(&mut self, text: &str) {
        self.wait_until(|vm| vm.read("serial").contains(text), text);
    }

    /// Waits until there is such a file in its directory.
    pub(crate) fn await_file(&mut self, name: &str) {
        self.wait_until(|vm| vm.path(name).exists(), name);
    }

    /// The permissions of a file in its directory.
    pub(crate) fn mode(&self, name: &str) -> u32 {
        let metadata = fs::metadata(self.path(name)).expect("it is there");
        metadata.permissions().mode() & 0o777
    }

    pub(crate) fn wait_until(&mut self, done: impl Fn(&Self) -> bool, what: &str) {
        let start = Instant::now();
        while !done(self) {
            let running = self.child.try_wait().expect("it is ours").is_none();
            assert!(running && start.elapsed() < LIMIT, "no {what:?}: {}", self.read("words"));
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Runs `outrigger ctl`; returns what it printed, or what went wrong.
    pub(crate) fn ctl(&self, command: &str) -> Result<String, String> {
        let output = Command::new(env!("CARGO_BIN_EXE_outrigger"))
            .arg("ctl")
            .arg(self.path("control"))
            .arg(command)
            .output()
            .expect("outrigger starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The process of this program that has a file of its directory among its arguments.
    pub(crate) fn process(&self, program: &str) -> Option<Pid> {
        let all = self.kept.iter().chain([&self.directory]);
        let folders: Vec<_> = all.map(|folder| folder.path().display().to_string()).collect();
        let is_it = |pid: &i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split('\0').next().is_some_and(|it| it.ends_with(program))
                && folders.iter().any(|folder| line.contains(folder))
        };
        let entries = fs::read_dir("/proc").expect("processes").filter_map(Result::ok);
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.into_iter().find(is_it).and_then(Pid::from_raw)
    }

    /// Keeps a directory as long as the machine.
    pub(crate) fn keep(&mut self, directory: TempDir) {
        self.kept.push(directory);
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_some()
    }

    /// CPU time of the whole process, in clock ticks.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let number = |index| fields.split_whitespace().nth(index).and_then(|n| n.parse().ok());
        // Fields 14 and 15 of proc(5).
        [number(11), number(12)].into_iter().map(|ticks: Option<u64>| ticks.expect("ticks")).sum()
    }

    /// The names of its threads; KVM may have some there, too.
    pub(crate) fn threads(&self) -> Vec<String> {
        let mut names = self.each_thread("comm");
        names.retain(|name| !name.starts_with("kvm-"));
        names.sort();
        names
    }

    /// How often each of its threads went to sleep.
    pub(crate) fn switches(&self) -> Vec<String> {
        let statuses = self.each_thread("status");
        let lines = statuses.iter().flat_map(|status| status.lines());
        lines.filter(|line| line.starts_with("voluntary_ctxt")).map(str::to_owned).collect()
    }

    /// A file of each of its threads.
    fn each_thread(&self, file: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let read = |task: std::io::Result<fs::DirEntry>| {
            let text = fs::read_to_string(task.expect("a thread").path().join(file));
            text.unwrap_or_default().trim().to_owned()
        };
        tasks.map(read).collect()
    }

    /// Waits for its end.
    pub(crate) fn wait_until_ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "it does not end: {}", self.read("words"));
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for its end, and returns what there is to say of it.
    pub(crate) fn end(mut self) -> End {
        let status = self.wait_until_ended();
        let (words, serial) = (self.read("words"), self.read("serial"));
        assert!(!self.path("control").exists(), "its socket is gone");
        End { status: status.code(), words, serial }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // It has ended, if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
