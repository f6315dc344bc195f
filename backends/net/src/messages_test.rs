//! What a guest can make the card say, again and again.

use std::sync::atomic::AtomicUsize;

use tracing::span;
use virtio_spec::features::mask;
use virtio_spec::net::GUEST_CSUM;

use super::*;
use crate::uplink::tap::Tap;

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

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// A driver can change its offloads, or begin anew, as often as it likes; an interface that was deleted
/// refuses each time.
#[test]
fn unbounded_logging_driven_by_the_guest() {
    let logged = Arc::<AtomicUsize>::default();
    tracing::subscriber::with_default(Counter(Arc::clone(&logged)), || {
        let (mac, mtu) = (None, None);
        let settings =
            Settings { mac, mtu, pairs: 1, queue_size: 256, offloads: true, ctrl_vq: true };
        let mut device = NetDevice::new(Uplink::Tap(Tap::deaf()), settings);
        for _ in 0..10_000 {
            device.negotiated(Negotiated::assume(mask(GUEST_CSUM)));
            device.card.tell_uplink();
            device.reset();
        }
    });
    assert_eq!(logged.load(Ordering::Relaxed), 1);
}
