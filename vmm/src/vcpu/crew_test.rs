use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use hypervisor::fake::{self, Step};
use hypervisor::{Cause, DescriptorTable, GuestAddress};

use super::*;
use crate::config::cpus::Scheduling;
use crate::machine::lifecycle::Event;
use crate::machine::outcome::Outcome;

const START: BootState = BootState::Pvh {
    entry: GuestAddress(0x100_0000),
    start_info: GuestAddress(0x6000),
    gdt: DescriptorTable { base: GuestAddress(0x500), limit: 47 },
};

/// Answers reads with the low byte of where they are, and remembers everything.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
}

impl Exits for Recorder {
    fn port_read(&self, port: u16, data: &mut [u8]) {
        data.fill(port.to_le_bytes()[0]);
    }
    fn port_write(&self, port: u16, data: &[u8]) {
        self.note(format!("out {port:#x} {data:?}"));
    }
    fn mmio_read(&self, at: u64, data: &mut [u8]) {
        data.fill(at.to_le_bytes()[0]);
    }
    fn mmio_write(&self, at: u64, data: &[u8]) {
        self.note(format!("mov {at:#x} {data:?}"));
    }
    fn end_of_interrupt(&self, vector: u8) {
        self.note(format!("eoi {vector}"));
    }
}

struct Stand {
    machine: Arc<fake::Machine>,
    recorder: Arc<Recorder>,
    mailbox: Mailbox,
    crew: Crew,
}

fn stand(vcpus: usize) -> Stand {
    let machine = Arc::new(fake::Machine::new());
    let mailbox = Mailbox::new().unwrap();
    let place = Placement { cpus: None, scheduling: Scheduling::Other };
    let shared: Arc<dyn Machine> = machine.clone();
    let forming = Crew::recruit(&shared, &vec![place; vcpus], &mailbox, &Arc::default()).unwrap();
    let recorder = Arc::<Recorder>::default();
    let exits: Arc<dyn Exits> = recorder.clone();
    let crew = forming.complete(&exits).unwrap();
    Stand { machine, recorder, mailbox, crew }
}

impl Stand {
    /// Runs a script on vCPU 0 until it has told the machine something.
    fn event_of(self, script: impl IntoIterator<Item = Step>) -> Event {
        self.machine.script(0, script);
        self.crew.reset(START).unwrap();
        self.crew.run();
        let event = self.first_event();
        self.crew.quit().unwrap();
        event
    }

    fn first_event(&self) -> Event {
        let mut events = VecDeque::new();
        let start = Instant::now();
        while events.is_empty() && start.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(1));
            events = self.mailbox.take();
        }
        events.pop_front().expect("a vCPU told something")
    }
}

#[test]
fn exits_are_answered_in_order() {
    let stand = stand(1);
    let (machine, recorder) = (stand.machine.clone(), stand.recorder.clone());
    let event = stand.event_of([
        Step::PortRead(0x3fd, 1),
        Step::PortWrite(0xcf8, vec![1, 2, 3, 4]),
        Step::MmioRead(0xfec0_0010, 4),
        Step::MmioWrite(0xfe00_0004, vec![0x34]),
        Step::Eoi(0x31),
        Step::SystemEvent(1),
    ]);
    assert_eq!(event, Event::PowerOff);
    assert_eq!(machine.answers(0), [vec![0xfd], vec![0x10; 4]]);
    assert_eq!(
        *recorder.0.lock().unwrap(),
        ["out 0xcf8 [1, 2, 3, 4]", "mov 0xfe000004 [52]", "eoi 49"]
    );
}

#[test]
fn faults_come_with_registers() {
    let Event::TripleFault { vcpu: 0, state } = stand(1).event_of([Step::TripleFault]) else {
        panic!("a triple fault");
    };
    assert!(state.lines().count() > 3, "{state}");
    let failure = Step::Fail(Cause::Internal { suberror: 1, data: vec![] });
    let Event::Fatal(Outcome::Kvm { vcpu: 0, report }) = stand(1).event_of([failure]) else {
        panic!("a failure of KVM's");
    };
    assert!(report.contains("0f 0b"), "{report}");
}

#[test]
fn only_the_first_vcpu_starts_by_itself_and_a_reset_starts_it_again() {
    let stand = stand(3);
    stand.crew.reset(START).unwrap();
    stand.crew.run();
    stand.crew.park().unwrap();
    stand.crew.reset(START).unwrap();
    stand.crew.run();
    stand.crew.park().unwrap();
    assert_eq!(stand.machine.resets(0), [Some(START); 2]);
    assert_eq!(stand.machine.resets(2), [None; 2]);
    stand.crew.quit().unwrap();
}

#[test]
fn a_vcpu_goes_on_where_it_was_parked_and_one_that_is_over_does_not() {
    let stand = stand(2);
    stand.crew.reset(START).unwrap();
    stand.crew.run();
    for _ in 0..100 {
        stand.crew.park().unwrap();
        stand.crew.run();
    }
    stand.machine.script(1, [Step::TripleFault, Step::SystemEvent(2)]);
    assert!(matches!(stand.first_event(), Event::TripleFault { vcpu: 1, .. }));
    stand.crew.park().unwrap();
    assert!(stand.mailbox.take().is_empty(), "nothing runs after a triple fault");
    stand.crew.quit().unwrap();
}

#[test]
fn a_vcpu_that_cannot_be_made_says_why() {
    let machine = Arc::new(fake::Machine::new());
    let _taken = machine.create_vcpu(0).unwrap();
    let machine: Arc<dyn Machine> = machine;
    let place = Placement { cpus: None, scheduling: Scheduling::Other };
    let forming =
        Crew::recruit(&machine, &[place], &Mailbox::new().unwrap(), &Arc::default()).unwrap();
    let exits: Arc<dyn Exits> = Arc::<Recorder>::default();
    let error = forming.complete(&exits).err().expect("vCPU 0 exists");
    assert!(error.to_string().contains("vCPU 0"), "{error}");
}
