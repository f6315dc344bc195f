//! A device without a thread of its own, for fuzzers and other tests that want every step to be
//! theirs.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::config::Config;
use crate::connection::Connection;
use crate::front_end::FrontEnd;
use crate::in_flight::InFlight;
use crate::memory::Region;
use crate::two_sides::Shared;
use crate::{Error, Result};

/// What the device's thread would do, step by step.
pub struct Rehearsal {
    shared: Arc<Shared>,
    connection: Option<Connection>,
    region: Option<InFlight>,
}

impl std::fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rehearsal").field("connected", &self.connection.is_some()).finish()
    }
}

impl Rehearsal {
    /// A device, and what stands for its thread.
    ///
    /// # Errors
    /// [`Error::System`] when the system has no descriptor left.
    pub fn new(config: Config, memory: Vec<Region>) -> Result<(Self, FrontEnd)> {
        let (front_end, shared) = FrontEnd::without_thread(config, memory)?;
        Ok((Self { shared, connection: None, region: None }, front_end))
    }

    /// Uses this connection.
    ///
    /// # Errors
    /// [`Error::System`] when the system has no descriptor left.
    pub fn connect(&mut self, socket: OwnedFd) -> Result<()> {
        self.connection = Some(Connection::new(socket)?);
        self.shared.lock().session.connected();
        Ok(())
    }

    /// Says what there is to say, and takes one answer if it has come, without waiting for it.
    ///
    /// # Errors
    /// The connection was given up; [`Error::Lacking`] without a connection.
    pub fn turn(&mut self) -> Result<()> {
        let Some(connection) = &mut self.connection else {
            return Err(Error::Lacking("a connection"));
        };
        self.shared.wake().signal();
        let turned = connection.turn(&self.shared, &mut self.region);
        if let Err(error) = &turned {
            self.connection = None;
            self.shared.lock().session.lost(error);
        }
        self.shared.carry_out();
        turned
    }
}
