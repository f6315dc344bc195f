//! The in-flight region.

use virtio_spec::features::RING_PACKED;
use virtio_spec::vhost_user::Inflight;
use virtio_spec::vhost_user::inflight::{packed_region_size, split_region_size};

use super::*;

fn shape(num_queues: u16, queue_size: u16) -> Inflight {
    Inflight { mmap_size: 0, mmap_offset: 0, num_queues, queue_size }
}

#[test]
fn a_region_is_made_and_comes_back() {
    let mut bench = Bench::negotiated();
    let made = bench.ask(Request::GetInflightFd(shape(2, 128)));
    let Seen::Reply(Reply::Inflight(region, fd)) = made else { panic!("{made:?}") };
    let annex = 2 * split_region_size(256) as u64;
    assert_eq!(region.mmap_size, 2 * split_region_size(128) as u64 + annex);
    assert_eq!((region.num_queues, region.queue_size, region.mmap_offset), (2, 128, 0));
    assert!(rustix::fs::ftruncate(&fd, 0).is_err(), "it is sealed");
    bench.tell(Request::SetInflightFd(region, fd));
    bench.start(1);
    let told = bench.told();
    let Some(Command::Start(setup)) = told.first() else { panic!("{told:?}") };
    let area = setup.in_flight.as_ref().unwrap();
    assert_eq!((area.offset, area.size), (split_region_size(128), 128));
}

/// SeaBIOS sets up rings of 256 descriptors where QEMU says 128, to the back-end too.
#[test]
fn rings_larger_than_announced_have_a_place_in_the_annex() {
    let mut bench = Bench::negotiated();
    let made = bench.ask(Request::GetInflightFd(shape(2, 128)));
    let Seen::Reply(Reply::Inflight(region, fd)) = made else { panic!("{made:?}") };
    bench.tell(Request::SetInflightFd(region, fd));
    bench.set_up(1);
    bench.tell(Request::SetVringNum(VringState { index: 1, num: 256 }));
    bench.tell(Request::SetVringKick { index: 1, fd: None });
    let told = bench.told();
    let Some(Command::Start(setup)) = told.first() else { panic!("{told:?}") };
    let area = setup.in_flight.as_ref().unwrap();
    assert_eq!(
        (area.offset, area.size),
        (2 * split_region_size(128) + split_region_size(256), 256)
    );
    assert_eq!(area.mapping.len() as u64, region.mmap_size);
}

#[test]
fn impossible_shapes_are_refused() {
    let mut bench = Bench::negotiated();
    for (queues, size) in [(0, 64), (5, 64), (u16::MAX, 64), (1, 0), (1, 257), (1, u16::MAX)] {
        let error = Bench::negotiated().ask(Request::GetInflightFd(shape(queues, size))).error();
        assert!(matches!(error, Error::InFlightShape { .. }), "{error}");
        let region = Inflight { mmap_size: 1 << 20, ..shape(queues, size) };
        assert!(!bench.ask_ack(Request::SetInflightFd(region, memfd(1 << 20))).acked());
    }
}

#[test]
fn a_region_has_the_size_it_says_and_needs() {
    let mut bench = Bench::negotiated();
    let needed = 4 * split_region_size(256) as u64;
    let good = Inflight { mmap_size: needed, ..shape(4, 256) };
    for (region, file) in [
        (Inflight { mmap_size: needed - 1, ..good }, needed),
        (good, needed - 1),
        (Inflight { mmap_offset: 4096, ..good }, needed),
        (Inflight { mmap_offset: u64::MAX, ..good }, needed),
        (Inflight { mmap_offset: 1, ..good }, 2 * needed),
    ] {
        assert!(!bench.ask_ack(Request::SetInflightFd(region, memfd(file))).acked(), "{region:?}");
    }
    bench
        .tell(Request::SetInflightFd(Inflight { mmap_offset: 4096, ..good }, memfd(needed + 4096)));
}

#[test]
fn rings_that_have_no_place_in_the_region_do_not_start() {
    let mut bench = Bench::negotiated();
    // Another back-end has made it, without an annex.
    let size = 2 * split_region_size(32) as u64;
    let region = Inflight { mmap_size: size, ..shape(2, 32) };
    bench.tell(Request::SetInflightFd(region, memfd(size)));
    bench.set_up(2);
    let kick = |index| Request::SetVringKick { index, fd: None };
    assert!(!bench.ask_ack(kick(2)).acked(), "two queues have a place");
    bench.set_up(1);
    assert!(!bench.ask_ack(kick(1)).acked(), "64 descriptors do not fit");
    bench.tell(Request::SetVringNum(VringState { index: 1, num: 16 }));
    bench.tell(kick(1));
    let other = Request::SetInflightFd(region, memfd(size));
    assert!(!bench.ask_ack(other).acked(), "not while a ring runs");
}

#[test]
fn a_region_for_split_rings_is_too_small_for_packed_ones() {
    let mut bench = Bench::negotiated();
    let size = split_region_size(64) as u64;
    assert!(size < packed_region_size(64) as u64);
    bench.tell(Request::SetInflightFd(Inflight { mmap_size: size, ..shape(1, 64) }, memfd(size)));
    bench.tell(Request::SetFeatures(FEATURES | mask(RING_PACKED)));
    bench.set_up(0);
    assert!(!bench.ask_ack(Request::SetVringKick { index: 0, fd: None }).acked());
}
