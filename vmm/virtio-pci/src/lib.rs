//! PCI, MSI-X and the virtio-pci transport (virtio 1.4, 4.1).
//!
//! A [`Device`] is what serves a device; the transport between it and the driver is here. Nothing
//! here knows vhost-user, and nothing knows KVM: interrupts and kicks go through the traits of
//! `hypervisor`.
//!
//! | module | what it is |
//! |---|---|
//! | `bus` | bus 0: host bridge, ECAM, ports 0xcf8 and 0xcfc, which BAR answers where |
//! | `function` | one virtio device: configuration space and BAR; its lock |
//! | `config_space`, `capability`, `bar`, `registers` | bytes, bits and places |
//! | `transport` | **the status machine**, features, queues, resets |
//! | `common_config`, `queue`, `features` | the registers that it works on |
//! | `interrupts`, `msix_table` | vectors: when they deliver, and what they keep |
//! | `kicks`, `signals`, `event` | doorbells, notices, and the eventfds behind them |
//! | [`fake`] | a device for tests |
#![forbid(unsafe_code)]

mod address;
mod bar;
mod bus;
mod capability;
mod common_config;
mod config_space;
mod device;
mod error;
mod event;
pub mod fake;
mod features;
mod function;
mod interrupts;
mod kicks;
mod msix_table;
mod queue;
mod registers;
mod signals;
mod transport;

pub use address::FunctionAddress;
pub use bus::Bus;
pub use device::{Device, Notices, Queue, Start};
pub use error::Error;
pub use event::Event;
