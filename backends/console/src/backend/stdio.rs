//! Standard input and output as the end of a port.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{fcntl_dupfd_cloexec, ioctl_fionbio};

use super::terminal::{RawMode, size_of};
use super::{Peer, new_id};
use crate::error::{Error, Result};

/// What has to be undone at the end.
#[derive(Debug)]
pub struct Stdio {
    _raw: Option<RawMode>,
    _modes: Vec<NonBlocking>,
}

impl Stdio {
    pub(super) fn open() -> Result<(Self, Peer)> {
        let mut modes = Vec::new();
        let input = own(std::io::stdin(), OFlags::RDONLY, &mut modes)?;
        let output = own(std::io::stdout(), OFlags::WRONLY, &mut modes)?;
        let raw = RawMode::enter(Arc::clone(&input)).ok();
        let peer = Peer {
            id: new_id(),
            is_terminal: size_of(&output).is_some(),
            ends_with_input: false,
            is_file: false,
            has_escape: raw.is_some(),
            input: Some(input),
            output: Some(output),
        };
        Ok((Stdio { _raw: raw, _modes: modes }, peer))
    }
}

/// The stream, opened once more: what is set on the file that was inherited would hold for everybody
/// who has it, such as the shell. A socket cannot be opened again; it is set back at the end.
fn own(stream: impl AsFd, way: OFlags, modes: &mut Vec<NonBlocking>) -> Result<Arc<OwnedFd>> {
    let failed = || Error::open("use", "standard input and output");
    let copy = fcntl_dupfd_cloexec(stream, 3).map_err(failed())?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy));
    let flags = way | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(own) = open(path, flags, Mode::empty()) {
        return Ok(Arc::new(own));
    }
    let copy = Arc::new(copy);
    modes.extend(NonBlocking::set(&copy));
    Ok(copy)
}

/// A file that does not wait, until this is dropped.
#[derive(Debug)]
struct NonBlocking(Arc<OwnedFd>);

impl NonBlocking {
    fn set(file: &Arc<OwnedFd>) -> Option<Self> {
        let flags = rustix::fs::fcntl_getfl(file).ok()?;
        let waits = !flags.contains(OFlags::NONBLOCK);
        (waits && ioctl_fionbio(file, true).is_ok()).then(|| NonBlocking(Arc::clone(file)))
    }
}

impl Drop for NonBlocking {
    fn drop(&mut self) {
        let _ = ioctl_fionbio(&self.0, false);
    }
}
