//! The command line. The doc comments of the fields are the help text.

use std::path::PathBuf;

use clap::{ArgGroup, Parser, ValueEnum};
use framework::capabilities::Capabilities;
use framework::program::options::CommonOptions;
use virtio_spec::block::ID_LEN;

use crate::device::Settings;
use crate::error::Result;
use crate::image::{Cache, Choice, Image, SECTOR};

/// What `--print-capabilities` says: the options of the block back-ends' conventions.
pub const CAPABILITIES: Capabilities =
    Capabilities { device: "block", features: &["read-only", "blk-file"] };

const DISK: &str = "Disk";

/// Serves a virtio block device over vhost-user
#[derive(Clone, Debug, Parser)]
#[command(name = "outrigger-blk", version)]
#[command(group(ArgGroup::new("image").required(true).args(["blk_file", "null"])))]
pub struct Options {
    /// The disk: a raw file or a block device of the host
    ///
    /// Its bytes are the disk's bytes; image formats such as qcow2 are never looked for.
    #[arg(long, value_name = "PATH", help_heading = DISK)]
    pub blk_file: Option<PathBuf>,

    /// Serve a disk of this size with nothing behind it, for measuring
    ///
    /// In bytes, or with K, M, G or T. Requests end at once; what is read is not defined.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = DISK)]
    pub null: Option<u64>,

    /// Let the driver read only
    #[arg(long, help_heading = DISK)]
    pub read_only: bool,

    /// What stands between the driver and the disk
    #[arg(long, value_enum, default_value_t, value_name = "MODE", help_heading = DISK)]
    pub cache: Cache,

    /// Show the driver logical blocks of this many bytes, instead of what the disk needs
    #[arg(long, value_name = "BYTES", value_parser = parse_block_size, help_heading = DISK)]
    pub logical_block_size: Option<u32>,

    /// The serial number that the driver sees, up to 20 bytes of ASCII
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = parse_serial,
          hide_default_value = true, help_heading = DISK)]
    pub serial: Serial,

    /// Give space back to the host when the driver discards or zeroes
    #[arg(long, value_enum, default_value_t, value_name = "on|off", help_heading = DISK)]
    pub discard: Switch,

    /// The most queues that are offered: one for each CPU of the guest, or more
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = DISK,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub num_queues: u16,

    /// The largest queue that is accepted, a power of two
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = parse_queue_size,
          help_heading = DISK)]
    pub queue_size: u16,

    #[expect(missing_docs, reason = "each of them has its own help text")]
    #[command(flatten)]
    pub common: CommonOptions,
}

/// On or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Do it
    #[default]
    On,
    /// Do not
    Off,
}

/// A serial number, padded with zeroes (virtio 1.4, 5.2.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serial(pub [u8; ID_LEN]);

impl Options {
    /// Opens what the device is to serve.
    ///
    /// # Errors
    /// When it cannot be opened, or not be served as asked.
    pub fn open(&self) -> Result<Image> {
        let choice = Choice {
            read_only: self.read_only,
            cache: self.cache,
            logical_block_size: self.logical_block_size,
            discard: self.discard == Switch::On,
        };
        match (&self.blk_file, self.null) {
            (Some(path), _) => Image::open(path, &choice),
            // One of the two is there: the command line demands it.
            (None, bytes) => Image::null(bytes.unwrap_or(0), &choice),
        }
    }

    /// What the user decided about the device itself.
    pub fn settings(&self) -> Settings {
        Settings {
            num_queues: self.num_queues,
            queue_size: self.queue_size,
            workers: self.common.workers.map(std::num::NonZeroU16::get),
            serial: self.serial.0,
            writeback: self.cache != Cache::Writethrough,
        }
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let unit = |c| match c {
        'K' | 'k' => Some(10),
        'M' | 'm' => Some(20),
        'G' | 'g' => Some(30),
        'T' | 't' => Some(40),
        _ => None,
    };
    let (number, shift) = match text.chars().last().and_then(unit) {
        Some(shift) => (text.get(..text.len() - 1).unwrap_or_default(), shift),
        None => (text, 0),
    };
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if bytes > 0 && bytes <= i64::MAX.unsigned_abs() => Ok(bytes),
        _ => Err(format!("{text:?} is not a size: give bytes, or a number with K, M, G or T")),
    }
}

fn parse_block_size(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(n) if n.is_power_of_two() && (SECTOR..=65536).contains(&n) => Ok(n),
        _ => Err(format!("{text:?} is not a power of two from {SECTOR} to 65536")),
    }
}

fn parse_queue_size(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(n) if n.is_power_of_two() && (16..=32768).contains(&n) => Ok(n),
        _ => Err(format!("{text:?} is not a power of two from 16 to 32768")),
    }
}

fn parse_serial(text: &str) -> Result<Serial, String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Err("a serial number is printable ASCII".into());
    }
    let mut serial = [0; ID_LEN];
    let place = serial.get_mut(..text.len());
    let place = place.ok_or_else(|| format!("{} bytes, but at most {ID_LEN} fit", text.len()))?;
    place.copy_from_slice(text.as_bytes());
    Ok(Serial(serial))
}

#[cfg(test)]
#[path = "options_test.rs"]
mod tests;
