//! What control clients can ask for.

use serde_json::{Map, Value, json};

use super::Server;
use super::port::Port;
use crate::control::prometheus::{Kind, Metric, render};
use crate::control::protocol::{Answer, Command};
use crate::control::server::Request;
use crate::device::Device;

/// What every daemon knows; devices add their own.
const KNOWN: &[&str] = &["config", "metrics", "stats"];

impl<D: Device> Server<D> {
    /// Answers control clients' requests.
    pub(super) fn control_requests(&mut self) {
        let Some(mut control) = self.control.take() else { return };
        for Request { client, command } in control.poll() {
            control.answer(client, command.and_then(|command| self.command(command)));
        }
        self.control = Some(control);
    }

    fn command(&mut self, mut command: Command) -> Answer {
        match command.name.as_str() {
            "stats" => Ok(self.stats()),
            "metrics" => Ok(object(json!({ "text": render(&self.metrics()) }))),
            "config" => Ok(object(self.about.config.clone())),
            _ => self.device_command(&mut command),
        }
    }

    /// `{"cmd":"resize"}` and the like; `"port"` says which device, where there are several.
    fn device_command(&mut self, command: &mut Command) -> Answer {
        let number = match command.arguments.get("port") {
            None => Some(0),
            Some(port) => port.as_u64().and_then(|port| usize::try_from(port).ok()),
        };
        let count = self.ports.len();
        let port = number.and_then(|number| self.ports.get_mut(number));
        let port = port.ok_or_else(|| format!("\"port\" is to be a number below {count}"))?;
        port.command(command)
    }

    fn stats(&self) -> Map<String, Value> {
        let mut ports: Vec<Value> = self.ports.iter().map(Port::stats).collect();
        let mut answer = Map::new();
        answer.insert("name".into(), self.about.name.clone().into());
        answer.insert("sandbox".into(), json!(self.about.sandbox));
        if ports.len() == 1 {
            answer.extend(ports.pop().map(object).unwrap_or_default());
        } else {
            answer.insert("ports".into(), ports.into());
        }
        answer
    }

    fn metrics(&self) -> Vec<Metric> {
        let several = self.ports.len() > 1;
        let name = |number| match several {
            true => format!("{}-{number}", self.about.name),
            false => self.about.name.clone(),
        };
        self.ports.iter().enumerate().flat_map(|(n, port)| port.metrics(&name(n))).collect()
    }
}

impl<D: Device> Port<D> {
    fn command(&mut self, command: &mut Command) -> Answer {
        let arguments = Value::Object(command.arguments.clone());
        match self.device.control(&command.name, &arguments, std::mem::take(&mut command.fds)) {
            None => command.unknown(KNOWN),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(outcome)) => {
                self.follow(&outcome);
                Ok(object(outcome.answer))
            }
        }
    }

    fn stats(&self) -> Value {
        let kind = self.device.device_type();
        let queues: Vec<Value> = self.stats.iter().map(|queue| queue.to_json().into()).collect();
        json!({
            "device": kind.name(),
            "connected": self.connection.is_some(),
            "connections": self.connections,
            "engine": self.engine,
            "connection": self.connection.as_ref().map(|c| c.session.describe(kind)),
            "device_stats": self.device.stats(),
            "queues": queues,
        })
    }

    fn metrics(&self, name: &str) -> Vec<Metric> {
        let labels = vec![("device", name.to_owned())];
        let mut metrics = vec![
            Metric {
                name: "outrigger_connected".into(),
                help: "Whether a front-end is connected.",
                kind: Kind::Gauge,
                labels: labels.clone(),
                value: u64::from(self.connection.is_some()).into(),
            },
            Metric {
                name: "outrigger_connections_total".into(),
                help: "Connections of front-ends since the start.",
                kind: Kind::Counter,
                labels,
                value: self.connections.into(),
            },
        ];
        for (index, queue) in self.stats.iter().enumerate() {
            metrics.extend(queue.metrics(name, index));
        }
        metrics
    }
}

/// The members of a JSON object; none of anything else.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
