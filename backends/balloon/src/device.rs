//! The control side of the balloon: features, config space, commands of the control socket.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use framework::device::{Assembly, ConfigWriter, Device, Host, Outcome, QueueLimits};
use serde_json::{Value, json};
use virtio_spec::DeviceType;
use virtio_spec::balloon::{PAGE_SIZE, STATS_VQ};
use virtio_spec::features::Negotiated;

use crate::auto::{Pilot, Policy, Pressure};
use crate::balloon::{Balloon, Shared};
use crate::config_write;
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::offer::{Offer, QUEUES};
use crate::saved::Saved;
use crate::service::BalloonService;

/// What the user decided about the balloon.
#[derive(Debug)]
pub struct Settings {
    /// Pages that the device wants in the balloon at first.
    pub target: u32,
    /// What is offered.
    pub offer: Offer,
    /// How often statistics are asked for.
    pub polling: Option<Duration>,
    /// The largest queue, a power of two.
    pub queue_size: u16,
    /// Who sets the target, if not the user.
    pub auto: Option<(Policy, Pressure)>,
}

/// A virtio memory balloon.
#[derive(Debug)]
pub struct BalloonDevice {
    balloon: Shared,
    settings: Settings,
    host: Host,
    counts: Arc<Counts>,
}

/// Pages of so many bytes.
///
/// # Errors
/// [`Error::Target`] when page numbers cannot count them.
pub fn target_pages(bytes: u64) -> Result<u32> {
    u32::try_from(bytes / PAGE_SIZE).map_err(|_| Error::Target { bytes })
}

impl BalloonDevice {
    /// A balloon with nothing in it.
    pub fn new(settings: Settings) -> Self {
        let balloon = Shared::new(Balloon::new(settings.target, settings.polling));
        BalloonDevice { balloon, settings, host: Host::default(), counts: Arc::default() }
    }

    fn set_target(&mut self, arguments: &Value) -> Result<Outcome> {
        if self.settings.auto.is_some() {
            return Err(Error::Automatic);
        }
        let usage = "{\"cmd\":\"target\",\"bytes\":N}";
        let bytes = arguments.get("bytes").and_then(Value::as_u64);
        let target = target_pages(bytes.ok_or(Error::Usage { usage })?)?;
        let mut balloon = self.balloon.lock();
        let changed = std::mem::replace(&mut balloon.target, target) != target;
        Ok(Outcome {
            answer: json!({ "target_bytes": bytes_of(target) }),
            config_changed: changed,
            state_changed: changed,
            nudge: false,
        })
    }

    fn set_discard(&mut self, arguments: &Value) -> Result<Outcome> {
        let permitted = match arguments.get("state").and_then(Value::as_str) {
            Some("on") => true,
            Some("off") => false,
            _ => {
                let usage = "{\"cmd\":\"discard\",\"state\":\"on\"} or \"off\"";
                return Err(Error::Usage { usage });
            }
        };
        // Whoever makes holes has the lock: no hole is made after this answer.
        let mut balloon = self.balloon.lock();
        balloon.permitted = permitted;
        let deferred = balloon.deferred.len() * PAGE_SIZE;
        let answer = json!({ "discard": permitted, "deferred_bytes": deferred });
        Ok(Outcome { answer, state_changed: true, nudge: permitted, config_changed: false })
    }

    fn set_polling(&mut self, arguments: &Value) -> Result<Outcome> {
        let usage = "{\"cmd\":\"polling\",\"seconds\":N}, 0 for never";
        let seconds = arguments.get("seconds").and_then(Value::as_u64);
        let seconds = seconds.ok_or(Error::Usage { usage })?.min(LONGEST_PERIOD);
        self.balloon.lock().polling = (seconds > 0).then_some(Duration::from_secs(seconds));
        let answer = json!({ "polling_seconds": seconds });
        Ok(Outcome { answer, nudge: true, ..Outcome::default() })
    }

    fn refresh(&mut self) -> Result<Outcome> {
        let mut balloon = self.balloon.lock();
        if !balloon.features.has(STATS_VQ) {
            return Err(Error::NoStatistics);
        }
        balloon.refresh = true;
        let answer = json!({ "statistics": self.counts.statistics.get() });
        Ok(Outcome { answer, nudge: true, ..Outcome::default() })
    }
}

/// The longest period between two requests for statistics, seconds: a year.
const LONGEST_PERIOD: u64 = 365 * 24 * 3600;

fn bytes_of(pages: u32) -> u64 {
    u64::from(pages) * PAGE_SIZE
}

impl Device for BalloonDevice {
    type Service = BalloonService;

    fn attach(&mut self, host: Host) {
        self.host = host;
    }

    /// The pilot has another target.
    fn rung(&mut self) -> Outcome {
        let changed = std::mem::take(&mut self.balloon.lock().announce);
        Outcome { config_changed: changed, state_changed: changed, ..Outcome::default() }
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::BALLOON
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits { count: QUEUES, size: self.settings.queue_size }
    }

    fn features(&self) -> u64 {
        self.settings.offer.features()
    }

    fn negotiated(&mut self, features: Negotiated) {
        let mut balloon = self.balloon.lock();
        // The same features after a restart of this program: the driver goes on.
        if balloon.features != features {
            balloon.begin(features);
        }
    }

    fn config(&self) -> Vec<u8> {
        self.balloon.lock().config().to_bytes().to_vec()
    }

    fn write_config(
        &mut self,
        offset: usize,
        data: &[u8],
        by: ConfigWriter,
    ) -> Result<(), framework::Error> {
        config_write::apply(&mut self.balloon.lock(), offset, data, by);
        Ok(())
    }

    /// One worker for all queues: what it does is quick, and mostly one queue is in use at a time.
    fn worker_of(&self, _queue: u16) -> u16 {
        0
    }

    fn service(&mut self, _worker: u16) -> Result<Assembly<BalloonService>, framework::Error> {
        let pilot = self
            .settings
            .auto
            .as_ref()
            .map(|(policy, pressure)| Pilot::new(*policy, pressure.clone()));
        let (balloon, host) = (self.balloon.clone(), self.host.clone());
        let service = BalloonService::new(balloon, host, Arc::clone(&self.counts), pilot);
        Ok(Assembly { service, files: Vec::new() })
    }

    fn reset(&mut self) {
        self.balloon.lock().begin(Negotiated::NONE);
    }

    fn save(&self) -> Vec<u8> {
        self.balloon.lock().to_bytes()
    }

    fn load(&mut self, state: &[u8]) -> Result<(), framework::Error> {
        if !state.is_empty() {
            self.balloon.lock().restore(Saved::from_bytes(state)?);
        }
        Ok(())
    }

    fn control(
        &mut self,
        command: &str,
        arguments: &Value,
        _fds: Vec<OwnedFd>,
    ) -> Option<Result<Outcome, framework::Error>> {
        let outcome = match command {
            "target" => self.set_target(arguments),
            "discard" => self.set_discard(arguments),
            "polling" => self.set_polling(arguments),
            "refresh" => self.refresh(),
            _ => return None,
        };
        Some(outcome.map_err(Into::into))
    }

    fn stats(&self) -> Value {
        let balloon = self.balloon.lock();
        let mut stats = self.counts.to_json();
        let more = json!({
            "target_bytes": bytes_of(balloon.target),
            "actual_bytes": bytes_of(balloon.actual),
            "inside_bytes": balloon.inside.len() * PAGE_SIZE,
            "deferred_bytes": balloon.deferred.len() * PAGE_SIZE,
            "resident_bytes": balloon.resident(),
            "discard": balloon.permitted,
            "polling_seconds": balloon.polling.map(|period| period.as_secs()),
            "guest": balloon.statistics.to_json(),
        });
        if let Value::Object(more) = more {
            stats.extend(more);
        }
        Value::Object(stats)
    }
}

#[cfg(test)]
#[path = "device_test.rs"]
mod tests;
