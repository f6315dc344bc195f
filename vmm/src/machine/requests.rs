//! What can be asked of a machine over the control socket.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::body::Machine;
use super::desk::{Body as _, Desk};
use super::lifecycle::{Event, State};
use crate::control::{Answer, Handler, Request};

/// Member of answers: whether the devices of a paused machine are quiet, so that their files can be copied.
const QUIESCED: &str = "quiesced";
const NOT_PAUSED_ANY_MORE: &str =
    "the machine was made to go on before its devices were quiet; pause it again";

impl Handler for Desk<Machine> {
    fn handle(&mut self, request: Request) -> Option<Answer> {
        let event = match request {
            Request::Status => return Some(Ok(self.status())),
            Request::Stats => return Some(self.stats()),
            Request::Devices => return Some(self.devices()),
            Request::Pause => Event::Pause,
            Request::Resume => Event::Resume,
            Request::PowerButton => Event::PowerButton,
            Request::Reset => Event::Reset,
            Request::Stop => Event::Stop,
        };
        match self.happen(event) {
            Ok(()) => self.finish(request),
            Err(refusal) => Some(Err(refusal.to_string())),
        }
    }

    /// Whoever pauses a machine wants to copy its disks: the answer waits until nobody writes to them.
    fn finish(&mut self, request: Request) -> Option<Answer> {
        match (request, self.state()) {
            (Request::Pause, _) if self.is_pausing() => None,
            (Request::Pause, State::Paused) => {
                Some(Ok(members([(QUIESCED, self.body().is_quiesced().into())])))
            }
            (Request::Pause, _) => Some(Err(NOT_PAUSED_ANY_MORE.to_owned())),
            _ => Some(Ok(Map::new())),
        }
    }
}

impl Desk<Machine> {
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
