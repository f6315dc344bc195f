//! The real `/dev/kvm`, with bare programs at user privilege, which every KVM runs natively.

use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use vm_memory::Bytes;

use super::*;
use crate::fake::{eventfd, signal, take};
use crate::memory::{self, Memory};
use crate::{
    BOOT_GDT, BootState, Cause, DescriptorTable, Error, Exit, Gsi, GuestAddress, Machine as _, Msi,
    Slot, SlotOptions, Topology,
};

const MEMORY: u64 = 4 << 20;
const PAGE_TABLES: u64 = 0x1000;
const PROGRAM: u64 = 0x10_0000;
const STACK: u64 = 0x20_0000;
const MSI: Msi = Msi { address: 0xfee0_0000, data: 0x41 };

/// A machine with a program in its memory.
struct Guest {
    machine: Machine,
    memory: Memory,
}

impl Guest {
    /// Nothing if there is no KVM here, which is said loudly.
    fn new(vcpus: u32, program: &[u8]) -> Option<Self> {
        let kvm = match Kvm::open() {
            Ok(kvm) => kvm,
            Err(error) => {
                eprintln!("\n*** NOT TESTED, FOR WANT OF KVM: {error} ***\n");
                return None;
            }
        };
        let config = Config { topology: Topology::flat(vcpus), dedicated: false };
        let machine = Machine::new(&kvm, &config).unwrap();
        let memory = Memory::new(&memory::Config::new(MEMORY)).unwrap();
        machine.map(Slot(0), &memory.regions()[0], SlotOptions::default()).unwrap();
        map_four_gigabytes(&memory);
        memory.guest().write_slice(program, GuestAddress(PROGRAM)).unwrap();
        Some(Guest { machine, memory })
    }

    fn vcpu(&self, index: u32) -> Box<dyn crate::Vcpu> {
        let mut vcpu = self.machine.create_vcpu(index).unwrap();
        vcpu.reset(Some(&start(index))).unwrap();
        vcpu
    }
}

/// Runs up to a write of `A` to the port.
fn expect_port_write(vcpu: &mut dyn crate::Vcpu) {
    match vcpu.run().unwrap() {
        Exit::PortWrite { port: 0x3f8, width: 1, data: b"A" } => {}
        Exit::TripleFault => panic!("{}", vcpu.registers().unwrap()),
        other => panic!("{other:?}"),
    }
}

fn start(index: u32) -> BootState {
    BootState::User64 {
        entry: GuestAddress(PROGRAM),
        argument: index.into(),
        stack: GuestAddress(STACK),
        page_tables: GuestAddress(PAGE_TABLES),
    }
}

/// Page tables that map 4 GiB where they are, in pages of 2 MiB, for user mode.
fn map_four_gigabytes(memory: &Memory) {
    const TABLE: u64 = 7;
    const HUGE: u64 = 0x87;
    let put = |table: u64, entry: u64, value: u64| {
        memory.guest().write_obj(value, GuestAddress(table + entry * 8)).unwrap();
    };
    let directories = PAGE_TABLES + 0x2000;
    put(PAGE_TABLES, 0, (PAGE_TABLES + 0x1000) | TABLE);
    for gigabyte in 0..4 {
        put(PAGE_TABLES + 0x1000, gigabyte, (directories + gigabyte * 0x1000) | TABLE);
    }
    for page in 0..4 * 512 {
        put(directories, page, page << 21 | HUGE);
    }
}

/// `mov dx, 0x3f8; mov al, 'A'; out dx, al; in al, dx;` then, at 0xc0001000: a byte written, four
/// read from +4, four written to +8, two to +12; then an endless loop.
const ACCESSES: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, 0xb0, b'A', 0xee, 0xec, 0xbf, 0x00, 0x10, 0x00, 0xc0, 0x88, 0x07, 0x8b,
    0x5f, 0x04, 0x89, 0x5f, 0x08, 0x66, 0x89, 0x5f, 0x0c, 0xeb, 0xfe,
];

/// `jmp` to itself.
const LOOP: &[u8] = &[0xeb, 0xfe];

#[test]
fn accesses_exit_with_their_data_and_doorbells_do_not() {
    let Some(guest) = Guest::new(1, ACCESSES) else { return };
    let kick = eventfd();
    let at = GuestAddress(0xc000_1008);
    guest.machine.connect_kick(at, kick.as_fd()).unwrap();
    assert!(matches!(guest.machine.connect_kick(at, kick.as_fd()), Err(Error::DoorbellTaken(_))));

    let mut vcpu = guest.vcpu(0);
    expect_port_write(&mut *vcpu);
    match vcpu.run().unwrap() {
        Exit::PortRead { port: 0x3f8, width: 1, data } => data.fill(0x5a),
        other => panic!("{other:?}"),
    }
    match vcpu.run().unwrap() {
        Exit::MmioWrite { at, data } => assert_eq!((at.0, data), (0xc000_1000, &[0x5a][..])),
        other => panic!("{other:?}"),
    }
    match vcpu.run().unwrap() {
        Exit::MmioRead { at, data } => {
            assert_eq!(at.0, 0xc000_1004);
            data.copy_from_slice(&[1, 2, 3, 4]);
        }
        other => panic!("{other:?}"),
    }
    match vcpu.run().unwrap() {
        Exit::MmioWrite { at, data } => assert_eq!((at.0, data), (0xc000_100c, &[1, 2][..])),
        other => panic!("{other:?}"),
    }
    assert_eq!(take(kick.as_fd()), 1);
    guest.machine.disconnect_kick(at, kick.as_fd()).unwrap();
    let again = guest.machine.disconnect_kick(at, kick.as_fd());
    assert!(matches!(again, Err(Error::DoorbellMissing(_))));
}

#[test]
fn a_string_instruction_is_several_accesses() {
    // mov dx, 0x3f8; mov esi, PROGRAM; mov ecx, 5; rep outsb; loop
    let program = [
        0x66, 0xba, 0xf8, 0x03, 0xbe, 0x00, 0x00, 0x10, 0x00, 0xb9, 5, 0, 0, 0, 0xf3, 0x6e, 0xeb,
        0xfe,
    ];
    let Some(guest) = Guest::new(1, &program) else { return };
    let mut vcpu = guest.vcpu(0);
    let mut written = Vec::new();
    while written.len() < 5 {
        match vcpu.run().unwrap() {
            Exit::PortWrite { port: 0x3f8, width: 1, data } => written.extend_from_slice(data),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(written, program[..5]);
}

#[test]
fn a_running_vcpu_is_interrupted_and_goes_on() {
    let Some(guest) = Guest::new(1, LOOP) else { return };
    let mut vcpu = guest.vcpu(0);
    let handle = vcpu.handle();
    // Before it runs: not lost.
    handle.interrupt();
    assert!(matches!(vcpu.run().unwrap(), Exit::Interrupted));
    let running = thread::spawn(move || {
        for _ in 0..3 {
            assert!(matches!(vcpu.run().unwrap(), Exit::Interrupted));
        }
        vcpu
    });
    while !running.is_finished() {
        handle.interrupt();
        thread::sleep(Duration::from_millis(1));
    }
    let mut vcpu = running.join().unwrap();
    vcpu.resume().unwrap();
    drop(vcpu);
    // Nobody is there any more; nothing happens.
    handle.interrupt();
}

#[test]
fn a_settled_vcpu_has_what_it_read_and_keeps_interrupts() {
    let Some(guest) = Guest::new(1, ACCESSES) else { return };
    let mut vcpu = guest.vcpu(0);
    expect_port_write(&mut *vcpu);
    let Exit::PortRead { data, .. } = vcpu.run().unwrap() else { panic!("a read") };
    data.fill(0x77);
    let handle = vcpu.handle();
    handle.interrupt();
    assert!(matches!(vcpu.settle().unwrap(), Exit::Interrupted));
    let registers = vcpu.registers().unwrap();
    assert_eq!((registers.rax & 0xff, registers.rip), (0x77, PROGRAM + 8));
    assert!(matches!(vcpu.run().unwrap(), Exit::Interrupted));
    assert!(matches!(vcpu.run().unwrap(), Exit::MmioWrite { data: [0x77], .. }));
}

#[test]
fn a_reset_begins_again() {
    let Some(guest) = Guest::new(1, ACCESSES) else { return };
    let mut vcpu = guest.vcpu(0);
    for _ in 0..3 {
        expect_port_write(&mut *vcpu);
        assert!(matches!(vcpu.run().unwrap(), Exit::PortRead { .. }));
        vcpu.reset(Some(&start(0))).unwrap();
        let registers = vcpu.registers().unwrap();
        assert_eq!((registers.rip, registers.rax, registers.cr3), (PROGRAM, 0, PAGE_TABLES));
    }
}

#[test]
fn privileged_code_in_a_bare_program_is_a_triple_fault() {
    let Some(guest) = Guest::new(1, &[0xf4]) else { return };
    assert!(matches!(guest.vcpu(0).run().unwrap(), Exit::TripleFault));
}

const GDT: u64 = 0x500;

/// In kernel mode: natively, or emulated, but this is short.
fn kernel_start(guest: &Guest) -> BootState {
    for (at, entry) in (0..).zip(BOOT_GDT) {
        guest.memory.guest().write_obj(entry, GuestAddress(GDT + at * 8)).unwrap();
    }
    BootState::Linux64 {
        entry: GuestAddress(PROGRAM),
        zero_page: GuestAddress(0x7000),
        stack: GuestAddress(STACK),
        page_tables: GuestAddress(PAGE_TABLES),
        gdt: DescriptorTable { base: GuestAddress(GDT), limit: 47 },
    }
}

/// Runs up to a write of four bytes to a port.
fn written(vcpu: &mut dyn crate::Vcpu) -> u32 {
    match vcpu.run().unwrap() {
        Exit::PortWrite { width: 4, data, .. } => u32::from_le_bytes(data.try_into().unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_kernel_begins_in_long_mode_and_finds_its_apic_id() {
    // mov ax, 0x18; mov ds, ax (from the GDT); mov eax, 0xb; xor ecx, ecx; cpuid; mov eax, edx;
    // mov dx, 0x3f8; out dx, eax
    let program = [
        0x66, 0xb8, 0x18, 0, 0x8e, 0xd8, 0xb8, 0x0b, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0xd0,
        0x66, 0xba, 0xf8, 0x03, 0xef, 0xeb, 0xfe,
    ];
    let Some(guest) = Guest::new(3, &program) else { return };
    let start = kernel_start(&guest);
    for index in 0..3 {
        let mut vcpu = guest.machine.create_vcpu(index).unwrap();
        vcpu.reset(Some(&start)).unwrap();
        assert_eq!(written(&mut *vcpu), index);
    }
}

#[test]
fn what_kvm_cannot_run_is_reported_with_registers_and_instruction() {
    // and rsp, -16; lock cmpxchg16b [rsp - 32]; mov dx, 0x3f8; out dx, eax
    let program = [
        0x48, 0x83, 0xe4, 0xf0, 0xf0, 0x48, 0x0f, 0xc7, 0x4c, 0x24, 0xe0, 0x66, 0xba, 0xf8, 0x03,
        0xef, 0xeb, 0xfe,
    ];
    let Some(guest) = Guest::new(1, &program) else { return };
    let mut vcpu = guest.machine.create_vcpu(0).unwrap();
    vcpu.reset(Some(&kernel_start(&guest))).unwrap();
    match vcpu.run().unwrap() {
        // Run by the CPU.
        Exit::PortWrite { .. } => {}
        // Emulated, and KVM's emulator does not know it.
        Exit::Failed(failure) => {
            assert!(matches!(failure.cause, Cause::Internal { suberror: 1, .. }), "{failure}");
            assert_eq!(failure.registers.unwrap().rip, PROGRAM + 4);
            assert_eq!(failure.instruction[..7], program[4..11], "{failure}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn code_where_there_is_no_memory_is_no_endless_loop() {
    // mov eax, 0xd0000000; jmp rax
    let Some(guest) = Guest::new(1, &[0xb8, 0, 0, 0, 0xd0, 0xff, 0xe0]) else { return };
    let mut vcpu = guest.machine.create_vcpu(0).unwrap();
    vcpu.reset(Some(&kernel_start(&guest))).unwrap();
    let handle = vcpu.handle();
    let watchdog = thread::spawn(move || {
        thread::sleep(Duration::from_secs(5));
        handle.interrupt();
    });
    match vcpu.run().unwrap() {
        Exit::Failed(failure) => assert_eq!(failure.registers.unwrap().rip, 0xd000_0000),
        Exit::TripleFault => {}
        other => panic!("{other:?}"),
    }
    drop(watchdog);
}

#[test]
fn a_reset_switches_x2apic_mode_off() {
    // mov ecx, 0x1b (APIC base); rdmsr; mov ebx, eax; or eax, 0x400; wrmsr; mov eax, ebx;
    // mov dx, 0x3f8; out dx, eax
    let program = [
        0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0x89, 0xc3, 0x0d, 0, 0x04, 0, 0, 0x0f, 0x30, 0x89, 0xd8,
        0x66, 0xba, 0xf8, 0x03, 0xef, 0xeb, 0xfe,
    ];
    let Some(guest) = Guest::new(1, &program) else { return };
    let start = kernel_start(&guest);
    let mut vcpu = guest.machine.create_vcpu(0).unwrap();
    for _ in 0..3 {
        vcpu.reset(Some(&start)).unwrap();
        assert_eq!(written(&mut *vcpu), 0xfee0_0900);
    }
}

#[test]
fn a_pvh_kernel_begins_in_protected_mode_with_its_start_info() {
    // mov eax, ebx; mov dx, 0x3f8; out dx, eax
    let program = [0x89, 0xd8, 0x66, 0xba, 0xf8, 0x03, 0xef, 0xeb, 0xfe];
    let Some(guest) = Guest::new(1, &program) else { return };
    let mut vcpu = guest.machine.create_vcpu(0).unwrap();
    let start = BootState::Pvh {
        entry: GuestAddress(PROGRAM),
        start_info: GuestAddress(0x1234_5678),
        gdt: DescriptorTable { base: GuestAddress(GDT), limit: 47 },
    };
    vcpu.reset(Some(&start)).unwrap();
    assert_eq!(written(&mut *vcpu), 0x1234_5678);
}

#[test]
fn one_vcpu_starts_another_each_time_after_a_reset() {
    // Through the local APIC's interrupt command: INIT, then SIPI to 0x10000, for APIC id 1.
    let program = [
        0xbf, 0x00, 0x00, 0xe0, 0xfe, 0xc7, 0x87, 0x10, 0x03, 0, 0, 0, 0, 0, 0x01, 0xc7, 0x87,
        0x00, 0x03, 0, 0, 0, 0x45, 0, 0, 0xc7, 0x87, 0x00, 0x03, 0, 0, 0x10, 0x46, 0, 0, 0xeb,
        0xfe,
    ];
    let Some(guest) = Guest::new(2, &program) else { return };
    // In real mode: mov al, 'B'; mov dx, 0x3f8; out dx, al
    let second = [0xb0, b'B', 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xfe];
    guest.memory.guest().write_slice(&second, GuestAddress(0x1_0000)).unwrap();
    let start = kernel_start(&guest);
    let mut vcpus = [0, 1].map(|index| guest.machine.create_vcpu(index).unwrap());
    for _ in 0..2 {
        let [first, second] = &mut vcpus;
        first.reset(Some(&start)).unwrap();
        second.reset(None).unwrap();
        let handle = first.handle();
        thread::scope(|scope| {
            scope.spawn(|| assert!(matches!(first.run().unwrap(), Exit::Interrupted)));
            assert!(matches!(second.run().unwrap(), Exit::PortWrite { data: b"B", .. }));
            handle.interrupt();
        });
    }
}

#[test]
fn vcpus_are_made_once_and_within_the_topology() {
    let Some(guest) = Guest::new(2, LOOP) else { return };
    let mut waiting = guest.machine.create_vcpu(1).unwrap();
    waiting.reset(None).unwrap();
    assert!(matches!(guest.machine.create_vcpu(1), Err(Error::VcpuIndex(1))));
    assert!(matches!(guest.machine.create_vcpu(2), Err(Error::VcpuIndex(2))));
    // Not started by anybody, it can still be interrupted.
    waiting.handle().interrupt();
    assert!(matches!(waiting.run().unwrap(), Exit::Interrupted));
    let kvm = Kvm::open().unwrap();
    let huge = Config { topology: Topology::flat(1 << 20), dedicated: false };
    assert!(matches!(Machine::new(&kvm, &huge), Err(Error::TooManyVcpus { .. })));
}

fn calls(guest: &Guest) -> (Gsi, OwnedFd) {
    (guest.machine.allocate_vectors(1).unwrap()[0], eventfd())
}

#[test]
fn kvm_takes_calls_while_they_are_connected() {
    let Some(guest) = Guest::new(1, LOOP) else { return };
    let _vcpu = guest.vcpu(0);
    let (line, call) = calls(&guest);
    guest.machine.route(line, Some(MSI)).unwrap();
    signal(call.as_fd());
    guest.machine.connect_call(line, call.as_fd()).unwrap();
    assert!(guest.machine.connect_call(line, call.as_fd()).is_err());
    signal(call.as_fd());
    thread::sleep(Duration::from_millis(10));
    assert_eq!(take(call.as_fd()), 0);
    guest.machine.disconnect_call(line, call.as_fd()).unwrap();
    signal(call.as_fd());
    thread::sleep(Duration::from_millis(10));
    assert_eq!(take(call.as_fd()), 1);
}

/// What was signalled before the call was connected has been sent, and is not left to be sent again.
#[test]
fn a_call_that_was_sent_is_not_counted_afterwards() {
    let Some(guest) = Guest::new(1, LOOP) else { return };
    let _vcpu = guest.vcpu(0);
    let (line, call) = calls(&guest);
    guest.machine.route(line, Some(MSI)).unwrap();
    signal(call.as_fd());
    guest.machine.connect_call(line, call.as_fd()).unwrap();
    guest.machine.disconnect_call(line, call.as_fd()).unwrap();
    assert_eq!(take(call.as_fd()), 0);
}

#[test]
fn routes_that_a_hostile_guest_chose_do_no_harm() {
    let Some(guest) = Guest::new(1, LOOP) else { return };
    let _vcpu = guest.vcpu(0);
    let lines = guest.machine.allocate_vectors(8).unwrap();
    for address in [0, 1, 0xfee0_0000, 0xfeef_ffff, 0xffff_ffff, 0x1_fee0_0000, u64::MAX] {
        for data in [0, 0xff, u32::MAX] {
            let message = Msi { address, data };
            let routes: Vec<_> = lines.iter().map(|&line| (line, Some(message))).collect();
            guest.machine.route_all(&routes).unwrap();
            guest.machine.route(Gsi(4), Some(message)).unwrap();
            guest.machine.signal(message).unwrap();
        }
    }
    guest.machine.free_vectors(&lines).unwrap();
    assert!(guest.machine.route(lines[0], None).is_err());
}

#[test]
fn the_table_of_routes_can_be_filled() {
    let Some(guest) = Guest::new(1, LOOP) else { return };
    let lines = guest.machine.allocate_vectors(4096 - 24).unwrap();
    let routes: Vec<_> = lines.iter().map(|&line| (line, Some(MSI))).collect();
    guest.machine.route_all(&routes).unwrap();
    assert!(matches!(guest.machine.allocate_vectors(1), Err(Error::Vectors { .. })));
}

#[test]
fn the_guests_writes_are_logged() {
    // mov edi, 0x300000; mov [rdi], al; mov dx, 0x3f8; out dx, al
    let program = [0xbf, 0, 0, 0x30, 0, 0x88, 0x07, 0x66, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xfe];
    let Some(guest) = Guest::new(1, &program) else { return };
    guest.machine.log_dirty(Slot(0), true).unwrap();
    assert!(matches!(guest.vcpu(0).run().unwrap(), Exit::PortWrite { .. }));
    let dirty = guest.machine.take_dirty(Slot(0)).unwrap();
    assert_eq!(dirty[0x300 / 64] & 1, 1, "{dirty:x?}");
    let pages = |words: &[u64]| words.iter().map(|word| word.count_ones()).sum::<u32>();
    assert!(pages(&dirty) < 16, "{dirty:x?}");
    assert_eq!(pages(&guest.machine.take_dirty(Slot(0)).unwrap()), 0);
}

#[test]
fn memory_is_mapped_once_and_gone_when_unmapped() {
    let Some(guest) = Guest::new(1, LOOP) else { return };
    let region = &guest.memory.regions()[0];
    let options = SlotOptions::default();
    assert!(matches!(guest.machine.map(Slot(0), region, options), Err(Error::SlotTaken(0))));
    assert!(matches!(guest.machine.map(Slot(1), region, options), Err(Error::Kvm { .. })));
    guest.machine.unmap(Slot(0)).unwrap();
    assert!(matches!(guest.machine.unmap(Slot(0)), Err(Error::SlotEmpty(0))));
    guest.machine.map(Slot(1), region, SlotOptions { read_only: true, ..options }).unwrap();
}

/// As many as the issue asks for, and more than one byte of APIC id holds.
#[test]
fn three_hundred_vcpus_exist() {
    let Some(guest) = Guest::new(300, LOOP) else { return };
    let mut vcpus: Vec<_> = (0..300).map(|n| guest.machine.create_vcpu(n).unwrap()).collect();
    for vcpu in vcpus.iter_mut().skip(1) {
        vcpu.reset(None).unwrap();
    }
}
