//! The data side of those who read along.

use framework::engine::{Direction, FileIndex, Io};
use rustix::io::Errno;

use crate::gate::{Gate, note_ready};
use crate::line::Line;
use crate::readers::{Reader, State};
use crate::typed::Typed;

/// The most reads of one go.
const BUDGET: usize = 8;

/// What the worker has of one who reads along.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    input: Option<Gate>,
    output: Option<Gate>,
}

impl Reading {
    /// Makes the worker's files those of this reader, or none.
    pub(crate) fn sync<I: Io>(&mut self, reader: Option<&Reader>, io: &mut I) {
        let peer = reader.map(|reader| &reader.peer);
        let input = peer.and_then(|peer| Some((peer.id, peer.input.as_ref()?)));
        let output = peer.and_then(|peer| Some((peer.id, peer.output.as_ref()?)));
        Gate::sync(&mut self.input, input, io);
        Gate::sync(&mut self.output, output, io);
    }

    pub(crate) fn note_ready(&mut self, file: FileIndex) -> bool {
        note_ready(&mut self.input, file) || note_ready(&mut self.output, file)
    }

    /// Gives the reader what there is, and takes what it types. False: it is gone.
    pub(crate) fn serve<I: Io>(
        &mut self,
        io: &mut I,
        line: &mut Line,
        index: usize,
        typed: &mut Typed,
    ) -> bool {
        let Some(reader) = line.readers.get_mut(index) else { return true };
        if let Some(gate) = self.output.as_mut().filter(|gate| gate.ready) {
            match reader.give_again(&line.backlog, &mut line.counts.to_readers) {
                State::Takes => {}
                State::Full => gate.wait(io, Direction::Writable),
                State::Gone => return false,
            }
        }
        if reader.is_gone() {
            return false;
        }
        for _ in 0..BUDGET {
            let Some(gate) = self.input.as_mut().filter(|gate| gate.ready) else { return true };
            match typed.read(&reader.peer, reader.looks_on) {
                Some(Ok(0)) => return false,
                Some(Ok(_)) => {}
                Some(Err(Errno::AGAIN)) => gate.wait(io, Direction::Readable),
                Some(Err(_)) => return false,
                // Asked again when there is room.
                None => return true,
            }
        }
        // Others have their turn before the rest.
        if let Some(gate) = self.input.as_mut().filter(|gate| gate.ready) {
            gate.wait(io, Direction::Readable);
        }
        true
    }
}
