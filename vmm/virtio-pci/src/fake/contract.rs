//! What the transport promises its device, as it is written in [`crate::device`], checked at every
//! call.
#![expect(clippy::panic, reason = "a test ends when the transport breaks its promise")]

use virtio_spec::{Negotiated, features};

use crate::device::{Queue, Start};

/// What the device has been told so far.
#[derive(Debug)]
pub(super) struct Contract {
    max_queue_size: u16,
    offered: u64,
    agreed: Option<Negotiated>,
    live: bool,
    resetting: bool,
    /// By index: the device has the queue.
    queues: Vec<bool>,
}

impl Contract {
    pub(super) fn new(offered: u64, queues: u16, max_queue_size: u16) -> Self {
        Self {
            max_queue_size,
            offered,
            agreed: None,
            live: false,
            resetting: false,
            queues: vec![false; queues.into()],
        }
    }

    pub(super) fn accept_features(&mut self, features: Negotiated) {
        assert!(!self.live && !self.resetting, "features of a running device");
        assert_eq!(features.bits() & !self.offered, 0, "features that were not offered");
        assert!(features.has(features::VERSION_1), "features without VERSION_1");
        self.agreed = Some(features);
    }

    pub(super) fn start(&mut self, start: &Start) {
        assert!(!self.live && !self.resetting, "started twice");
        assert_eq!(self.agreed, Some(start.features), "started with other features");
        assert!(start.queues.is_sorted_by_key(|queue| queue.index), "queues out of order");
        self.live = true;
        for queue in &start.queues {
            self.take(queue);
        }
    }

    pub(super) fn start_queue(&mut self, queue: &Queue) {
        assert!(self.live, "a queue of a device that does not run");
        self.take(queue);
    }

    pub(super) fn reset_queue(&mut self, index: u16) {
        assert!(self.live && !self.resetting);
        assert!(std::mem::take(self.place(index)), "reset of a queue that the device has not");
    }

    pub(super) fn write_config(&self) {
        assert!(!self.resetting, "written during a reset");
    }

    pub(super) fn reset(&mut self) {
        (self.agreed, self.live, self.resetting) = (None, false, true);
        self.queues.fill(false);
    }

    pub(super) fn is_reset(&mut self) {
        self.resetting = false;
    }

    fn take(&mut self, queue: &Queue) {
        assert!(!self.resetting);
        assert!(
            (1..=self.max_queue_size).contains(&queue.size),
            "a queue of {} entries",
            queue.size
        );
        let packed = self.agreed.is_some_and(|agreed| agreed.has(features::RING_PACKED));
        assert!(packed || queue.size.is_power_of_two(), "a split ring of {} entries", queue.size);
        let place = self.place(queue.index);
        assert!(!*place, "queue {} handed over twice", queue.index);
        *place = true;
    }

    fn place(&mut self, index: u16) -> &mut bool {
        let Some(place) = self.queues.get_mut(usize::from(index)) else {
            panic!("queue {index} does not exist");
        };
        place
    }
}
