//! Which machine and which programs the figures of a report come from.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// The versions this program was built with.
const LOCK_FILE: &str = include_str!("../../Cargo.lock");

/// A machine, as far as figures depend on it.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Model name of the processor.
    pub(crate) cpu: String,
    /// CPUs that this program may use.
    pub(crate) cores: usize,
    /// Memory in MiB.
    pub(crate) memory_mib: u64,
    /// Kernel name, release and version.
    pub(crate) kernel: String,
    /// The distribution's name.
    pub(crate) distribution: String,
    /// The hypervisor it runs under, if it says so.
    pub(crate) virtualized: bool,
    /// Load average over the last minute before the run: what else was going on.
    pub(crate) load_before: String,
}

impl Machine {
    /// Describes this machine; what cannot be found out is "unknown".
    pub(crate) fn describe() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let kernel = rustix::system::uname();
        Self {
            cpu: field(&cpuinfo, "model name", ':'),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal", ':')
                .split_whitespace()
                .next()
                .and_then(|kib| kib.parse::<u64>().ok())
                .map_or(0, |kib| kib / 1024),
            kernel: format!(
                "{} {} {}",
                kernel.sysname().to_string_lossy(),
                kernel.release().to_string_lossy(),
                kernel.version().to_string_lossy()
            ),
            distribution: field(&read("/etc/os-release"), "PRETTY_NAME", '=').replace('"', ""),
            virtualized: cpuinfo.contains(" hypervisor"),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or("unknown").to_owned(),
        }
    }
}

/// The version of a dependency that this workspace is locked to.
pub(crate) fn locked_version(package: &str) -> &'static str {
    let name = format!("name = \"{package}\"\nversion = \"");
    LOCK_FILE
        .split_once(&name)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("unknown", |(version, _)| version)
}

/// The first line that `program --version` prints.
pub(crate) fn program_version(program: &Path) -> String {
    first_line(Command::new(program).arg("--version"))
}

/// The commit that the working tree is at, marked when something was changed since.
pub(crate) fn commit() -> String {
    first_line(Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]))
}

/// Date and time now, in UTC.
pub(crate) fn date() -> String {
    first_line(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))
}

/// The file system that holds `path`, as "type on device".
pub(crate) fn file_system(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mounts = read("/proc/self/mounts");
    let holds = |line: &&str| line.split(' ').nth(1).is_some_and(|at| path.starts_with(at));
    // The last mount of the longest mount point is the one that is seen.
    let mount =
        mounts.lines().filter(holds).max_by_key(|line| line.split(' ').nth(1).map(str::len));
    let mut fields = mount.unwrap_or_default().split(' ');
    match (fields.next(), fields.nth(1)) {
        (Some(device), Some(kind)) => format!("{kind} on {device}"),
        _ => "unknown".to_owned(),
    }
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.as_deref().and_then(|text| text.lines().next()).unwrap_or("unknown").to_owned()
}

fn field(text: &str, name: &str, separator: char) -> String {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(key, _)| key.trim() == name)
        .map_or("unknown", |(_, value)| value.trim())
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        assert!(locked_version("blkio").starts_with("0.5"));
        assert_eq!(locked_version("no-such-package"), "unknown");
    }

    #[test]
    fn the_proc_file_system_is_found_by_its_mount_point() {
        assert!(file_system(Path::new("/proc/self")).starts_with("proc on"));
    }

    #[test]
    fn fields_are_trimmed() {
        assert_eq!(field("model name\t: A B\n", "model name", ':'), "A B");
        assert_eq!(field("", "model name", ':'), "unknown");
    }
}
