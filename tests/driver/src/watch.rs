//! Showing each step to the conformance observer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_spec::features;
use virtio_spec::observer::{DeviceStep, Message, Observer, Step, Violation};
use virtio_spec::vhost_user::{BackendRequest, FrontendRequest, MessageFlags};
use virtio_spec::{DeviceType, Negotiated, Offered};
use wire::Frame;

use crate::Result;

/// A conformance observer that is shown what the parts of one driver do and find. Clones show the
/// same observer.
///
/// A step that breaks a clause makes the call fail in which it was taken; if that call cannot
/// fail, the next one that can.
#[derive(Debug, Clone, Default)]
pub struct Watch(Option<Arc<Mutex<Watching>>>);

#[derive(Debug)]
struct Watching {
    observer: Observer,
    /// A violation that nobody was told of.
    untold: Option<Violation>,
}

impl Watch {
    /// Watches a device of this type.
    #[must_use]
    pub fn new(device: DeviceType) -> Self {
        let watching = Watching { observer: Observer::of(device), untold: None };
        Self(Some(Arc::new(Mutex::new(watching))))
    }

    /// Watches a device of this type that has offered and agreed on exactly these features: for
    /// queues without a front-end.
    ///
    /// # Errors
    /// [`Error::Violation`](crate::Error::Violation) when these features do not go together.
    pub fn agreed(device: DeviceType, negotiated: Negotiated) -> Result<Self> {
        let watch = Self::new(device);
        let modern = features::mask(features::VERSION_1);
        watch.show(DeviceStep::FeaturesOffered(Offered::new(negotiated.bits() | modern)))?;
        watch.show(DeviceStep::FeaturesAcked(negotiated.bits() | modern))?;
        Ok(watch)
    }

    /// Watches nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Shows a step.
    ///
    /// # Errors
    /// [`Error::Violation`](crate::Error::Violation) when it breaks a clause, or an earlier one
    /// did of which nobody was told.
    pub fn show<'a>(&self, step: impl Into<Step<'a>>) -> Result<()> {
        self.note(step);
        match self.lock().and_then(|mut watching| watching.untold.take()) {
            Some(violation) => Err(violation.into()),
            None => Ok(()),
        }
    }

    /// Shows a step in a call that cannot fail.
    pub fn note<'a>(&self, step: impl Into<Step<'a>>) {
        if let Some(mut watching) = self.lock()
            && let Err(violation) = watching.observer.observe(step)
        {
            watching.untold.get_or_insert(violation);
        }
    }

    /// Says that nothing moves any more: what is owed now is missing.
    ///
    /// # Errors
    /// [`Error::Violation`](crate::Error::Violation) when something is.
    pub fn quiesce(&self) -> Result<()> {
        self.show(Step::Quiesce)
    }

    /// All violations so far.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().map_or(Vec::new(), |watching| watching.observer.violations().to_vec())
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn lock(&self) -> Option<MutexGuard<'_, Watching>> {
        self.0.as_ref().map(|watching| watching.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows a request of the front-end's; one that no specification knows is not shown.
    pub(crate) fn request(&self, frame: &Frame) -> Result<()> {
        let Ok(request) = FrontendRequest::try_from(frame.code) else {
            return Ok(());
        };
        let (payload, fds) = (&frame.payload[..], frame.fds.len());
        self.show(Message::Request { request, flags: flags(frame), payload, fds })
    }

    /// Shows a reply that the front-end received.
    pub(crate) fn reply(&self, frame: &Frame) -> Result<()> {
        let (payload, fds) = (&frame.payload[..], frame.fds.len());
        self.show(Message::Reply { request: frame.code, flags: flags(frame), payload, fds })
    }

    /// Shows a request that the back-end sent; one that no specification knows is not shown.
    pub(crate) fn backend_request(&self, frame: &Frame) -> Result<()> {
        let Ok(request) = BackendRequest::try_from(frame.code) else {
            return Ok(());
        };
        let (payload, fds) = (&frame.payload[..], frame.fds.len());
        self.show(Message::BackendRequest { request, flags: flags(frame), payload, fds })
    }
}

fn flags(frame: &Frame) -> MessageFlags {
    let mut flags = MessageFlags::REQUEST;
    flags.set(MessageFlags::REPLY, frame.reply);
    flags.set(MessageFlags::NEED_REPLY, frame.need_reply);
    flags
}

#[cfg(test)]
#[path = "watch_test.rs"]
mod tests;
