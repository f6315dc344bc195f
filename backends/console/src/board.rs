//! All that both sides of the device know: the table of ports, and a line for each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use virtio_spec::console::{Control, Resize};

use crate::backend::{Backend, Peer, size_of};
use crate::error::{Error, Result};
use crate::line::Line;
use crate::message::ResizeOrder;
use crate::port_spec::{Overflow, PortSpec};
use crate::saved;
use crate::table::{Identity, Said, Table};

/// The size of a screen of which nobody has said how large it is.
pub const USUAL_SIZE: Resize = Resize { cols: 80, rows: 24 };

/// Ports and lines. Both sides of the device hold it for a moment at a time.
#[derive(Debug)]
pub struct Board {
    /// The ports.
    pub table: Table,
    lines: Vec<Option<Line>>,
    /// Whether the driver knows of more than the first port.
    pub multiport: bool,
    /// In which order columns and rows are sent.
    pub order: ResizeOrder,
    /// Control messages of the driver that made no sense.
    pub nonsense: u64,
    /// The escape key was typed.
    pub left: bool,
}

/// The board, for whoever asks for it.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<Board>>);

impl Shared {
    /// A board that is shared.
    pub fn new(board: Board) -> Self {
        Shared(Arc::new(Mutex::new(board)))
    }

    /// Takes the board for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    /// A board for so many ports, none of them there.
    pub fn new(most: u16, order: ResizeOrder) -> Self {
        Board {
            table: Table::new(most),
            lines: (0..most).map(|_| None).collect(),
            multiport: false,
            order,
            nonsense: 0,
            left: false,
        }
    }

    /// Adds a port with its line, and returns its number.
    ///
    /// # Errors
    /// Those of [`Table::add`].
    pub fn add(&mut self, spec: &PortSpec, line: Line, at_run_time: bool) -> Result<u16> {
        let number = self.table.entries().count();
        let name = spec.name.clone().unwrap_or_else(|| self.free_name());
        let console = spec.console.unwrap_or(number == 0);
        let number = self.table.add(Identity { name, console }, at_run_time)?;
        self.put(number, line);
        Ok(number)
    }

    fn free_name(&self) -> String {
        let mut names = (0..).map(|number: u32| format!("outrigger.{number}"));
        names.find(|name| self.table.find(name).is_none()).unwrap_or_default()
    }

    fn put(&mut self, number: u16, line: Line) {
        self.table.set_host_open(number, line.is_open());
        let known = self.table.get(number).and_then(|entry| entry.size);
        let size = line.peer.as_ref().and_then(screen).or(known);
        self.table.set_size(number, size.unwrap_or(USUAL_SIZE));
        if let Some(place) = self.lines.get_mut(usize::from(number)) {
            *place = Some(line);
        }
    }

    /// Removes a port, and everybody from it.
    ///
    /// # Errors
    /// The first port cannot be removed.
    pub fn remove(&mut self, number: u16) -> Result<()> {
        if number == 0 {
            return Err(Error::FirstPort);
        }
        self.table.remove(number);
        if let Some(place) = self.lines.get_mut(usize::from(number)) {
            *place = None;
        }
        Ok(())
    }

    /// The number of the port with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<u16> {
        self.table.find(name).ok_or_else(|| Error::NoSuchPort { name: name.to_owned() })
    }

    /// The line of a port.
    pub fn line(&mut self, number: u16) -> Option<&mut Line> {
        self.lines.get_mut(usize::from(number))?.as_mut()
    }

    /// Whether the guest is to be given input of this port: somebody there has it open. Without
    /// several ports it does not say.
    pub fn guest_takes(&self, number: u16) -> bool {
        if !self.multiport {
            return number == 0;
        }
        self.table.get(number).is_some_and(|entry| entry.ready && entry.guest_open)
    }

    /// Takes a message of the driver.
    pub fn driver_says(&mut self, control: &Control) -> Said {
        let said = self.table.driver_says(control);
        if said == Said::Nonsense {
            self.nonsense = self.nonsense.saturating_add(1);
        }
        said
    }

    /// Lets in whoever knocks. True: somebody has come.
    pub fn answer_door(&mut self, number: u16) -> bool {
        let Some(line) = self.line(number).filter(|line| line.peer.is_none()) else { return false };
        let Some(peer) = line.backend.answer_door() else { return false };
        self.attach(number, peer);
        true
    }

    /// Makes somebody the peer of a port. `take`: whoever is there is sent away.
    ///
    /// # Errors
    /// [`Error::Attached`] when somebody is there.
    pub fn bring(&mut self, number: u16, peer: Peer, take: bool) -> Result<()> {
        let taken = self.line(number).is_some_and(|line| line.peer.is_some());
        if taken && !take {
            let name = self.table.get(number).map(|entry| entry.identity.name.clone());
            return Err(Error::Attached { name: name.unwrap_or_default() });
        }
        if taken {
            self.detach(number);
        }
        self.attach(number, peer);
        Ok(())
    }

    fn attach(&mut self, number: u16, peer: Peer) {
        let size = screen(&peer);
        let Some(line) = self.line(number) else { return };
        line.attach(peer);
        self.table.set_host_open(number, true);
        if let Some(size) = size {
            self.table.set_size(number, size);
        }
        tracing::debug!(port = number, "somebody is attached");
    }

    /// Whoever was attached is gone.
    pub fn detach(&mut self, number: u16) {
        let Some(line) = self.line(number) else { return };
        line.counts.detached += 1;
        line.detach();
        let open = line.is_open();
        self.table.set_host_open(number, open);
        tracing::debug!(port = number, "nobody is attached any more");
    }

    /// Whether a terminal is attached whose size may change.
    pub fn has_terminal(&self) -> bool {
        self.peers().any(|(_, peer)| peer.is_terminal)
    }

    fn peers(&self) -> impl Iterator<Item = (u16, &Peer)> {
        let lines = (0..).zip(&self.lines);
        lines.filter_map(|(number, line)| Some((number, line.as_ref()?.peer.as_ref()?)))
    }

    /// Looks at the terminals' sizes. True: one has changed.
    pub fn look_at_sizes(&mut self) -> bool {
        let sizes: Vec<_> = self.peers().filter_map(|(n, peer)| Some((n, screen(peer)?))).collect();
        let mut changed = false;
        for (number, size) in sizes {
            changed |= self.table.get(number).is_some_and(|entry| entry.size != Some(size));
            self.table.set_size(number, size);
        }
        changed
    }

    /// The size of the first port's screen.
    pub fn size(&self) -> Resize {
        self.table.get(0).and_then(|entry| entry.size).unwrap_or(USUAL_SIZE)
    }

    /// The driver writes a character although nothing is set up (EMERG_WRITE).
    pub fn emergency(&mut self, byte: u8) {
        let Some(line) = self.line(0) else { return };
        line.backlog.push(&[byte]);
        // Who takes nothing now is given it by the data side, or loses the oldest.
        let _ = line.flush();
    }

    /// What is to survive this process.
    pub fn save(&self) -> Vec<u8> {
        saved::encode(&self.table)
    }

    /// Takes over what [`Board::save`] wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let saved = saved::decode(bytes, self.table.most())?;
        for number in self.table.restore(saved) {
            let console = self.table.get(number).is_some_and(|entry| entry.identity.console);
            let overflow = if console { Overflow::DropOldest } else { Overflow::Block };
            self.put(number, Line::waiting(overflow));
        }
        Ok(())
    }

    /// There is a guest to type to, or there is none any more.
    pub fn set_in_use(&mut self, in_use: bool) {
        for line in self.lines.iter_mut().flatten() {
            line.backend.set_in_use(in_use);
        }
    }

    /// Whether anybody's back end is the daemon's own terminal.
    pub fn has_stdio(&self) -> bool {
        self.lines.iter().flatten().any(|line| matches!(line.backend, Backend::Stdio(_)))
    }

    /// Directories in which there are files to be removed at the end.
    pub fn directories(&self) -> Vec<std::path::PathBuf> {
        self.lines.iter().flatten().flat_map(|line| line.backend.directories()).collect()
    }

    /// All ports, for `ports` and `stats`.
    pub fn describe(&self) -> Value {
        let ports = self.table.entries().map(|(number, entry)| {
            let line = self.lines.get(usize::from(number)).and_then(Option::as_ref);
            json!({
                "number": number,
                "name": entry.identity.name,
                "console": entry.identity.console,
                "at_run_time": entry.at_run_time,
                "ready": entry.ready,
                "guest_open": entry.guest_open,
                "host_open": entry.host_open,
                "size": entry.size.map(|size| [size.cols, size.rows]),
                "line": line.map(Line::describe),
            })
        });
        ports.collect()
    }
}

/// The size of a peer's screen. A terminal that says zero does not know.
fn screen(peer: &Peer) -> Option<Resize> {
    let terminal = peer.output.as_ref().filter(|_| peer.is_terminal)?;
    size_of(terminal).filter(|size| size.cols > 0 && size.rows > 0)
}
