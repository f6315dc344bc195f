//! The registers that a vCPU starts with.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use crate::{BOOT_GDT, BootState, DescriptorTable};

const CR0_PE: u64 = 1 << 0;
const CR0_MP: u64 = 1 << 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Bit 1 is always set.
const RFLAGS: u64 = 1 << 1;
const RFLAGS_IOPL_3: u64 = 3 << 12;

/// Selectors of [`BOOT_GDT`].
const CODE_32: u16 = 0x08;
const CODE_64: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;

/// Limit of a task state that has a permission map for all ports. Where a KVM runs user mode in a
/// way of its own, this map counts, not IOPL; memory that is zero permits everything.
const PERMISSION_MAP: u32 = 0xffff;

/// General registers for a start.
pub(super) fn regs(start: &BootState) -> kvm_regs {
    let at_rest = kvm_regs { rflags: RFLAGS, ..Default::default() };
    match *start {
        BootState::Linux64 { entry, zero_page, stack, .. } => {
            kvm_regs { rip: entry.0, rsi: zero_page.0, rsp: stack.0, ..at_rest }
        }
        BootState::Pvh { entry, start_info, .. } => {
            kvm_regs { rip: entry.0, rbx: start_info.0, ..at_rest }
        }
        BootState::User64 { entry, argument, stack, .. } => kvm_regs {
            rip: entry.0,
            rdi: argument,
            rsp: stack.0,
            rflags: RFLAGS | RFLAGS_IOPL_3,
            ..at_rest
        },
    }
}

/// Segments and control registers for a start, from what they are after power-on.
pub(super) fn sregs(start: &BootState, power_on: kvm_sregs) -> kvm_sregs {
    let mut sregs = power_on;
    match *start {
        BootState::Linux64 { page_tables, gdt, .. } => {
            set_segments(&mut sregs, CODE_64, 0);
            set_table(&mut sregs, gdt);
            long_mode(&mut sregs, page_tables.0, 0);
        }
        BootState::Pvh { gdt, .. } => {
            set_segments(&mut sregs, CODE_32, 0);
            set_table(&mut sregs, gdt);
            sregs.cr0 = CR0_PE | CR0_ET;
            sregs.cr4 = 0;
            sregs.efer = 0;
        }
        BootState::User64 { page_tables, .. } => {
            set_segments(&mut sregs, CODE_64, 3);
            set_table(&mut sregs, DescriptorTable { base: crate::GuestAddress(0), limit: 0 });
            long_mode(&mut sregs, page_tables.0, CR4_OSFXSR | CR4_OSXMMEXCPT);
            sregs.tr.limit = PERMISSION_MAP;
        }
    }
    sregs
}

fn long_mode(sregs: &mut kvm_sregs, page_tables: u64, cr4: u64) {
    sregs.cr3 = page_tables;
    sregs.cr4 = CR4_PAE | cr4;
    sregs.efer = EFER_LME | EFER_LMA;
    sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_PG;
}

/// No interrupt gets anywhere: there is no table for it.
fn set_table(sregs: &mut kvm_sregs, gdt: DescriptorTable) {
    sregs.gdt.base = gdt.base.0;
    sregs.gdt.limit = gdt.limit;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
}

fn set_segments(sregs: &mut kvm_sregs, code: u16, privilege: u8) {
    sregs.cs = segment(code, privilege);
    let data = segment(DATA, privilege);
    for register in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *register = data;
    }
    sregs.tr = segment(TASK, 0);
}

/// The segment that [`BOOT_GDT`] has at a selector, at another privilege level.
fn segment(selector: u16, privilege: u8) -> kvm_segment {
    let entry = BOOT_GDT.get(usize::from(selector / 8)).copied().unwrap_or(0);
    let bits = |at: u32, count: u32| entry >> at & ((1 << count) - 1);
    let flag = |at: u32| u8::from(bits(at, 1) != 0);
    let pages = flag(55);
    let limit = u32::try_from(bits(0, 16) | bits(48, 4) << 16).unwrap_or(0);
    kvm_segment {
        base: bits(16, 24) | bits(56, 8) << 24,
        limit: if pages == 1 { limit << 12 | 0xfff } else { limit },
        selector: selector | u16::from(privilege),
        type_: u8::try_from(bits(40, 4)).unwrap_or(0),
        s: flag(44),
        dpl: privilege,
        present: flag(47),
        avl: flag(52),
        l: flag(53),
        db: flag(54),
        g: pages,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GuestAddress;

    const GDT: DescriptorTable = DescriptorTable { base: GuestAddress(0x500), limit: 47 };

    #[test]
    fn the_gdt_has_the_segments_that_linux_wants() {
        let code = segment(CODE_64, 0);
        assert_eq!((code.type_, code.s, code.l, code.db, code.present), (0xb, 1, 1, 0, 1));
        let code = segment(CODE_32, 0);
        assert_eq!((code.l, code.db, code.limit), (0, 1, 0xffff_ffff));
        let data = segment(DATA, 0);
        assert_eq!((data.type_, data.s, data.limit, data.g), (3, 1, 0xffff_ffff, 1));
        let task = segment(TASK, 0);
        assert_eq!((task.type_, task.s, task.limit, task.present), (0xb, 0, 0x67, 1));
    }

    #[test]
    fn linux_starts_in_long_mode_with_its_zero_page() {
        let start = BootState::Linux64 {
            entry: GuestAddress(0x10_0200),
            zero_page: GuestAddress(0x7000),
            stack: GuestAddress(0x8000),
            page_tables: GuestAddress(0x9000),
            gdt: GDT,
        };
        let (regs, sregs) = (regs(&start), sregs(&start, kvm_sregs::default()));
        assert_eq!((regs.rip, regs.rsi, regs.rflags), (0x10_0200, 0x7000, 2));
        assert_eq!((sregs.cs.selector, sregs.ds.selector, sregs.cr3), (0x10, 0x18, 0x9000));
        assert_eq!(sregs.efer, EFER_LME | EFER_LMA);
        assert_eq!((sregs.gdt.base, sregs.gdt.limit), (0x500, 47));
    }

    #[test]
    fn pvh_starts_without_paging() {
        let start = BootState::Pvh {
            entry: GuestAddress(0x100_0000),
            start_info: GuestAddress(0x6000),
            gdt: GDT,
        };
        let (regs, sregs) = (regs(&start), sregs(&start, kvm_sregs::default()));
        assert_eq!((regs.rip, regs.rbx), (0x100_0000, 0x6000));
        assert_eq!((sregs.cr0 & CR0_PG, sregs.cr4, sregs.efer, sregs.cs.db), (0, 0, 0, 1));
    }

    #[test]
    fn a_bare_program_has_user_privilege_and_all_ports() {
        let start = BootState::User64 {
            entry: GuestAddress(0x1000),
            argument: 7,
            stack: GuestAddress(0x8000),
            page_tables: GuestAddress(0x9000),
        };
        let (regs, sregs) = (regs(&start), sregs(&start, kvm_sregs::default()));
        assert_eq!((sregs.cs.dpl, sregs.ss.dpl, sregs.cs.selector & 3), (3, 3, 3));
        assert_eq!((regs.rflags >> 12 & 3, regs.rdi), (3, 7));
    }
}
