//! The capabilities of a virtio function, as bytes.

use crate::bar::{Area, DOORBELL, Layout};
use crate::config_space::ConfigSpace;
use crate::registers as reg;

/// Kinds of virtio structures, `cfg_type` (virtio 1.4, 4.1.4).
#[derive(Debug, Clone, Copy)]
enum Kind {
    Common = 1,
    Notify = 2,
    Isr = 3,
    Device = 4,
    PciAccess = 5,
}

/// Length of the structure that each virtio capability starts with.
const VIRTIO_SIZE: usize = 16;
/// Where the fields of the access window are in its capability (virtio 1.4, 4.1.4.9).
const WINDOW_BAR: usize = 4;
const WINDOW_OFFSET: usize = 8;
const WINDOW_LENGTH: usize = 12;
const WINDOW_DATA: usize = 16;
/// Where the control word of MSI-X is in its capability, and its bits (PCI 3.0, 6.8.2.3).
const MSIX_CONTROL: usize = 2;
const MSIX_MASKED: u16 = 1 << 14;
const MSIX_ENABLED: u16 = 1 << 15;

/// Where the capabilities with writable parts are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capabilities {
    msix: usize,
    window: usize,
}

/// The switches of MSI-X that stand in the configuration space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MsixControl {
    /// The function signals by messages.
    pub(crate) enabled: bool,
    /// All vectors are masked: by this capability's switch, or because the function may not send
    /// anything (a message is a write to memory, which takes the bus master bit).
    pub(crate) masked: bool,
}

/// An access to the BAR by way of the configuration space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) offset: u64,
    /// 1, 2 or 4.
    pub(crate) length: usize,
}

impl Capabilities {
    /// Appends them to a configuration space that has room for them: all together are 116 bytes.
    pub(crate) fn add(space: &mut ConfigSpace, layout: &Layout, vectors: u16) -> Option<Self> {
        let msix = space.add_capability(reg::CAPABILITY_MSIX, &msix(layout, vectors))?;
        space.allow(msix + MSIX_CONTROL, &(MSIX_ENABLED | MSIX_MASKED).to_le_bytes());
        add_virtio(space, Kind::Common, layout.common, &[])?;
        add_virtio(space, Kind::Notify, layout.doorbells, &DOORBELL.to_le_bytes())?;
        add_virtio(space, Kind::Isr, layout.isr, &[])?;
        if layout.config.length > 0 {
            add_virtio(space, Kind::Device, layout.config, &[])?;
        }
        let window = add_virtio(space, Kind::PciAccess, Area { offset: 0, length: 0 }, &[0; 4])?;
        space.allow(window + WINDOW_BAR, &[0xff]);
        space.allow(window + WINDOW_OFFSET, &[0xff; 12]);
        Some(Self { msix, window })
    }

    /// The switches of MSI-X.
    pub(crate) fn msix(&self, space: &ConfigSpace) -> MsixControl {
        let control = space.word(self.msix + MSIX_CONTROL);
        let silent = space.command() & reg::COMMAND_BUS_MASTER == 0;
        MsixControl {
            enabled: control & MSIX_ENABLED != 0,
            masked: silent || control & MSIX_MASKED != 0,
        }
    }

    /// Whether an access touches the data of the window, and so reaches through it.
    pub(crate) fn touches_window(&self, offset: usize, len: usize) -> bool {
        let data = self.window + WINDOW_DATA;
        offset < data + 4 && offset.saturating_add(len) > data
    }

    /// Where the window is, if the guest set it to something that exists.
    pub(crate) fn window(&self, space: &ConfigSpace) -> Option<Window> {
        let mut bar = [0; 1];
        let mut offset = [0; 4];
        let mut length = [0; 4];
        space.read(self.window + WINDOW_BAR, &mut bar);
        space.read(self.window + WINDOW_OFFSET, &mut offset);
        space.read(self.window + WINDOW_LENGTH, &mut length);
        let length = match u32::from_le_bytes(length) {
            1 => 1,
            2 => 2,
            4 => 4,
            _ => return None,
        };
        (bar == [0]).then_some(Window { offset: u32::from_le_bytes(offset).into(), length })
    }

    /// The data of the window as it stands in the configuration space.
    pub(crate) fn window_data(&self, space: &ConfigSpace) -> [u8; 4] {
        let mut data = [0; 4];
        space.read(self.window + WINDOW_DATA, &mut data);
        data
    }

    /// Puts what was read through the window into its data.
    pub(crate) fn set_window_data(&self, space: &mut ConfigSpace, data: &[u8]) {
        space.set(self.window + WINDOW_DATA, data);
    }
}

/// Appends one virtio capability: a structure at `area` of BAR 0, and what follows it.
fn add_virtio(space: &mut ConfigSpace, kind: Kind, area: Area, extra: &[u8]) -> Option<usize> {
    let length = u8::try_from(VIRTIO_SIZE + extra.len()).ok()?;
    // The body starts at the third byte: length, kind, BAR, id, two bytes of padding.
    let mut body = vec![length, kind as u8, 0, 0, 0, 0];
    body.extend(area.offset.to_le_bytes());
    body.extend(area.length.to_le_bytes());
    body.extend(extra);
    space.add_capability(reg::CAPABILITY_VENDOR, &body)
}

/// The MSI-X capability: control word with the last vector's number, and where table and pending
/// bits are in BAR 0.
fn msix(layout: &Layout, vectors: u16) -> Vec<u8> {
    let mut body = vectors.saturating_sub(1).to_le_bytes().to_vec();
    body.extend(layout.table.offset.to_le_bytes());
    body.extend(layout.pending.offset.to_le_bytes());
    body
}
