//! The control side of the block device: features, config space, cache mode, size, lock.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use framework::device::{Acquired, Assembly, ConfigWriter, Device, Outcome, QueueLimits};
use framework::program::rate_limit::{self, RateLimit};
use serde_json::{Value, json};
use virtio_spec::DeviceType;
use virtio_spec::block::{self, CONFIG_WCE, Config, FLUSH, ID_LEN, WRITEBACK_OFFSET};
use virtio_spec::features::{Negotiated, Offered};

use crate::config;
use crate::counts::Counts;
use crate::disk::{Disk, Facts};
use crate::error::Error;
use crate::image::{Image, Locked, Medium};
use crate::service::BlockService;

/// What the user decided about the device.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The most queues.
    pub num_queues: u16,
    /// The largest queue, a power of two.
    pub queue_size: u16,
    /// The most workers; None: one for each queue.
    pub workers: Option<u16>,
    /// What GET_ID answers, padded with zeroes.
    pub serial: [u8; ID_LEN],
    /// Whether the disk starts as a writeback cache (otherwise each write is durable).
    pub writeback: bool,
}

/// The version of the saved state.
const STATE_VERSION: u8 = 1;

/// A virtio block device on an image.
#[derive(Debug)]
pub struct BlockDevice {
    image: Image,
    settings: Settings,
    disk: Arc<Disk>,
    features: Negotiated,
    /// The `writeback` field of the config space.
    writeback: bool,
    /// Counters by worker: they outlive it.
    counts: BTreeMap<u16, Arc<Counts>>,
    waiting_for_lock: RateLimit,
}

impl BlockDevice {
    /// The device on this image.
    pub fn new(image: Image, settings: Settings) -> Self {
        let disk = Arc::new(Disk::new(Facts::from(&image)));
        BlockDevice {
            image,
            settings,
            disk,
            features: Negotiated::NONE,
            writeback: settings.writeback,
            counts: BTreeMap::new(),
            waiting_for_lock: RateLimit::new(1, Duration::from_secs(60)),
        }
    }

    fn set_writeback(&mut self, writeback: bool) {
        self.writeback = writeback;
        self.disk.set_cache_mode(writeback, self.features);
    }

    fn config_space(&self) -> Config {
        config::space(&self.image, &self.settings, self.disk.bytes(), self.writeback)
    }

    /// The driver may write `writeback`, and nothing else.
    fn written_by_driver(&self, offset: usize, data: &[u8]) -> Result<bool, Error> {
        match (offset, data) {
            (WRITEBACK_OFFSET, [value @ (0 | 1)]) if self.features.has(CONFIG_WCE) => {
                Ok(*value == 1)
            }
            _ => Err(Error::ConfigWrite { offset, length: data.len() }),
        }
    }

    /// A migration brings the source's whole config space: what the driver has set is taken over,
    /// the rest must be something that can be served here.
    fn written_by_migration(&self, offset: usize, data: &[u8]) -> Result<bool, Error> {
        let refused = || Error::ConfigWrite { offset, length: data.len() };
        let ours = self.config_space();
        let mut bytes = ours.to_bytes();
        let end = offset.checked_add(data.len()).ok_or_else(refused)?;
        bytes.get_mut(offset..end).ok_or_else(refused)?.copy_from_slice(data);
        let theirs = Config::from_bytes(&bytes);
        if theirs.capacity > ours.capacity {
            let path = self.image.path().into();
            return Err(Error::ImageTooSmall {
                path,
                theirs: theirs.capacity,
                ours: ours.capacity,
            });
        }
        Ok(theirs.writeback != 0)
    }

    /// Reads the size of the image again.
    fn resize(&mut self) -> Result<Outcome, Error> {
        let bytes = self.image.read_size()?;
        let before = self.disk.bytes();
        self.disk.set_bytes(bytes);
        if bytes != before {
            tracing::info!(before, bytes, "the disk has a new size");
        }
        Ok(Outcome {
            answer: json!({ "bytes": bytes, "bytes_before": before }),
            config_changed: bytes != before,
            ..Outcome::default()
        })
    }
}

impl Device for BlockDevice {
    type Service = BlockService;

    fn device_type(&self) -> DeviceType {
        DeviceType::BLOCK
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits { count: self.settings.num_queues, size: self.settings.queue_size }
    }

    fn features(&self) -> u64 {
        let always = [
            block::SIZE_MAX,
            block::SEG_MAX,
            block::BLK_SIZE,
            block::TOPOLOGY,
            FLUSH,
            CONFIG_WCE,
            block::MQ,
        ];
        let abilities = self.image.abilities();
        let read_only = self.image.is_read_only();
        let sometimes = [
            (block::RO, read_only),
            (block::DISCARD, abilities.discard.is_some()),
            // Where the medium cannot, zeroes are written.
            (block::WRITE_ZEROES, !read_only),
            (block::SECURE_ERASE, abilities.secure_erase),
        ];
        let offered = Offered::of(&always);
        let there = sometimes.into_iter().filter(|(_, there)| *there);
        there.fold(offered, |offered, (bit, _)| offered.with(bit)).bits()
    }

    fn negotiated(&mut self, features: Negotiated) {
        // virtio 1.4, 5.2.5.2: for a driver that sees the cache mode but cannot flush, `writeback`
        // starts with 0. A front-end may send the same features again; what the driver has set
        // since then stays. Not so in a new process, for which the driver may be a new one too: it
        // could not flush what it takes to be durable.
        let sees_mode_only = |f: Negotiated| f.has(CONFIG_WCE) && !f.has(FLUSH);
        let begins = sees_mode_only(features) && !sees_mode_only(self.features);
        self.features = features;
        self.set_writeback(self.writeback && !begins);
    }

    fn config(&self) -> Vec<u8> {
        self.config_space().to_bytes().to_vec()
    }

    fn write_config(
        &mut self,
        offset: usize,
        data: &[u8],
        by: ConfigWriter,
    ) -> Result<(), framework::Error> {
        let writeback = match by {
            ConfigWriter::Driver => self.written_by_driver(offset, data)?,
            ConfigWriter::Migration => self.written_by_migration(offset, data)?,
        };
        self.set_writeback(writeback);
        Ok(())
    }

    fn worker_of(&self, queue: u16) -> u16 {
        let workers = self.settings.workers.unwrap_or(self.settings.num_queues).max(1);
        queue % workers
    }

    fn service(&mut self, worker: u16) -> Result<Assembly<BlockService>, framework::Error> {
        let counts = Arc::clone(self.counts.entry(worker).or_default());
        let service = BlockService::new(Arc::clone(&self.disk), self.settings.serial, counts);
        Ok(Assembly { service, files: self.image.files().to_vec() })
    }

    fn acquire(&mut self) -> Result<Acquired, framework::Error> {
        match self.image.try_lock()? {
            Locked::Yes => Ok(Acquired::Yes),
            Locked::ByOthers => {
                if self.waiting_for_lock.admit(rate_limit::now()).is_some() {
                    let path = self.image.path();
                    tracing::warn!(?path, "another process uses the image: waiting until it ends");
                }
                Ok(Acquired::NotYet)
            }
        }
    }

    fn release(&mut self) {
        if let Err(error) = self.image.unlock() {
            tracing::warn!("{error}");
        }
    }

    fn reset(&mut self) {
        self.features = Negotiated::NONE;
        self.set_writeback(self.settings.writeback);
    }

    fn save(&self) -> Vec<u8> {
        vec![STATE_VERSION, u8::from(self.writeback)]
    }

    fn load(&mut self, state: &[u8]) -> Result<(), framework::Error> {
        match state {
            [STATE_VERSION, writeback @ (0 | 1)] => {
                self.set_writeback(*writeback == 1);
                Ok(())
            }
            _ => Err(Error::State { version: state.first().copied() }.into()),
        }
    }

    fn control(
        &mut self,
        command: &str,
        _arguments: &Value,
        _fds: Vec<OwnedFd>,
    ) -> Option<Result<Outcome, framework::Error>> {
        match command {
            "resize" => Some(self.resize().map_err(framework::Error::from)),
            _ => None,
        }
    }

    fn stats(&self) -> Value {
        let medium = match self.image.medium() {
            Medium::File => "file",
            Medium::BlockDevice => "block device",
            Medium::Null => "null",
        };
        let counts: Vec<_> = self.counts.values().cloned().collect();
        let mut stats = Counts::sum(&counts);
        stats.insert("image".into(), self.image.path().display().to_string().into());
        stats.insert("medium".into(), medium.into());
        stats.insert("bytes".into(), self.disk.bytes().into());
        stats.insert("read_only".into(), self.image.is_read_only().into());
        stats.insert("writeback".into(), self.writeback.into());
        Value::Object(stats)
    }
}

#[cfg(test)]
#[path = "device_test.rs"]
mod tests;
