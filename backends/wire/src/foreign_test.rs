//! Requests and replies against the front-end of the `vhost` crate: what others encode, we decode,
//! and the other way round.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use vhost::VhostBackend;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserProtocolFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostUserDirtyLogRegion, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_spec::vhost_user::{Inflight, ProtocolFeatures, VringState};
use vmm_sys_util::eventfd::EventFd;

use crate::{Channel, Config, Reply, Request};

/// Bit 30: protocol features; bit 26: the dirty log.
const FEATURES: u64 = 1 << 30 | 1 << 26;

/// Answers requests until the front-end leaves; returns their names and descriptors.
fn answer_all(socket: OwnedFd) -> Vec<String> {
    let mut channel = Channel::new(socket);
    let mut seen = Vec::new();
    loop {
        let frame = match channel.receive() {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                poll(&mut [PollFd::new(&channel, PollFlags::IN)], None).unwrap();
                continue;
            }
            Err(_) => return seen,
        };
        let (code, need_reply) = (frame.code, frame.need_reply);
        let request = Request::decode(frame).unwrap();
        seen.push(request.name());
        let due = request.has_reply() || need_reply;
        let reply = answer(request);
        if due {
            channel.queue(reply.encode(code)).unwrap();
            assert!(channel.flush().unwrap());
        }
    }
}

fn answer(request: Request) -> Reply {
    match request {
        Request::GetFeatures => Reply::U64(FEATURES),
        Request::GetProtocolFeatures => Reply::U64(ProtocolFeatures::all().bits()),
        Request::GetQueueNum | Request::GetMaxMemSlots => Reply::U64(8),
        Request::CheckDeviceState => Reply::U64(0),
        Request::GetVringBase { index } => Reply::VringState(VringState { index, num: 77 }),
        Request::GetConfig(access) => Reply::Config(Config {
            offset: access.offset,
            flags: access.flags,
            data: (0..).take(access.size as usize).collect(),
        }),
        Request::GetInflightFd(wish) => {
            Reply::Inflight(Inflight { mmap_size: 4096, ..wish }, null())
        }
        Request::SetDeviceStateFd { .. } => Reply::DeviceState { error: 0, fd: None },
        Request::SetMemTable(table) => {
            assert_eq!((table.len(), table[0].0.guest_addr, table[0].0.size), (1, 0, 4096));
            Reply::ack(true)
        }
        Request::SetVringAddr(at) => {
            assert_eq!((at.descriptor, at.used, at.available), (0x1000, 0x2000, 0x3000));
            Reply::ack(true)
        }
        Request::SetVringKick { index, fd } => {
            assert!(index == 1 && fd.is_some());
            Reply::ack(true)
        }
        Request::SetConfig { access, data } => {
            assert_eq!((access.offset, data), (32, vec![1]));
            Reply::ack(true)
        }
        Request::SetLogBase(log, Some(_)) => Reply::Log(log),
        Request::Unknown { code } => panic!("request {code} is not known"),
        _ => Reply::ack(true),
    }
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

#[test]
fn the_vhost_crates_front_end_is_understood_and_understands() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let back_end = thread::spawn(move || answer_all(ours.into()));
    let mut front_end = Frontend::from_stream(theirs, 8);
    negotiate(&mut front_end);
    set_up_rings(&mut front_end);
    ask_about_the_device(&mut front_end);
    drop(front_end);
    let seen = back_end.join().unwrap();
    assert_eq!(seen.len(), 26, "{seen:?}");
}

fn negotiate(front_end: &mut Frontend) {
    front_end.set_owner().unwrap();
    assert_eq!(front_end.get_features().unwrap(), FEATURES);
    front_end.set_features(FEATURES).unwrap();
    let offered = front_end.get_protocol_features().unwrap();
    assert_eq!(offered, VhostUserProtocolFeatures::all());
    front_end.set_protocol_features(offered).unwrap();
    front_end.set_hdr_flags(vhost::vhost_user::message::VhostUserHeaderFlag::NEED_REPLY);
    assert_eq!(front_end.get_queue_num().unwrap(), 8);
}

fn set_up_rings(front_end: &mut Frontend) {
    let file = File::open("/dev/null").unwrap();
    let region = VhostUserMemoryRegionInfo {
        guest_phys_addr: 0,
        memory_size: 4096,
        userspace_addr: 0x1000,
        mmap_offset: 0,
        mmap_handle: file.as_raw_fd(),
    };
    front_end.set_mem_table(&[region]).unwrap();
    front_end.add_mem_region(&region).unwrap();
    front_end.remove_mem_region(&region).unwrap();
    assert_eq!(front_end.get_max_mem_slots().unwrap(), 8);
    front_end.set_vring_num(1, 256).unwrap();
    let addresses = VringConfigData {
        queue_max_size: 256,
        queue_size: 256,
        flags: 0,
        desc_table_addr: 0x1000,
        used_ring_addr: 0x2000,
        avail_ring_addr: 0x3000,
        log_addr: None,
    };
    front_end.set_vring_addr(1, &addresses).unwrap();
    front_end.set_vring_base(1, 5).unwrap();
    let event = EventFd::new(0).unwrap();
    front_end.set_vring_call(1, &event).unwrap();
    front_end.set_vring_err(1, &event).unwrap();
    front_end.set_vring_kick(1, &event).unwrap();
    front_end.set_vring_enable(1, true).unwrap();
    assert_eq!(front_end.get_vring_base(1).unwrap(), 77);
    front_end.reset_device().unwrap();
    let log =
        VhostUserDirtyLogRegion { mmap_size: 4096, mmap_offset: 0, mmap_handle: file.as_raw_fd() };
    front_end.set_log_base(0, Some(log)).unwrap();
}

fn ask_about_the_device(front_end: &mut Frontend) {
    let (_, bytes) = front_end.get_config(0, 4, VhostUserConfigFlags::WRITABLE, &[0; 4]).unwrap();
    assert_eq!(bytes, [0, 1, 2, 3]);
    front_end.set_config(32, VhostUserConfigFlags::WRITABLE, &[1]).unwrap();
    let wish = VhostUserInflight::new(0, 0, 2, 128);
    let (inflight, file) = front_end.get_inflight_fd(&wish).unwrap();
    assert_eq!((inflight.num_queues, inflight.queue_size), (2, 128));
    front_end.set_inflight_fd(&inflight, file.as_raw_fd()).unwrap();
    let channel = front_end
        .set_device_state_fd(
            VhostTransferStateDirection::SAVE,
            VhostTransferStatePhase::STOPPED,
            null(),
        )
        .unwrap();
    assert!(channel.is_none());
    front_end.check_device_state().unwrap();
}
