//! A whole machine on the fake hypervisor: what its guest reads where, and that no guest can break it.

use std::sync::Arc;

use hypervisor::fake::{self, Step};
use hypervisor::{Topology, layout};
use outrigger::config::Config;
use outrigger::config::serial::SerialPort;
use outrigger::config::settings::Settings;
use outrigger::machine::assembly::{Ground, Supplies, assemble};
use outrigger::machine::desk::{Body as _, Desk};
use outrigger::machine::guest;
use outrigger::machine::lifecycle::Policy;
use outrigger::machine::loading::Loading;
use outrigger::machine::mailbox::Mailbox;
use outrigger::machine::outcome::Outcome;
use outrigger::machine::signals::Signals;
use outrigger::machine::watch::Watch;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::program::Program;

/// The offset of the sleep control register in its page, and what switches the machine off.
const SLEEP: u64 = layout::EVENTS.start + 4;
const SWITCH_OFF: u8 = 0x34;

/// Runs scripts, one a vCPU, to the machine's end; returns how it ended, and what vCPU 0 was answered.
fn run(scripts: Vec<Vec<Step>>) -> (Outcome, Vec<Vec<u8>>) {
    let directory = TempDir::new().expect("a directory");
    let config = config(&directory, scripts.len());
    let machine = Arc::new(fake::Machine::new());
    let mailbox = Mailbox::new().expect("a mailbox");
    let ground =
        Ground { machine: machine.clone(), mailbox: mailbox.clone(), sandbox: Arc::default() };
    let payload = guest::open(&config).expect("a kernel");
    let topology = Topology::flat(config.cpus.count.into());
    let loading = Loading::begin(payload, &config, topology, 40).expect("memory");
    let supplies = Supplies { loading, links: Vec::new() };
    let (mut body, _serial) = assemble(&config, supplies, &ground, &|| Ok(())).expect("a machine");
    for (vcpu, script) in (0..).zip(scripts) {
        machine.script(vcpu, script);
    }
    body.release();
    let policy = Policy { grace: config.grace, reset_on_triple_fault: true, end_on_panic: false };
    let mut watch = Watch::new(Signals::new().expect("signals"), mailbox).expect("a watch");
    let mut desk = Desk::new(policy, body);
    let outcome = watch.run(&mut desk).expect("events");
    assert!(desk.into_body().take_down(&|| false));
    (outcome, machine.answers(0))
}

fn config(directory: &TempDir, vcpus: usize) -> Config {
    let settings = Settings {
        kernel: Some(Program::default().stop().save(directory.path())),
        memory: Some("32M".parse().expect("a size")),
        cpus: u16::try_from(vcpus).ok(),
        serial: Some(SerialPort::Null),
        ..Settings::default()
    };
    Config::new(settings).expect("a configuration")
}

fn switch_off() -> Step {
    Step::MmioWrite(SLEEP, vec![SWITCH_OFF])
}

#[test]
fn a_guest_finds_what_the_tables_promise() {
    let (outcome, answers) = run(vec![vec![
        Step::PortWrite(0xcf8, vec![0, 0, 0, 0x80]),
        Step::PortRead(0xcfc, 4),
        Step::MmioRead(layout::ECAM.start, 4),
        Step::MmioRead(layout::ECAM.start + (31 << 15), 4),
        Step::PortRead(0x3fd, 1),
        Step::PortRead(layout::PVPANIC, 1),
        Step::PortRead(0x60, 1),
        Step::MmioRead(0xd000_0000, 8),
        switch_off(),
    ]]);
    assert_eq!(outcome, Outcome::PoweredOff);
    let [bridge, same, nobody, line_status, panics, keyboard, hole] = &answers[..] else {
        panic!("seven reads: {answers:?}");
    };
    assert_eq!(bridge, same, "both ways into configuration space lead to the host bridge");
    assert_ne!(bridge, &[0xff; 4]);
    assert_eq!((nobody, keyboard, hole), (&vec![0xff; 4], &vec![0xff], &vec![0xff; 8]));
    assert_eq!(line_status, &[0x60], "the serial port can transmit");
    assert_eq!(panics, &[3], "pvpanic knows both events");
}

#[test]
fn a_guest_that_resets_itself_is_answered_afterwards_as_before() {
    let identify = [Step::PortWrite(0xcf8, vec![0, 0, 0, 0x80]), Step::PortRead(0xcfc, 4)];
    let mut script = identify.to_vec();
    script.extend([Step::PortWrite(0xcf9, vec![6]), Step::TripleFault]);
    script.extend(identify);
    script.push(switch_off());
    let (outcome, answers) = run(vec![script]);
    assert_eq!(outcome, Outcome::PoweredOff);
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0], answers[1]);
}

/// Accesses near everything that answers, and anywhere else.
fn access() -> impl Strategy<Value = Step> {
    let port = prop_oneof![
        Just(0x64_u16),
        Just(layout::PVPANIC),
        0x3f0_u16..0x408,
        0xcf6_u16..0xd02,
        any::<u16>(),
    ];
    let address = prop_oneof![
        layout::EVENTS.start..layout::EVENTS.start + 16,
        layout::IOAPIC.start..layout::IOAPIC.start + 0x50,
        layout::ECAM.start..layout::ECAM.start + 0x2000,
        layout::ECAM.end - 16..layout::ECAM.end + 16,
        layout::MMIO32,
        any::<u64>(),
    ];
    let width = prop_oneof![Just(1_usize), Just(2), Just(4)];
    let wide = prop_oneof![Just(1_usize), Just(2), Just(4), Just(8)];
    prop_oneof![
        (port.clone(), width.clone()).prop_map(|(port, width)| Step::PortRead(port, width)),
        (port, prop::collection::vec(any::<u8>(), 4), width).prop_map(|(port, mut data, width)| {
            data.truncate(width);
            Step::PortWrite(port, data)
        }),
        (address.clone(), wide.clone()).prop_map(|(at, width)| Step::MmioRead(at, width)),
        (address, prop::collection::vec(any::<u8>(), 8), wide).prop_map(|(at, mut data, width)| {
            data.truncate(width);
            Step::MmioWrite(at, data)
        }),
        any::<u8>().prop_map(Step::Eoi),
        Just(Step::TripleFault),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Two vCPUs write anything anywhere, reset the machine and fault; at last the guest can still switch it
    /// off, if it has not done so by accident.
    #[test]
    fn no_guest_breaks_the_machine(
        first in prop::collection::vec(access(), 0..60),
        second in prop::collection::vec(access(), 0..60),
    ) {
        let mut scripts = vec![first, second];
        scripts[0].push(switch_off());
        prop_assert_eq!(run(scripts).0, Outcome::PoweredOff);
    }
}
