//! The driver's and the machine's side of a device under test.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use driver::{Deadline, Memory, Notifier, Queue};
use front_end::{Config, FrontEnd, Hooks, Region, Source};
use hypervisor::GuestAddress;
use rustix::event::PollFlags;
use virtio_pci::{Device, Event, Notices, Start};
use virtio_spec::features::{RING_PACKED, VERSION_1, mask};
use virtio_spec::{DeviceType, Negotiated};

/// Long enough for everything that happens at all.
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// A device, and the guest that it belongs to.
pub(crate) struct Guest {
    pub(crate) device: Arc<FrontEnd>,
    pub(crate) memory: Memory,
    pub(crate) told: Arc<Told>,
    pub(crate) events: Vec<(Arc<Event>, Arc<Event>)>,
}

/// What the driver and the machine were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) config_changes: AtomicU32,
    pub(crate) needs_reset: AtomicU32,
    pub(crate) lost: Mutex<Vec<String>>,
}

impl Notices for Told {
    fn config_changed(&self) {
        self.config_changes.fetch_add(1, Ordering::SeqCst);
    }

    fn needs_reset(&self) {
        self.needs_reset.fetch_add(1, Ordering::SeqCst);
    }
}

impl Guest {
    /// A block device with short time limits, before anybody has waited for it.
    pub(crate) fn new(source: impl Source + 'static, adapt: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new("test", DeviceType::BLOCK);
        config.limits.reply = Duration::from_millis(500);
        config.limits.first = config.limits.reply;
        config.limits.drain = Duration::from_millis(700);
        adapt(&mut config);
        let memory = Memory::new(4 << 20).unwrap();
        let told = Arc::new(Told::default());
        let lost = Arc::clone(&told);
        let hooks = Hooks {
            lost: Arc::new(move |why: &str| lost.lost.lock().unwrap().push(why.to_owned())),
            ..Hooks::default()
        };
        let device = FrontEnd::spawn(config, Box::new(source), regions(&memory), hooks).unwrap();
        device.subscribe(Arc::clone(&told) as Arc<dyn Notices>);
        let event = || Arc::new(Event::new().unwrap());
        let events = (0..4).map(|_| (event(), event())).collect();
        Self { device, memory, told, events }
    }

    /// A device whose handshake is over.
    pub(crate) fn ready(source: impl Source + 'static) -> Self {
        let guest = Self::new(source, |_| ());
        guest.device.wait_until_ready(Instant::now() + LONG).unwrap();
        guest
    }

    pub(crate) fn negotiate(&self, packed: bool) -> Negotiated {
        let mut features = self.device.offered().bits();
        if !packed {
            features &= !mask(RING_PACKED);
        }
        let features = Negotiated::assume(features | mask(VERSION_1));
        assert!(self.device.accept_features(features));
        features
    }

    /// Drives the device with new queues of 64 entries.
    pub(crate) fn start(&self, packed: bool, count: u16) -> Vec<Queue> {
        let features = self.negotiate(packed);
        let new = |_| Queue::new(&self.memory, 64, features).unwrap();
        let queues: Vec<Queue> = (0..count).map(new).collect();
        let pci = (0..).zip(&queues).map(|(index, queue)| self.pci_queue(index, queue)).collect();
        self.device.start(Start { features, queues: pci });
        queues
    }

    pub(crate) fn pci_queue(&self, index: u16, queue: &Queue) -> virtio_pci::Queue {
        let at = queue.addresses();
        let (kick, call) = self.events[usize::from(index)].clone();
        virtio_pci::Queue {
            index,
            size: queue.size(),
            desc: GuestAddress(at.descriptor),
            driver: GuestAddress(at.driver),
            device: GuestAddress(at.device),
            kick,
            call,
        }
    }

    /// The way to queue `index` and back.
    pub(crate) fn doorbell(&self, index: u16) -> Doorbell {
        let (kick, call) = self.events[usize::from(index)].clone();
        Doorbell { kick, call }
    }

    /// Waits until a queue runs, as reports have it.
    pub(crate) fn wait_running(&self) {
        self.wait("its queues run", || {
            let report = self.device.report();
            report.live && report.queues.iter().all(|queue| queue.state == "running")
        });
    }

    /// Waits until something holds.
    pub(crate) fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + LONG;
        while !holds() {
            assert!(Instant::now() < until, "waited in vain until {what}: {:?}", self.device);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn reset(&self) {
        self.device.reset();
        self.wait("the reset is over", || self.device.is_reset());
    }
}

/// The regions of the driver's memory.
fn regions(memory: &Memory) -> Vec<Region> {
    let region = |place: virtio_spec::vhost_user::MemoryRegion| Region {
        guest_addr: place.guest_addr,
        size: place.size,
        user_addr: place.user_addr,
        file: Arc::new(memory.file(place.guest_addr).unwrap()),
        offset: place.mmap_offset,
    };
    memory.regions().into_iter().map(region).collect()
}

/// The eventfds of a queue.
pub(crate) struct Doorbell {
    kick: Arc<Event>,
    call: Arc<Event>,
}

impl Notifier for Doorbell {
    fn kick(&mut self) -> driver::Result<()> {
        self.kick.signal();
        Ok(())
    }

    fn wait(&mut self, deadline: Deadline) -> driver::Result<bool> {
        deadline.wait(self.call.as_fd(), PollFlags::IN)?;
        Ok(self.call.take())
    }
}
