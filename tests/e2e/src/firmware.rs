//! A machine of QEMU's without a system, whose card's firmware (iPXE) boots from the network.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemon::{Daemon, Plan, Programs};
use crate::error::{Error, Result};
use crate::guest::{Card, Guest, Setup};
use crate::job::Job;
use crate::kit::Kit;
use crate::namespace::Namespace;
use crate::place::{Place, RunDir};
use crate::qemu;

/// The firmware of a virtio card, in QEMU's folder of those.
const ROM: &str = "pxe-virtio.rom";
/// From power on to the end.
const LIMIT: Duration = Duration::from_secs(90);

/// A machine with a card of ours and nothing to boot but what the network gives.
#[derive(Debug)]
pub struct Firmware<'kit> {
    name: String,
    kit: &'kit Kit,
    programs: Programs,
}

/// The machine, running.
#[derive(Debug)]
pub struct FirmwareStage {
    _guest: Guest,
    daemon: Daemon,
    namespace: Namespace,
    _run: RunDir,
}

impl<'kit> Firmware<'kit> {
    /// To be booted by the QEMU of a kit.
    #[must_use]
    pub fn new(name: &str, kit: &'kit Kit) -> Self {
        Self { name: name.to_owned(), kit, programs: Programs::on_demand() }
    }

    /// Makes the network, starts the daemon and the machine.
    ///
    /// # Errors
    /// When one of them does not come up, or the packages hold no such firmware.
    pub fn start(&self, place: &Place) -> Result<FirmwareStage> {
        let folders = self.kit.machine.as_ref().map_or(&[][..], |machine| &machine.firmware);
        let rom = folders.iter().map(|folder| folder.join(ROM)).find(|path| path.exists());
        let rom = rom.ok_or_else(|| Error::Missing {
            what: format!("{ROM} among QEMU's packages"),
            how: "its package ipxe-qemu has changed".into(),
        })?;
        let run = RunDir::create(place, &self.name)?;
        let namespace = Namespace::create(&self.name)?;
        let tap = format!("--tap={}", namespace.tap());
        let plan = Plan::new(&run, &self.programs, "net", &[&tap])?.inside(namespace.name());
        let daemon = plan.start()?;
        let card = Card { socket: plan.socket().into(), packed: false, reconnect: false };
        let setup = Setup { card: Some(card), ..Setup::new(Job::new(), LIMIT) };
        let mut command = qemu::without_system(self.kit, &setup, &rom);
        command.stdin(Stdio::null());
        let guest = Guest::start(run.name(), command, &run.log("guest")?, Instant::now() + LIMIT)?;
        Ok(FirmwareStage { _guest: guest, daemon, namespace, _run: run })
    }
}

impl FirmwareStage {
    /// The host's side of the network.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What the firmware's driver has negotiated.
    ///
    /// # Errors
    /// When the daemon does not say.
    pub fn features(&self) -> Result<Vec<String>> {
        let stats = self.daemon.control(&json!({"cmd": "stats"}))?;
        let listed = stats.pointer("/connection/features").and_then(|list| list.as_array());
        let listed = listed.into_iter().flatten().filter_map(|name| name.as_str());
        Ok(listed.map(str::to_owned).collect())
    }

    /// Ends everything; the daemon has to end well.
    ///
    /// # Errors
    /// When it does not.
    pub fn finish(self) -> Result<()> {
        self.daemon.stop()
    }
}
