//! Guest memory and the dirty log.

use virtio_spec::vhost_user::{F_LOG_ALL, Log, VringAddrFlags};

use super::*;

fn add(bench: &mut Bench, guest: u64, size: u64) -> Seen {
    let (region, fd) = region(guest, USER + guest, size);
    bench.ask_ack(Request::AddMemReg(region, fd))
}

#[test]
fn regions_come_and_go_one_by_one() {
    let mut bench = Bench::negotiated();
    assert_eq!(bench.ask(Request::GetMaxMemSlots).number(), 509);
    assert!(add(&mut bench, 0, 4096).acked());
    assert!(add(&mut bench, 4096, 8192).acked());
    let (gone, _) = region(4096, USER + 4096, 8192);
    bench.tell(Request::RemMemReg(gone));
    assert!(!bench.ask_ack(Request::RemMemReg(gone)).acked(), "it is gone already");
    assert_eq!(bench.session.memory.regions().len(), 1);
}

#[test]
fn a_region_is_found_by_addresses_and_size() {
    let mut bench = Bench::negotiated();
    assert!(add(&mut bench, 0, 8192).acked());
    let (right, _) = region(0, USER, 8192);
    for wrong in [
        MemoryRegion { guest_addr: 4096, ..right },
        MemoryRegion { user_addr: USER + 1, ..right },
        MemoryRegion { size: 4096, ..right },
    ] {
        assert!(!bench.ask_ack(Request::RemMemReg(wrong)).acked());
    }
    bench.tell(Request::RemMemReg(MemoryRegion { mmap_offset: 77, ..right }));
}

#[test]
fn bad_regions_are_refused_and_the_table_stays() {
    let mut bench = Bench::negotiated();
    assert!(add(&mut bench, 0, 8192).acked());
    let (good, _) = region(0x10000, USER + 0x10000, 4096);
    for bad in [
        MemoryRegion { guest_addr: 4096, ..good },
        MemoryRegion { user_addr: USER + 4096, ..good },
        MemoryRegion { size: 0, ..good },
        MemoryRegion { size: 8192, ..good },
        MemoryRegion { mmap_offset: 4096, ..good },
        MemoryRegion { mmap_offset: u64::MAX - 4095, ..good },
        MemoryRegion { guest_addr: u64::MAX - 4095, ..good },
        MemoryRegion { size: u64::MAX, ..good },
    ] {
        assert!(!bench.ask_ack(Request::AddMemReg(bad, memfd(4096))).acked(), "{bad:?}");
    }
    assert_eq!(bench.session.memory.regions().len(), 1);
}

#[test]
fn there_are_509_slots_and_no_more() {
    let mut bench = Bench::negotiated();
    for slot in 0..509 {
        assert!(add(&mut bench, slot * 4096, 4096).acked(), "slot {slot}");
    }
    assert!(!add(&mut bench, 509 * 4096, 4096).acked());
}

#[test]
fn workers_switch_tables_before_the_reply() {
    let mut bench = Bench::running();
    bench.told();
    let (more, fd) = region(1 << 20, USER + (1 << 20), 4096);
    assert!(matches!(bench.say(Request::AddMemReg(more, fd), true), Seen::Waits));
    assert!(matches!(&bench.told()[..], [Command::Memory { release: false, .. }]));
    assert!(bench.answer().unwrap().acked());

    assert!(matches!(bench.say(Request::RemMemReg(more), true), Seen::Waits));
    assert!(matches!(&bench.told()[..], [Command::Memory { release: true, .. }]));
    assert!(bench.answer().unwrap().acked());

    bench.tell(Request::SetMemTable(vec![region(0, USER, 1 << 20)]));
    assert!(matches!(&bench.told()[..], [Command::Memory { release: false, .. }]));
}

#[test]
fn descriptors_of_removed_memory_are_closed() {
    let mut bench = Bench::negotiated();
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    for _ in 0..50 {
        assert!(add(&mut bench, 0, 4096).acked());
        bench.tell(Request::RemMemReg(region(0, USER, 4096).0));
    }
    // Other tests run in other threads; fifty of ours would show.
    assert!(open() < before + 40);
}

fn log(size: u64) -> Request {
    Request::SetLogBase(Log { mmap_size: size, mmap_offset: 0 }, Some(memfd(4096)))
}

#[test]
fn the_dirty_log_is_replied_to_and_reaches_workers() {
    let mut bench = Bench::running();
    bench.told();
    assert!(bench.ask(log(4096)).acked(), "a reply though none was asked for");
    assert!(bench.told().is_empty(), "not in use yet");
    bench.tell(Request::SetFeatures(FEATURES | mask(F_LOG_ALL)));
    assert!(matches!(&bench.told()[..], [Command::Log(Some(_))]));
    assert!(bench.ask(log(4096)).acked());
    assert!(matches!(&bench.told()[..], [Command::Log(Some(_))]));
    bench.tell(Request::SetFeatures(FEATURES));
    assert!(matches!(&bench.told()[..], [Command::Log(None)]));
    bench.tell(Request::SetLogFd(event()));
}

#[test]
fn a_log_that_cannot_be_mapped_is_refused() {
    let mut bench = Bench::negotiated();
    assert!(!bench.ask(log(8192)).acked(), "past the end of its file");
    let skewed = Log { mmap_size: 1024, mmap_offset: 7 };
    assert!(!bench.ask(Request::SetLogBase(skewed, Some(memfd(4096)))).acked());
    let empty = Log { mmap_size: 0, mmap_offset: 0 };
    assert!(!bench.ask(Request::SetLogBase(empty, Some(memfd(4096)))).acked());
    let nothing = Log { mmap_size: 4096, mmap_offset: 0 };
    assert!(matches!(bench.ask(Request::SetLogBase(nothing, None)), Seen::Closed(_)));
}

#[test]
fn a_used_ring_is_logged_inside_the_log() {
    let mut bench = Bench::running();
    bench.told();
    // One byte of log stands for 32 KiB.
    assert!(bench.ask(log(1)).acked());
    let flags = VringAddrFlags::LOG.bits();
    let inside = VringAddr { flags, log: 0x7000, ..addresses(0) };
    bench.tell(Request::SetVringAddr(inside));
    assert!(matches!(bench.told()[..], [Command::UsedLog { queue: 0, at: Some(0x7000) }]));
    for log in [0x8000, 0x7fff - 64, u64::MAX - 8] {
        let outside = VringAddr { log, ..inside };
        assert!(!bench.ask_ack(Request::SetVringAddr(outside)).acked(), "{log:#x}");
    }
    assert!(bench.told().is_empty());
    bench.tell(Request::SetVringAddr(addresses(0)));
    assert!(matches!(bench.told()[..], [Command::UsedLog { queue: 0, at: None }]));
}
