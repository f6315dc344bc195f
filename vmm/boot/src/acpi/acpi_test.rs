//! The tables as a guest finds them: from the root pointer on, in guest memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::iter;

use e2e::{PackageSet, Place, REQUIRE, Root, Suite, require};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::*;
use crate::{Node, Processor};

const RAM: u64 = 64 << 20;
const RAM_SIZE: usize = 64 << 20;

fn platform(processors: u32, nodes: u32) -> Platform {
    let node = |n: u32| {
        let start = u64::from(n) << 24;
        let ram = iter::once(start..start + (1 << 24)).collect();
        Node { ram, distances: Vec::new() }
    };
    Platform {
        processors: (0..processors)
            .map(|n| Processor { apic_id: n, node: n % nodes.max(1) })
            .collect(),
        nodes: (0..nodes).map(node).collect(),
        high_window: 1 << 40..1 << 41,
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Every table by its signature; each is inside of the range that the memory map reserves, and adds
/// up.
fn tables(platform: &Platform) -> BTreeMap<String, Vec<u8>> {
    let memory: GuestMemoryMmap =
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM_SIZE)]).unwrap();
    let tables = Tables::new(platform, RAM).unwrap();
    tables.write(&memory).unwrap();
    let range = tables.range();
    assert_eq!((range.start % 4096, range.end), (0, RAM));

    let read = |address: u64, length: usize| {
        let mut bytes = vec![0; length];
        memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    };
    let table = |address: u64| {
        let length = u32_at(&read(address, 8), 4) as usize;
        assert!(range.contains(&address) && address + length as u64 <= range.end);
        let bytes = read(address, length);
        assert_eq!(sum(&bytes), 0, "checksum of {:?}", String::from_utf8_lossy(&bytes[..4]));
        bytes
    };
    let pointer = read(RSDP, 36);
    assert_eq!((&pointer[..8], pointer[15]), (&b"RSD PTR "[..], 2));
    assert_eq!((sum(&pointer[..20]), sum(&pointer)), (0, 0));
    let xsdt = table(u64_at(&pointer, 24));
    let mut found: Vec<Vec<u8>> = xsdt[36..].chunks(8).map(|at| table(u64_at(at, 0))).collect();
    let fadt = found.iter().find(|table| table.starts_with(b"FACP")).unwrap();
    found.push(table(u64_at(fadt, 140)));
    found.push(xsdt);
    found.into_iter().map(|t| (String::from_utf8_lossy(&t[..4]).into_owned(), t)).collect()
}

/// Entries of a table of structures that begin with type and length.
fn structures(body: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut all) = (body, Vec::new());
    while !rest.is_empty() {
        let (one, others) = rest.split_at(usize::from(rest[1]));
        all.push(one);
        rest = others;
    }
    all
}

/// An edge is lost if the guest's driver is not there yet.
#[test]
fn the_event_devices_interrupt_is_a_level() {
    let dsdt = &tables(&platform(1, 1))["DSDT"];
    // Extended interrupt descriptor (ACPI 6.5, 6.4.3.6): a consumer's; then edge or not; active high.
    let interrupt =
        |flags, number: u32| [&[0x89, 6, 0, flags, 1], &number.to_le_bytes()[..]].concat();
    let has =
        |descriptor: Vec<u8>| dsdt.windows(descriptor.len()).any(|window| window == descriptor);
    assert!(has(interrupt(0b01, hypervisor::layout::EVENTS_IRQ)));
    assert!(has(interrupt(0b11, hypervisor::layout::COM1_IRQ)));
}

#[test]
fn the_fadt_describes_hardware_reduced_acpi() {
    let tables = tables(&platform(1, 0));
    assert!(!tables.contains_key("SRAT") && !tables.contains_key("SLIT"));
    let fadt = &tables["FACP"];
    assert_eq!(fadt.len(), 276);
    let flags = u32_at(fadt, 112);
    assert_eq!(flags & 1 << 20, 1 << 20, "hardware-reduced");
    assert_eq!(flags & 1 << 10, 1 << 10, "reset register");
    // Reset register: port 0xcf9, value 6; sleep registers: memory.
    assert_eq!((fadt[116], u64_at(fadt, 120), fadt[128]), (1, 0xcf9, 6));
    assert_eq!((fadt[244], u64_at(fadt, 248)), (0, 0xfe00_0004));
    assert_eq!((fadt[256], u64_at(fadt, 260)), (0, 0xfe00_0005));
}

#[test]
fn mcfg_is_for_bus_0_only() {
    let mcfg = &tables(&platform(1, 0))["MCFG"];
    assert_eq!((mcfg.len(), u64_at(mcfg, 44), &mcfg[52..56]), (60, 0xe000_0000, &[0; 4][..]));
}

/// Which CPU ids the MADT and the SRAT state, each as (uid or none, APIC id), narrow and wide.
fn processors_of(table: &[u8], header: usize, narrow: u8, wide: u8) -> (Vec<u32>, Vec<u32>) {
    let (mut narrow_ids, mut wide_ids) = (Vec::new(), Vec::new());
    for entry in structures(&table[header..]) {
        if entry[0] == narrow {
            narrow_ids.push(u32::from(entry[3]));
        } else if entry[0] == wide {
            wide_ids.push(u32_at(entry, if wide == 9 { 4 } else { 8 }));
        }
    }
    (narrow_ids, wide_ids)
}

proptest! {
    /// CPUs up to 254 have entries of 8 bits, where 255 means "all"; the others have x2APIC
    /// entries.
    #[test]
    fn each_cpu_is_in_madt_and_srat_once(
        count in prop_oneof![1u32..20, 250u32..260, 1000u32..1100], nodes in 0u32..4, step in 1u32..3,
    ) {
        let mut platform = platform(count, nodes);
        for processor in &mut platform.processors {
            processor.apic_id *= step;
        }
        let ids: Vec<u32> = platform.processors.iter().map(|p| p.apic_id).collect();
        let (low, high): (Vec<u32>, Vec<u32>) = ids.iter().partition(|&&id| id < 255);
        let tables = tables(&platform);
        let madt = &tables["APIC"];
        prop_assert_eq!(u32_at(madt, 40), 0, "no 8259s");
        prop_assert_eq!(processors_of(madt, 44, 0, 9), (low.clone(), high.clone()));
        let others = structures(&madt[44..]).iter().filter(|entry| ![0, 9].contains(&entry[0])).count();
        prop_assert_eq!(others, 3, "IOAPIC and NMIs");
        prop_assert_eq!(tables.contains_key("SRAT"), nodes > 0);
        if let Some(srat) = tables.get("SRAT") {
            prop_assert_eq!(processors_of(srat, 48, 0, 2), (low, high));
            prop_assert_eq!(tables["SLIT"].len(), 44 + (nodes * nodes) as usize);
        }
    }
}

#[test]
fn distances_are_the_given_ones_or_near_and_far() {
    let mut platform = platform(2, 2);
    assert_eq!(tables(&platform)["SLIT"][44..], [10, 20, 20, 10]);
    platform.nodes[0].distances = vec![10, 31];
    assert_eq!(tables(&platform)["SLIT"][44..], [10, 31, 20, 10]);
}

#[test]
fn too_little_ram_for_the_tables_is_an_error() {
    for ram in [0, 4096, HIGH_RAM, HIGH_RAM + 4096] {
        assert!(matches!(Tables::new(&platform(64, 1), ram), Err(Error::TooLittleRam { .. })));
    }
}

const ACPICA: PackageSet = PackageSet {
    name: "acpica",
    purpose: "iasl, to check ACPI tables with",
    suites: &[Suite::Own, Suite::Named("trixie")],
    packages: &["acpica-tools"],
    keep: &[],
};

/// ACPICA's tools, fetched where everything is required.
fn acpica() -> e2e::Result<Root> {
    let place = Place::of_workspace()?;
    let _lock = place.lock()?;
    if std::env::var_os(REQUIRE).is_some() {
        return Root::fetch(&place, &ACPICA);
    }
    Root::cached(&place, &ACPICA).ok_or_else(|| e2e::Error::Missing {
        what: "iasl of Debian's acpica-tools".into(),
        how: "run `cargo xtask test`, which fetches it".into(),
    })
}

/// ACPICA's own tools read every table, and compile the DSDT again without errors or warnings.
#[test]
fn acpica_understands_every_table() {
    let directory = tempfile::tempdir().unwrap();
    let Some(acpica) = require("acpica_understands_every_table", acpica()) else { return };
    let run = |arguments: &[&str]| {
        let mut iasl = acpica.command("usr/bin/iasl").unwrap();
        let output = iasl.args(arguments).current_dir(&directory).output().unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        let _ = write!(text, "{}", String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    };
    for (name, table) in tables(&platform(300, 2)) {
        let (aml, asl) = (format!("{name}.aml"), format!("{name}.dsl"));
        fs::write(directory.path().join(&aml), table).unwrap();
        let (read, text) = run(&["-d", &aml]);
        assert!(read && !text.contains("rror"), "{name}: {text}");
        let source = fs::read_to_string(directory.path().join(&asl)).unwrap();
        assert!(!source.contains("Invalid") && !source.contains("Unknown"), "{name}: {source}");
        if name == "DSDT" {
            let (compiled, text) = run(&[&asl]);
            assert!(compiled && text.contains(" 0 Errors, 0 Warnings"), "{text}\n{source}");
            for part in ["PNP0A08", "PNP0C02", "PNP0501", "PNP0C0C", "ACPI0013", "QEMU0001", "_S5"]
            {
                assert!(source.contains(part), "{part}: {source}");
            }
        }
    }
}
