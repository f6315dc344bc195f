//! Loading the guest while the rest of the machine is made.
//!
//! Copying a kernel is the longest of all that happens before the guest starts. It needs nothing but
//! memory, so it begins as soon as that is there, on a thread of its own, which has ended before anything
//! is confined.

use std::io;
use std::thread::{self, JoinHandle};

use boot::Payload;
use hypervisor::memory::Memory;
use hypervisor::{BootState, Topology};

use super::error::{Error, Result};
use super::guest::Guest;
use super::ram;
use crate::config::Config;

/// What is said when there is no thread, or when it has come to grief.
const ACTION: &str = "loading the guest";

/// A guest that is being loaded.
pub struct Loading {
    memory: Memory,
    thread: JoinHandle<Result<(Guest, BootState)>>,
}

impl Loading {
    /// Makes the guest's memory, and begins.
    ///
    /// # Errors
    /// When the host does not have the memory, or no thread.
    pub fn begin(
        payload: Payload,
        config: &Config,
        topology: Topology,
        physical_bits: u32,
    ) -> Result<Self> {
        let memory = ram::make(&config.memory)?;
        let guest = Guest::new(payload, config, &memory, topology, physical_bits);
        let target = memory.clone();
        let load = move || {
            let start = guest.load(&target)?;
            Ok((guest, start))
        };
        let thread = thread::Builder::new().name("loading".to_owned()).spawn(load);
        Ok(Self { memory, thread: thread.map_err(Error::system(ACTION))? })
    }

    /// The guest's memory, which is being written.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Waits until it is done. Returns the memory, the guest, and where its first CPU starts.
    ///
    /// # Errors
    /// When a file cannot be read, or the memory is too small for it.
    pub fn finish(self) -> Result<(Memory, Guest, BootState)> {
        let panicked = |_| Error::system(ACTION)(io::Error::other("its thread has panicked"));
        let (guest, start) = self.thread.join().map_err(panicked)??;
        Ok((self.memory, guest, start))
    }
}
