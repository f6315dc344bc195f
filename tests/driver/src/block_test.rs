//! The block driver against a disk on `virtio-queue` in the same thread, and against one behind
//! `vhost-user-backend` and a socket.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::thread;

use proptest::prelude::*;
use vhost::vhost_user::Listener;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::QueueT;
use virtio_spec::block::RequestHeader;
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, VERSION_1, mask};
use virtio_spec::vhost_user::F_PROTOCOL_FEATURES;
use virtio_spec::{DeviceType, Negotiated, Offered};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use super::*;
use crate::ram_disk::{RamDisk, device_side, mapped};
use crate::{DirectNotifier, FrontEnd, Negotiation, Notifier, Placement, RingEvents, Watch};

const SECTORS: u64 = 64;

/// A disk whose device is served at each kick.
fn direct_disk(bits: &[u32], layout: Layout) -> Disk<impl Notifier> {
    let negotiated = Negotiated::assume(Offered::of(bits).with(VERSION_1).bits());
    let memory = Memory::new(1 << 20).unwrap();
    let queue = Queue::new(&memory, 64, negotiated).unwrap();
    queue.watch(&Watch::agreed(DeviceType::BLOCK, negotiated).unwrap(), 0).unwrap();
    let mut device = device_side(queue.addresses(), 64, negotiated);
    let (mapped, mut disk) = (mapped(&memory), RamDisk::new(SECTORS));
    let serve = move || {
        loop {
            while let Some(chain) = device.pop_descriptor_chain(&mapped) {
                let head = chain.head_index();
                let written = disk.serve(&mapped, chain);
                device.add_used(&mapped, head, written).unwrap();
            }
            if !device.enable_notification(&mapped).unwrap() {
                return Ok(());
            }
        }
    };
    Disk::new(BlockQueue::new(queue, &memory), DirectNotifier(serve)).with_layout(layout)
}

#[test]
fn every_request_does_what_it_says() {
    let mut disk = direct_disk(&[], Layout::default());
    disk.write(3, &[0xaa; 1024]).unwrap();
    disk.flush().unwrap();
    assert_eq!(disk.read(3, 1024).unwrap(), [0xaa; 1024]);
    disk.write_zeroes(3, 1, false).unwrap();
    assert_eq!(disk.read(3, 512).unwrap(), [0; 512]);
    disk.discard(4, 1).unwrap();
    assert_eq!(disk.read(4, 512).unwrap(), [0; 512]);
    assert_eq!(disk.get_id().unwrap(), "ram-disk");
}

#[test]
fn a_bad_status_is_an_error_that_names_the_request() {
    let mut disk = direct_disk(&[], Layout::default());
    let error = disk.read(SECTORS, 512).unwrap_err();
    assert!(matches!(error, Error::Status { status: Some(Status::IoErr), number: 1, .. }));
    assert!(error.to_string().contains("a read of 1 sectors at 64"), "{error}");
    let header = RequestHeader { request_type: 99, reserved: 0, sector: 0 };
    let done = disk.run(Operation::Raw { header, data: vec![1], room: 5 }).unwrap();
    assert_eq!(done.status, Status::Unsupported.number());
}

#[test]
fn requests_overlap_and_are_told_apart() {
    let mut disk = direct_disk(&[EVENT_IDX], Layout::default());
    let writes = (0..8_u8).map(|n| Operation::Write { sector: n.into(), data: vec![n; 512] });
    disk.submit_all(writes).unwrap();
    assert_eq!(disk.wait_for_all().unwrap().len(), 8);
    let reads = (0..8).map(|sector| Operation::Read { sector, len: 512 });
    let tokens = disk.submit_all(reads).unwrap();
    for (n, token) in (0..8_u8).zip(tokens).rev() {
        assert_eq!(disk.wait_for(token).unwrap().into_data().unwrap(), [n; 512]);
    }
}

#[test]
fn a_device_that_does_nothing_costs_the_time_limit() {
    let memory = Memory::new(1 << 16).unwrap();
    let queue = Queue::new(&memory, 4, Negotiated::NONE).unwrap();
    let mut disk = Disk::new(BlockQueue::new(queue, &memory), RingEvents::new().unwrap())
        .with_limit(std::time::Duration::from_millis(20));
    let error = disk.flush().unwrap_err();
    assert_eq!(error.to_string(), "waited in vain for one of 1 block requests to be used");
}

fn layouts() -> impl Strategy<Value = Layout> {
    let sizes = || prop::collection::vec(1_usize..100, 0..6);
    let cut = prop_oneof![
        Just(Cut::Usual),
        Just(Cut::Whole),
        (40_usize..200).prop_map(Cut::Every),
        (sizes(), sizes()).prop_map(|(readable, writable)| Cut::At { readable, writable }),
    ];
    let placement = prop_oneof![
        Just(Placement::Direct),
        Just(Placement::Indirect),
        (0_usize..4).prop_map(Placement::Mixed),
    ];
    (cut, placement).prop_map(|(cut, placement)| Layout { cut, placement })
}

proptest! {
    #[test]
    fn data_goes_there_and_back_in_every_layout(
        layout in layouts(),
        data in prop::collection::vec(0_u8.., 1024),
    ) {
        let mut disk = direct_disk(&[INDIRECT_DESC], layout);
        disk.write(1, &data).unwrap();
        prop_assert_eq!(disk.read(1, 1024).unwrap(), data);
        disk.flush().unwrap();
        prop_assert_eq!(disk.get_id().unwrap(), "ram-disk");
    }
}

/// A disk for `vhost-user-backend`.
struct Foreign {
    disk: RamDisk,
    memory: Option<GuestMemoryAtomic<GuestMemoryMmap>>,
}

impl VhostUserBackendMut for Foreign {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        128
    }

    fn features(&self) -> u64 {
        [VERSION_1, EVENT_IDX, INDIRECT_DESC, F_PROTOCOL_FEATURES].map(mask).iter().sum()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let space = SECTORS.to_le_bytes();
        space[offset as usize..(offset + size) as usize].to_vec()
    }

    fn update_memory(&mut self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn handle_event(
        &mut self,
        _device_event: u16,
        _events: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        let memory = self.memory.as_ref().unwrap().memory();
        loop {
            vrings[0].disable_notification().unwrap();
            loop {
                let chain = vrings[0].get_mut().get_queue_mut().pop_descriptor_chain(&*memory);
                let Some(chain) = chain else { break };
                let head = chain.head_index();
                let written = self.disk.serve(&memory, chain);
                vrings[0].add_used(head, written).unwrap();
            }
            if vrings[0].needs_notification().unwrap() {
                vrings[0].signal_used_queue().unwrap();
            }
            if !vrings[0].enable_notification().unwrap() {
                return Ok(());
            }
        }
    }
}

/// Starts a back-end on `vhost-user-backend` that serves one connection.
fn foreign_back_end(path: PathBuf) {
    let backend = Arc::new(RwLock::new(Foreign { disk: RamDisk::new(SECTORS), memory: None }));
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut daemon = VhostUserDaemon::new("foreign".into(), backend, memory).unwrap();
    thread::spawn(move || {
        let mut listener = Listener::new(path, true).unwrap();
        daemon.start(&mut listener).unwrap();
        let _ = daemon.wait();
    });
}

#[test]
fn a_disk_by_other_authors_is_driven_over_a_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.sock");
    foreign_back_end(path.clone());
    let memory = Memory::new(1 << 20).unwrap();
    let front_end = FrontEnd::connect(&path, &memory).unwrap();
    let mut front_end = front_end.of_device(DeviceType::BLOCK);
    let wanted = Negotiation::new(mask(EVENT_IDX) | mask(INDIRECT_DESC));
    let negotiated = front_end.negotiate(&wanted).unwrap();
    assert!(negotiated.has(EVENT_IDX));
    front_end.share_memory().unwrap();
    let capacity = front_end.read_config(0, 8).unwrap();
    assert_eq!(capacity, SECTORS.to_le_bytes());

    let queue = front_end.queue(0, 128).unwrap();
    let events = front_end.start_ring(0, &queue, 0).unwrap();
    let layout = Layout::placed(Placement::Indirect);
    let mut disk = Disk::new(BlockQueue::new(queue, &memory), events).with_layout(layout);
    for round in 0..100_u8 {
        let sector = u64::from(round) % SECTORS;
        disk.write(sector, &[round; 512]).unwrap();
        assert_eq!(disk.read(sector, 512).unwrap(), [round; 512]);
    }
    let (block, _) = disk.into_parts();

    // Stopped and started again where it stopped.
    let base = front_end.stop_ring(0).unwrap();
    assert_eq!(base, 200);
    let mut block = block;
    let events = front_end.start_ring(0, block.queue(), base).unwrap();
    let mut disk = Disk::new(block, events);
    assert_eq!(disk.read(1, 512).unwrap(), [65; 512]);
}
