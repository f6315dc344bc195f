//! Control messages to the driver (virtio 1.4, 5.3.6.2).

use virtio_spec::console::{Control, ControlEvent, Resize};

/// A message to the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the messages")]
pub enum Message {
    /// There is a port.
    Add { port: u16 },
    /// A port is gone.
    Remove { port: u16 },
    /// The port is a console.
    Console { port: u16 },
    /// The port's name.
    Name { port: u16, name: String },
    /// The size of the console's screen.
    Resize { port: u16, size: Resize },
    /// Somebody on the host has the port open, or nobody.
    Open { port: u16, open: bool },
}

/// In which order columns and rows follow a RESIZE message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ResizeOrder {
    /// Columns first, as the specification has it
    #[default]
    Spec,
    /// Rows first, as older versions of Linux read them
    RowsFirst,
}

impl Message {
    /// The port that it is about.
    pub fn port(&self) -> u16 {
        match self {
            Message::Add { port }
            | Message::Remove { port }
            | Message::Console { port }
            | Message::Name { port, .. }
            | Message::Resize { port, .. }
            | Message::Open { port, .. } => *port,
        }
    }

    /// The message as the driver reads it.
    pub fn to_bytes(&self, order: ResizeOrder) -> Vec<u8> {
        let (event, value) = match self {
            Message::Add { .. } => (ControlEvent::PortAdd, 0),
            Message::Remove { .. } => (ControlEvent::PortRemove, 0),
            Message::Console { .. } => (ControlEvent::ConsolePort, 1),
            Message::Name { .. } => (ControlEvent::PortName, 1),
            Message::Resize { .. } => (ControlEvent::Resize, 0),
            Message::Open { open, .. } => (ControlEvent::PortOpen, u16::from(*open)),
        };
        let control = Control { id: self.port().into(), event: event as u16, value };
        let mut bytes = control.to_bytes().to_vec();
        match self {
            Message::Name { name, .. } => bytes.extend(name.as_bytes()),
            Message::Resize { size, .. } => bytes.extend(order.bytes(*size)),
            _ => {}
        }
        bytes
    }
}

impl ResizeOrder {
    fn bytes(self, size: Resize) -> [u8; Resize::SIZE] {
        match self {
            ResizeOrder::Spec => size.to_bytes(),
            ResizeOrder::RowsFirst => Resize { cols: size.rows, rows: size.cols }.to_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_headers_with_what_belongs_behind() {
        let order = ResizeOrder::RowsFirst;
        assert_eq!(Message::Open { port: 3, open: true }.to_bytes(order), [3, 0, 0, 0, 6, 0, 1, 0]);
        let name = Message::Name { port: 1, name: "org.agent".into() }.to_bytes(order);
        assert_eq!(name.strip_prefix(&[1, 0, 0, 0, 7, 0, 1, 0]), Some(&b"org.agent"[..]));
        let resize = Message::Resize { port: 0, size: Resize { cols: 80, rows: 25 } };
        assert_eq!(resize.to_bytes(order), [0, 0, 0, 0, 5, 0, 0, 0, 25, 0, 80, 0]);
        assert_eq!(resize.to_bytes(ResizeOrder::Spec), [0, 0, 0, 0, 5, 0, 0, 0, 80, 0, 25, 0]);
    }
}
