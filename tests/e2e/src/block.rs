//! A block device served to a guest, from the image file to the daemon's statistics.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use virtio_spec::{DeviceType, names};

use crate::console::Results;
use crate::daemon::{Daemon, Plan, Programs};
use crate::error::{Error, Result};
use crate::guest::{Disk, Guest, Setup};
use crate::job::Job;
use crate::kit::Kit;
use crate::place::{Place, RunDir};

/// The name that Linux gives the first virtio block device.
pub const FIRST: &str = "vda";

/// One guest, one disk, one daemon.
#[derive(Debug)]
pub struct Scene<'kit> {
    /// Names the run and its logs.
    pub name: String,
    /// What to boot.
    pub kit: &'kit Kit,
    /// Where the daemon's program is.
    pub programs: Programs,
    /// Whether the daemon offers packed rings and the front-end asks for them.
    pub packed: bool,
    /// Whether the front-end connects again when the daemon goes away.
    pub reconnect: bool,
    /// Further arguments for the daemon.
    pub arguments: Vec<String>,
    /// Virtual CPUs.
    pub cpus: u32,
    /// The disk, in bytes.
    pub size: u64,
    /// From power on to the last line.
    pub limit: Duration,
}

/// A scene with everybody on stage.
#[derive(Debug)]
pub struct Stage {
    /// The guest; it is ended before the daemon and the files are.
    pub guest: Guest,
    /// The back-end.
    pub daemon: Daemon,
    /// How to start it again.
    pub plan: Plan,
    /// The image file.
    pub image: PathBuf,
    _run: RunDir,
}

/// What a finished scene has shown.
#[derive(Debug)]
pub struct Report {
    /// What the guest said.
    pub results: Results,
    /// What the daemon said of itself: the answer to `stats`.
    pub stats: serde_json::Value,
}

impl<'kit> Scene<'kit> {
    /// A disk of 256 MiB with split rings for one CPU, and a minute and a half for everything.
    #[must_use]
    pub fn new(name: &str, kit: &'kit Kit) -> Self {
        Self {
            name: name.to_owned(),
            kit,
            programs: Programs::on_demand(),
            packed: false,
            reconnect: false,
            arguments: Vec::new(),
            cpus: 1,
            size: 256 << 20,
            limit: Duration::from_secs(90),
        }
    }

    /// Makes the image, starts the daemon and boots the guest.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn start(&self, place: &Place, job: Job) -> Result<Stage> {
        let run = RunDir::create(place, &self.name)?;
        let image = run.file("disk.img");
        make_image(&image, self.size)?;
        let file = format!("--blk-file={}", image.display());
        let mut arguments = vec![file.as_str()];
        arguments.extend(self.packed.then_some("--packed"));
        arguments.extend(self.arguments.iter().map(String::as_str));
        let plan = Plan::new(&run, &self.programs, "blk", &arguments)?;
        let daemon = plan.start()?;
        let disk = Disk {
            socket: plan.socket().to_path_buf(),
            packed: self.packed,
            reconnect: self.reconnect,
        };
        let setup = Setup { disks: vec![disk], cpus: self.cpus, ..Setup::new(job, self.limit) };
        let guest = Guest::boot(&run, self.kit, &setup)?;
        Ok(Stage { guest, daemon, plan, image, _run: run })
    }

    /// Plays the whole scene: the guest does its job, the daemon says what it did and ends.
    ///
    /// # Errors
    /// At the first thing that goes wrong.
    pub fn play(&self, place: &Place, job: Job) -> Result<Report> {
        self.start(place, job)?.finish()
    }
}

impl Stage {
    /// Waits for the end of the job, asks the daemon what it did, and ends it.
    ///
    /// # Errors
    /// When the job fails, or the daemon does not answer or end as it should.
    pub fn finish(self) -> Result<Report> {
        let results = self.guest.finish()?;
        let stats = self.daemon.control(&json!({"cmd": "stats"}))?;
        self.daemon.stop()?;
        Ok(Report { results, stats })
    }
}

impl Report {
    /// What the guest said under this key; empty if it did not.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        self.results.get(key).map_or("", String::as_str)
    }

    /// A number that the guest said.
    ///
    /// # Errors
    /// When it did not, or it is not a number.
    pub fn number(&self, key: &str) -> Result<u64> {
        self.get(key).parse().map_err(|_| Error::Packages {
            context: "reading the guest's results".into(),
            detail: format!("`{key}` is not a number: {:?}", self.get(key)),
        })
    }

    /// A count of all queues together, as the daemon says: `chains`, `kicks`, `calls`, `errors`.
    #[must_use]
    pub fn counted(&self, what: &str) -> u64 {
        let queues = self.stats.get("queues").and_then(serde_json::Value::as_array);
        let counts = queues.into_iter().flatten().filter_map(|queue| queue.get(what)?.as_u64());
        counts.sum()
    }

    /// The names of the features that driver and device agreed on, in the specification's words.
    #[must_use]
    pub fn features(&self) -> Vec<String> {
        names(DeviceType::BLOCK, feature_bits(self.get("features")))
    }
}

/// Makes a sparse image file, or makes it larger.
///
/// # Errors
/// When the file cannot be made or set to that size.
pub fn make_image(path: &Path, size: u64) -> Result<()> {
    let file = File::options().create(true).write(true).truncate(false).open(path);
    file.and_then(|file| file.set_len(size)).map_err(Error::file("make", path))
}

/// The names of features that Linux shows, in the specification's words.
#[must_use]
pub fn feature_names(device: DeviceType, digits: &str) -> Vec<String> {
    names(device, feature_bits(digits))
}

/// Linux shows the features as a text of digits, bit 0 first.
pub(crate) fn feature_bits(digits: &str) -> u64 {
    let set = digits.bytes().take(64).enumerate().filter(|(_, digit)| *digit == b'1');
    set.fold(0, |bits, (number, _)| bits | 1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feature_digits() {
        assert_eq!(feature_bits("011"), 0b110);
        assert_eq!(feature_bits(&format!("{}1", "0".repeat(63))), 1 << 63);
        assert_eq!(feature_bits(""), 0);
    }
}
