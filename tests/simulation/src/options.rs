//! What a run is asked to do.

use std::collections::BTreeSet;

use crate::DeviceKind;

/// How a run goes, beside its seed.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is simulated.
    pub device: DeviceKind,
    /// Whether the driver breaks rules now and then.
    pub hostile: bool,
    /// How many steps there are before everything comes to rest.
    pub steps: u32,
    /// Whether a back-end waits for the lock on the image. One that does not must be found out.
    pub lock: bool,
    /// Whether the run is told, line by line.
    pub trace: bool,
    /// Steps that are left out: what a failure does not need. The other steps stay as they are, as
    /// far as they are still possible.
    pub without: BTreeSet<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            device: DeviceKind::Block,
            hostile: false,
            steps: 600,
            lock: true,
            trace: false,
            without: BTreeSet::new(),
        }
    }
}
