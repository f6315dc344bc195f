//! What can go wrong when a bus is built. Nothing that a guest does later is an error.

use std::io;

use thiserror::Error;
use virtio_spec::DeviceType;

/// A bus could not be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// More devices than the bus has functions.
    #[error("{count} devices do not fit on one PCI bus; take away some, {max} is the limit")]
    TooManyDevices {
        /// How many were given.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A device has more queues than it can have vectors.
    #[error("the {} device has {queues} queues; give it at most {max}", .device.name())]
    TooManyQueues {
        /// The kind of device.
        device: DeviceType,
        /// How many queues it has.
        queues: u16,
        /// How many it may have.
        max: u16,
    },
    /// A queue size that no split ring can have.
    #[error(
        "the {} device has queues of {size} entries; the size must be a power of two up to 32768",
        .device.name()
    )]
    QueueSize {
        /// The kind of device.
        device: DeviceType,
        /// The size.
        size: u16,
    },
    /// A configuration space that is longer than its place in the BAR.
    #[error(
        "the {} device has a configuration space of {size} bytes; {max} is the limit",
        .device.name()
    )]
    ConfigSize {
        /// The kind of device.
        device: DeviceType,
        /// Its length, bytes.
        size: u32,
        /// The longest there may be, bytes.
        max: u32,
    },
    /// The devices' BARs are larger than the window of addresses for them.
    #[error(
        "the BARs of the devices need {needed:#x} bytes of addresses, the window has {size:#x}; \
         take away some devices, or give them fewer queues"
    )]
    WindowTooSmall {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that there are.
        size: u64,
    },
    /// No eventfds.
    #[error(
        "making the event counters of a device: {0}; raise the limit of open files (ulimit -n)"
    )]
    Event(#[source] io::Error),
    /// The hypervisor gave no interrupt lines.
    #[error(
        "getting {vectors} interrupt vectors for a device: {source}; give it fewer \
         queues, or the machine fewer devices"
    )]
    Vectors {
        /// How many were asked for.
        vectors: usize,
        /// What the hypervisor said.
        #[source]
        source: hypervisor::Error,
    },
    /// A device type without a PCI device id.
    #[error("device type {} has no PCI device id; virtio knows types from 1 to 63", .device.0)]
    DeviceType {
        /// The type.
        device: DeviceType,
    },
    /// The capabilities of a function do not fit into its configuration space.
    #[error(
        "the configuration space of a function is too small for its capabilities; this is a bug of \
         the VMM, please report it with the devices of the machine"
    )]
    ConfigSpaceFull,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_comes_with_advice() {
        let source = hypervisor::Error::Vectors { asked: 3, capacity: 2 };
        for (error, advice) in [
            (Error::WindowTooSmall { needed: 2, size: 1 }, "take away some devices"),
            (Error::Vectors { vectors: 3, source }, "fewer queues"),
            (Error::ConfigSpaceFull, "report it"),
        ] {
            let text = error.to_string();
            assert!(text.contains(advice), "{text}");
        }
    }
}
