//! The back-end's side of vhost-user as a state machine: no socket, no thread, no clock.
//!
//! # Theory of operation
//! A [`Session`] lives as long as one connection. Its events are
//! - a request of the front-end ([`Session::handle`]),
//! - an answer of a worker ([`Session::answered`]),
//! - the passing of time while a ring waits for what the device must hold ([`Session::retry`]),
//! - a saved or loaded state that can go on ([`Session::transfer`]),
//! - the end of the connection ([`Session::close`]).
//!
//! A request is handled in two steps. The first checks it against the session's state, changes that
//! state, and tells workers what follows from it; each command that is sent is noted as an answer to
//! come (`Awaited`). When the last of these has come the second step runs
//! (`Then`): it makes the reply. Often nothing is to be waited for, and both happen at
//! once. In between, no other request is handled ([`Action::Wait`]), so that a request finds the
//! workers in the state that the session believes them to be in.
//!
//! Each ring is stopped, waiting (for the device's lock), starting, running or stopping, and beside
//! that enabled or not; see `vring.rs`. The device is suspended while no ring runs: nothing is sent
//! to the front-end then except replies (vhost-user, "Suspended device state").
//!
//! At the end all workers are told to quit. They finish what is in flight, the last one to go
//! releases guest memory, and then the device gives up what it held: [`Session::is_closed`].
//!
//! Limits: one request at a time, 509 regions, as many rings as the device has, one transfer of
//! state, 64 KiB of it.

mod action;
mod backend_requests;
mod config;
mod describe;
mod device_state;
mod features;
mod in_flight;
mod log;
mod memory;
mod network;
mod pending;
mod reset;
mod ring_messages;
mod ring_start;
mod status;
mod vring;
mod workers;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use virtio_spec::Status;
use virtio_spec::features::{Negotiated, Offered};
use virtio_spec::vhost_user::ProtocolFeatures;
use wire::{Reply, Request};

pub use action::Action;
pub(crate) use device_state::STATE_VERSION;
pub use device_state::TransferView;
pub use features::RingOffer;
pub use workers::Workers;

use crate::Error;
use crate::device::{Device, QueueLimits};
use crate::error::Result;
use crate::memory::MemoryTable;
use crate::program::rate_limit::{self, RateLimit};
use crate::worker::{Answer, Command};
use backend_requests::BackendRequests;
use device_state::StateTransfer;
use in_flight::InFlightRegion;
use log::Log;
use pending::{Awaited, Pending, Then};
use vring::{Run, Vring};

/// Refusals are often the guest's doing.
static REFUSALS: RateLimit = RateLimit::new(10, std::time::Duration::from_secs(10));

/// One connection's state.
#[derive(Debug)]
pub struct Session {
    limits: QueueLimits,
    offered: Offered,
    acked: Option<Negotiated>,
    protocol_offered: ProtocolFeatures,
    protocol: ProtocolFeatures,
    memory: Arc<MemoryTable>,
    rings: Vec<Vring>,
    log: Log,
    in_flight: Option<InFlightRegion>,
    status: Status,
    transfer: StateTransfer,
    /// Transfers that were begun.
    transfers: u64,
    requests: BackendRequests,
    /// Workers that exist.
    workers: BTreeSet<u16>,
    /// Whether the device holds what it must hold while rings run.
    held: bool,
    /// Answers that the request at hand waits for.
    awaited: Vec<Awaited>,
    pending: Option<Pending>,
    /// A ring that could not be started for the request at hand, and why.
    failure: Option<Error>,
    state_changed: bool,
    closing: bool,
}

impl Session {
    /// A session in which nothing was said yet. `waker` wakes whoever drives it when there is a call
    /// to be sent as a message.
    pub fn new<D: Device>(device: &D, offer: RingOffer, waker: &Arc<OwnedFd>) -> Self {
        let limits = device.limits();
        Session {
            limits,
            offered: features::offered(device.features(), offer),
            acked: None,
            protocol_offered: features::protocol_offered(device.is_network(), offer),
            protocol: ProtocolFeatures::empty(),
            memory: Arc::default(),
            rings: (0..limits.count).map(|queue| Vring::new(queue, Arc::clone(waker))).collect(),
            log: Log::default(),
            in_flight: None,
            status: Status::RESET,
            transfer: StateTransfer::None,
            transfers: 0,
            requests: BackendRequests::default(),
            workers: BTreeSet::new(),
            held: false,
            awaited: Vec::new(),
            pending: None,
            failure: None,
            state_changed: false,
            closing: false,
        }
    }

    /// Handles a request. `need_reply` is the flag of that name in its header.
    ///
    /// # Errors
    /// When the connection cannot go on: the caller then calls [`Session::close`].
    pub fn handle<D: Device, W: Workers<D::Service>>(
        &mut self,
        device: &mut D,
        request: Request,
        need_reply: bool,
        workers: &mut W,
    ) -> Result<Action> {
        if self.is_waiting() || self.closing {
            return Err(Error::RequestTooEarly { request: request.name() });
        }
        let (code, name) = (request.code(), request.name());
        // A request with a reply of its own has that one only (vhost-user, "REPLY_ACK").
        let wants_ack = need_reply && !request.has_reply();
        let acknowledged = self.acknowledges();
        let outcome = self.dispatch(device, request, workers);
        // The message that negotiates the feature has it already: front-ends count on that.
        let ack = wants_ack && (acknowledged || self.acknowledges());
        let then = match outcome {
            Ok(then) => then,
            // Who asked for an answer gets one, and decides whether to go on.
            Err(error) if ack && !error.ends_connection() => Then::Refuse(error),
            Err(error) => return Err(error),
        };
        self.pending = Some(Pending { code, request: name, ack, then });
        self.finish_if_ready(device)
    }

    /// Takes an answer of worker `worker`. Like [`Session::handle`] for the request that it was
    /// awaited for; [`Action::NoReply`] too when it was no answer to a request.
    ///
    /// # Errors
    /// When the connection cannot go on: the caller then calls [`Session::close`].
    pub fn answered<D: Device>(
        &mut self,
        device: &mut D,
        worker: u16,
        answer: Answer,
    ) -> Result<Action> {
        match answer {
            Answer::Done => self.got(&Awaited::Done(worker)),
            Answer::Started { queue, result } => self.ring_started(queue, result),
            Answer::Stopped { queue, base } => self.ring_stopped(queue, base),
            Answer::RingFailed { queue, why } => self.ring_failed(queue, why),
            Answer::Broken { why } if !self.closing => return Err(Error::Broken { why }),
            Answer::Broken { .. } => {}
            Answer::Ended => self.worker_ended(worker)?,
            // Nothing of the connection's.
            Answer::Rung => {}
        }
        self.release_if_idle(device);
        self.finish_if_ready(device)
    }

    /// Whether messages are acknowledged when they ask for it (REPLY_ACK).
    pub fn acknowledges(&self) -> bool {
        self.protocol.contains(ProtocolFeatures::REPLY_ACK)
    }

    /// Whether a request waits for workers: no other may be handled before it is finished.
    pub fn is_waiting(&self) -> bool {
        self.pending.is_some()
    }

    /// Ends the session: all workers are told to quit. Goes on until [`Session::is_closed`].
    pub fn close<D: Device, W: Workers<D::Service>>(&mut self, device: &mut D, workers: &mut W) {
        if self.closing {
            return;
        }
        self.closing = true;
        self.pending = None;
        self.awaited.clear();
        self.transfer = StateTransfer::None;
        for ring in &mut self.rings {
            ring.forget_wait();
        }
        self.quit_workers::<D, W>(workers);
        self.awaited.clear();
        self.release_if_idle(device);
    }

    /// Whether the session was closed.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether the session was closed and its last worker has ended.
    pub fn is_closed(&self) -> bool {
        self.closing && self.workers.is_empty()
    }

    /// Whether what the device saves may have changed since the last call.
    pub fn take_state_changed(&mut self) -> bool {
        std::mem::take(&mut self.state_changed)
    }

    fn dispatch<D: Device, W: Workers<D::Service>>(
        &mut self,
        device: &mut D,
        request: Request,
        workers: &mut W,
    ) -> Result<Then> {
        self.check_negotiated(&request)?;
        match request {
            Request::GetFeatures => Ok(Then::number(self.offered.bits())),
            Request::SetFeatures(bits) => self.set_features(device, bits, workers),
            Request::GetProtocolFeatures => Ok(Then::number(self.protocol_offered.bits())),
            Request::SetProtocolFeatures(bits) => self.set_protocol_features(bits),
            // Marks the start of a session, which the connection does already; the other one is
            // deprecated, and to ignore it is one of the two things to do.
            Request::SetOwner | Request::ResetOwner => Ok(Then::Ack),
            Request::GetQueueNum => Ok(Then::number(self.limits.count.into())),
            Request::SetMemTable(regions) => self.set_mem_table(regions, workers),
            Request::AddMemReg(region, fd) => self.add_mem_reg(&region, fd, workers),
            Request::RemMemReg(region) => self.rem_mem_reg(&region, workers),
            Request::GetMaxMemSlots => Ok(Then::number(MemoryTable::MAX_REGIONS as u64)),
            Request::SetLogBase(log, fd) => self.set_log_base(&log, fd, workers),
            // To signal it is optional, and the log is looked at by polling in any case.
            Request::SetLogFd(_) => Ok(Then::Ack),
            Request::GetInflightFd(wanted) => self.get_inflight_fd(&wanted),
            Request::SetInflightFd(region, fd) => self.set_inflight_fd(&region, &fd),
            Request::GetConfig(access) => Ok(config::get(device, &access)),
            Request::SetConfig { access, data } => self.set_config(device, &access, &data),
            Request::SetStatus(status) => self.set_status(status, workers),
            Request::GetStatus => Ok(Then::number(self.status.bits().into())),
            Request::ResetDevice => self.reset_device::<D, W>(workers),
            Request::SetBackendReqFd(fd) => {
                self.requests.set_channel(fd);
                Ok(Then::Ack)
            }
            Request::SetDeviceStateFd { direction, phase, fd } => {
                Ok(self.set_device_state_fd(device, direction, phase, fd))
            }
            Request::CheckDeviceState => Ok(self.check_device_state()),
            Request::NetSetMtu(mtu) => Ok(network::set_mtu(device, mtu)),
            Request::SendRarp(mac) => Ok(network::send_rarp(device, mac)),
            request => self.ring_message(device, request, workers),
        }
    }

    /// The second step of a request: what it waited for has come.
    fn finish<D: Device>(&mut self, device: &mut D, pending: Pending) -> Result<Action> {
        let Pending { code, request, ack, then } = pending;
        let outcome = match then {
            Then::Reply(reply) => return Ok(Action::Reply { code, reply }),
            Then::Base(queue) => {
                return Ok(Action::Reply { code, reply: self.ring_base(queue) });
            }
            Then::Rebase { queue, base } => {
                self.rebase(queue, base);
                Ok(())
            }
            Then::StateOutcome => {
                return Ok(Action::Reply { code, reply: self.transfer_outcome() });
            }
            Then::Reset => {
                self.reset_finished(device);
                Ok(())
            }
            Then::Refuse(error) => Err(error),
            Then::Ack => self.failure.take().map_or(Ok(()), Err),
        };
        if let Err(error) = &outcome
            && let Some(suppressed) = REFUSALS.admit(rate_limit::now())
        {
            tracing::warn!(request, %error, suppressed, "a request of the front-end failed");
        }
        if ack {
            return Ok(Action::Reply { code, reply: Reply::ack(outcome.is_ok()) });
        }
        Ok(Action::NoReply)
    }

    fn finish_if_ready<D: Device>(&mut self, device: &mut D) -> Result<Action> {
        if !self.awaited.is_empty() {
            return Ok(Action::Wait);
        }
        match self.pending.take() {
            Some(pending) => self.finish(device, pending),
            None => Ok(Action::NoReply),
        }
    }

    /// Notes that an answer has come, if it was awaited.
    fn got(&mut self, answer: &Awaited) {
        if let Some(position) = self.awaited.iter().position(|awaited| awaited == answer) {
            self.awaited.swap_remove(position);
        }
    }

    /// Sends a command, whose answer the request at hand then waits for.
    fn tell<S: crate::device::Service, W: Workers<S>>(
        &mut self,
        workers: &mut W,
        worker: u16,
        command: Command,
    ) {
        self.awaited.push(Awaited::answer_to(worker, &command));
        workers.command(worker, command);
    }

    /// Sends a command made for each worker to all of them.
    fn tell_all<S: crate::device::Service, W: Workers<S>>(
        &mut self,
        workers: &mut W,
        make: impl Fn() -> Command,
    ) {
        for worker in self.workers.clone() {
            self.tell(workers, worker, make());
        }
    }

    /// Wakes all workers: the device's control side has left something for its data side. Nothing
    /// is awaited.
    pub fn nudge<S: crate::device::Service, W: Workers<S>>(&mut self, workers: &mut W) {
        for worker in &self.workers {
            workers.command(*worker, Command::Nudge);
        }
    }

    fn quit_workers<D: Device, W: Workers<D::Service>>(&mut self, workers: &mut W) {
        self.tell_all(workers, || Command::Quit);
    }

    fn worker_ended(&mut self, worker: u16) -> Result<()> {
        let expected = self.closing || self.awaited.contains(&Awaited::Ended(worker));
        self.workers.remove(&worker);
        self.got(&Awaited::Ended(worker));
        for ring in self.rings.iter_mut().filter(|ring| ring.worker() == Some(worker)) {
            ring.worker_ended();
        }
        if expected { Ok(()) } else { Err(Error::Broken { why: "a worker ended".into() }) }
    }

    /// Gives up what the device held for its rings, once none of them needs it any more.
    fn release_if_idle<D: Device>(&mut self, device: &mut D) {
        let idle = if self.closing {
            self.workers.is_empty()
        } else {
            self.rings.iter().all(|ring| matches!(ring.run(), Run::Stopped | Run::Waiting))
        };
        if self.held && idle {
            device.release();
            self.held = false;
            self.state_changed = true;
        }
    }

    /// Whether all rings are stopped (vhost-user, "Suspended device state").
    fn is_suspended(&self) -> bool {
        self.rings.iter().all(|ring| matches!(ring.run(), Run::Stopped | Run::Waiting))
    }
}
