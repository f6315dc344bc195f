//! The control side: features, config space, saved state, commands of the control socket.

use std::os::fd::OwnedFd;

use framework::device::{Assembly, ConfigWriter, Device, Host, Outcome, QueueLimits};
use framework::program::signals::Signal;
use serde_json::{Value, json};
use virtio_spec::DeviceType;
use virtio_spec::console::{Config, EMERG_WR_OFFSET, EMERG_WRITE, MULTIPORT, SIZE};
use virtio_spec::features::{Negotiated, mask};

use crate::board::Shared;
use crate::commands;
use crate::error::Error;
use crate::service::ConsoleService;

/// The most ports that a device has here, the first one among them.
pub const PORTS_MAX: u16 = 31;

/// What the user decided about the device.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The largest queue, a power of two.
    pub queue_size: u16,
    /// Whether several ports are offered.
    pub multiport: bool,
}

/// A virtio console.
#[derive(Debug)]
pub struct ConsoleDevice {
    shared: Shared,
    settings: Settings,
    host: Host,
}

impl ConsoleDevice {
    /// A console with the ports of this board.
    pub fn new(shared: Shared, settings: Settings) -> Self {
        ConsoleDevice { shared, settings, host: Host::default() }
    }
}

impl Device for ConsoleDevice {
    type Service = ConsoleService;

    fn attach(&mut self, host: Host) {
        self.host = host;
    }

    /// The data side has seen a terminal of another size. With MULTIPORT the driver is told by message.
    fn rung(&mut self) -> Outcome {
        Outcome {
            config_changed: !self.shared.lock().multiport,
            state_changed: true,
            nudge: true,
            ..Outcome::default()
        }
    }

    /// A terminal's size has changed, or files were moved away.
    fn signalled(&mut self, signal: Signal) -> Outcome {
        let mut board = self.shared.lock();
        match signal {
            Signal::WindowChange if board.look_at_sizes() => {
                drop(board);
                self.rung()
            }
            Signal::HangUp => {
                board.reopen_all();
                Outcome::default()
            }
            _ => Outcome::default(),
        }
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::CONSOLE
    }

    fn limits(&self) -> QueueLimits {
        let ports = if self.settings.multiport { self.shared.lock().table.most() + 1 } else { 1 };
        QueueLimits { count: 2 * ports, size: self.settings.queue_size }
    }

    fn features(&self) -> u64 {
        let multiport = if self.settings.multiport { mask(MULTIPORT) } else { 0 };
        mask(SIZE) | mask(EMERG_WRITE) | multiport
    }

    fn negotiated(&mut self, features: Negotiated) {
        self.shared.lock().multiport = features.has(MULTIPORT);
    }

    fn config(&self) -> Vec<u8> {
        let board = self.shared.lock();
        let size = board.size();
        let max_nr_ports = board.table.most().into();
        let config = Config { cols: size.cols, rows: size.rows, max_nr_ports, emerg_wr: 0 };
        config.to_bytes().to_vec()
    }

    fn write_config(
        &mut self,
        offset: usize,
        data: &[u8],
        by: ConfigWriter,
    ) -> Result<(), framework::Error> {
        match (by, data) {
            // The source's config space is the destination's already.
            (ConfigWriter::Migration, _) => Ok(()),
            (ConfigWriter::Driver, [character, ..]) if offset == EMERG_WR_OFFSET => {
                self.shared.lock().emergency(*character);
                Ok(())
            }
            _ => Err(Error::ConfigWrite { offset, length: data.len() }.into()),
        }
    }

    fn worker_of(&self, _queue: u16) -> u16 {
        0
    }

    fn service(&mut self, _worker: u16) -> Result<Assembly<ConsoleService>, framework::Error> {
        let service = ConsoleService::new(self.shared.clone(), self.host.clone());
        Ok(Assembly { service, files: Vec::new() })
    }

    fn reset(&mut self) {
        self.shared.lock().table.forget_driver(false);
    }

    fn save(&self) -> Vec<u8> {
        self.shared.lock().save()
    }

    fn load(&mut self, state: &[u8]) -> Result<(), framework::Error> {
        Ok(self.shared.lock().load(state)?)
    }

    fn control(
        &mut self,
        command: &str,
        arguments: &Value,
        fds: Vec<OwnedFd>,
    ) -> Option<Result<Outcome, framework::Error>> {
        let outcome = commands::run(&mut self.shared.lock(), command, arguments, fds)?;
        Some(outcome.map_err(framework::Error::from))
    }

    fn stats(&self) -> Value {
        let board = self.shared.lock();
        json!({
            "driver_ready": board.table.is_driver_ready(),
            "multiport": board.multiport,
            "refused_messages": board.nonsense,
            "ports": board.describe(),
        })
    }
}
