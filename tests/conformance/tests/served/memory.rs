//! Guest memory: regions that come and go.

use driver::{Part, Placement, RegionSpec};
use virtio_spec::block::{RequestHeader, RequestType};
use virtio_spec::vhost_user::{ProtocolFeatures, SingleMemoryRegion};
use wire::Request;

use crate::back_end::{BOTH, BackEnd, USUAL};

const ELSEWHERE: u64 = 0x4000_0000;

/// vhost-user, ADD_MEM_REG and REM_MEM_REG, with a ring running.
#[test]
fn regions_are_mapped_and_unmapped_while_rings_run() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().unwatched().negotiated(wanted);
        let (mut queue, events) = back_end.disk(0).into_parts();
        let header =
            RequestHeader { request_type: RequestType::In.number(), reserved: 0, sector: 5 };
        let header = back_end.memory.alloc_with(&header.to_bytes()).unwrap();
        for round in 0..3 {
            let spec = RegionSpec { mmap_offset: round * 4096, ..RegionSpec::new(ELSEWHERE, 8192) };
            back_end.front_end.plug(spec).unwrap();
            let room = back_end.memory.area(ELSEWHERE + 100, 513).unwrap();
            let parts = [header.readable(), Part::writable(room.addr(), 513)];
            queue.queue().add(&parts, Placement::Direct).unwrap();
            queue.queue().publish();
            events.kick.inject().unwrap();
            while queue.queue().reap().unwrap().is_none() {
                std::thread::yield_now();
            }
            assert!(room.to_vec() == [&[5; 512][..], &[0]].concat());
            back_end.front_end.unplug(ELSEWHERE).unwrap();
        }
        // Nobody maps it any more: the chain leads nowhere.
        let parts = [header.readable(), Part::writable(ELSEWHERE, 513)];
        queue.queue().add(&parts, Placement::Direct).unwrap();
        queue.queue().publish();
        events.kick.inject().unwrap();
        assert!(events.wait_for_error(back_end.front_end.deadline()).unwrap());
        back_end.end();
    }
}

/// vhost-user, REM_MEM_REG: a descriptor that comes with it is closed, and not used.
#[test]
fn a_descriptor_that_comes_with_a_removal_is_closed() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    back_end.front_end.plug(RegionSpec::new(ELSEWHERE, 8192)).unwrap();
    let region = back_end.memory.remove_region(ELSEWHERE).unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let payload = SingleMemoryRegion { padding: 0, region }.to_bytes().to_vec();
    let code = Request::RemMemReg(region).code();
    let frame = wire::Frame::request(code, payload).with_fds(vec![writer]).needing_reply(true);
    let deadline = back_end.front_end.deadline().instant();
    back_end.front_end.client().send_frame(frame, deadline).unwrap();
    let reply = back_end.front_end.client().receive_frame(deadline).unwrap();
    assert_eq!(reply.payload, [0; 8]);
    // The end of the pipe shows that nobody has its other end any more.
    assert_eq!(rustix::io::read(&reader, &mut [0; 1]).unwrap(), 0);
    back_end.end();
}

/// vhost-user, SET_MEM_TABLE: descriptors belong to regions in their order.
#[test]
fn a_table_of_several_regions_is_mapped_in_its_order() {
    let mut back_end = BackEnd::start().unwatched();
    let protocol = ProtocolFeatures::all()
        - ProtocolFeatures::CONFIGURE_MEM_SLOTS
        - ProtocolFeatures::INBAND_NOTIFICATIONS;
    let wanted = driver::Negotiation::new(USUAL).with_protocol(protocol);
    back_end.front_end.negotiate(&wanted).unwrap();
    for n in 0..5 {
        let at = ELSEWHERE * (n + 1);
        let spec = RegionSpec { mmap_offset: n * 4096, ..RegionSpec::new(at, 4096) };
        back_end.memory.add_region(spec).unwrap();
    }
    back_end.front_end.set_mem_table().unwrap();
    let (mut queue, events) = back_end.disk(0).into_parts();
    let request_type = RequestType::In.number();
    for n in 0..5 {
        let at = ELSEWHERE * (n + 1);
        let header = RequestHeader { request_type, reserved: 0, sector: 10 + n };
        let header = back_end.memory.alloc_with(&header.to_bytes()).unwrap();
        let parts = [header.readable(), Part::writable(at + 8, 513)];
        queue.queue().add(&parts, Placement::Direct).unwrap();
        queue.queue().publish();
        events.kick.inject().unwrap();
        while queue.queue().reap().unwrap().is_none() {
            std::thread::yield_now();
        }
        let data = back_end.memory.area(at + 8, 512).unwrap().to_vec();
        assert!(data == [10 + n as u8; 512]);
    }
    back_end.end();
}

/// vhost-user, GET_MAX_MEM_SLOTS.
#[test]
fn as_many_regions_as_were_promised_are_taken() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    let slots = back_end.front_end.max_mem_slots().unwrap();
    let have = back_end.memory.regions().len() as u64;
    for n in have..slots {
        back_end.front_end.plug(RegionSpec::new(ELSEWHERE + n * 8192, 4096)).unwrap();
    }
    assert!(back_end.front_end.plug(RegionSpec::new(ELSEWHERE * 9, 4096)).is_err());
    back_end.end();
}
