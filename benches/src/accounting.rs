//! What a process, and the machine as a whole, have used so far.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::ClockId;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// CPU time of a process so far: user and system, all threads, also ended ones and the kernel
/// threads that its io_urings use.
///
/// # Errors
/// The process does not exist.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let pid_signed = i32::try_from(pid).context("process id out of range")?;
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid_signed))
        .with_context(|| format!("process {pid} has ended"))?;
    Ok(clock.now().with_context(|| format!("process {pid} has ended"))?.into())
}

/// Resident memory of a process in KiB, by kind.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Resident {
    /// Memory of its own.
    pub(crate) anon_kib: u64,
    /// Mapped files: mostly the program and its libraries, which other processes may share.
    pub(crate) file_kib: u64,
    /// Shared memory: the guest's, which belongs to the front-end.
    pub(crate) shmem_kib: u64,
}

/// Resident memory of a process now.
///
/// # Errors
/// The process does not exist.
pub(crate) fn resident(pid: u32) -> Result<Resident> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let kib = |field| status_field(&status, field).unwrap_or(0);
    Ok(Resident {
        anon_kib: kib("RssAnon:"),
        file_kib: kib("RssFile:"),
        shmem_kib: kib("RssShmem:"),
    })
}

/// Voluntary context switches so far, by thread: how often each has gone to sleep.
pub(crate) type Switches = BTreeMap<String, u64>;

/// Voluntary context switches of all threads of a process.
///
/// # Errors
/// The process does not exist.
pub(crate) fn voluntary_switches(pid: u32) -> Result<Switches> {
    let tasks = format!("/proc/{pid}/task");
    let mut switches = Switches::new();
    for task in fs::read_dir(&tasks).with_context(|| format!("process {pid} has ended"))? {
        let path = task?.path();
        // A thread may end between the listing and the reading; it will not wake again.
        let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
        let count = status_field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        switches.insert(thread_name(&path), count);
    }
    Ok(switches)
}

/// How often a process's threads went to sleep between two looks.
pub(crate) fn wakeups_between(before: &Switches, after: &Switches) -> u64 {
    after
        .iter()
        .map(|(thread, count)| count.saturating_sub(before.get(thread).copied().unwrap_or(0)))
        .sum()
}

/// CPU time of the whole machine so far, all CPUs added up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MachineTime {
    /// Doing something, for anyone.
    pub(crate) busy: Duration,
    /// Taken by the hypervisor for others.
    pub(crate) stolen: Duration,
}

/// CPU time of the whole machine so far, to a clock tick (usually 10 ms).
///
/// # Errors
/// /proc/stat cannot be read.
pub(crate) fn machine_time() -> Result<MachineTime> {
    let stat = read("/proc/stat")?;
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let tick = |index: usize| ticks.get(index).copied().unwrap_or(0);
    // The fields: user, nice, system, idle, iowait, irq, softirq, steal.
    let busy = tick(0) + tick(1) + tick(2) + tick(5) + tick(6);
    Ok(MachineTime { busy: from_ticks(busy), stolen: from_ticks(tick(7)) })
}

fn from_ticks(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(ticks * 1000 / per_second)
}

/// A thread's id and name; the name tells a person which thread it was that woke.
fn thread_name(task: &Path) -> String {
    let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
    format!("{} {}", task.file_name().unwrap_or_default().display(), name.trim())
}

fn status_field(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_status_file_are_found_at_line_starts_only() {
        let status = "Name:\tx\nRssAnon:\t  120 kB\nnonvoluntary_ctxt_switches:\t9\n\
                      voluntary_ctxt_switches:\t4\n";
        assert_eq!(status_field(status, "RssAnon:"), Some(120));
        assert_eq!(status_field(status, "voluntary_ctxt_switches:"), Some(4));
        assert_eq!(status_field(status, "RssFile:"), None);
    }

    #[test]
    fn a_new_thread_counts_from_zero_and_an_ended_one_not_at_all() {
        let before = Switches::from([("1 a".into(), 5), ("2 b".into(), 7)]);
        let after = Switches::from([("1 a".into(), 6), ("3 c".into(), 2)]);
        assert_eq!(wakeups_between(&before, &after), 3);
    }

    #[test]
    fn this_process_has_used_memory_and_time() {
        let pid = std::process::id();
        assert!(resident(pid).unwrap().anon_kib > 0);
        assert!(cpu_time(pid).unwrap() > Duration::ZERO);
        assert!(!voluntary_switches(pid).unwrap().is_empty());
    }
}
