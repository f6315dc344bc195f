//! What a guest finds in memory when it starts: kernel, initrd, command line, memory map, page
//! tables and ACPI tables; and where its first CPU begins.
//!
//! # Theory of operation
//! [`load`] writes everything into guest memory in one pass and returns the
//! [`BootState`](hypervisor::BootState) in which the first CPU starts. It keeps no state, so a
//! reset of the machine is a second call.
//!
//! Low memory holds what a boot loader would have put there ([`layout`]); the kernel stands where
//! its header wants it; the ACPI tables end low RAM; the initrd is as high below them as the
//! kernel's header allows.
//! ```text
//! 0x500   0x6000       0x7000     0x9000        0x20000       0xe0000     kernel      initrd  ACPI
//! ├─GDT───┼─start info─┼─zero page┼─page tables─┼─command line┼─RSDP──────┼─init_size──┼──────┼──────┤
//! ```
#![forbid(unsafe_code)]

mod acpi;
mod bzimage;
mod command_line;
mod copying;
mod elf;
mod error;
mod image;
mod initrd;
pub mod layout;
mod loading;
mod map;
mod platform;
mod pvh;
mod reset_vector;
mod tables;

pub use error::Error;
pub use image::{Image, Kind};
pub use loading::{Payload, load};
pub use platform::{Node, Platform, Processor};
