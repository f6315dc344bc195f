//! Tiny guests: 32-bit code in an ELF file with a PVH entry.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the code is loaded and starts.
const ENTRY: u32 = 0x10_0000;
/// A word that no loader writes, so that it outlives a reset.
const MARK: u32 = 0x8_0000;
/// Generic event device: what happened.
const EVENTS: u32 = 0xfe00_0000;
/// Sleep control register.
const SLEEP: u32 = 0xfe00_0004;
/// In it: switch off.
const SWITCH_OFF: u8 = 0x34;

/// A guest's program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program(Vec<u8>);

impl Program {
    fn then(mut self, code: &[u8]) -> Self {
        self.0.extend_from_slice(code);
        self
    }

    /// `mov dx, port; mov al, value; out dx, al`
    pub(crate) fn out(self, port: u16, value: u8) -> Self {
        let [low, high] = port.to_le_bytes();
        self.then(&[0x66, 0xba, low, high, 0xb0, value, 0xee])
    }

    /// Writes a text to COM1.
    pub(crate) fn say(self, text: &str) -> Self {
        text.bytes().fold(self, |program, byte| program.out(0x3f8, byte))
    }

    /// Waits for a byte from COM1, without interrupts, and sends it back:
    /// `again: mov dx, 0x3fd; in al, dx; test al, 1; jz again; mov dx, 0x3f8; in al, dx; out dx, al`
    pub(crate) fn echo(self) -> Self {
        self.then(&[0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf7])
            .then(&[0x66, 0xba, 0xf8, 0x03, 0xec, 0xee])
    }

    /// `mov byte [SLEEP], SWITCH_OFF`
    pub(crate) fn power_off(self) -> Self {
        let [a, b, c, d] = SLEEP.to_le_bytes();
        self.then(&[0xc6, 0x05, a, b, c, d, SWITCH_OFF]).stop()
    }

    /// `again: mov eax, [EVENTS]; test eax, eax; jz again`
    pub(crate) fn await_power_button(self) -> Self {
        let [a, b, c, d] = EVENTS.to_le_bytes();
        self.then(&[0xa1, a, b, c, d, 0x85, 0xc0, 0x74, 0xf7])
    }

    /// `inc dword [MARK]; cmp dword [MARK], lives; je over; …; over:`
    pub(crate) fn unless_in_life(self, lives: u8, otherwise: &Program) -> Self {
        let [a, b, c, d] = MARK.to_le_bytes();
        let over = u8::try_from(otherwise.0.len()).expect("a short program");
        self.then(&[0xff, 0x05, a, b, c, d, 0x83, 0x3d, a, b, c, d, lives, 0x74, over])
            .then(&otherwise.0)
    }

    /// `ud2`, and nothing to handle it.
    pub(crate) fn fault(self) -> Self {
        self.then(&[0x0f, 0x0b])
    }

    /// `mov eax, address; jmp eax`
    pub(crate) fn jump(self, address: u32) -> Self {
        let [a, b, c, d] = address.to_le_bytes();
        self.then(&[0xb8, a, b, c, d, 0xff, 0xe0])
    }

    /// `hlt`, with interrupts off: for ever.
    pub(crate) fn halt(self) -> Self {
        self.then(&[0xf4]).stop()
    }

    /// `again: jmp again`
    pub(crate) fn stop(self) -> Self {
        self.then(&[0xeb, 0xfe])
    }

    /// Writes it as a kernel into a directory.
    pub(crate) fn save(&self, directory: &Path) -> PathBuf {
        let path = directory.join("kernel");
        fs::write(&path, self.elf()).expect("a kernel is written");
        path
    }

    /// ELF header, two program headers, note, code.
    fn elf(&self) -> Vec<u8> {
        const HEADERS: u64 = 0x40 + 2 * 0x38;
        const NOTE: u64 = 4 + 4 + 4 + 4 + 4;
        let code = u64::try_from(self.0.len()).expect("a short program");
        let mut file = Vec::new();
        file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        put(&mut file, &[(2, 2), (62, 2), (1, 4), (ENTRY.into(), 8), (0x40, 8), (0, 8)]);
        put(&mut file, &[(0, 4), (0x40, 2), (0x38, 2), (2, 2), (0, 2), (0, 2), (0, 2)]);
        // PT_NOTE, and PT_LOAD, which may be read and executed.
        segment(&mut file, (4, 4), HEADERS, 0, NOTE);
        segment(&mut file, (1, 5), HEADERS + NOTE, ENTRY.into(), code);
        // Type 18 of "Xen" is the entry.
        put(&mut file, &[(4, 4), (4, 4), (18, 4)]);
        file.extend(b"Xen\0");
        put(&mut file, &[(ENTRY.into(), 4)]);
        file.extend(&self.0);
        file
    }
}

fn segment(file: &mut Vec<u8>, (kind, flags): (u64, u64), offset: u64, at: u64, size: u64) {
    let fields =
        [(kind, 4), (flags, 4), (offset, 8), (at, 8), (at, 8), (size, 8), (size, 8), (4, 8)];
    put(file, &fields);
}

/// Numbers of so many bytes, least significant first.
fn put(file: &mut Vec<u8>, numbers: &[(u64, usize)]) {
    for (number, bytes) in numbers {
        file.extend(&number.to_le_bytes()[..*bytes]);
    }
}
