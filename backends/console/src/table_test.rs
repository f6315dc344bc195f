use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::saved;

/// What a well-behaved driver knows, from nothing but the messages.
#[derive(Debug, Default, PartialEq, Eq)]
struct Driver {
    ports: BTreeMap<u16, Seen>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    name: Option<String>,
    console: bool,
    open: bool,
    size: Option<Resize>,
}

impl Driver {
    /// Takes a message, and says what it answers.
    fn hear(&mut self, message: &Message) -> Option<Control> {
        let port = message.port();
        match message {
            Message::Add { .. } => {
                self.ports.insert(port, Seen::default());
                return Some(says(port.into(), ControlEvent::PortReady, 1));
            }
            Message::Remove { .. } => {
                self.ports.remove(&port).expect("what is removed was there");
            }
            message => {
                let seen = self.ports.get_mut(&port).expect("what is told is about a known port");
                match message {
                    Message::Console { .. } => seen.console = true,
                    Message::Name { name, .. } => seen.name = Some(name.clone()),
                    Message::Resize { size, .. } => seen.size = Some(*size),
                    Message::Open { open, .. } => {
                        assert_ne!(seen.open, *open, "opening and closing alternate");
                        seen.open = *open;
                    }
                    _ => {}
                }
            }
        }
        None
    }

    /// Takes messages while there are any, but no more than `most`.
    fn listen(&mut self, table: &mut Table, most: usize) -> usize {
        for heard in 0..most {
            let Some(message) = table.next() else { return heard };
            let answer = self.hear(&message);
            table.sent(&message);
            if let Some(answer) = answer {
                table.driver_says(&answer);
            }
        }
        most
    }
}

fn says(id: u32, event: ControlEvent, value: u16) -> Control {
    Control { id, event: event as u16, value }
}

fn identity(name: &str, console: bool) -> Identity {
    Identity { name: name.into(), console }
}

/// More messages than are ever due at once for so many slots.
fn all_messages(table: &Table) -> usize {
    usize::from(table.most()) * 16
}

/// What the driver ought to know.
fn truth(table: &Table) -> Driver {
    let ports = table.entries().map(|(number, entry)| {
        let Identity { name, console } = entry.identity.clone();
        let size = entry.size.filter(|_| console);
        (number, Seen { name: Some(name), console, open: entry.host_open, size })
    });
    Driver { ports: ports.collect() }
}

#[test]
fn a_driver_is_told_of_each_port_in_the_order_of_the_specification() {
    let mut table = Table::new(4);
    table.add(identity("con", true), false).unwrap();
    table.set_host_open(0, true);
    table.set_size(0, Resize { cols: 80, rows: 24 });
    assert_eq!(table.next(), None, "nothing before DEVICE_READY");
    table.driver_says(&says(0, ControlEvent::DeviceReady, 1));
    let mut heard = Vec::new();
    while let Some(message) = table.next() {
        table.sent(&message);
        if let Message::Add { .. } = message {
            assert_eq!(table.next(), None, "nothing before PORT_READY");
            table.driver_says(&says(0, ControlEvent::PortReady, 1));
        }
        heard.push(message);
    }
    let (port, size) = (0, Resize { cols: 80, rows: 24 });
    let name = "con".to_owned();
    let expected = [
        Message::Add { port },
        Message::Console { port },
        Message::Name { port, name },
        Message::Resize { port, size },
        Message::Open { port, open: true },
    ];
    assert_eq!(heard, expected);
}

#[test]
fn a_port_that_takes_anothers_place_is_announced_after_the_farewell() {
    let mut table = Table::new(2);
    table.add(identity("a", false), false).unwrap();
    table.driver_says(&says(0, ControlEvent::DeviceReady, 1));
    let mut driver = Driver::default();
    driver.listen(&mut table, 100);
    table.remove(0);
    assert_eq!(table.add(identity("b", false), true).unwrap(), 0);
    assert_eq!(table.next(), Some(Message::Remove { port: 0 }));
    driver.listen(&mut table, 100);
    assert_eq!(driver, truth(&table));
    // One that nobody has heard of goes without a word.
    table.add(identity("c", false), true).unwrap();
    table.remove(1);
    assert_eq!(table.next(), None);
}

#[test]
fn a_peer_that_left_and_came_back_was_gone_in_between() {
    let mut table = Table::new(1);
    table.add(identity("a", false), false).unwrap();
    table.driver_says(&says(0, ControlEvent::DeviceReady, 1));
    table.set_host_open(0, true);
    Driver::default().listen(&mut table, 100);
    for open in [false, true, false, true] {
        table.set_host_open(0, open);
    }
    let port = 0;
    for open in [false, true] {
        assert_eq!(table.next(), Some(Message::Open { port, open }));
        table.sent(&Message::Open { port, open });
    }
    assert_eq!(table.next(), None);
}

/// HOSTILE: console: messages of a guest about ports that are not there, or that it has not heard of.
#[test]
fn hostile_messages_change_nothing() {
    let mut table = Table::new(4);
    table.add(identity("a", true), false).unwrap();
    let nonsense = |table: &mut Table, control: Control| {
        let before = table.clone();
        assert_eq!(table.driver_says(&control), Said::Nonsense, "{control:?}");
        assert_eq!((before.slots, before.driver_ready), (table.slots.clone(), table.driver_ready));
    };
    nonsense(&mut table, says(0, ControlEvent::PortReady, 1));
    table.driver_says(&says(0, ControlEvent::DeviceReady, 1));
    nonsense(&mut table, says(0, ControlEvent::PortOpen, 1));
    Driver::default().listen(&mut table, 100);
    for id in [1, 3, 4, 65_535, 65_536, virtio_spec::console::BAD_ID] {
        nonsense(&mut table, says(id, ControlEvent::PortReady, 1));
        nonsense(&mut table, says(id, ControlEvent::PortOpen, 1));
    }
    for event in [1, 2, 4, 5, 7, 8, 9, 65_535] {
        nonsense(&mut table, Control { id: 0, event, value: 1 });
    }
}

#[test]
fn names_are_checked() {
    let mut table = Table::new(2);
    for name in ["", "a b", "a/b", "ä", "\u{7f}", &"x".repeat(65)] {
        assert!(
            matches!(table.add(identity(name, false), false), Err(Error::Name { .. })),
            "{name:?}"
        );
    }
    table.add(identity(&"x".repeat(64), false), false).unwrap();
    table.add(identity("a", false), false).unwrap();
    assert!(matches!(table.add(identity("a", true), false), Err(Error::NameInUse { .. })));
    assert!(matches!(table.add(identity("b", true), false), Err(Error::TableFull { most: 2 })));
}

#[derive(Clone, Debug)]
enum Step {
    Add {
        name: u8,
        console: bool,
    },
    Remove(u16),
    HostOpen(u16, bool),
    Size(u16, u16),
    /// Anything that a guest may say.
    Says {
        id: u32,
        event: u16,
        value: u16,
    },
    /// The driver takes so many messages.
    Listen(usize),
    /// The driver starts again.
    Start,
    /// The daemon dies, and another one goes on with what was kept.
    Die,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..8u8, any::<bool>()).prop_map(|(name, console)| Step::Add { name, console }),
        (0..5u16).prop_map(Step::Remove),
        (0..5u16, any::<bool>()).prop_map(|(port, open)| Step::HostOpen(port, open)),
        (0..5u16, 1..4u16).prop_map(|(port, cols)| Step::Size(port, cols)),
        (0..5usize).prop_map(Step::Listen),
        Just(Step::Start),
        Just(Step::Die),
    ]
}

fn any_message() -> impl Strategy<Value = Step> {
    (0..6u32, 0..10u16, 0..3u16).prop_map(|(id, event, value)| Step::Says { id, event, value })
}

fn take(step: &Step, table: &mut Table, driver: &mut Driver) {
    match *step {
        Step::Add { name, console } => {
            let _ = table.add(identity(&format!("port-{name}"), console), true);
        }
        Step::Remove(port) => drop(table.remove(port)),
        Step::HostOpen(port, open) => table.set_host_open(port, open),
        Step::Size(port, cols) => table.set_size(port, Resize { cols, rows: 24 }),
        Step::Says { id, event, value } => drop(table.driver_says(&Control { id, event, value })),
        Step::Listen(most) => drop(driver.listen(table, most)),
        Step::Start => {
            *driver = Driver::default();
            table.driver_says(&says(0, ControlEvent::DeviceReady, 1));
        }
        Step::Die => {
            let kept = saved::decode(&saved::encode(table), table.most()).unwrap();
            let mut next = Table::new(table.most());
            next.restore(kept);
            *table = next;
        }
    }
}

proptest! {
    /// Whatever has happened: a driver that listens to the end knows how things are.
    #[test]
    fn a_driver_that_listens_knows_the_table(steps in prop::collection::vec(step(), 0..60)) {
        let (mut table, mut driver) = (Table::new(4), Driver::default());
        table.driver_says(&says(0, ControlEvent::DeviceReady, 1));
        for step in &steps {
            take(step, &mut table, &mut driver);
        }
        let most = all_messages(&table);
        prop_assert!(driver.listen(&mut table, most) < most, "messages come to an end");
        prop_assert_eq!(driver, truth(&table));
    }

    /// A guest that says anything harms nobody but itself: starting again mends everything.
    #[test]
    fn a_guest_that_lied_can_start_again(
        steps in prop::collection::vec(prop_oneof![any_message(), step()], 0..80),
    ) {
        let mut table = Table::new(4);
        for step in &steps {
            if let Step::Listen(most) = step {
                // This driver throws away what it is told.
                for _ in 0..*most {
                    let Some(message) = table.next() else { break };
                    table.sent(&message);
                }
            } else {
                take(step, &mut table, &mut Driver::default());
            }
        }
        let mut driver = Driver::default();
        take(&Step::Start, &mut table, &mut driver);
        let most = all_messages(&table);
        prop_assert!(driver.listen(&mut table, most) < most, "messages come to an end");
        prop_assert_eq!(driver, truth(&table));
    }

    #[test]
    fn any_state_is_judged_without_a_panic(bytes: Vec<u8>, text in r#"\{"version":1.{0,60}"#) {
        let _ = saved::decode(&bytes, 4);
        let _ = saved::decode(text.as_bytes(), 4);
    }
}
