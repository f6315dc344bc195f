//! PCI configuration space, in both of its ways in, and what a driver needs of it.

use crate::ports;

/// Where the VMM has configuration space in memory.
const ECAM: u64 = 0xe000_0000;
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

const COMMAND: u16 = 0x04;
const MEMORY_AND_MASTER: u16 = 0b110;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const FIRST_BAR: u16 = 0x10;
const CAPABILITIES: u16 = 0x34;
const VENDOR_SPECIFIC: u8 = 0x09;
const MSI_X: u8 = 0x11;

/// A function of bus 0: device number times eight, plus function number.
#[derive(Clone, Copy)]
pub struct Function(pub u8);

/// A capability of virtio's: where a structure is (virtio 1.4, 4.1.4).
#[derive(Clone, Copy)]
pub struct Structure {
    pub address: u64,
    pub length: u32,
    /// Where the capability itself is.
    pub capability: u16,
}

impl Function {
    /// Through memory.
    pub fn read(self, register: u16) -> u32 {
        // SAFETY: a register of a device; the VMM answers for every address of this area.
        unsafe { (self.ecam(register) as *const u32).read_volatile() }
    }

    /// Through ports.
    pub fn read_by_port(self, register: u16) -> u32 {
        let address = 1 << 31 | u32::from(self.0) << 8 | u32::from(register & 0xfc);
        ports::write32(CONFIG_ADDRESS, address);
        ports::read32(CONFIG_DATA)
    }

    /// The upper half of a word, through ports.
    pub fn read_high_by_port(self, register: u16) -> u16 {
        let address = 1 << 31 | u32::from(self.0) << 8 | u32::from(register & 0xfc);
        ports::write32(CONFIG_ADDRESS, address);
        ports::read16(CONFIG_DATA + 2)
    }

    pub fn write(self, register: u16, value: u32) {
        // SAFETY: as for reading.
        unsafe { (self.ecam(register) as *mut u32).write_volatile(value) }
    }

    pub fn write16(self, register: u16, value: u16) {
        // SAFETY: as for reading.
        unsafe { (self.ecam(register) as *mut u16).write_volatile(value) }
    }

    fn ecam(self, register: u16) -> u64 {
        ECAM + (u64::from(self.0) << 12) + u64::from(register)
    }

    /// Whether there is one.
    pub fn exists(self) -> bool {
        self.read(0) & 0xffff != 0xffff
    }

    /// Vendor and device.
    pub fn ids(self) -> (u16, u16) {
        let word = self.read(0);
        (word as u16, (word >> 16) as u16)
    }

    /// Lets it answer to its BARs and reach memory.
    pub fn enable(self) {
        let command = self.read(COMMAND) as u16;
        self.write16(COMMAND, command | MEMORY_AND_MASTER);
    }

    /// Address and size of a BAR, 64 bits wide or 32.
    pub fn bar(self, number: u8) -> (u64, u64) {
        let register = FIRST_BAR + 4 * u16::from(number);
        let low = self.read(register);
        let wide = low & 0b110 == 0b100;
        let high = if wide { self.read(register + 4) } else { 0 };
        // While its size is asked for, it must not answer.
        let command = self.read(COMMAND) as u16;
        self.write16(COMMAND, command & !0b10);
        self.write(register, u32::MAX);
        let mut mask = 0xffff_ffff_0000_0000 | u64::from(self.read(register) & !0xf);
        self.write(register, low);
        if wide {
            self.write(register + 4, u32::MAX);
            mask = mask & 0xffff_ffff | u64::from(self.read(register + 4)) << 32;
            self.write(register + 4, high);
        }
        self.write16(COMMAND, command);
        (u64::from(high) << 32 | u64::from(low & !0xf), (!mask).wrapping_add(1))
    }

    /// Calls `with` for each capability: its id and where it is.
    pub fn each_capability(self, mut with: impl FnMut(u8, u16)) {
        let status = (self.read(COMMAND) >> 16) as u16;
        if status & STATUS_CAPABILITIES == 0 {
            return;
        }
        let mut at = self.read(CAPABILITIES) as u16 & 0xfc;
        // There is room for 48 of them; more would be a loop.
        for _ in 0..48 {
            if at == 0 {
                return;
            }
            let word = self.read(at);
            with(word as u8, at);
            at = (word >> 8) as u16 & 0xfc;
        }
        panic!("the list of capabilities has no end");
    }

    /// The first structure of a kind.
    pub fn structure(self, kind: u8) -> Option<Structure> {
        let mut found = None;
        self.each_capability(|id, at| {
            let word = self.read(at);
            if id == VENDOR_SPECIFIC && (word >> 24) as u8 == kind && found.is_none() {
                let bar = self.read(at + 4) as u8;
                let (offset, length) = (self.read(at + 8), self.read(at + 12));
                let address = self.bar(bar).0 + u64::from(offset);
                found = Some(Structure { address, length, capability: at });
            }
        });
        found
    }

    /// Where MSI-X's table and pending bits are, how many vectors there are, and the capability.
    pub fn msi_x(self) -> Option<MsiX> {
        let mut found = None;
        self.each_capability(|id, at| {
            if id == MSI_X {
                let place = |word: u32| self.bar(word as u8 & 7).0 + u64::from(word & !7);
                found = Some(MsiX {
                    capability: at,
                    vectors: ((self.read(at) >> 16) as u16 & 0x7ff) + 1,
                    table: place(self.read(at + 4)),
                    pending: place(self.read(at + 8)),
                });
            }
        });
        found
    }
}

/// MSI-X of a function (PCI 3.0, 6.8.2).
#[derive(Clone, Copy)]
pub struct MsiX {
    pub capability: u16,
    pub vectors: u16,
    pub table: u64,
    pub pending: u64,
}
