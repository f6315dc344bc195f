//! A guest of Outrigger's that gives memory to a balloon and takes it back, as its host sees that.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::balloon::{GuestMemory, now};
use crate::block::FIRST;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::site::Site;
use crate::vm::{Vm, VmSetup};

/// Mebibytes of the guest.
const MEMORY: u32 = 256;
/// Bytes that it is asked for. Where KVM is nested in emulation, each hole is slow.
const ASKED: u64 = 32 << 20;
/// From the start to the end.
const LIMIT: Duration = Duration::from_secs(180);
/// Where its disk is, and of what size.
const DISK: &str = "64M";
/// How long the guest may take to follow.
const FOLLOW: Duration = Duration::from_secs(60);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How a moment looked from both sides, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// What the guest's kernel says of its memory.
    pub guest: GuestMemory,
    /// What the host has given for the guest's memory, as the VMM says.
    pub host: u64,
}

/// What such a guest has shown.
#[derive(Debug)]
pub struct Ballooned {
    /// Bytes that it was asked for.
    pub asked: u64,
    /// Before it was asked, with all of it in the balloon, and when it had it back.
    pub moments: [Moment; 3],
    /// What was in the balloon when its daemon was killed, and what the next daemon knew.
    pub inside: (u64, u64),
}

impl Site {
    /// Boots it. Meanwhile it checks random bytes in its memory and all I/O on a disk; the balloon's daemon
    /// is killed while it is inflated.
    ///
    /// # Errors
    /// At the first thing that goes wrong.
    pub fn play_balloon(&self, name: &str) -> Result<Ballooned> {
        self.run(&format!("truncate -s {DISK} {name}.img"))?;
        let job = Job::new().watched_memory(8).verified_io(FIRST, 1);
        let mut setup = VmSetup::new(name, job.report_memory())
            .with_disk(&format!("{name}.img"))
            // So that MemTotal shows the balloon.
            .with("--balloon no-deflate-on-oom=on,no-reporting=on");
        (setup.memory, setup.limit) = (MEMORY, LIMIT);
        let mut vm = self.boot(&setup)?;
        let before = vm.moment()?;

        vm.ctl(&format!("balloon target {ASKED}"))?;
        vm.balloon("actual_bytes", |bytes| bytes == ASKED)?;
        let inflated = vm.moment()?;
        let inside = vm.balloon("inside_bytes", |_| true)?;
        for daemon in self.processes("outrigger-balloon", "--fd=")? {
            self.signal(daemon, "KILL")?;
        }
        // The next one answers when it is there.
        let known = vm.balloon("actual_bytes", |bytes| bytes == ASKED)?;

        vm.ctl("balloon target 0")?;
        vm.balloon("actual_bytes", |bytes| bytes == 0)?;
        let after = vm.moment()?;
        for sign in ["watched", "progress"] {
            now(|| vm.guest.wait_for(sign))?;
        }
        vm.ctl("stop")?;
        let moments = [before, inflated, after];
        Ok(Ballooned { asked: ASKED, moments, inside: (inside, known) })
    }
}

impl Vm<'_> {
    /// How things are now.
    fn moment(&mut self) -> Result<Moment> {
        let guest = GuestMemory::read(&now(|| self.guest.wait_for("memory"))?);
        let stats = self.ctl("stats")?;
        let host = stats.get("memory_allocated_bytes").and_then(Value::as_u64);
        Ok(Moment { guest, host: host.unwrap_or_default() })
    }

    /// Waits until a number that the balloon's daemon says is as wanted.
    fn balloon(&self, key: &str, wanted: impl Fn(u64) -> bool) -> Result<u64> {
        let until = Instant::now() + FOLLOW;
        loop {
            let stats = self.ctl("balloon");
            let value = stats.as_ref().ok().and_then(|stats| stats.get(key)?.as_u64());
            match (value, stats) {
                (Some(value), _) if wanted(value) => return Ok(value),
                (_, Err(error)) if Instant::now() > until => return Err(error),
                _ if Instant::now() > until => {
                    let detail = format!("`{key}` stays at {value:?}");
                    return Err(Error::Daemon { daemon: "outrigger-balloon".into(), detail });
                }
                // What asks takes CPUs from the guest, where they are emulated.
                _ => std::thread::sleep(LOOK),
            }
        }
    }
}
