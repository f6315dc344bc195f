//! What a device is to be, as its user chose it.

use std::sync::Arc;
use std::time::Duration;

use virtio_spec::{DeviceType, net};

/// What is done when a back-end is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// Requests wait until a back-end is there again.
    #[default]
    Stall,
    /// The driver is told that the device needs a reset; a back-end is looked for all the same.
    Fail,
    /// The machine is stopped.
    Stop,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One attempt to connect.
    pub connect: Duration,
    /// The first answer on a connection. A daemon that was only just started has the connection before it
    /// runs, and on a busy machine that takes a while: to give it up would be to start over for ever.
    pub first: Duration,
    /// The answer to any other request.
    pub reply: Duration,
    /// The answers to requests that wait for what is in flight, all in a row: the stop of each ring,
    /// the reset of the device.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(250),
            first: Duration::from_secs(5),
            reply: Duration::from_secs(5),
            drain: Duration::from_secs(30),
        }
    }
}

/// What a device is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// A short name for its thread, messages and reports.
    pub name: String,
    /// Its type.
    pub device_type: DeviceType,
    /// How many queues; `None`: as many as the back-end has, or as the type has.
    pub queues: Option<u16>,
    /// The largest size of each queue, a power of two up to 32768.
    pub queue_size: u16,
    /// Bytes of the configuration space; `None`: as many as the back-end gives.
    pub config_size: Option<u32>,
    /// The MAC address of a network card whose back-end has no configuration space.
    pub mac: Option<[u8; net::MAC_LEN]>,
    /// The MTU of a network card whose back-end has no configuration space.
    pub mtu: Option<u16>,
    /// The configuration space of a device of another type whose back-end has none, such as a file
    /// system's tag.
    pub own_config: Vec<u8>,
    /// Feature bits that the driver is never shown, whatever the back-end offers.
    pub withheld: u64,
    /// Time limits.
    pub limits: Limits,
    /// What is done when the back-end is lost.
    pub policy: Policy,
}

impl Config {
    /// A device of this type with everything else as usual.
    #[must_use]
    pub fn new(name: impl Into<String>, device_type: DeviceType) -> Self {
        Self {
            name: name.into(),
            device_type,
            queues: None,
            queue_size: 256,
            config_size: None,
            mac: None,
            mtu: None,
            own_config: Vec::new(),
            withheld: 0,
            limits: Limits::default(),
            policy: Policy::default(),
        }
    }
}

/// What the front-end calls besides the driver's notices.
#[derive(Clone)]
pub struct Hooks {
    /// Called by the device's thread before it does anything: to confine itself.
    pub thread_started: Arc<dyn Fn() + Send + Sync>,
    /// Called when a back-end was lost and the policy is [`Policy::Stop`], with the reason in
    /// words. Must not block.
    pub lost: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { thread_started: Arc::new(|| ()), lost: Arc::new(|_| ()) }
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}
