//! The console's table of ports: whatever a guest says, what it is told comes to an end, starting again
//! mends everything, and what is kept can be read.

use arbitrary::{Arbitrary, Unstructured};
use outrigger_console::message::{Message, ResizeOrder};
use outrigger_console::saved;
use outrigger_console::table::{Identity, Table};
use virtio_spec::console::{Control, ControlEvent, Resize};

/// How many ports there can be.
const PORTS: u16 = 6;
/// More messages than are ever due at once.
const MESSAGES: usize = 16 * PORTS as usize;

/// What happens.
#[derive(Arbitrary, Clone, Debug)]
enum Step<'a> {
    /// The guest sends a message, of which only the first bytes may be sensible.
    Says([u8; Control::SIZE]),
    /// The guest sends a message that it might well send.
    Event { port: u8, event: u8, value: bool },
    /// The guest has buffers for so many messages.
    Listens(u8),
    /// A user adds a port.
    Add { name: &'a str, console: bool },
    /// A user removes one.
    Remove(u8),
    /// Somebody on the host comes or leaves.
    HostOpen(u8, bool),
    /// A screen has another size.
    Size(u8, u16, u16),
    /// The daemon dies, and another goes on.
    Dies,
    /// Something else is found where the state was kept.
    Finds(&'a [u8]),
}

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut table = Table::new(PORTS);
    while let Ok(step) = Step::arbitrary(&mut input) {
        take(&step, &mut table);
        if input.is_empty() {
            break;
        }
    }
    start_again(&mut table);
}

fn take(step: &Step<'_>, table: &mut Table) {
    match *step {
        Step::Says(bytes) => drop(table.driver_says(&Control::from_bytes(&bytes))),
        Step::Event { port, event, value } => {
            let (id, event) = (u32::from(port % 8), u16::from(event % 10));
            table.driver_says(&Control { id, event, value: value.into() });
        }
        Step::Listens(count) => drop(listen(table, usize::from(count))),
        Step::Add { name, console } => {
            let before = table.entries().count();
            let added = table.add(Identity { name: name.to_owned(), console }, true);
            assert_eq!(table.entries().count(), before + usize::from(added.is_ok()));
        }
        Step::Remove(port) => {
            table.remove(u16::from(port % 8));
            assert!(table.get(u16::from(port % 8)).is_none());
        }
        Step::HostOpen(port, open) => table.set_host_open(u16::from(port % 8), open),
        Step::Size(port, cols, rows) => {
            table.set_size(u16::from(port % 8), Resize { cols, rows });
        }
        Step::Dies => {
            let kept = saved::encode(table);
            let mut next = Table::new(PORTS);
            next.restore(saved::decode(&kept, PORTS).expect("what was kept can be read"));
            assert_eq!(next.entries().count(), table.entries().count());
            *table = next;
        }
        Step::Finds(bytes) => {
            if let Ok(found) = saved::decode(bytes, PORTS) {
                table.restore(found);
            }
        }
    }
}

/// Gives the guest messages, and says how many there were.
fn listen(table: &mut Table, most: usize) -> Vec<Message> {
    let mut heard = Vec::new();
    while heard.len() < most
        && let Some(message) = table.next()
    {
        assert!(message.port() < PORTS);
        assert!(message.to_bytes(ResizeOrder::Spec).len() >= Control::SIZE);
        table.sent(&message);
        heard.push(message);
    }
    heard
}

/// A driver that starts again, and does as it should, comes to know all ports and no others.
fn start_again(table: &mut Table) {
    let ready = |id, event: ControlEvent| Control { id, event: event as u16, value: 1 };
    table.driver_says(&ready(0, ControlEvent::DeviceReady));
    let added = listen(table, MESSAGES);
    assert_eq!(added.len(), table.entries().count());
    for message in added {
        assert!(matches!(message, Message::Add { .. }), "{message:?} before PORT_READY");
        table.driver_says(&ready(message.port().into(), ControlEvent::PortReady));
    }
    let told = listen(table, MESSAGES);
    assert!(told.len() < MESSAGES, "messages do not come to an end");
    let names = told.iter().filter(|message| matches!(message, Message::Name { .. }));
    assert_eq!(names.count(), table.entries().count());
    assert!(table.next().is_none());
}
