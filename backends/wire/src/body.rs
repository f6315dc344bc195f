//! Checked access to what a message carries, shared by all decoders.

use std::os::fd::OwnedFd;

use virtio_spec::vhost_user::Inflight;

use crate::payload::Layout;
use crate::{Error, Frame, Result};

/// Payload and descriptors of a message. What is not taken is closed with it.
pub(crate) struct Body {
    code: u32,
    name: fn(u32) -> String,
    payload: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Body {
    /// The body of `frame`; `name` turns its code into words for errors.
    pub(crate) fn new(frame: Frame, name: fn(u32) -> String) -> Self {
        Self { code: frame.code, name, payload: frame.payload, fds: frame.fds }
    }

    /// Whether there is no payload.
    pub(crate) fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// Checks that there is no payload.
    pub(crate) fn nothing(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(self.size_error(0)) }
    }

    /// The payload as exactly one value.
    pub(crate) fn value<T: Layout>(&self) -> Result<T> {
        match self.value_and_rest()? {
            (value, []) => Ok(value),
            _ => Err(self.size_error(T::SIZE)),
        }
    }

    /// The payload as an in-flight description. Compilers pad it, so that it mostly comes with its
    /// padding; the specification's text has none.
    pub(crate) fn inflight(&self) -> Result<Inflight> {
        let sizes = [Inflight::UNPADDED_SIZE, Inflight::SIZE];
        let inflight = Inflight::from_payload(&self.payload);
        inflight
            .filter(|_| sizes.contains(&self.payload.len()))
            .ok_or_else(|| self.size_error(Inflight::SIZE))
    }

    /// The payload as one value and the bytes behind it.
    pub(crate) fn value_and_rest<T: Layout>(&self) -> Result<(T, &[u8])> {
        let value = T::from_prefix(&self.payload).ok_or_else(|| self.size_error(T::SIZE))?;
        Ok((value, self.payload.get(T::SIZE..).unwrap_or_default()))
    }

    /// The first descriptor; any others are closed.
    pub(crate) fn fd(mut self) -> Result<OwnedFd> {
        self.optional_fd().ok_or_else(|| self.fd_error(1))
    }

    /// The first descriptor, if there is one; any others are closed.
    pub(crate) fn optional_fd(&mut self) -> Option<OwnedFd> {
        let mut fds = std::mem::take(&mut self.fds).into_iter();
        fds.next()
    }

    /// The first `count` descriptors; any others are closed.
    pub(crate) fn fds(mut self, count: usize) -> Result<Vec<OwnedFd>> {
        if self.fds.len() < count {
            return Err(self.fd_error(count));
        }
        self.fds.truncate(count);
        Ok(self.fds)
    }

    pub(crate) fn size_error(&self, expected: usize) -> Error {
        Error::PayloadSize { message: self.message(), found: self.payload.len(), expected }
    }

    pub(crate) fn value_error(
        &self,
        field: &'static str,
        found: impl Into<u64>,
        expected: &'static str,
    ) -> Error {
        Error::Value { message: self.message(), field, found: found.into(), expected }
    }

    fn fd_error(&self, expected: usize) -> Error {
        Error::FdCount { message: self.message(), found: self.fds.len(), expected }
    }

    fn message(&self) -> String {
        (self.name)(self.code)
    }
}
