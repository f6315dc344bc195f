//! What can be asked of a machine over the control socket.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::body::Machine;
use super::desk::{Body as _, Desk};
use super::lifecycle::{Event, State};
use super::relay::Relay;
use crate::control::protocol::Pending;
use crate::control::{Answer, Command, Handler, Request};

/// Member of answers: whether the devices of a paused machine are quiet, so that their files can be copied.
const QUIESCED: &str = "quiesced";
const NOT_PAUSED_ANY_MORE: &str =
    "the machine was made to go on before its devices were quiet; pause it again";

/// Who answers: the machine itself, or one of its daemons.
pub(super) struct Office<'a> {
    pub(super) desk: &'a mut Desk<Machine>,
    pub(super) relay: &'a mut Relay,
}

impl Handler for Office<'_> {
    fn handle(&mut self, request: &mut Request) -> Option<Answer> {
        match request {
            Request::Machine(command) => self.desk.obey(*command),
            Request::Device(request) => self.relay.pass_on(request),
        }
    }

    fn finish(&mut self, request: &mut Request) -> Option<Answer> {
        match request {
            Request::Machine(command) => self.desk.follow_up(*command),
            Request::Device(request) => request.pending.as_ref().and_then(Pending::take),
        }
    }
}

impl Desk<Machine> {
    fn obey(&mut self, command: Command) -> Option<Answer> {
        let event = match command {
            Command::Status => return Some(Ok(self.status())),
            Command::Stats => return Some(self.stats()),
            Command::Devices => return Some(self.devices()),
            Command::Pause => Event::Pause,
            Command::Resume => Event::Resume,
            Command::PowerButton => Event::PowerButton,
            Command::Reset => Event::Reset,
            Command::Stop => Event::Stop,
        };
        match self.happen(event) {
            Ok(()) => self.follow_up(command),
            Err(refusal) => Some(Err(refusal.to_string())),
        }
    }

    /// Whoever pauses a machine wants to copy its disks: the answer waits until nobody writes to them.
    fn follow_up(&mut self, command: Command) -> Option<Answer> {
        match (command, self.state()) {
            (Command::Pause, _) if self.is_pausing() => None,
            (Command::Pause, State::Paused) => {
                Some(Ok(members([(QUIESCED, self.body().is_quiesced().into())])))
            }
            (Command::Pause, _) => Some(Err(NOT_PAUSED_ANY_MORE.to_owned())),
            _ => Some(Ok(Map::new())),
        }
    }

    fn status(&self) -> Map<String, Value> {
        let state = match self.state() {
            State::Running => "running",
            State::Paused if self.is_pausing() => "pausing",
            State::Paused => "paused",
            State::Resetting => "resetting",
            State::Ended(_) => "ended",
        };
        let devices: Map<String, Value> =
            self.reports().map(|report| (report.name.clone(), Value::from(report.state))).collect();
        let mut status = members([
            ("state", state.into()),
            ("pid", std::process::id().into()),
            ("vcpus", self.body().tallies().count().into()),
            ("memory_bytes", self.body().memory().size().into()),
            ("devices", devices.into()),
        ]);
        if *self.state() == State::Paused {
            status.insert(QUIESCED.to_owned(), self.body().is_quiesced().into());
        }
        status
    }

    fn stats(&self) -> Answer {
        let allocated = self.body().memory().allocated().map_err(|error| error.to_string())?;
        let vcpus: Vec<_> = self.body().tallies().collect();
        let losses: Map<String, Value> = self
            .reports()
            .map(|report| (report.name.clone(), json!({ "losses": report.losses })))
            .collect();
        Ok(members([
            ("memory_allocated_bytes", allocated.into()),
            ("vcpus", value(&vcpus)?),
            ("devices", losses.into()),
        ]))
    }

    fn devices(&self) -> Answer {
        let reports: Vec<_> = self.reports().collect();
        Ok(members([("devices", value(&reports)?)]))
    }

    fn reports(&self) -> impl Iterator<Item = front_end::DeviceReport> {
        self.body().back_ends().front_ends().map(|front_end| front_end.report())
    }
}

fn members<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn value(of: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(of).map_err(|error| error.to_string())
}
