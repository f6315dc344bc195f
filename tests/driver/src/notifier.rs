//! What joins a queue to its device: kicks one way, calls the other.

use crate::{Deadline, Result};

/// The way to the device and back.
pub trait Notifier {
    /// Tells the device that chains were made available.
    ///
    /// # Errors
    /// When the way is broken.
    fn kick(&mut self) -> Result<()>;

    /// Waits until the device calls; `false` when it did not. A call is only a hint to look at
    /// the ring: it may come late, or for nothing.
    ///
    /// # Errors
    /// When the way is broken, or the device reported that the ring is.
    fn wait(&mut self, deadline: Deadline) -> Result<bool>;
}

/// A device in the same thread: kicking and waiting run this function, which serves the queue.
///
/// The observer sees no kicks and calls of it; the function may show them, or nobody says that they
/// are missing.
#[derive(Debug)]
pub struct DirectNotifier<F>(pub F);

impl<F: FnMut() -> Result<()>> Notifier for DirectNotifier<F> {
    fn kick(&mut self) -> Result<()> {
        (self.0)()
    }

    fn wait(&mut self, deadline: Deadline) -> Result<bool> {
        (self.0)()?;
        Ok(!deadline.is_past())
    }
}
