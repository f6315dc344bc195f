//! The seam between the transport and whatever serves a device.
//!
//! The transport knows PCI, the status machine and the registers of the queues; the device knows
//! its features, its configuration space and how to run queues. The transport calls the device on
//! the thread of a vCPU, with the transport's lock held: **no call may block**, and what takes time
//! (reset) is begun by one call and asked about by another. In the other direction the device
//! calls [`Notices`], from any thread, also from within a call; those never wait for the
//! transport.
//!
//! What the transport guarantees, whatever the guest writes:
//! - [`Device::start`] comes only after [`Device::accept_features`] has agreed to the same
//!   features, and only once until the next [`Device::reset`].
//! - After [`Device::reset`] nothing but reading and writing the configuration space is called
//!   until [`Device::is_reset`] has answered yes.
//! - A queue is handed over once, by `start` or by [`Device::start_queue`]; its size and addresses
//!   do not change while the device has it. It is handed over again only after a reset.
//! - Queue indices are below [`Device::queues`], sizes are between 1 and
//!   [`Device::max_queue_size`], powers of two unless the ring is packed.
//!
//! It does not guarantee that the addresses of a queue make sense: the guest wrote them. A device
//! that cannot use them calls [`Notices::needs_reset`].

use std::sync::Arc;

use hypervisor::GuestAddress;
use virtio_spec::{DeviceType, Negotiated, Offered};

use crate::event::Event;

/// What serves a device: for the VMM, a front-end with its back-end process.
pub trait Device: Send + Sync {
    /// The device type, which gives the PCI device id (virtio 1.4, 4.1.2).
    fn device_type(&self) -> DeviceType;

    /// The features that the device offers. Bits that this transport cannot carry are left out
    /// of what the driver sees; a device need not know them.
    fn offered(&self) -> Offered;

    /// How many queues there are. Constant.
    fn queues(&self) -> u16;

    /// The largest size of each queue, a power of two up to 32768. Constant.
    fn max_queue_size(&self) -> u16;

    /// The length of the configuration space, bytes; 0 if there is none. Constant.
    fn config_size(&self) -> u32;

    /// Copies from the configuration space at `offset`, from one state of it; bytes past its end
    /// read as zero. Returns the version of that state: a number that was never returned with
    /// another content. The transport makes `config_generation` of it.
    fn read_config(&self, offset: u32, into: &mut [u8]) -> u64;

    /// The driver wrote to the configuration space. Out of range and read-only bytes are the
    /// device's to ignore.
    fn write_config(&self, offset: u32, bytes: &[u8]);

    /// The driver wants FEATURES_OK with these features, a subset of what is offered that
    /// contains VERSION_1. The answer no leaves the bit clear (virtio 1.4, 3.1.1, steps 5 and 6).
    fn accept_features(&self, features: Negotiated) -> bool;

    /// DRIVER_OK: the device is live, with the queues that the driver has enabled.
    fn start(&self, start: Start);

    /// The driver enabled a queue of a live device.
    fn start_queue(&self, queue: Queue);

    /// The driver resets a queue that the device has (virtio 1.4, 2.6.1). Begins it.
    fn reset_queue(&self, index: u16);

    /// Whether the reset of this queue is over: the device touches it no more, and does not call.
    fn queue_is_reset(&self, index: u16) -> bool;

    /// The driver, or the reboot of the machine, resets the device (virtio 1.4, 2.4). Begins it.
    /// It may come at any time, also when nothing was started, and again while one is under way.
    fn reset(&self);

    /// Whether the reset is over: no queue is touched any more, and no call is made. A device
    /// that was not started answers yes at once. Until then the driver reads a status that is not
    /// zero, and waits.
    fn is_reset(&self) -> bool;

    /// Tells the device whom to notify. Called once, before anything else but the constants.
    fn subscribe(&self, notices: Arc<dyn Notices>);
}

/// What a device has to say to its driver. No call waits; each may be made from any thread.
pub trait Notices: Send + Sync {
    /// The configuration space has changed: sends a configuration change notification, if the
    /// device is live. The new content must be what [`Device::read_config`] gives by now.
    fn config_changed(&self);

    /// The device cannot go on: sets DEVICE_NEEDS_RESET, and notifies the driver if the device is
    /// live (virtio 1.4, 2.1.2). The driver's reset clears it.
    fn needs_reset(&self);
}

/// What DRIVER_OK hands to the device.
#[derive(Debug)]
pub struct Start {
    /// The features that both sides agreed on.
    pub features: Negotiated,
    /// The queues that the driver enabled, by rising index; the others do not exist for it.
    pub queues: Vec<Queue>,
}

/// A queue as the driver configured it.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Its index.
    pub index: u16,
    /// Its size, entries.
    pub size: u16,
    /// The descriptor area (virtio 1.4, 2.6), as the driver wrote it.
    pub desc: GuestAddress,
    /// The driver area: the available ring, or the driver's event suppression.
    pub driver: GuestAddress,
    /// The device area: the used ring, or the device's event suppression.
    pub device: GuestAddress,
    /// Signalled when the driver made buffers available. The same for as long as the device
    /// exists.
    pub kick: Arc<Event>,
    /// To signal when buffers were used. The same for as long as the device exists.
    pub call: Arc<Event>,
}
