//! All that both sides of the device know: the table of ports, and a line for each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use virtio_spec::console::{Control, Resize};

use crate::backend::{Backend, Directories, LogFile, Peer, size_of};
use crate::commands::{at_run_time, default_overflow};
use crate::error::{Error, Result};
use crate::line::Line;
use crate::message::ResizeOrder;
use crate::port_spec::{LOG_MAX, Overflow, PortSpec, Where};
use crate::readers::READERS_MAX;
use crate::saved::{self, Origin};
use crate::table::{Identity, Said, Table};

/// The size of a screen of which nobody has said how large it is.
pub const USUAL_SIZE: Resize = Resize { cols: 80, rows: 24 };

/// The most who read along, at all ports together: each takes two of the worker's files.
const READERS_IN_ALL: usize = 16;

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
    /// Where ports that are added at run time may have files.
    pub directories: Directories,
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
            directories: Directories::default(),
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

    fn put(&mut self, number: u16, mut line: Line) {
        self.table.set_host_open(number, line.is_open());
        let known = self.table.get(number).and_then(|entry| entry.size);
        let size = line.screen_of().and_then(screen).or(known);
        self.table.set_size(number, size.unwrap_or(USUAL_SIZE));
        line.is_console = self.table.get(number).is_some_and(|entry| entry.identity.console);
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
        let Some(line) = self.line(number).filter(|line| line.has_room()) else { return false };
        let Some(peer) = line.backend.answer_door() else { return false };
        self.attach(number, peer);
        true
    }

    /// Connects to whoever is to be the peer, if it is time for that. True: somebody has come.
    pub fn dial(&mut self, number: u16, now: Duration) -> bool {
        let Some(line) = self.line(number).filter(|line| line.has_room()) else { return false };
        let Some(peer) = line.backend.dial(now) else { return false };
        self.attach(number, peer);
        true
    }

    /// When [`Board::dial`] has something to do.
    pub fn dial_due(&self) -> Option<Duration> {
        let lines = self.lines.iter().flatten().filter(|line| line.has_room());
        lines.filter_map(|line| line.backend.dial_due()).min()
    }

    /// Makes somebody the peer of a port. `take`: whoever is there is sent away.
    ///
    /// # Errors
    /// [`Error::Attached`] when somebody is there, [`Error::TooManyReaders`] when there is no room.
    pub fn bring(&mut self, number: u16, peer: Peer, take: bool) -> Result<()> {
        let full = self.line(number).is_some_and(|line| !line.has_room());
        if full && !take {
            let name = self.table.get(number).map(|entry| entry.identity.name.clone());
            return Err(Error::Attached { name: name.unwrap_or_default() });
        }
        if full {
            self.detach(number);
        }
        self.attach(number, peer);
        Ok(())
    }

    /// Lets somebody look on, beside whoever is the peer.
    ///
    /// # Errors
    /// [`Error::TooManyReaders`] when there is no room.
    pub fn let_look_on(&mut self, number: u16, peer: Peer) -> Result<()> {
        let all: usize = self.lines.iter().flatten().map(|line| line.readers.len()).sum();
        let most = READERS_MAX;
        let Some(line) = self.line(number) else { return Ok(()) };
        if line.readers.len() >= most || all >= READERS_IN_ALL {
            return Err(Error::TooManyReaders { most });
        }
        line.join(peer, true);
        Ok(())
    }

    /// Goes on with another file: the one that is passed, or what is at the path now.
    ///
    /// # Errors
    /// When the port has no file, or it is out of reach.
    pub fn reopen(&mut self, number: u16, file: Option<LogFile>) -> Result<()> {
        let name = self.table.get(number).map(|entry| entry.identity.name.clone());
        let line = self.lines.get_mut(usize::from(number)).and_then(Option::as_mut);
        let record = line.and_then(|line| line.record.as_mut());
        let record = record.ok_or(Error::NoFile { name: name.unwrap_or_default() })?;
        match file {
            Some(file) => record.replace(file),
            None => record.reopen()?,
        }
        Ok(())
    }

    /// Opens all files anew, as far as they can be reached.
    pub fn reopen_all(&mut self) {
        for file in self.lines.iter_mut().flatten().filter_map(|line| line.record.as_mut()) {
            if let Err(error) = file.reopen() {
                tracing::warn!(%error, "a port's output goes on into the file that there was");
            }
        }
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
        line.detach();
        self.note_open(number);
        tracing::debug!(port = number, "nobody is attached any more");
    }

    /// One of those who read along is gone.
    pub fn leave(&mut self, number: u16, index: usize) {
        let Some(line) = self.line(number) else { return };
        line.leave(index);
        self.note_open(number);
    }

    fn note_open(&mut self, number: u16) {
        let open = self.line(number).is_some_and(|line| line.is_open());
        self.table.set_host_open(number, open);
    }

    /// Looks at the terminals' sizes. True: one has changed.
    pub fn look_at_sizes(&mut self) -> bool {
        let lines = (0..).zip(&self.lines).filter_map(|(n, line)| Some((n, line.as_ref()?)));
        let sizes = lines.filter_map(|(n, line)| Some((n, screen(line.screen_of()?)?)));
        let sizes: Vec<_> = sizes.collect();
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
        if line.peer.is_none() && line.goes_past() {
            return line.pass(&[byte]);
        }
        line.keep(&[byte]);
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
            let Some(entry) = self.table.get(number) else { continue };
            let overflow = default_overflow(entry.identity.console);
            let line = restored(&entry.origin, overflow, &self.directories);
            self.put(number, line);
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

    /// All lines that there are.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().flatten()
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

/// The line of a port that was added to a daemon before this one. What was a descriptor is lost.
fn restored(origin: &Origin, overflow: Overflow, directories: &Directories) -> Line {
    let backend = origin.backend.as_ref().and_then(|text| text.parse().ok());
    let spec = PortSpec {
        log: origin.log.min(LOG_MAX),
        overflow: origin.overflow,
        ..PortSpec::new(backend.clone().unwrap_or(Where::Null))
    };
    let opened = backend.and_then(|_| {
        let opened = at_run_time(&spec, directories);
        opened.inspect_err(|error| tracing::warn!(%error, "a port is without its back end")).ok()
    });
    let waits = opened.is_none();
    let mut line = Line::new(&spec, overflow, opened.unwrap_or(Backend::Brought.into()));
    if waits {
        line.place = "waiting".to_owned();
    }
    line
}

/// The size of a peer's screen. A terminal that says zero does not know.
fn screen(peer: &Peer) -> Option<Resize> {
    let terminal = peer.output.as_ref().filter(|_| peer.is_terminal)?;
    size_of(terminal).filter(|size| size.cols > 0 && size.rows > 0)
}
