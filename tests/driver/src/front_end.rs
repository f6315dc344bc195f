//! The VMM's side of a vhost-user connection.
//!
//! The order of things is a front-end's: [`negotiate`](FrontEnd::negotiate), share the memory,
//! hand over an in-flight region, start rings. After a back-end's death,
//! [`reconnect`](FrontEnd::reconnect) does all but the last again with what was agreed before.

mod back_channel;
mod config;
mod device_state;
mod inflight;
mod log;
mod rings;
mod sharing;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use virtio_spec::observer::{DeviceStep, Message};
use virtio_spec::vhost_user::{F_LOG_ALL, F_PROTOCOL_FEATURES, Inflight, ProtocolFeatures};
use virtio_spec::{DeviceType, Negotiated, Offered, features};
use wire::{Client, Reply, Request};

pub use self::back_channel::BackendChannel;
pub use self::device_state::StateTransfer;
pub use self::log::DirtyLog;
pub use self::rings::RingEvents;
use crate::{Deadline, Error, Memory, Result, Watch};

/// What a front-end wants of a back-end.
#[derive(Debug, Clone, Copy)]
pub struct Negotiation {
    /// Feature bits that are taken if they are offered.
    pub wanted: u64,
    /// Feature bits without which there is no point.
    pub required: u64,
    /// Protocol features that are taken if they are offered.
    pub protocol: ProtocolFeatures,
}

impl Negotiation {
    /// Wants these feature bits, requires VERSION_1, and takes every protocol feature but in-band
    /// notifications.
    #[must_use]
    pub fn new(wanted: u64) -> Self {
        let version_1 = features::mask(features::VERSION_1);
        let protocol = ProtocolFeatures::all() - ProtocolFeatures::INBAND_NOTIFICATIONS;
        Self { wanted: wanted | version_1, required: version_1, protocol }
    }

    /// Requires these bits too.
    #[must_use]
    pub fn requiring(mut self, bits: u64) -> Self {
        self.wanted |= bits;
        self.required |= bits;
        self
    }

    /// Takes only these protocol features.
    #[must_use]
    pub fn with_protocol(mut self, protocol: ProtocolFeatures) -> Self {
        self.protocol = protocol;
        self
    }
}

/// The VMM's side of a vhost-user connection.
#[derive(Debug)]
pub struct FrontEnd {
    client: Client,
    memory: Memory,
    limit: Duration,
    agreed: Option<Agreed>,
    /// The in-flight region, which outlives connections.
    inflight: Option<(Inflight, OwnedFd)>,
    back_channel: Option<BackendChannel>,
    /// Whether the observer knows of this connection.
    greeted: bool,
    /// Whether requests are acknowledged.
    reply_ack: bool,
    /// Eventfds of the rings that were started on this connection, to see calls in time.
    rings: BTreeMap<u8, RingEvents>,
    watch: Watch,
}

/// What was agreed on.
#[derive(Debug, Clone, Copy)]
struct Agreed {
    wanted: Negotiation,
    /// With bit 30 when protocol features are in use.
    features: u64,
    protocol: ProtocolFeatures,
    queues: Option<u64>,
}

impl FrontEnd {
    /// A front-end on a connected socket, with this guest memory.
    #[must_use]
    pub fn new(socket: impl Into<OwnedFd>, memory: &Memory) -> Self {
        Self {
            client: Client::new(socket.into()),
            memory: memory.clone(),
            limit: Deadline::DEFAULT,
            agreed: None,
            inflight: None,
            back_channel: None,
            greeted: false,
            reply_ack: false,
            rings: BTreeMap::new(),
            watch: Watch::new(DeviceType(0)),
        }
    }

    /// The same front-end for a device of this type, whose features, configuration and requests
    /// are then watched too.
    #[must_use]
    pub fn of_device(mut self, device: DeviceType) -> Self {
        self.watch = Watch::new(device);
        self
    }

    /// The same front-end with another observer, or [`Watch::none`]. To be called first of all.
    #[must_use]
    pub fn watched_by(mut self, watch: Watch) -> Self {
        self.watch = watch;
        self
    }

    /// The observer of this device and its driver.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Connects to a listening back-end, waiting until it listens.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it does not within [`Deadline::DEFAULT`].
    pub fn connect(path: &Path, memory: &Memory) -> Result<Self> {
        connect(path, Deadline::after(Deadline::DEFAULT)).map(|socket| Self::new(socket, memory))
    }

    /// The same front-end with another time limit for each wait.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// A deadline for one wait from now on.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        Deadline::after(self.limit)
    }

    /// Agrees on features, protocol features and the number of queues.
    ///
    /// # Errors
    /// [`Error::NotOffered`] when a required feature is missing.
    pub fn negotiate(&mut self, wanted: &Negotiation) -> Result<Negotiated> {
        if !std::mem::replace(&mut self.greeted, true) {
            self.watch.show(Message::Connected)?;
        }
        let bit_30 = features::mask(F_PROTOCOL_FEATURES);
        let offered = self.number(Request::GetFeatures, "GET_FEATURES")?;
        self.watch.show(DeviceStep::FeaturesOffered(Offered::new(for_driver(offered))))?;
        let missing = wanted.required & !offered;
        if missing != 0 {
            return Err(Error::NotOffered(format!("the feature bits {missing:#x}")));
        }
        let protocol = if offered & bit_30 != 0 {
            self.negotiate_protocol(wanted.protocol)?
        } else {
            ProtocolFeatures::empty()
        };
        let queues = if protocol.contains(ProtocolFeatures::MQ) {
            Some(self.number(Request::GetQueueNum, "GET_QUEUE_NUM")?)
        } else {
            None
        };
        self.call(Request::SetOwner)?;
        let bits = (wanted.wanted | bit_30) & offered;
        // To the driver a new connection is no new negotiation.
        if self.agreed.is_none() || self.negotiated().bits() != for_driver(bits) {
            self.watch.show(DeviceStep::FeaturesAcked(for_driver(bits)))?;
        }
        self.call(Request::SetFeatures(bits))?;
        self.agreed = Some(Agreed { wanted: *wanted, features: bits, protocol, queues });
        Ok(self.negotiated())
    }

    fn negotiate_protocol(&mut self, wanted: ProtocolFeatures) -> Result<ProtocolFeatures> {
        let offered = self.number(Request::GetProtocolFeatures, "GET_PROTOCOL_FEATURES")?;
        let protocol = ProtocolFeatures::from_bits_truncate(offered) & wanted;
        self.call(Request::SetProtocolFeatures(protocol.bits()))?;
        self.reply_ack = protocol.contains(ProtocolFeatures::REPLY_ACK);
        Ok(protocol)
    }

    /// Features that the device and its driver agreed on.
    #[must_use]
    pub fn negotiated(&self) -> Negotiated {
        Negotiated::assume(for_driver(self.agreed.map_or(0, |agreed| agreed.features)))
    }

    /// Protocol features in use.
    #[must_use]
    pub fn protocol(&self) -> ProtocolFeatures {
        self.agreed.map_or(ProtocolFeatures::empty(), |agreed| agreed.protocol)
    }

    /// The most queues there can be, if the back-end tells.
    #[must_use]
    pub fn max_queues(&self) -> Option<u64> {
        self.agreed.and_then(|agreed| agreed.queues)
    }

    /// Goes on with another back-end: agrees on the same, shares the memory, hands over the
    /// in-flight region, and opens the back-end's channel if there was one. Rings are then to be
    /// started again.
    ///
    /// # Errors
    /// [`Error::NotOffered`] when the new back-end offers less than was agreed on.
    pub fn reconnect(&mut self, socket: impl Into<OwnedFd>) -> Result<()> {
        let before = self.agreed.ok_or(Error::NotSetUp("a negotiation"))?;
        self.watch.show(Message::Closed)?;
        self.client = Client::new(socket.into());
        (self.greeted, self.reply_ack) = (false, false);
        self.rings.clear();
        let had_back_channel = self.back_channel.take().is_some();
        let required = before.features & !features::mask(F_PROTOCOL_FEATURES);
        self.negotiate(&before.wanted.requiring(required))?;
        if had_back_channel {
            self.open_back_channel()?;
        }
        self.share_memory()?;
        self.hand_over_inflight()
    }

    /// Sends a request and waits for its reply, or for its acknowledgement with REPLY_ACK.
    ///
    /// # Errors
    /// [`Error::Wire`]: time-outs, refusals, malformed replies.
    pub fn call(&mut self, request: Request) -> Result<Reply> {
        let (code, name) = (request.code(), request.name());
        let has_reply = request.has_reply();
        let acknowledged = self.reply_ack && !has_reply;
        let deadline = self.deadline().instant();
        let frame = request.encode().needing_reply(acknowledged);
        self.watch.request(&frame)?;
        self.client.send_frame(frame, deadline)?;
        if !has_reply && !acknowledged {
            return Ok(Reply::Ack(0));
        }
        let frame = self.client.receive_frame(deadline).map_err(|error| match error {
            wire::Error::Timeout(_) => Error::Timeout(format!("the answer to {name}")),
            other => other.into(),
        })?;
        // What came before the answer has to be shown before it: it may stop the last ring.
        self.look_around()?;
        self.watch.reply(&frame)?;
        match Reply::decode(code, frame)? {
            Reply::Ack(value) if value != 0 => {
                Err(wire::Error::Refused { message: name, value }.into())
            }
            reply => Ok(reply),
        }
    }

    /// Sees what calls and requests of the back-end have come, without taking them.
    fn look_around(&mut self) -> Result<()> {
        for events in self.rings.values() {
            events.call.look()?;
        }
        match &mut self.back_channel {
            Some(channel) => channel.look(),
            None => Ok(()),
        }
    }

    /// Waits so long for what is still on its way, then says that nothing moves any more: what a
    /// side owes now is missing.
    ///
    /// # Errors
    /// [`Error::Violation`] when something is.
    pub fn settle(&mut self, pause: Duration) -> Result<()> {
        thread::sleep(pause);
        self.look_around()?;
        self.watch.quiesce()
    }

    /// The connection itself, for messages that no well-behaved front-end sends.
    #[must_use]
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Waits until the back-end closes the connection.
    ///
    /// # Errors
    /// [`Error::Wire`] when it sends something instead, or nothing happens.
    pub fn wait_for_close(&mut self) -> Result<()> {
        let deadline = self.deadline().instant();
        match self.client.receive_frame(deadline) {
            Err(wire::Error::Closed) => self.watch.show(Message::Closed),
            Err(error) => Err(error.into()),
            Ok(frame) => Err(Error::WrongReply {
                request: "a message that should end the connection",
                reply: format!("{frame:?}"),
            }),
        }
    }

    /// A request whose reply is a number.
    fn number(&mut self, request: Request, name: &'static str) -> Result<u64> {
        match self.call(request)? {
            Reply::U64(value) => Ok(value),
            other => Err(wrong_reply(name, &other)),
        }
    }

    fn require(&self, feature: ProtocolFeatures) -> Result<()> {
        if self.protocol().contains(feature) {
            return Ok(());
        }
        Err(Error::NotOffered(format!("the protocol feature {feature:?}")))
    }
}

/// The bits that a driver sees: without those of vhost-user.
fn for_driver(bits: u64) -> u64 {
    bits & !(features::mask(F_PROTOCOL_FEATURES) | features::mask(F_LOG_ALL))
}

fn wrong_reply(request: &'static str, reply: &Reply) -> Error {
    Error::WrongReply { request, reply: format!("{reply:?}") }
}

/// Connects, waiting until somebody listens.
fn connect(path: &Path, deadline: Deadline) -> Result<UnixStream> {
    loop {
        match UnixStream::connect(path) {
            Ok(socket) => return Ok(socket),
            Err(error) if deadline.is_past() || !may_listen_later(&error) => {
                return Err(Error::System("connecting to the back-end's socket", error));
            }
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn may_listen_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
#[path = "front_end_test.rs"]
mod tests;
