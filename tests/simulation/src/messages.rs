//! Messages of the front-end: how they are handled, and what follows from their answers.

use framework::session::Action;
use virtio_spec::block::{CONFIG_WCE, Config, FLUSH, WRITEBACK_OFFSET};
use virtio_spec::observer::{DeviceStep, Message as Seen};
use virtio_spec::vhost_user::{FrontendRequest, MessageFlags, ProtocolFeatures, VringState};
use wire::{Frame, Reply};

use crate::Failure;
use crate::back_end::BackEnd;
use crate::cache::CacheMode;
use crate::front_end::{Awaited, Message};
use crate::trace::Who;
use crate::world::World;

impl World {
    /// Sends a message, and lets the back-end handle it as far as that goes at once.
    pub(crate) fn send(&mut self, message: Message) -> Result<(), Failure> {
        let request = self.request(message)?;
        let (code, has_reply) = (request.code(), request.has_reply());
        // The message that negotiates acknowledgements is not to be acknowledged.
        let acks = self.front_end.acks;
        let need_reply = acks && !has_reply && (must_ack(message) || self.random.bool());
        let frame = request.encode().needing_reply(need_reply);
        self.show_request(&frame)?;
        self.counts.messages += 1;
        self.trace.say(Who::FrontEnd, || {
            format!("{message:?}{}", if need_reply { ", to be acknowledged" } else { "" })
        });
        if let Message::Kick(ring) = message {
            self.front_end.change(ring, |state| (state.running, state.stale) = (true, None));
        }
        if message == Message::ResetDevice {
            // There is no way back: whatever becomes of the message, the driver begins anew.
            self.front_end.give_rings_up();
        }
        let answer = has_reply || need_reply;
        self.front_end.awaited = Some(Awaited { message, code, answer });
        let Some(action) = self.back_end.as_mut().and_then(|process| process.handle(frame)) else {
            return Err(Failure::Simulator("a message without a connection".into()));
        };
        self.acted(action)
    }

    fn show_request(&self, frame: &Frame) -> Result<(), Failure> {
        let Ok(request) = FrontendRequest::try_from(frame.code) else { return Ok(()) };
        let mut flags = MessageFlags::REQUEST;
        flags.set(MessageFlags::NEED_REPLY, frame.need_reply);
        let (payload, fds) = (&frame.payload[..], frame.fds.len());
        Ok(self.guest.watch.show(Seen::Request { request, flags, payload, fds })?)
    }

    /// What the session did about a message, or about something that a worker said.
    pub(crate) fn acted(
        &mut self,
        action: Result<Action, framework::Error>,
    ) -> Result<(), Failure> {
        let action = action.map_err(|error| Failure::Disconnected {
            during: self.front_end.awaited.map_or("rest".into(), |a| format!("{:?}", a.message)),
            error: error.to_string(),
        })?;
        self.hear_back_end()?;
        if let Some(state) = self.back_end.as_mut().and_then(BackEnd::take_state) {
            self.saved = Some(state);
        }
        if self.back_end.as_ref().is_none_or(BackEnd::is_busy) {
            return Ok(());
        }
        let Some(awaited) = self.front_end.awaited.take() else {
            return match action {
                Action::Reply { code, reply } => Err(Failure::WrongReply {
                    message: "nothing".into(),
                    reply: format!("{reply:?} to {code}"),
                }),
                Action::NoReply | Action::Wait => Ok(()),
            };
        };
        match action {
            Action::Reply { code, reply } => self.answered(awaited, code, reply),
            Action::NoReply | Action::Wait if awaited.answer => Err(Failure::WrongReply {
                message: format!("{:?}", awaited.message),
                reply: "nothing".into(),
            }),
            Action::NoReply | Action::Wait => self.handled(awaited.message),
        }
    }

    fn answered(&mut self, awaited: Awaited, code: u32, reply: Reply) -> Result<(), Failure> {
        let message = awaited.message;
        // What was signalled before the answer is seen before it.
        for ring in &self.guest.rings {
            ring.events.is_called()?;
        }
        let frame = reply.encode(code);
        let (payload, fds) = (&frame.payload[..], frame.fds.len());
        let flags = MessageFlags::REQUEST | MessageFlags::REPLY;
        self.guest.watch.show(Seen::Reply { request: code, flags, payload, fds })?;
        let text = format!("{:?}", frame.payload);
        let wrong = || Failure::WrongReply { message: format!("{message:?}"), reply: text.clone() };
        if !awaited.answer || code != awaited.code {
            return Err(wrong());
        }
        let reply = Reply::decode(code, frame).map_err(|_| wrong())?;
        self.trace.say(Who::FrontEnd, || format!("gets {}", describe(&reply)));
        match (message, reply) {
            (_, Reply::Ack(0)) => {}
            (_, Reply::Ack(_)) => {
                return Err(Failure::Refused { message: format!("{message:?}") });
            }
            (Message::GetFeatures, Reply::U64(bits)) => self.front_end.offered = bits,
            (Message::GetProtocolFeatures, Reply::U64(bits)) => {
                let offered = ProtocolFeatures::from_bits_truncate(bits);
                self.front_end.protocol = self.scenario.protocol.unwrap_or_default() & offered;
            }
            (Message::GetQueueNum, Reply::U64(count)) => {
                expect("the number of rings", count, self.scenario.queues.into())?;
            }
            (Message::GetStatus, Reply::U64(_)) => {}
            (Message::GetInflight, Reply::Inflight(region, file)) => {
                self.front_end.region = Some((region, file));
            }
            (Message::GetBase(ring), Reply::VringState(VringState { index, num }))
                if index == u32::from(ring) =>
            {
                self.front_end.change(ring, |state| (state.base, state.stale) = (Some(num), None));
            }
            (Message::GetConfig, Reply::Config(config)) => self.check_config(&config.data)?,
            _ => return Err(wrong()),
        }
        self.handled(message)
    }

    /// The back-end has carried a message out.
    fn handled(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::SetProtocolFeatures => {
                self.front_end.acks = self.front_end.has(ProtocolFeatures::REPLY_ACK);
            }
            Message::SetFeatures => self.features_set(),
            Message::SetWriteback(on) => {
                self.cache.set(on);
                self.update_promise();
                self.guest.watch.show(DeviceStep::ConfigWritten {
                    offset: WRITEBACK_OFFSET,
                    data: &[on.into()],
                })?;
            }
            Message::Kick(ring) => {
                self.front_end.change(ring, |state| state.moved = false);
                self.guest.ring(ring)?.kicks_are_lost = false;
            }
            Message::Call(ring) => self.front_end.change(ring, |state| state.calls = true),
            Message::Enable(ring, on) => {
                self.front_end.change(ring, |state| state.enabled = on);
            }
            Message::GetBase(ring) => {
                self.counts.stops += 1;
                self.front_end.change(ring, |state| state.running = false);
            }
            Message::AddRegion(at) => self.guest.entered(Some(at)),
            Message::SetMemTable => self.guest.entered(None),
            Message::RemoveRegion(plug) => self.region_removed(plug)?,
            Message::ResetDevice => {
                self.cache = CacheMode::new(self.scenario.writeback);
                self.update_promise();
                for ring in 0..self.scenario.queues {
                    self.front_end.change(ring, |state| {
                        (state.running, state.enabled) = (false, false);
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn region_removed(&mut self, plug: usize) -> Result<(), Failure> {
        self.counts.unplugs += 1;
        for ring in 0..self.scenario.queues {
            self.reap(ring, usize::MAX)?;
            self.wait_for_calls(ring)?;
        }
        if let Some(request) = self.guest.left_behind_in(plug) {
            return Err(Failure::StillInUse { request });
        }
        self.guest.unplugged(plug)?;
        self.guest.check_gone()
    }

    fn features_set(&mut self) {
        let sees_mode_only = self.guest.has(CONFIG_WCE) && !self.guest.has(FLUSH);
        self.cache.negotiated(sees_mode_only);
        self.update_promise();
    }

    /// Whether each write is durable from now on: see virtio 1.4, 5.2.6.2.
    fn update_promise(&mut self) {
        let manages = self.guest.has(FLUSH) || self.guest.has(CONFIG_WCE);
        let through = !manages || self.cache.writeback == Some(false);
        let when = if through { "at its end" } else { "once it is flushed" };
        self.trace.say(Who::World, || format!("from now on a write is durable {when}"));
        self.model.set_through(through);
    }

    fn check_config(&mut self, data: &[u8]) -> Result<(), Failure> {
        let mut whole = [0; Config::SIZE];
        whole.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
        let config = Config::from_bytes(&whole);
        expect("the capacity", config.capacity, self.scenario.sectors)?;
        if let Some(writeback) = self.cache.writeback.filter(|_| self.guest.has(CONFIG_WCE)) {
            expect("the cache mode", config.writeback, writeback.into())?;
            self.guest.watch.show(DeviceStep::ConfigRead { offset: 0, data })?;
        }
        Ok(())
    }

    /// What the back-end says on its own channel; there is none here, so it must have little to say.
    fn hear_back_end(&mut self) -> Result<(), Failure> {
        while let Some(request) = self.back_end.as_mut().and_then(|process| process.next_request())
        {
            self.trace.say(Who::BackEnd, || format!("says {request:?}"));
            if !self.scenario.hostile {
                return Err(Failure::WrongReply {
                    message: "nothing".into(),
                    reply: format!("{request:?}"),
                });
            }
        }
        Ok(())
    }
}

/// Messages whose effect the front-end waits for, if it can.
fn must_ack(message: Message) -> bool {
    matches!(message, Message::RemoveRegion(_) | Message::ResetDevice | Message::SetWriteback(_))
}

fn describe(reply: &Reply) -> String {
    match reply {
        Reply::Config(config) => format!("{} bytes of configuration", config.data.len()),
        Reply::Inflight(region, _) => format!("{region:?}"),
        other => format!("{other:x?}"),
    }
}

fn expect<T: Copy + PartialEq + ToString>(
    what: &'static str,
    found: T,
    expected: T,
) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(Failure::Answer { what, found: found.to_string(), expected: expected.to_string() })
}
