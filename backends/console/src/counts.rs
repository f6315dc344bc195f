//! What `stats` shows of a port: bytes by fate.

use serde::Serialize;

/// Counters of one port. They are written and read under the board's lock.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Bytes from the guest that a peer was given, marks among them.
    pub to_host: u64,
    /// Bytes that those were given who read along, each counted.
    pub to_readers: u64,
    /// Bytes from the guest that a file took.
    pub recorded: u64,
    /// Bytes from the guest that were thrown away as was asked for.
    pub discarded: u64,
    /// Bytes from the guest that a file did not take.
    pub lost: u64,
    /// Bytes that the guest was given.
    pub to_guest: u64,
    /// Buffers in which it was given them.
    pub to_guest_buffers: u64,
    /// Typed bytes that the guest had no buffers for.
    pub typed_too_far: u64,
    /// How often somebody attached.
    pub attached: u64,
    /// How often one left, or was lost.
    pub detached: u64,
}
