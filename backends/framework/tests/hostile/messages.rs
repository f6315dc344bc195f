//! What a guest can make a daemon say, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use framework::Error;
use framework::device::Assembly;
use framework::session::{RingOffer, Session, Workers};
use framework::worker::{Answer, Command};
use rustix::event::{EventfdFlags, eventfd};
use tracing::span;

use crate::device::{Echo, EchoService};

/// Counts what is logged.
struct Counter(Arc<AtomicUsize>);

impl tracing::Subscriber for Counter {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        if *event.metadata().level() <= tracing::Level::INFO {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Workers that nothing is told to.
struct Nobody;

impl Workers<EchoService> for Nobody {
    fn spawn(&mut self, _: u16, _: &[u16], _: Assembly<EchoService>) -> Result<(), Error> {
        Ok(())
    }

    fn command(&mut self, _: u16, _: Command) {}
}

/// A guest can let a ring fail as often as it can start it.
#[test]
fn unbounded_logging_driven_by_the_guest() {
    let logged = Arc::<AtomicUsize>::default();
    tracing::subscriber::with_default(Counter(Arc::clone(&logged)), || {
        let mut device = Echo::default();
        let waker = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        let mut session = Session::new(&device, RingOffer::default(), &waker);
        for _ in 0..10_000 {
            let failed = Answer::RingFailed { queue: 0, why: "the driver broke a rule".into() };
            let _ = session.answered(&mut device, 0, failed).unwrap();
        }
        session.close(&mut device, &mut Nobody);
    });
    let logged = logged.load(Relaxed);
    assert!((1..=50).contains(&logged), "{logged} lines");
}
