//! Linux's bzImage, by its 64-bit boot protocol (Documentation/arch/x86/boot.rst).

use hypervisor::{BootState, GuestAddress};
use linux_loader::loader::bootparam::{
    LOADED_HIGH, XLF_KERNEL_64, boot_e820_entry, boot_params, setup_header,
};
use vm_memory::{ByteValued, GuestMemoryBackend};

use crate::layout::{COMMAND_LINE, HIGH_RAM, RSDP, STACK, ZERO_PAGE};
use crate::loading::{Payload, Room, Write, fits, too_little};
use crate::{Error, Image, command_line, initrd, tables};

/// Where the setup header begins in the file, and in the zero page.
const HEADER: u64 = 0x1f1;
/// Where the jump instruction is whose operand tells the header's end.
const JUMP_OPERAND: usize = 0x201 - 0x1f1;
/// What the operand counts from.
const AFTER_JUMP: usize = 0x202 - 0x1f1;
/// First protocol version with `xloadflags`, which say whether there is a 64-bit entry.
const VERSION_2_12: u16 = 0x020c;
/// The 64-bit entry, from the start of the protected-mode kernel.
const ENTRY_64: u64 = 0x200;
const SECTOR: u64 = 512;
/// `setup_sects` for kernels that leave it 0.
const DEFAULT_SETUP_SECTORS: u8 = 4;
/// `type_of_loader` of loaders without a number of their own.
const LOADER_UNDEFINED: u8 = 0xff;

const NEWER: &str = "Use a kernel from Linux 3.8 (2013) or later.";
const FOR_X86_64: &str = "Use one that was built for x86-64.";
const COPY_AGAIN: &str = "Copy or download it again.";

/// The setup header of a kernel that can be booted.
pub(crate) struct Header {
    fields: setup_header,
    /// Offset of the protected-mode kernel in the file.
    kernel: u64,
    /// Size of the protected-mode kernel in the file.
    size: u64,
}

impl Header {
    /// Reads and checks it.
    pub(crate) fn read(image: &Image) -> Result<Self, Error> {
        let mut bytes = image.read_at(HEADER, size_of::<setup_header>())?;
        let end = AFTER_JUMP + usize::from(bytes.get(JUMP_OPERAND).copied().unwrap_or(0));
        if let Some(beyond) = bytes.get_mut(end..) {
            // Code of the real-mode kernel: must not reach the zero page.
            beyond.fill(0);
        }
        let fields = setup_header::from_slice(&bytes)
            .copied()
            .ok_or_else(|| image.unbootable("it ends within its header", COPY_AGAIN))?;
        let setup_sectors = match fields.setup_sects {
            0 => DEFAULT_SETUP_SECTORS,
            sectors => sectors,
        };
        let kernel = (u64::from(setup_sectors) + 1) * SECTOR;
        let size = image.size()?.saturating_sub(kernel);
        let header = Self { fields, kernel, size };
        header.check(image)?;
        Ok(header)
    }

    fn check(&self, image: &Image) -> Result<(), Error> {
        let fields = self.fields;
        let version = fields.version;
        if version < VERSION_2_12 {
            let what = format!("it has boot protocol {}.{:02}", version >> 8, version & 0xff);
            return Err(image.unbootable(what, NEWER));
        }
        if fields.loadflags & LOADED_HIGH == 0 {
            return Err(image.unbootable("it is a zImage", "Build a bzImage."));
        }
        if fields.xloadflags & XLF_KERNEL_64 == 0 {
            return Err(image.unbootable("it has no 64-bit entry", FOR_X86_64));
        }
        // `syssize` counts paragraphs of 16 bytes.
        let expected = u64::from(fields.syssize) * 16;
        if self.size == 0 || self.size < expected {
            let what = format!("it has {} of its {expected} bytes after the setup code", self.size);
            return Err(image.unbootable(what, COPY_AGAIN));
        }
        Ok(())
    }

    /// How long its command line may be, without the final zero.
    pub(crate) fn command_line_limit(&self) -> usize {
        match self.fields.cmdline_size {
            0 => command_line::LINUX_LIMIT,
            size => usize::try_from(size).unwrap_or(usize::MAX),
        }
    }

    /// Where the kernel goes: where it prefers to be, or, if that is too low and it can be moved,
    /// at the first aligned address that is not.
    fn address(&self, image: &Image) -> Result<u64, Error> {
        let preferred = self.fields.pref_address;
        if self.fields.relocatable_kernel == 0 {
            return if preferred >= HIGH_RAM {
                Ok(preferred)
            } else {
                let what = format!("it runs only at {preferred:#x}, below 1 MiB");
                Err(image.unbootable(what, "Build it with CONFIG_RELOCATABLE."))
            };
        }
        let alignment = u64::from(self.fields.kernel_alignment);
        if !alignment.is_power_of_two() {
            let what = format!("its header asks for an alignment of {alignment:#x}");
            return Err(image.unbootable(what, COPY_AGAIN));
        }
        preferred.max(HIGH_RAM).checked_next_multiple_of(alignment).ok_or_else(|| {
            image.unbootable(format!("it wants to be loaded at {preferred:#x}"), COPY_AGAIN)
        })
    }

    /// What it needs from its address on until it has unpacked itself and looked at the memory map.
    fn footprint(&self) -> u64 {
        u64::from(self.fields.init_size).max(self.size)
    }
}

/// Loads kernel, initrd and command line, and fills in the zero page.
pub(crate) fn load<M: GuestMemoryBackend>(
    memory: &M,
    payload: &Payload,
    room: &Room<'_>,
) -> Result<BootState, Error> {
    let image = &payload.kernel;
    let header = Header::read(image)?;
    let address = header.address(image)?;
    if !fits(address, header.footprint(), room) {
        let needed = address.saturating_add(header.footprint());
        return Err(too_little("the kernel", image, needed, room));
    }
    memory.copy(image, header.kernel, header.size, address)?;
    command_line::write(memory, &payload.command_line, header.command_line_limit())?;

    let mut parameters = boot_params { hdr: header.fields, ..Default::default() };
    parameters.hdr.type_of_loader = LOADER_UNDEFINED;
    parameters.hdr.cmd_line_ptr = address_32(COMMAND_LINE);
    parameters.hdr.code32_start = address_32(address);
    if let Some(initrd) = &payload.initrd {
        let floor = address + header.footprint();
        let limit = u64::from(header.fields.initrd_addr_max) + 1;
        let range = initrd::load(memory, initrd, floor, limit, room)?;
        parameters.hdr.ramdisk_image = address_32(range.start);
        parameters.hdr.ramdisk_size = address_32(range.end - range.start);
    }
    parameters.acpi_rsdp_addr = RSDP;
    fill_e820(&mut parameters, room);
    memory.put(parameters.as_slice(), ZERO_PAGE, "the zero page")?;
    Ok(BootState::Linux64 {
        entry: GuestAddress(address + ENTRY_64),
        zero_page: GuestAddress(ZERO_PAGE),
        stack: GuestAddress(STACK),
        page_tables: tables::write_pages(memory)?,
        gdt: tables::write_descriptors(memory)?,
    })
}

fn fill_e820(parameters: &mut boot_params, room: &Room<'_>) {
    let mut table = parameters.e820_table;
    let mut count = 0;
    for (slot, entry) in table.iter_mut().zip(room.map.entries()) {
        *slot = boot_e820_entry {
            addr: entry.range.start,
            size: entry.range.end - entry.range.start,
            r#type: entry.what as u32,
        };
        count += 1;
    }
    parameters.e820_table = table;
    parameters.e820_entries = count;
}

/// An address in low RAM, or a size of something there.
fn address_32(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}
