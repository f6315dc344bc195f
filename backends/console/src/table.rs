//! The table of ports, and what the driver has been told of it.
//!
//! # Theory of operation
//! Ports live in numbered slots. The driver hears of them by control messages (virtio 1.4, 5.3.6.2),
//! which go out whenever it has buffers for them; until then they are *due*. What is due is not
//! a queue but a set of marks in each slot, from which the next message is made when there is
//! room for it. So however often ports come, go, open and close, memory stays as it is, and
//! the driver is told how things are now. Two things must not be lost in this: that the port in
//! a slot was another one before (`REMOVE` is due before `ADD`), and that an open port was
//! closed in between (`bounced`).
//!
//! A port is *announced* once its ADD was sent, *ready* once the driver says so, and the rest of the
//! messages are for ready ports only. DEVICE_READY starts all over.

use std::collections::BTreeSet;

use bitflags::bitflags;
use virtio_spec::console::{Control, ControlEvent, Resize};

use crate::error::{Error, Result};
use crate::message::Message;
use crate::saved::{Origin, Saved};

bitflags! {
    /// Messages that are due for a slot.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Due: u8 {
        const REMOVE = 1;
        const ADD = 2;
        const CONSOLE = 4;
        const NAME = 8;
        const RESIZE = 16;
    }
}

/// What a port is called, and whether it is a console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name, which no other port has; see [`check_name`].
    pub name: String,
    /// Whether the guest makes a console of it.
    pub console: bool,
}

/// A port as the driver is to see it, and as it has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name and kind.
    pub identity: Identity,
    /// Whether it was added while the device was in use.
    pub at_run_time: bool,
    /// Whether the driver was told that it is there.
    pub announced: bool,
    /// Whether the driver has set it up.
    pub ready: bool,
    /// Whether somebody in the guest has it open.
    pub guest_open: bool,
    /// Whether somebody on the host has it open.
    pub host_open: bool,
    /// What the driver was told of that.
    pub told_open: bool,
    /// Whether it was closed and opened since.
    pub(crate) bounced: bool,
    /// The size of its screen, if it is known.
    pub size: Option<Resize>,
    /// How it was added at run time, for a daemon after this one.
    pub(crate) origin: Origin,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Slot {
    entry: Option<Entry>,
    due: Due,
}

/// All ports.
#[derive(Clone, Debug)]
pub struct Table {
    slots: Vec<Slot>,
    driver_ready: bool,
}

/// What a message of the driver has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Everything starts again.
    Everything,
    /// Something about this port.
    Port(u16),
    /// It made no sense, and nothing has changed.
    Nonsense,
}

/// The longest name, bytes.
pub const NAME_MAX: usize = 64;

/// Whether ports can be called that: 1 to 64 printable characters of ASCII, neither blank nor `/`.
///
/// # Errors
/// [`Error::Name`] if not.
pub fn check_name(name: &str) -> Result<()> {
    let fits = (1..=NAME_MAX).contains(&name.len());
    if fits && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
        return Ok(());
    }
    Err(Error::Name { name: name.to_owned() })
}

impl Identity {
    /// A port of which the driver knows nothing.
    pub(crate) fn entry(self, at_run_time: bool) -> Entry {
        Entry {
            identity: self,
            at_run_time,
            announced: false,
            ready: false,
            guest_open: false,
            host_open: false,
            told_open: false,
            bounced: false,
            size: None,
            origin: Origin::default(),
        }
    }
}

impl Table {
    /// A table for so many ports, none of them there.
    pub fn new(most: u16) -> Self {
        Table { slots: vec![Slot::default(); most.into()], driver_ready: false }
    }

    /// How many ports there can be.
    pub fn most(&self) -> u16 {
        u16::try_from(self.slots.len()).unwrap_or(u16::MAX)
    }

    /// Adds a port in the first free slot, whose number is returned.
    ///
    /// # Errors
    /// A name that cannot be, or is in use; a full table.
    pub fn add(&mut self, identity: Identity, at_run_time: bool) -> Result<u16> {
        check_name(&identity.name)?;
        if self.find(&identity.name).is_some() {
            return Err(Error::NameInUse { name: identity.name });
        }
        let most = self.slots.len();
        let free = self.slots.iter().position(|slot| slot.entry.is_none());
        let number = free.and_then(|number| u16::try_from(number).ok());
        let number = number.ok_or(Error::TableFull { most })?;
        self.put(number, identity.entry(at_run_time));
        Ok(number)
    }

    fn put(&mut self, number: u16, entry: Entry) {
        let Some(slot) = self.slots.get_mut(usize::from(number)) else { return };
        slot.due.insert(Due::ADD);
        slot.entry = Some(entry);
    }

    /// Removes a port.
    pub fn remove(&mut self, number: u16) -> Option<Entry> {
        let slot = self.slots.get_mut(usize::from(number))?;
        let entry = slot.entry.take()?;
        // What the driver was never told of needs no farewell; a farewell that is due stays due.
        slot.due &= Due::REMOVE;
        slot.due.set(Due::REMOVE, slot.due.contains(Due::REMOVE) || entry.announced);
        Some(entry)
    }

    /// The number of the port with this name.
    pub fn find(&self, name: &str) -> Option<u16> {
        self.entries().find(|(_, entry)| entry.identity.name == name).map(|(number, _)| number)
    }

    /// The port with this number.
    pub fn get(&self, number: u16) -> Option<&Entry> {
        self.slots.get(usize::from(number))?.entry.as_ref()
    }

    /// All ports, by number.
    pub fn entries(&self) -> impl Iterator<Item = (u16, &Entry)> {
        (0..).zip(&self.slots).filter_map(|(number, slot)| Some((number, slot.entry.as_ref()?)))
    }

    /// A port was added at run time in this way.
    pub(crate) fn set_origin(&mut self, number: u16, origin: Origin) {
        let slot = self.slots.get_mut(usize::from(number));
        if let Some(entry) = slot.and_then(|slot| slot.entry.as_mut()) {
            entry.origin = origin;
        }
    }

    /// Somebody on the host has opened or closed a port.
    pub fn set_host_open(&mut self, number: u16, open: bool) {
        let slot = self.slots.get_mut(usize::from(number));
        let Some(entry) = slot.and_then(|slot| slot.entry.as_mut()) else { return };
        entry.bounced |= !open && entry.host_open && entry.told_open;
        entry.host_open = open;
    }

    /// The screen of a console has another size.
    pub fn set_size(&mut self, number: u16, size: Resize) {
        let Some(slot) = self.slots.get_mut(usize::from(number)) else { return };
        let Some(entry) = slot.entry.as_mut().filter(|entry| entry.wants(size)) else {
            return;
        };
        entry.size = Some(size);
        slot.due.set(Due::RESIZE, entry.ready);
    }

    /// The driver has started, or was reset: it knows of no port.
    pub fn forget_driver(&mut self, ready: bool) {
        self.driver_ready = ready;
        for slot in &mut self.slots {
            slot.due = Due::empty();
            let Some(entry) = &mut slot.entry else { continue };
            slot.due = Due::ADD;
            (entry.announced, entry.ready, entry.guest_open) = (false, false, false);
            (entry.told_open, entry.bounced) = (false, false);
        }
    }

    /// Whether the driver has said that it is there.
    pub fn is_driver_ready(&self) -> bool {
        self.driver_ready
    }

    /// Takes a message of the driver.
    pub fn driver_says(&mut self, control: &Control) -> Said {
        match ControlEvent::from_u16(control.event) {
            Some(ControlEvent::DeviceReady) => {
                self.forget_driver(control.value == 1);
                Said::Everything
            }
            Some(event) => {
                let number = u16::try_from(control.id).unwrap_or(u16::MAX);
                let said = self.port_says(number, event, control.value);
                said.map_or(Said::Nonsense, |()| Said::Port(number))
            }
            None => Said::Nonsense,
        }
    }

    fn port_says(&mut self, number: u16, event: ControlEvent, value: u16) -> Option<()> {
        let slot = self.slots.get_mut(usize::from(number)).filter(|_| self.driver_ready)?;
        // What it says of a port that is gone, or that it has not heard of, is about another one.
        let entry = slot.entry.as_mut().filter(|entry| entry.announced)?;
        match event {
            ControlEvent::PortReady => {
                entry.ready = value == 1;
                (entry.told_open, entry.bounced) = (false, false);
                slot.due = Due::empty();
                slot.tell_all();
            }
            ControlEvent::PortOpen => entry.guest_open = value == 1,
            // The device's own messages, sent back.
            _ => return None,
        }
        Some(())
    }

    /// The message that the driver is to have next; [`Table::sent`] follows once it has it.
    pub fn next(&self) -> Option<Message> {
        if !self.driver_ready {
            return None;
        }
        (0..).zip(&self.slots).find_map(|(number, slot)| slot.next(number))
    }

    /// The driver has been given this message, which [`Table::next`] returned.
    pub fn sent(&mut self, message: &Message) {
        let Some(slot) = self.slots.get_mut(usize::from(message.port())) else { return };
        match (message, &mut slot.entry) {
            (Message::Remove { .. }, _) => slot.due.remove(Due::REMOVE),
            (Message::Add { .. }, Some(entry)) => {
                entry.announced = true;
                slot.due.remove(Due::ADD);
            }
            (Message::Console { .. }, _) => slot.due.remove(Due::CONSOLE),
            (Message::Name { .. }, _) => slot.due.remove(Due::NAME),
            (Message::Resize { .. }, _) => slot.due.remove(Due::RESIZE),
            (Message::Open { open, .. }, Some(entry)) => {
                entry.told_open = *open;
                entry.bounced &= *open;
            }
            (_, None) => {}
        }
    }

    /// Ports that are gone, of which the driver is still to be told so.
    pub fn leaving(&self) -> impl Iterator<Item = u16> {
        let slots = (0..).zip(&self.slots);
        slots.filter(|(_, slot)| slot.due.contains(Due::REMOVE)).map(|(number, _)| number)
    }

    /// Takes over what a table before this one knew of the driver: ports of the same name in the same
    /// slot go on, others that the driver knows are to be removed. Returns the ports that were added
    /// at run time and are restored.
    pub fn restore(&mut self, saved: Saved) -> Vec<u16> {
        let mut restored = Vec::new();
        let names: BTreeSet<_> =
            self.entries().map(|(_, entry)| entry.identity.name.clone()).collect();
        self.driver_ready = saved.driver_ready;
        for (number, old) in saved.entries {
            let Some(slot) = self.slots.get_mut(usize::from(number)) else { continue };
            match &mut slot.entry {
                Some(entry) if entry.identity == old.identity => {
                    slot.due.set(Due::ADD, !old.announced);
                    (entry.announced, entry.ready) = (old.announced, old.ready);
                    entry.guest_open = old.guest_open;
                    // Whoever had it open on the host is gone with the process before.
                    (entry.told_open, entry.bounced) = (old.told_open, old.told_open);
                    entry.size = entry.size.or(old.size);
                    slot.tell_all();
                }
                None if old.at_run_time && !names.contains(&old.identity.name) => {
                    slot.due.set(Due::ADD, !old.announced);
                    slot.entry = Some(Entry { host_open: false, bounced: old.told_open, ..old });
                    slot.tell_all();
                    restored.push(number);
                }
                _ => slot.due.set(Due::REMOVE, old.announced),
            }
        }
        for number in saved.leaving {
            if let Some(slot) = self.slots.get_mut(usize::from(number)) {
                slot.due.insert(Due::REMOVE);
            }
        }
        restored
    }
}

impl Entry {
    /// Whether a size is news to it: ports that are no consoles have none.
    fn wants(&self, size: Resize) -> bool {
        self.identity.console && self.size != Some(size)
    }
}

impl Slot {
    /// Everything about a port that is ready is due, whatever was told before.
    fn tell_all(&mut self) {
        let Some(entry) = self.entry.as_ref().filter(|entry| entry.ready) else { return };
        self.due.insert(Due::NAME);
        self.due.set(Due::CONSOLE, entry.identity.console);
        self.due.set(Due::RESIZE, entry.size.is_some());
    }

    fn next(&self, port: u16) -> Option<Message> {
        if self.due.contains(Due::REMOVE) {
            return Some(Message::Remove { port });
        }
        let entry = self.entry.as_ref()?;
        if self.due.contains(Due::ADD) {
            return Some(Message::Add { port });
        }
        if !entry.ready {
            return None;
        }
        if self.due.contains(Due::CONSOLE) {
            return Some(Message::Console { port });
        }
        if self.due.contains(Due::NAME) {
            return Some(Message::Name { port, name: entry.identity.name.clone() });
        }
        if let (true, Some(size)) = (self.due.contains(Due::RESIZE), entry.size) {
            return Some(Message::Resize { port, size });
        }
        if entry.bounced {
            return Some(Message::Open { port, open: false });
        }
        (entry.told_open != entry.host_open)
            .then_some(Message::Open { port, open: entry.host_open })
    }
}

#[cfg(test)]
#[path = "table_test.rs"]
mod tests;
