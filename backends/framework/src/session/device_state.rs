//! Saving and loading the device's state (vhost-user, "Migrating back-end state").
//!
//! States: none, running, done. A transfer runs beside the messages: whoever drives the session
//! calls [`Session::continue_transfer`] when the descriptor is ready. CHECK_DEVICE_STATE waits for
//! its end. A ring that starts aborts it: the state would not be that of a suspended device.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use virtio_spec::vhost_user::{DeviceStatePhase, TransferDirection};
use wire::Reply;

use super::pending::{Awaited, Then};
use super::{Action, Session};
use crate::device::Device;
use crate::error::Result;
use crate::program::state::{Blob, HEADER_SIZE, PAYLOAD_MAX};

/// The version under which devices' bytes are kept: devices mark versions of their own inside.
pub(crate) const STATE_VERSION: u16 = 1;

/// The most bytes that a state has on its way.
const LONGEST: usize = HEADER_SIZE + PAYLOAD_MAX;

/// Bytes that are read or written at a time.
const CHUNK: usize = 16 * 1024;

/// How far a transfer is.
#[derive(Debug)]
pub(super) enum StateTransfer {
    None,
    Running(Transfer),
    Done { ok: bool },
}

/// What is to be watched for a transfer to go on.
#[derive(Clone, Copy, Debug)]
pub struct TransferView<'a> {
    /// Tells it from other transfers of the session.
    pub id: u64,
    /// To be read or written.
    pub fd: BorrowedFd<'a>,
    /// Save: written; load: read.
    pub direction: TransferDirection,
}

#[derive(Debug)]
pub(super) struct Transfer {
    id: u64,
    fd: OwnedFd,
    direction: TransferDirection,
    /// To be written, or what was read.
    bytes: Vec<u8>,
    written: usize,
}

impl Session {
    pub(super) fn set_device_state_fd<D: Device>(
        &mut self,
        device: &mut D,
        direction: TransferDirection,
        phase: u32,
        fd: OwnedFd,
    ) -> Then {
        let error = match self.begin_transfer(device, direction, phase, fd) {
            Ok(()) => 0,
            Err(why) => {
                tracing::warn!(%why, "the device's state cannot be transferred");
                1
            }
        };
        Then::Reply(Reply::DeviceState { error, fd: None })
    }

    fn begin_transfer<D: Device>(
        &mut self,
        device: &mut D,
        direction: TransferDirection,
        phase: u32,
        fd: OwnedFd,
    ) -> std::result::Result<(), String> {
        if phase != DeviceStatePhase::Stopped as u32 {
            return Err(format!("migration phase {phase} is not known: only 0, stopped, is"));
        }
        if !self.is_suspended() {
            return Err("rings are running: stop them first".into());
        }
        let bytes = match direction {
            TransferDirection::Save => encode(device).map_err(|error| error.to_string())?,
            TransferDirection::Load => Vec::new(),
        };
        let nonblocking = |fd: &OwnedFd| {
            let flags = rustix::fs::fcntl_getfl(fd)?;
            rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)
        };
        nonblocking(&fd).map_err(|error| error.to_string())?;
        self.transfers += 1;
        let id = self.transfers;
        self.transfer = StateTransfer::Running(Transfer { id, fd, direction, bytes, written: 0 });
        Ok(())
    }

    pub(super) fn check_device_state(&mut self) -> Then {
        if matches!(self.transfer, StateTransfer::Running(_)) {
            self.awaited.push(Awaited::Transfer);
        }
        Then::StateOutcome
    }

    pub(super) fn transfer_outcome(&self) -> Reply {
        Reply::U64(u64::from(!matches!(self.transfer, StateTransfer::Done { ok: true })))
    }

    /// The transfer under way, if there is one.
    pub fn transfer(&self) -> Option<TransferView<'_>> {
        match &self.transfer {
            StateTransfer::Running(transfer) => Some(TransferView {
                id: transfer.id,
                fd: transfer.fd.as_fd(),
                direction: transfer.direction,
            }),
            StateTransfer::None | StateTransfer::Done { .. } => None,
        }
    }

    /// Goes on with the transfer as far as its descriptor lets it; the result is that of a request
    /// that waited for it.
    ///
    /// # Errors
    /// As for [`Session::answered`].
    pub fn continue_transfer<D: Device>(&mut self, device: &mut D) -> Result<Action> {
        let StateTransfer::Running(transfer) = &mut self.transfer else {
            return self.finish_if_ready(device);
        };
        let outcome = match transfer.go_on() {
            Ok(false) => return self.finish_if_ready(device),
            Ok(true) if transfer.direction == TransferDirection::Load => {
                self.state_changed = true;
                decode(device, &transfer.bytes).map_err(|error| error.to_string())
            }
            Ok(true) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = &outcome {
            tracing::warn!(why, "the transfer of the device's state failed");
        }
        self.transfer_ended(outcome.is_ok());
        self.finish_if_ready(device)
    }

    /// A ring starts, and the device is no longer suspended.
    pub(super) fn abort_transfer(&mut self) {
        if matches!(self.transfer, StateTransfer::Running(_)) {
            tracing::warn!("a ring started: the transfer of the device's state was given up");
            self.transfer_ended(false);
        }
    }

    fn transfer_ended(&mut self, ok: bool) {
        self.transfer = StateTransfer::Done { ok };
        self.got(&Awaited::Transfer);
    }
}

impl Transfer {
    /// Transfers what the descriptor takes or gives. True: that was all.
    fn go_on(&mut self) -> io::Result<bool> {
        let done = match self.direction {
            TransferDirection::Save => self.write(),
            TransferDirection::Load => self.read(),
        };
        match done {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write(&mut self) -> rustix::io::Result<()> {
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            let chunk = rest.get(..CHUNK).unwrap_or(rest);
            match rustix::io::write(&self.fd, chunk) {
                Ok(written) => self.written += written,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> rustix::io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            match rustix::io::read(&self.fd, &mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => self.bytes.extend(chunk.iter().take(read)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            if self.bytes.len() > LONGEST {
                return Err(Errno::FBIG);
            }
        }
    }
}

fn encode<D: Device>(device: &D) -> Result<Vec<u8>> {
    let (kind, payload) = (device.device_type().0, device.save());
    let blob = Blob { device: kind, version: STATE_VERSION, sequence: 0, payload };
    Ok(blob.encode()?)
}

fn decode<D: Device>(device: &mut D, bytes: &[u8]) -> Result<()> {
    let blob = Blob::decode(bytes, device.device_type().0)?;
    device.load(&blob.payload)
}
