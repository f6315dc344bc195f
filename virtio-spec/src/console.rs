//! The console (virtio 1.4, 5.3): features, configuration space, control messages.

use crate::layout::le_struct;

/// Feature: the configuration holds columns and rows.
pub const SIZE: u32 = 0;
/// Feature: the device has several ports and control queues.
pub const MULTIPORT: u32 = 1;
/// Feature: characters can be written before the device is set up.
pub const EMERG_WRITE: u32 = 2;

/// The feature bits' names.
pub(crate) const NAMES: &[(u32, &str)] =
    &[(SIZE, "SIZE"), (MULTIPORT, "MULTIPORT"), (EMERG_WRITE, "EMERG_WRITE")];

/// Queue of port 0 into which the device writes.
pub const RECEIVE_QUEUE: u16 = 0;
/// Queue of port 0 from which the device reads.
pub const TRANSMIT_QUEUE: u16 = 1;
/// Control queue into which the device writes (`MULTIPORT`).
pub const CONTROL_RECEIVE_QUEUE: u16 = 2;
/// Control queue from which the device reads (`MULTIPORT`).
pub const CONTROL_TRANSMIT_QUEUE: u16 = 3;

/// The receive queue of a port; its transmit queue is the next one.
#[must_use]
pub const fn receive_queue(port: u16) -> u16 {
    // Port 0 comes first, then the control queues, then the other ports.
    if port == 0 { RECEIVE_QUEUE } else { 2 * port + 2 }
}

le_struct! {
    /// The configuration space (5.3.4).
    #[derive(Default)]
    pub struct Config {
        /// Columns (`SIZE`).
        pub cols: u16,
        /// Rows (`SIZE`).
        pub rows: u16,
        /// Most ports (`MULTIPORT`).
        pub max_nr_ports: u32,
        /// The driver writes characters here, one at a time (`EMERG_WRITE`).
        pub emerg_wr: u32,
    }
}

/// Offset of `emerg_wr`, the one field that a driver may write.
pub const EMERG_WR_OFFSET: usize = 8;

le_struct! {
    /// A control message (5.3.6.2). After `RESIZE` comes a [`Resize`], after `PORT_NAME` the name.
    #[derive(Default)]
    pub struct Control {
        /// Number of the port.
        pub id: u32,
        /// A [`ControlEvent`]'s number.
        pub event: u16,
        /// What the event says.
        pub value: u16,
    }
}

le_struct! {
    /// What follows a control message with the event `RESIZE`, as the specification orders it.
    ///
    /// Drivers differ: Linux has long read the rows first.
    #[derive(Default)]
    pub struct Resize {
        /// Columns.
        pub cols: u16,
        /// Rows.
        pub rows: u16,
    }
}

/// Number of a port that does not exist, in `DEVICE_READY` with value 0.
pub const BAD_ID: u32 = u32::MAX;

/// What a control message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ControlEvent {
    /// From the driver: it is set up (value 1) or failed (0).
    DeviceReady = 0,
    /// From the device: there is a port.
    PortAdd = 1,
    /// From the device: a port is gone.
    PortRemove = 2,
    /// From the driver: a port is set up (1) or failed (0).
    PortReady = 3,
    /// From the device: the port is a console.
    ConsolePort = 4,
    /// From the device: the console's size changed.
    Resize = 5,
    /// From either: the port was opened (1) or closed (0).
    PortOpen = 6,
    /// From the device: the port's name.
    PortName = 7,
}

impl ControlEvent {
    /// The event with this number.
    #[must_use]
    pub const fn from_u16(number: u16) -> Option<Self> {
        Some(match number {
            0 => Self::DeviceReady,
            1 => Self::PortAdd,
            2 => Self::PortRemove,
            3 => Self::PortReady,
            4 => Self::ConsolePort,
            5 => Self::Resize,
            6 => Self::PortOpen,
            7 => Self::PortName,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // `virtio-bindings` has no console; the numbers are those of the specification's structures.
    #[test]
    fn layouts_are_those_of_the_specification() {
        assert_eq!(Config::SIZE, 12);
        assert_eq!(Config::FIELDS.last().map(|f| f.offset), Some(EMERG_WR_OFFSET));
        assert_eq!(Control::SIZE, 8);
        assert_eq!(Resize::SIZE, 4);
    }

    #[test]
    fn ports_other_than_the_first_come_after_the_control_queues() {
        assert_eq!(receive_queue(0), RECEIVE_QUEUE);
        assert_eq!(receive_queue(1), CONTROL_TRANSMIT_QUEUE + 1);
        assert_eq!(receive_queue(2), 6);
    }

    #[test]
    fn events_round_trip_through_their_numbers() {
        for number in 0..20 {
            let event = ControlEvent::from_u16(number);
            assert_eq!(event.map(|e| e as u16), (number < 8).then_some(number));
        }
    }

    proptest! {
        #[test]
        fn control_messages_round_trip(id: u32, event: u16, value: u16) {
            let control = Control { id, event, value };
            prop_assert_eq!(Control::from_bytes(&control.to_bytes()), control);
        }
    }
}
