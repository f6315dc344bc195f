//! Offsets and bits of the configuration space, type 0 header (PCI 3.0, 6.1).

/// Vendor id, 16 bits.
pub(crate) const VENDOR_ID: usize = 0x00;
/// Device id, 16 bits.
pub(crate) const DEVICE_ID: usize = 0x02;
/// Command register, 16 bits.
pub(crate) const COMMAND: usize = 0x04;
/// Status register, 16 bits.
pub(crate) const STATUS: usize = 0x06;
/// Revision id, 8 bits; the class code, 24 bits, follows.
pub(crate) const REVISION: usize = 0x08;
/// Class code: programming interface, subclass, base class.
pub(crate) const CLASS: usize = 0x09;
/// Cache line size, 8 bits; writable, without effect.
pub(crate) const CACHE_LINE_SIZE: usize = 0x0c;
/// Header type, 8 bits.
pub(crate) const HEADER_TYPE: usize = 0x0e;
/// The first base address register, 32 bits; five follow.
pub(crate) const BAR0: usize = 0x10;
/// Subsystem vendor id, 16 bits.
pub(crate) const SUBSYSTEM_VENDOR_ID: usize = 0x2c;
/// Subsystem device id, 16 bits.
pub(crate) const SUBSYSTEM_ID: usize = 0x2e;
/// Offset of the first capability, 8 bits.
pub(crate) const CAPABILITIES: usize = 0x34;
/// Interrupt line, 8 bits; writable, without effect.
pub(crate) const INTERRUPT_LINE: usize = 0x3c;
/// The first byte that is not the header's.
pub(crate) const HEADER_END: usize = 0x40;

/// Command: the function answers at its memory BARs.
pub(crate) const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: the function may reach memory and send messages.
pub(crate) const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Command: the function does not use its interrupt pin.
pub(crate) const COMMAND_INTX_DISABLE: u16 = 1 << 10;
/// Status: an interrupt is pending (whether or not a pin exists to show it).
pub(crate) const STATUS_INTERRUPT: u8 = 1 << 3;
/// Status: there are capabilities.
pub(crate) const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Header type: further functions share the slot.
pub(crate) const MULTI_FUNCTION: u8 = 1 << 7;
/// A BAR for memory, 64 bits wide.
pub(crate) const BAR_MEMORY_64: u32 = 0b100;
/// The bits of a memory BAR that say what it is.
pub(crate) const BAR_KIND: u64 = 0xf;

/// Capability id: the vendor's own.
pub(crate) const CAPABILITY_VENDOR: u8 = 0x09;
/// Capability id: MSI-X.
pub(crate) const CAPABILITY_MSIX: u8 = 0x11;
