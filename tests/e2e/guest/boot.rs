//! `guest-boot MEMORY_MIB LINE COMMAND...`: starts a VMM, and measures until its guest says LINE.
//!
//! When the program was started and when it ran its first vCPU is what the kernel traced: neither needs
//! anything of the VMM. When the guest speaks, the VMM's own CPU time and memory are looked at. Then the
//! guest goes on to its end. Runs where the VMM runs, as root; uses the standard library alone.
#![expect(clippy::print_stdout, reason = "the console is how a guest speaks to the host")]

use std::fs;
use std::io::{self, BufRead, BufReader, Error, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const TRACING: &str = "/sys/kernel/tracing";
/// `KVM_RUN`, as the request of an ioctl.
const FIRST_RUN: &str = "cmd == 0xae80";
/// How long the trace may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Units of `/proc/PID/stat`, per second: the same on every x86-64.
const TICKS: f64 = 100.0;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("guest-boot: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [memory, line, program, arguments @ ..] = &words[..] else {
        return Err(Error::other("usage: guest-boot MEMORY_MIB LINE COMMAND..."));
    };
    let memory: u64 = memory.parse().map_err(Error::other)?;
    let first_run = trace()?;
    // The mark and the start of the program are as near to each other as the clock can tell.
    mark("started")?;
    let mut command = Command::new(program);
    let mut child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| Error::other("no standard output"))?;
    let mut seen = false;
    for text in BufReader::new(stdout).lines() {
        let text = text?;
        if !seen && text.contains(line.as_str()) {
            seen = true;
            mark("spoke")?;
            look_at(&child, memory)?;
        }
        println!("{text}");
    }
    let status = child.wait()?;
    println!("OUTRIGGER vmm_status={}", status.code().unwrap_or(-1));
    let times = first_run.recv_timeout(PATIENCE).map_err(Error::other)?;
    println!("OUTRIGGER first_run_us={:.0}", (times.first_run - times.started) * 1e6);
    println!("OUTRIGGER init_us={:.0}", (times.spoke - times.started) * 1e6);
    Ok(())
}

/// Moments of the monotonic clock, in seconds.
#[derive(Default)]
struct Times {
    started: f64,
    first_run: f64,
    spoke: f64,
}

/// Begins to trace; what was seen comes when all three moments were.
fn trace() -> io::Result<mpsc::Receiver<Times>> {
    let file = |name: &str| Path::new(TRACING).join(name);
    if !file("trace_clock").exists() {
        Command::new("mount").args(["-t", "tracefs", "tracefs", TRACING]).status()?;
    }
    let event = "events/syscalls/sys_enter_ioctl";
    fs::write(file(event).join("enable"), "0")?;
    fs::write(file("trace"), "")?;
    fs::write(file("trace_clock"), "mono")?;
    fs::write(file(event).join("filter"), FIRST_RUN)?;
    fs::write(file(event).join("enable"), "1")?;
    fs::write(file("tracing_on"), "1")?;
    let (sender, times) = mpsc::channel();
    let pipe = BufReader::new(fs::File::open(file("trace_pipe"))?);
    let enabled = file(event).join("enable");
    std::thread::spawn(move || {
        let mut times = Times::default();
        for line in pipe.lines().map_while(Result::ok) {
            let Some(at) = moment(&line) else { continue };
            if line.contains("started") {
                times.started = at;
            } else if line.contains("spoke") {
                times.spoke = at;
            } else if times.started > 0.0 && times.first_run == 0.0 {
                times.first_run = at;
                // One is enough, and from here on the trace would only be in the way.
                let _ = fs::write(&enabled, "0");
            }
            if times.first_run > 0.0 && times.spoke > 0.0 {
                let _ = sender.send(times);
                return;
            }
        }
    });
    Ok(times)
}

/// The time of a line such as `vcpu0-131 [001] ..... 12.345678: sys_ioctl(...)`.
fn moment(line: &str) -> Option<f64> {
    line.split_whitespace().find_map(|word| word.strip_suffix(':')?.parse().ok())
}

fn mark(text: &str) -> io::Result<()> {
    let marker = Path::new(TRACING).join("trace_marker");
    fs::OpenOptions::new().write(true).open(marker)?.write_all(text.as_bytes())
}

/// Says what the VMM has used so far, without its guest, and what its daemons have.
fn look_at(vmm: &Child, memory: u64) -> io::Result<()> {
    println!("OUTRIGGER own_cpu_ms={:.0}", own_cpu(vmm.id())? * 1e3);
    println!("OUTRIGGER private_kib={}", private(vmm.id(), memory * 1024)?);
    let mut daemons = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended meanwhile has none.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with("outrigger-") {
            daemons += private(pid, memory * 1024).unwrap_or(0);
        }
    }
    println!("OUTRIGGER daemons_private_kib={daemons}");
    Ok(())
}

/// CPU time of a process in seconds, without what its guest has used.
fn own_cpu(pid: u32) -> io::Result<f64> {
    let mut ticks = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The name of the thread, in parentheses, may hold anything; fields are counted after it.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let field = |number: usize| -> f64 {
            fields
                .split_whitespace()
                .nth(number - 3)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0.0)
        };
        ticks += field(14) + field(15) - field(43);
    }
    Ok(ticks / TICKS)
}

/// Memory that only this process has, in KiB, but for mappings as large as the guest's memory.
fn private(pid: u32, guest: u64) -> io::Result<u64> {
    let (mut sum, mut is_guest) = (0, false);
    for line in fs::read_to_string(format!("/proc/{pid}/smaps"))?.lines() {
        let Some((key, rest)) = line.split_once(':') else { continue };
        let kib = rest.split_whitespace().next().and_then(|text| text.parse::<u64>().ok());
        match (key, kib) {
            ("Size", Some(size)) => is_guest = size >= guest,
            ("Private_Clean" | "Private_Dirty", Some(size)) if !is_guest => sum += size,
            _ => {}
        }
    }
    Ok(sum)
}
