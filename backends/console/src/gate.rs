//! One of a line's descriptors among the worker's files, and whether it may be ready.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use framework::engine::{Direction, FileIndex, Io};
use framework::program::rate_limit::{self, RateLimit};

/// A descriptor that is read, written or listened on.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Whose it is: the peer's or the door's number.
    owner: u64,
    pub(crate) file: FileIndex,
    /// Whether it may be ready: until it says that it is not.
    pub(crate) ready: bool,
}

impl Gate {
    /// Makes `gate` be that of `wanted`.
    pub(crate) fn sync<I: Io>(
        gate: &mut Option<Gate>,
        wanted: Option<(u64, &Arc<OwnedFd>)>,
        io: &mut I,
    ) {
        if gate.as_ref().map(|gate| gate.owner) == wanted.map(|(owner, _)| owner) {
            return;
        }
        if let Some(old) = gate.take() {
            io.close_file(old.file);
        }
        let Some((owner, fd)) = wanted else { return };
        match io.open_file(Arc::clone(fd)) {
            Ok(file) => *gate = Some(Gate { owner, file, ready: true }),
            Err(error) => complain(&error),
        }
    }

    /// It is not ready: asks to be told when it is.
    pub(crate) fn wait<I: Io>(&mut self, io: &mut I, direction: Direction) {
        self.ready = false;
        io.watch(self.file, direction);
    }
}

/// It is tried again whenever something happens to the port.
fn complain(error: &std::io::Error) {
    static REPORTS: RateLimit = RateLimit::new(1, Duration::from_secs(60));
    if let Some(suppressed) = REPORTS.admit(rate_limit::now()) {
        tracing::warn!(%error, suppressed, "a port's descriptor cannot be served");
    }
}

/// Notes that a file is ready. True: it was this one.
pub(crate) fn note_ready(gate: &mut Option<Gate>, file: FileIndex) -> bool {
    let Some(gate) = gate.as_mut().filter(|gate| gate.file == file) else { return false };
    gate.ready = true;
    true
}
