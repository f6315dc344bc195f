//! A file that output is appended to.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Peer;
use crate::error::{Error, Result};

/// Opens or makes a file.
pub(super) fn open(path: &Path) -> Result<Peer> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mode = Mode::from_raw_mode(0o640);
    let file = openat(CWD, path, flags, mode).map_err(Error::open("open", path.display()))?;
    Ok(peer(file))
}

/// An open file as a peer.
pub(super) fn peer(file: OwnedFd) -> Peer {
    Peer { output: Some(Arc::new(file)), is_file: true, ..Peer::nothing() }
}
