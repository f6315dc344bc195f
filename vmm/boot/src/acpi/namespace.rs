//! DSDT: the devices that have no configuration space of their own to describe them (ACPI 6.5,
//! 5.2.11.1).

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, BufferData, CreateDWordField, Device, EISAName,
    Else, Equal, Field, FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If,
    Interrupt, Local, Memory32Fixed, Method, Name, NotEqual, Notify, ONE, OpRegion, OpRegionSpace,
    Or, PackageBuilder, Path, ResourceTemplate, Return, Scope, Store, Uuid, ZERO,
};
use hypervisor::layout::{COM1, COM1_IRQ, ECAM, EVENTS, EVENTS_IRQ, MMIO32, PCI_CONFIG, PVPANIC};

use super::table::{bytes, table};
use crate::Platform;
use crate::layout::power::{BUTTON_PRESSED, TYPE_S5};

/// Integers have 64 bits.
const REVISION: u8 = 2;
/// `_STA`: present, enabled, working, and not shown to users.
const PRESENT: u8 = 0b1011;
/// Notification to a power button: it was pressed.
const PRESSED: u8 = 0x80;
/// Functions of a PCI host bridge's `_DSM` (PCI Firmware Specification 3.3, 4.6).
const DSM: &str = "E5C937D0-3553-4D7A-9117-EA4D19C3434D";
/// A PCI host bridge's `_OSC` (4.5.1).
const OSC: &str = "33DB4D5B-1FF7-401C-9657-7441C03DD766";
/// What the guest may control by `_OSC`: the PCI Express capability structure. There is no
/// hot-plug, no power management events and no error reporting to control.
const GRANTED: u32 = 1 << 4;

/// How many processors three hexadecimal digits name; KVM has no more.
const MOST_PROCESSORS: u32 = 0x1000;

/// The table.
pub(super) fn dsdt(platform: &Platform) -> Vec<u8> {
    let mut body = devices(&[
        &host_bridge(platform),
        &motherboard(),
        &com1(),
        &power_button(),
        &event_device(),
        &pvpanic(),
    ]);
    body.extend(processors(platform));
    let mut s5 = PackageBuilder::new();
    for element in [TYPE_S5, 0, 0, 0] {
        s5.add_element(&element);
    }
    body.extend(bytes(&Name::new("_S5_".into(), &s5)));
    table(*b"DSDT", REVISION, &body)
}

/// Bytes of AML that were made before.
struct Made(Vec<u8>);

impl Aml for Made {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

/// `Scope (\_SB) { … }`
fn devices(devices: &[&dyn Aml]) -> Vec<u8> {
    bytes(&Scope::new("\\_SB_".into(), devices.to_vec()))
}

/// `Device (name) { Name (_HID, hid) Name (_UID, uid) … }`
fn device(name: &str, hid: &dyn Aml, uid: u32, more: &[&dyn Aml]) -> Made {
    let (hid, uid) = (Name::new("_HID".into(), hid), Name::new("_UID".into(), &uid));
    let mut children: Vec<&dyn Aml> = vec![&hid, &uid];
    children.extend(more);
    Made(bytes(&Device::new(Path::new(name), children)))
}

/// `Name (_CRS, ResourceTemplate () { … })`
fn resources(resources: Vec<&dyn Aml>) -> Name {
    Name::new("_CRS".into(), &ResourceTemplate::new(resources))
}

/// The host bridge of bus 0, its windows, and what the guest may do with it.
fn host_bridge(platform: &Platform) -> Made {
    let buses = AddressSpace::new_bus_number(0_u16, 0);
    let ports = IO::new(PCI_CONFIG.start, PCI_CONFIG.start, 1, length_8(&PCI_CONFIG));
    let uncached = AddressSpaceCacheable::NotCacheable;
    let low = AddressSpace::new_memory(
        uncached,
        true,
        low_32(MMIO32.start),
        low_32(MMIO32.end - 1),
        None,
    );
    let window = &platform.high_window;
    let high =
        AddressSpace::new_memory(uncached, true, window.start, window.end.saturating_sub(1), None);
    let mut windows: Vec<&dyn Aml> = vec![&buses, &ports, &low];
    if !window.is_empty() {
        windows.push(&high);
    }
    let compatible = Name::new("_CID".into(), &EISAName::new("PNP0A03"));
    let segment = Name::new("_SEG".into(), &ZERO);
    let bus = Name::new("_BBN".into(), &ZERO);
    // Memory accesses of the devices are coherent with the caches.
    let coherent = Name::new("_CCA".into(), &ONE);
    let (resources, dsm, osc) = (resources(windows), dsm(), osc());
    let near = Name::new("_PXM".into(), &ZERO);
    let mut more: Vec<&dyn Aml> =
        vec![&compatible, &segment, &bus, &coherent, &resources, &dsm, &osc];
    if !platform.nodes.is_empty() {
        // Where there are nodes, devices belong to one.
        more.push(&near);
    }
    device("PCI0", &EISAName::new("PNP0A08"), 0, &more)
}

/// `_DSM`, of which function 5 says that the guest must leave BARs where they are: moving them
/// would move each virtqueue's doorbell.
fn dsm() -> Made {
    // Functions 0 and 5.
    let known = BufferData::new(vec![1 << 5 | 1]);
    let none = BufferData::new(vec![0]);
    let uuid = Uuid::new(DSM);
    let (is_query, is_keep) = (Equal::new(&Arg(2), &ZERO), Equal::new(&Arg(2), &5_u8));
    let (answer_known, answer_zero) = (Return::new(&known), Return::new(&ZERO));
    let if_query = If::new(&is_query, vec![&answer_known]);
    let if_keep = If::new(&is_keep, vec![&answer_zero]);
    let is_ours = Equal::new(&Arg(0), &uuid);
    let if_ours = If::new(&is_ours, vec![&if_query, &if_keep]);
    let answer_none = Return::new(&none);
    Made(bytes(&Method::new("_DSM".into(), 4, false, vec![&if_ours, &answer_none])))
}

/// `_OSC`: the guest gets what it asks for of [`GRANTED`], and is told when that is less than it
/// asked for (bit 4 of the first word); another UUID is not recognized (bit 2).
fn osc() -> Made {
    let (status, control) = (Name::new_field_name("CDW1"), Name::new_field_name("CDW3"));
    let first = CreateDWordField::new(&status, &Arg(3), &ZERO);
    let third = CreateDWordField::new(&control, &Arg(3), &8_u8);
    let masked = And::new(&Local(0), &control, &GRANTED);
    let differs = NotEqual::new(&Local(0), &control);
    let tell = Or::new(&status, &status, &0x10_u8);
    let if_less = If::new(&differs, vec![&tell]);
    let store = Store::new(&control, &Local(0));
    let uuid = Uuid::new(OSC);
    let is_ours = Equal::new(&Arg(0), &uuid);
    let if_ours = If::new(&is_ours, vec![&third, &masked, &if_less, &store]);
    let refuse = Or::new(&status, &status, &4_u8);
    let otherwise = Else::new(vec![&refuse]);
    let answer = Return::new(&Arg(3));
    let body: Vec<&dyn Aml> = vec![&first, &if_ours, &otherwise, &answer];
    Made(bytes(&Method::new("_OSC".into(), 4, true, body)))
}

/// What belongs to no device: configuration space. Linux believes MCFG only where this agrees.
fn motherboard() -> Made {
    let ecam = Memory32Fixed::new(true, low_32(ECAM.start), low_32(ECAM.end - ECAM.start));
    device("MBRD", &EISAName::new("PNP0C02"), 0, &[&resources(vec![&ecam])])
}

/// The serial port.
fn com1() -> Made {
    let ports = IO::new(COM1.start, COM1.start, 1, length_8(&COM1));
    let interrupt = edge(COM1_IRQ);
    device("COM1", &EISAName::new("PNP0501"), 0, &[&resources(vec![&ports, &interrupt])])
}

fn power_button() -> Made {
    device("PWRB", &EISAName::new("PNP0C0C"), 0, &[])
}

/// The generic event device (5.6.9): its interrupt's method reads the events and passes them on.
fn event_device() -> Made {
    let (start, length) = (low_32(EVENTS.start), 4_u8);
    let region = OpRegion::new("EREG".into(), OpRegionSpace::SystemMemory, &start, &length);
    let field = Field::new(
        "EREG".into(),
        FieldAccessType::DWord,
        FieldLockRule::NoLock,
        FieldUpdateRule::WriteAsZeroes,
        vec![FieldEntry::Named(*b"EVNT", 32)],
    );
    let events = Name::new_field_name("EVNT");
    // Reading takes the events, so they are read once.
    let take = Store::new(&Local(0), &events);
    let masked = And::new(&Local(1), &Local(0), &BUTTON_PRESSED);
    let button = Path::new("PWRB");
    let notify = Notify::new(&button, &PRESSED);
    let if_pressed = If::new(&Local(1), vec![&notify]);
    let on_event = Method::new("_EVT".into(), 1, true, vec![&take, &masked, &if_pressed]);
    // A level waits for the guest's driver; an edge would be lost before there is one.
    let interrupt = level(EVENTS_IRQ);
    let more: [&dyn Aml; 4] = [&resources(vec![&interrupt]), &region, &field, &on_event];
    device("GED_", &"ACPI0013", 0, &more)
}

fn pvpanic() -> Made {
    let port = IO::new(PVPANIC, PVPANIC, 1, 1);
    let status = Name::new("_STA".into(), &PRESENT);
    device("PEVT", &"QEMU0001", 0, &[&resources(vec![&port]), &status])
}

/// CPUs, by the same numbers as in the MADT, in a scope of their own.
fn processors(platform: &Platform) -> Vec<u8> {
    let mut all = Vec::new();
    for uid in (0_u32..MOST_PROCESSORS).take(platform.processors.len()) {
        all.extend(device(&format!("C{uid:03X}"), &"ACPI0007", uid, &[]).0);
    }
    devices(&[&Made(all)])
}

/// An interrupt that is consumed, edge-triggered, active high, not shared.
fn edge(number: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, number)
}

/// An interrupt that is consumed, level-triggered, active high, not shared.
fn level(number: u32) -> Interrupt {
    Interrupt::new(true, false, false, false, number)
}

/// An address or a size below 4 GiB.
fn low_32(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}

/// The length of a short range of ports.
fn length_8(ports: &std::ops::Range<u16>) -> u8 {
    u8::try_from(ports.end - ports.start).unwrap_or(u8::MAX)
}
