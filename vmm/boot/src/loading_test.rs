//! Kernels made up for the purpose, loaded and looked at in guest memory.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use hypervisor::layout::ECAM;
use linux_loader::loader::bootparam::{boot_params, setup_header};
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{ByteValued, GuestAddress, GuestMemoryMmap};

use super::*;
use crate::Processor;

const MIB: u64 = 1 << 20;

fn memory(mebibytes: usize) -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[
        (GuestAddress(0), mebibytes << 20),
        (GuestAddress(1 << 32), 1 << 20),
    ])
    .unwrap()
}

fn platform() -> Platform {
    let processors = vec![Processor { apic_id: 0, node: 0 }];
    Platform { processors, nodes: Vec::new(), high_window: 1 << 40..1 << 41 }
}

fn image(bytes: &[u8]) -> Image {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Image::open(file.path()).unwrap()
}

/// What the protected-mode kernel of [`bzimage`] consists of.
const CODE: [u8; 4096] = [0xc0; 4096];

/// A bzImage with one setup sector, after `change` to its header.
fn bzimage(change: impl FnOnce(&mut setup_header)) -> Vec<u8> {
    let mut header = setup_header {
        setup_sects: 1,
        header: u32::from_le_bytes(*b"HdrS"),
        version: 0x20f,
        loadflags: 1,
        xloadflags: 1,
        syssize: 4096 / 16,
        // A short jump to the end of the header.
        jump: 0xeb | 0x6a << 8,
        initrd_addr_max: 0x7fff_ffff,
        kernel_alignment: 2 << 20,
        relocatable_kernel: 1,
        cmdline_size: 100,
        pref_address: 16 * MIB,
        init_size: 4 << 20,
        ..Default::default()
    };
    change(&mut header);
    let mut bytes = vec![0xee; 1024];
    bytes[0x1f1..][..size_of::<setup_header>()].copy_from_slice(header.as_slice());
    bytes.extend(CODE);
    bytes
}

fn payload(kernel: &[u8]) -> Payload {
    Payload { kernel: image(kernel), initrd: None, command_line: "console=ttyS0".into() }
}

fn read<T: ByteValued>(memory: &GuestMemoryMmap, address: u64) -> T {
    memory.read_obj(GuestAddress(address)).unwrap()
}

fn read_bytes(memory: &GuestMemoryMmap, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xaa; length];
    memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
    bytes
}

/// What somebody is told whose kernel is of no use.
fn refusal(kernel: &[u8], mebibytes: usize) -> String {
    let payload = payload(kernel);
    load(&memory(mebibytes), &payload, &platform()).unwrap_err().to_string()
}

#[test]
fn a_bzimage_is_entered_in_long_mode() {
    let (memory, mut payload) = (memory(64), payload(&bzimage(|_| {})));
    payload.initrd = Some(image(&[7; 5000]));
    payload.check().unwrap();
    let start = load(&memory, &payload, &platform()).unwrap();
    let BootState::Linux64 { entry, zero_page, page_tables, gdt, .. } = start else {
        panic!("{start:?}")
    };
    assert_eq!(entry, GuestAddress(16 * MIB + 0x200));
    assert_eq!(read_bytes(&memory, 16 * MIB, CODE.len()), CODE);
    assert_eq!(read::<[u64; 6]>(&memory, gdt.base.0), hypervisor::BOOT_GDT);
    assert_eq!(usize::from(gdt.limit), size_of_val(&hypervisor::BOOT_GDT) - 1);
    assert_eq!(read::<u64>(&memory, page_tables.0) & 3, 3);

    let zero_page: boot_params = read(&memory, zero_page.0);
    let header = zero_page.hdr;
    assert_eq!((header.type_of_loader, { header.version }), (0xff, 0x20f));
    let line: [u8; 14] = read(&memory, header.cmd_line_ptr.into());
    assert_eq!(&line, b"console=ttyS0\0");
    let initrd = u64::from(header.ramdisk_image);
    assert_eq!(read::<[u8; 16]>(&memory, initrd + 4984), [7; 16]);
    assert_eq!({ header.ramdisk_size }, 5000);
    assert_eq!({ zero_page.acpi_rsdp_addr }, layout::RSDP);

    let table = zero_page.e820_table;
    let entries = &table[..usize::from(zero_page.e820_entries)];
    let all = |kind: u32| {
        entries
            .iter()
            .filter(|e| { e.r#type } == kind)
            .map(|e| ({ e.addr }, { e.size }))
            .collect::<Vec<_>>()
    };
    assert!(all(2).contains(&(ECAM.start, ECAM.end - ECAM.start)));
    let [(tables, size)] = all(3)[..] else { panic!("one range of tables") };
    assert_eq!(tables + size, 64 * MIB);
    assert!(initrd + 5000 <= tables && tables - (initrd + 5000) < 4096, "as high as can be");
    assert_eq!(all(1), [(0, 0xa_0000), (MIB, tables - MIB), (1 << 32, MIB)]);
}

#[test]
fn what_follows_the_setup_header_stays_out_of_the_zero_page() {
    let memory = memory(64);
    // A header that ends before init_size and what follows.
    let kernel = bzimage(|header| header.jump = 0xeb | 0x5e << 8);
    load(&memory, &payload(&kernel), &platform()).unwrap();
    let zero_page: boot_params = read(&memory, layout::ZERO_PAGE);
    assert_eq!(({ zero_page.hdr.init_size }, { zero_page.hdr.pref_address }), (0, 16 * MIB));
}

#[test]
fn a_machine_can_be_loaded_again() {
    let (memory, payload) = (memory(64), payload(&bzimage(|_| {})));
    let first = load(&memory, &payload, &platform()).unwrap();
    memory.write_slice(&[0xff; 8192], GuestAddress(16 * MIB)).unwrap();
    assert_eq!(load(&memory, &payload, &platform()).unwrap(), first);
    assert_eq!(read_bytes(&memory, 16 * MIB, CODE.len()), CODE);
}

#[test]
fn where_pcs_have_their_bios_is_a_jump_that_resets() {
    let memory = memory(64);
    load(&memory, &payload(&bzimage(|_| {})), &platform()).unwrap();
    // mov dx, 0xcf9; mov al, 6; out dx, al
    let program = read_bytes(&memory, layout::RESET_VECTOR, 6);
    assert_eq!(program, [0xba, 0xf9, 0x0c, 0xb0, 6, 0xee]);
}

#[test]
fn a_kernel_goes_where_its_header_says() {
    let entry = |kernel: &[u8]| match load(&memory(64), &payload(kernel), &platform()).unwrap() {
        BootState::Linux64 { entry, .. } => entry.0 - 0x200,
        other => panic!("{other:?}"),
    };
    assert_eq!(entry(&bzimage(|h| h.pref_address = 17 * MIB)), 18 * MIB, "aligned");
    assert_eq!(entry(&bzimage(|h| h.pref_address = 0x1000)), 2 * MIB, "above 1 MiB");
    let fixed = |h: &mut setup_header| (h.relocatable_kernel, h.pref_address) = (0, 17 * MIB);
    assert_eq!(entry(&bzimage(fixed)), 17 * MIB, "cannot be moved");
}

#[test]
fn a_bzimage_that_cannot_be_booted_is_refused_with_advice() {
    let says = |kernel: Vec<u8>, words: &[&str]| {
        let refusal = refusal(&kernel, 64);
        assert!(words.iter().all(|word| refusal.contains(word)), "{refusal}");
    };
    says(bzimage(|h| h.version = 0x20b), &["boot protocol 2.11", "Linux 3.8"]);
    says(bzimage(|h| h.xloadflags = 0), &["64-bit entry", "x86-64"]);
    says(bzimage(|h| h.loadflags = 0), &["zImage"]);
    says(bzimage(|h| h.kernel_alignment = 3 << 20), &["alignment"]);
    says(bzimage(|h| h.syssize += 1), &["4096 of its 4112 bytes", "again"]);
    says(bzimage(|_| {})[..700].to_vec(), &["0 of its", "again"]);
    says(bzimage(|_| {})[..0x210].to_vec(), &["ends within its header"]);
    says(bzimage(|h| h.init_size = 60 << 20), &["at least 77 MiB", "has 64 MiB"]);
    says(bzimage(|h| h.pref_address = u64::MAX - 5), &["loaded at"]);
    says(bzimage(|h| (h.relocatable_kernel, h.pref_address) = (0, 4096)), &["below 1 MiB"]);
}

#[test]
fn an_initrd_that_does_not_fit_is_refused_with_advice() {
    let refused = |initrd: usize, limit: u32| {
        let mut payload = payload(&bzimage(|header| header.initrd_addr_max = limit));
        payload.initrd = Some(image(&vec![1; initrd]));
        load(&memory(32), &payload, &platform()).unwrap_err().to_string()
    };
    assert!(refused(13 << 20, 0x7fff_ffff).contains("give it at least 34 MiB"));
    assert!(refused(2 << 20, 21 << 20).contains("use a smaller one"));
}

#[test]
fn a_command_line_must_fit_the_kernel() {
    let mut payload = payload(&bzimage(|_| {}));
    payload.command_line = "x".repeat(101);
    let refusal = payload.check().unwrap_err().to_string();
    assert!(refusal.contains("101 bytes") && refusal.contains("takes 100"), "{refusal}");
    assert!(load(&memory(64), &payload, &platform()).is_err());
    payload.command_line.pop();
    load(&memory(64), &payload, &platform()).unwrap();
}

#[test]
fn files_are_told_apart_by_their_headers() {
    let says = |bytes: &[u8], words: &str| {
        let refusal = image(bytes).kind().unwrap_err().to_string();
        assert!(refusal.contains(words), "{refusal}");
    };
    assert_eq!(image(&bzimage(|_| {})).kind().unwrap(), Kind::BzImage);
    assert_eq!(image(b"\x7fELF").kind().unwrap(), Kind::Elf);
    says(b"\x1f\x8b\x08", "gunzip");
    says(b"QFI\xfb", "disk");
    says(b"070701", "initrd");
    says(b"MZ", "EFI");
    says(b"hello", "/boot/vmlinuz");
    let refusal = |path: &str| Image::open(&PathBuf::from(path)).unwrap_err().to_string();
    assert!(refusal("/nonexistent/vmlinuz").contains("cannot open /nonexistent/vmlinuz"));
    assert!(refusal("/dev/null").contains("not a regular file"));
    let empty = tempfile::NamedTempFile::new().unwrap();
    let error = Image::new("it".into(), File::open(empty.path()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("empty"));
}

/// An ELF file with one segment (16 bytes in the file, 8192 in memory) and these notes.
fn elf(address: u64, notes: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[18] = 62;
    file[32] = 64;
    file[54] = 56;
    file[56] = 2;
    let header = |kind: u32, offset: u64, address: u64, sizes: [u64; 2]| {
        let words = [offset, 0, address, sizes[0], sizes[1], 4];
        let words: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        [&kind.to_le_bytes()[..], &[0; 4], &words].concat()
    };
    file.extend(header(4, 192, 0, [notes.len() as u64; 2]));
    file.extend(header(1, 176, address, [16, 8192]));
    file.extend([0x90; 16]);
    file.extend(notes);
    file
}

fn note(name: &[u8; 4], kind: u32, contents: &[u8]) -> Vec<u8> {
    let sizes = [4, u32::try_from(contents.len()).unwrap(), kind].map(u32::to_le_bytes).concat();
    let mut note = [&sizes[..], name, contents].concat();
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

fn entry_note(address: u32) -> Vec<u8> {
    note(b"Xen\0", 18, &address.to_le_bytes())
}

#[test]
fn an_elf_file_with_a_pvh_entry_is_entered_in_protected_mode() {
    let memory = memory(64);
    memory.write_slice(&[0xff; 8192], GuestAddress(MIB)).unwrap();
    // The entry is found among other notes, of odd sizes and other names.
    let notes = [
        note(b"GNU\0", 18, &[1; 5]),
        note(b"Xen\0", 6, b"linux"),
        entry_note(0x10_0004),
        note(b"Xen\0", 18, &[0; 4]),
    ]
    .concat();
    let mut payload = payload(&elf(MIB, &notes));
    payload.initrd = Some(image(&[7; 5000]));
    payload.check().unwrap();
    let start = load(&memory, &payload, &platform()).unwrap();
    let BootState::Pvh { entry, start_info, .. } = start else { panic!("{start:?}") };
    assert_eq!(entry, GuestAddress(0x10_0004));
    assert_eq!(read::<[u8; 16]>(&memory, MIB), [0x90; 16]);
    assert_eq!(read_bytes(&memory, MIB + 16, 8192 - 16), [0; 8192 - 16], "cleared");

    let info: hvm_start_info = read(&memory, start_info.0);
    assert_eq!((info.magic, info.version, info.nr_modules), (0x336e_c578, 1, 1));
    assert_eq!(info.rsdp_paddr, layout::RSDP);
    assert_eq!(&read::<[u8; 14]>(&memory, info.cmdline_paddr), b"console=ttyS0\0");
    let module: hvm_modlist_entry = read(&memory, info.modlist_paddr);
    assert_eq!((module.size, read::<[u8; 16]>(&memory, module.paddr)), (5000, [7; 16]));
    let size = size_of::<hvm_memmap_table_entry>() as u64;
    let map: Vec<hvm_memmap_table_entry> = (0..u64::from(info.memmap_entries))
        .map(|n| read(&memory, info.memmap_paddr + n * size))
        .collect();
    assert!(map.iter().any(|e| (e.addr, e.type_) == (ECAM.start, 2)));
    assert!(map.iter().any(|e| (e.addr, e.size, e.type_) == (1 << 32, MIB, 1)));
}

#[test]
fn an_elf_file_that_cannot_be_booted_is_refused_with_advice() {
    let says = |file: Vec<u8>, words: &[&str]| {
        let refusal = refusal(&file, 64);
        assert!(words.iter().all(|word| refusal.contains(word)), "{refusal}");
    };
    let changed = |at: usize, value: u8| {
        let mut file = elf(MIB, &entry_note(0x10_0000));
        file[at] = value;
        file
    };
    says(elf(MIB, &note(b"Xen\0", 6, b"linux")), &["no PVH entry", "vmlinuz", "CONFIG_PVH"]);
    says(elf(MIB, b"\x04\0\0"), &["no PVH entry"]);
    says(elf(MIB, &entry_note(0x20_0000)), &["outside of what is loaded"]);
    says(changed(4, 1), &["32-bit"]);
    says(changed(18, 183), &["another kind of CPU"]);
    says(changed(57, 0xff), &["program headers"]);
    says(changed(54, 57), &["strange size"]);
    says(changed(120 + 33, 0xff), &["within a segment"]);
    says(changed(120 + 41, 0), &["outside of what is loaded"]);
    let mut shorter_in_memory = changed(120 + 41, 0);
    shorter_in_memory[120 + 40] = 8;
    says(shorter_in_memory, &["impossible sizes"]);
    says(
        elf(63 * MIB + MIB / 2 + MIB / 4 + MIB / 8 + MIB / 8, &entry_note(0x400_0000)),
        &["at least"],
    );
    says(elf(0x9_0000, &entry_note(0x9_0000)), &["below 1 MiB"]);
    for length in 4..64 {
        says(elf(MIB, &entry_note(0x10_0000))[..length].to_vec(), &["ends within"]);
    }
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever a kernel's headers say, loading ends with an error or with everything inside
        /// RAM.
        #[test]
        fn headers_of_any_content_do_no_harm(
            changes in prop::collection::vec((0usize..300, any::<u8>()), 1..20), is_elf: bool,
        ) {
            let mut kernel = if is_elf { elf(MIB, &entry_note(0x10_0000)) } else { bzimage(|_| {}) };
            for (at, value) in changes {
                let at = if is_elf { at } else { 0x1f1 + at };
                if let Some(byte) = kernel.get_mut(at) {
                    *byte = value;
                }
            }
            let payload = payload(&kernel);
            let checked = payload.check();
            if load(&memory(32), &payload, &platform()).is_ok() {
                prop_assert!(checked.is_ok());
            }
        }
    }
}
