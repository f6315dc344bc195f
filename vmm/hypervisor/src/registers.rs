//! The registers that a report shows.

use std::fmt;

/// General and control registers of a vCPU in 64-bit width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are named as the architecture names them")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    /// R8 to R15.
    pub r8_to_r15: [u64; 8],
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    /// Selector of the code segment; its low two bits are the privilege level.
    pub cs: u16,
    /// Base of the code segment.
    pub cs_base: u64,
}

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Registers { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, .. } = self;
        let [r8, r9, r10, r11, r12, r13, r14, r15] = self.r8_to_r15;
        writeln!(f, "rip {:016x} cs {:04x} rflags {:08x}", self.rip, self.cs, self.rflags)?;
        writeln!(f, "rax {rax:016x} rbx {rbx:016x} rcx {rcx:016x} rdx {rdx:016x}")?;
        writeln!(f, "rsi {rsi:016x} rdi {rdi:016x} rsp {rsp:016x} rbp {rbp:016x}")?;
        writeln!(f, "r8  {r8:016x} r9  {r9:016x} r10 {r10:016x} r11 {r11:016x}")?;
        writeln!(f, "r12 {r12:016x} r13 {r13:016x} r14 {r14:016x} r15 {r15:016x}")?;
        write!(
            f,
            "cr0 {:08x} cr2 {:016x} cr3 {:016x} cr4 {:08x} efer {:04x}",
            self.cr0, self.cr2, self.cr3, self.cr4, self.efer
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_where_the_guest_was() {
        let registers = Registers { rip: 0xffff_8000_0000_1234, cs: 0x10, ..Default::default() };
        assert!(registers.to_string().starts_with("rip ffff800000001234 cs 0010"));
        assert_eq!(registers.to_string().lines().count(), 6);
    }
}
