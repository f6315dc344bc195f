//! Classes about what runs: rings that are kicked, called, moved and lost, through the socket of a
//! daemon.

use std::os::fd::OwnedFd;
use std::time::Duration;

use driver::{Deadline, Event, FrontEnd, Memory, Negotiation, Notifier, Placement, Queue};
use rustix::fs::MemfdFlags;
use virtio_spec::vhost_user::MemoryRegion;
use wire::Request;

use crate::device::{QUEUE_SIZE, QUEUES};
use crate::served::{Guest, event, kinds, listening, memory, with_connection};

/// ubicloud pull request 3597, rust-vmm/vhost#247.
#[test]
fn a_kick_before_the_ring_is_enabled_is_lost() {
    for wanted in kinds() {
        let (served, socket) = with_connection();
        let memory = memory();
        let mut front_end = FrontEnd::new(socket, &memory);
        front_end.negotiate(&Negotiation::new(wanted)).unwrap();
        front_end.share_memory().unwrap();
        let queue = Queue::new(&memory, 16, front_end.negotiated()).unwrap();
        front_end.configure_ring(0, &queue, queue.reaped_base()).unwrap();
        let events = driver::RingEvents::new().unwrap();
        let mut guest = Guest::new(&memory, queue, events);

        // Kicked before the back-end even has the descriptor, and again while the ring is disabled.
        let first = guest.submit(b"early");
        guest.events.kick().unwrap();
        let kick = Some(guest.events.kick.share().unwrap());
        front_end.call(Request::SetVringKick { index: 0, fd: kick }).unwrap();
        let second = guest.submit(b"while disabled");
        guest.events.kick().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(guest.queue.reap().unwrap(), None, "a disabled ring is left alone");
        front_end.enable_ring(0, true).unwrap();
        guest.wait_used();
        guest.wait_used();
        assert_eq!(
            (first.to_vec(), second.to_vec()),
            (b"early".to_vec(), b"while disabled".to_vec())
        );

        // And the same when a running ring is disabled for a while.
        front_end.enable_ring(0, false).unwrap();
        let third = guest.submit(b"again");
        guest.events.kick().unwrap();
        front_end.enable_ring(0, true).unwrap();
        guest.wait_used();
        assert_eq!(third.to_vec(), b"again");
        drop(front_end);
        served.assert_ends();
    }
}

/// rust-vmm vhost-user-backend.
#[test]
fn memory_table_replaced_while_rings_run() {
    for wanted in kinds() {
        let (served, socket) = with_connection();
        let memory = memory();
        let mut front_end = FrontEnd::new(socket, &memory);
        let mut guest = Guest::start(&mut front_end, &memory, wanted);
        for round in 0..50_u8 {
            let back = guest.submit(&[round; 32]);
            guest.events.kick().unwrap();
            front_end.set_mem_table().unwrap();
            guest.wait_used();
            assert_eq!(back.to_vec(), [round; 32]);
        }
        // A table without the ring: the ring fails and says so, and nothing else happens.
        let elsewhere = Memory::with_regions(&[driver::RegionSpec::new(1 << 40, 4096)]).unwrap();
        let region = elsewhere.regions()[0];
        let file = elsewhere.file(1 << 40).unwrap();
        front_end.call(Request::SetMemTable(vec![(region, file)])).unwrap();
        assert!(guest.events.wait_for_error(Deadline::after(Deadline::DEFAULT)).unwrap());
        guest.events.kick().unwrap();
        front_end.set_mem_table().unwrap();
        // It goes on when it is started again.
        let base = front_end.stop_ring(0).unwrap();
        guest.events = front_end.start_ring(0, &guest.queue, base).unwrap();
        guest.echoes(b"again");
        drop(front_end);
        served.assert_ends();
    }
}

/// A file behind guest memory that shrinks raises SIGBUS: that connection ends, another one of the
/// same process does not notice, and the daemon serves the next.
#[test]
fn a_truncated_memfd() {
    let directory = tempfile::tempdir().unwrap();
    let (_listening, path) = listening(directory.path());
    let (_other, socket) = with_connection();
    let other_memory = memory();
    let mut other_front_end = FrontEnd::new(socket, &other_memory);
    let mut other = Guest::start(&mut other_front_end, &other_memory, 0);
    for wanted in kinds() {
        let memory = memory();
        let mut front_end = FrontEnd::connect(&path, &memory).unwrap();
        let mut guest = Guest::start(&mut front_end, &memory, wanted);
        guest.echoes(b"whole");
        rustix::fs::ftruncate(memory.file(0).unwrap(), 0).unwrap();
        guest.events.kick.signal().unwrap();
        front_end.wait_for_close().unwrap();
        other.echoes(b"not concerned");
    }
    let fresh = memory();
    let mut front_end = FrontEnd::connect(&path, &fresh).unwrap();
    Guest::start(&mut front_end, &fresh, 0).echoes(b"the next");
}

/// The same of huge pages that the host does not have: they can be mapped, and not be touched.
#[test]
fn an_empty_hugetlb_pool() {
    const HUGE: u64 = 2 << 20;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let pool = std::fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default();
    let (Ok(huge), "0") = (rustix::fs::memfd_create("huge", flags), pool.trim()) else {
        eprintln!("this machine has huge pages to give, or knows none: nothing to show");
        return;
    };
    rustix::fs::ftruncate(&huge, HUGE).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (_listening, path) = listening(directory.path());
    let memory = memory();
    {
        let mut front_end = FrontEnd::connect(&path, &memory).unwrap();
        front_end.negotiate(&Negotiation::new(0)).unwrap();
        let whole = memory.regions().into_iter().next().unwrap();
        let region = MemoryRegion { size: HUGE, ..whole };
        front_end.call(Request::SetMemTable(vec![(region, huge)])).unwrap();
        let queue = Queue::new(&memory, 16, front_end.negotiated()).unwrap();
        // The first touch may come while the ring is being set up.
        match front_end.start_ring(0, &queue, queue.reaped_base()) {
            Ok(events) => {
                events.kick.signal().unwrap();
                front_end.wait_for_close().unwrap();
            }
            Err(driver::Error::Wire(wire::Error::Closed)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let mut front_end = FrontEnd::connect(&path, &memory).unwrap();
    Guest::start(&mut front_end, &memory, 0).echoes(b"the next");
}

/// A call that would block is not made; the driver has one pending then.
#[test]
fn a_call_fd_that_blocks() {
    for wanted in kinds() {
        let (served, socket) = with_connection();
        let memory = memory();
        let mut front_end = FrontEnd::new(socket, &memory);
        let mut guest = Guest::start(&mut front_end, &memory, wanted);
        let full = event();
        rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        let (unread, pipe) = std::io::pipe().unwrap();
        let pipe = OwnedFd::from(pipe);
        rustix::pipe::fcntl_setpipe_size(&pipe, 4096).unwrap();
        rustix::io::write(&pipe, &[0; 4096]).unwrap();
        for call in [full, pipe] {
            front_end.call(Request::SetVringCall { index: 0, fd: Some(call) }).unwrap();
            for _ in 0..20 {
                guest.echoes(b"never called");
            }
        }
        assert_eq!(front_end.stop_ring(0).unwrap(), guest.queue.reaped_base());
        drop((front_end, unread));
        served.assert_ends();
    }
}

/// rust-vmm/vhost#355 and #321: wherever the front-end goes away, the daemon ends well (or serves the
/// next connection), with nothing held.
#[test]
fn the_daemon_exits_or_hangs_at_exit_when_the_front_end_goes_away() {
    type Step = fn(&mut FrontEnd, &Memory, &mut Option<Guest>);
    let steps: [Step; 9] = [
        |_, _, _| {},
        |front_end, _, _| {
            front_end.negotiate(&Negotiation::new(0)).unwrap();
        },
        |front_end, _, _| front_end.open_back_channel().unwrap(),
        |front_end, _, _| front_end.set_up_inflight(QUEUES, QUEUE_SIZE).unwrap(),
        |front_end, memory, guest| *guest = Some(Guest::start(front_end, memory, 0)),
        |_, _, guest| guest.as_mut().unwrap().echoes(b"served"),
        |_, _, guest| {
            let guest = guest.as_mut().unwrap();
            guest.submit(b"in flight");
            guest.events.kick().unwrap();
        },
        // Half a message: a header that says that more follows.
        |front_end, _, _| {
            let half = [1, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 1];
            rustix::io::write(front_end.client(), &half).unwrap();
        },
        // A request whose answer nobody is there to read.
        |front_end, _, _| {
            let _ = rustix::io::write(front_end.client(), &[0; 7]);
        },
    ];
    let directory = tempfile::tempdir().unwrap();
    let (listener, path) = listening(directory.path());
    for count in 1..=steps.len() {
        let (served, socket) = with_connection();
        let memory = memory();
        for mut front_end in
            [FrontEnd::new(socket, &memory), FrontEnd::connect(&path, &memory).unwrap()]
        {
            let mut guest = None;
            steps.iter().take(count).for_each(|step| step(&mut front_end, &memory, &mut guest));
            drop(front_end);
        }
        served.assert_ends();
    }
    let memory = memory();
    let mut front_end = FrontEnd::connect(&path, &memory).unwrap();
    Guest::start(&mut front_end, &memory, 0).echoes(b"still there");
    assert_eq!(listener.holds.load(std::sync::atomic::Ordering::SeqCst), 1);
}

/// Rings without a descriptor to be kicked by, kicked by pipes, or by what cannot be watched.
#[test]
fn kick_fds_of_other_kinds() {
    let (served, socket) = with_connection();
    let memory = memory();
    let mut front_end = FrontEnd::new(socket, &memory);
    let mut guest = Guest::start(&mut front_end, &memory, 0);
    let (kicked, mut kick) = std::io::pipe().unwrap();
    front_end.call(Request::SetVringKick { index: 0, fd: Some(kicked.into()) }).unwrap();
    for _ in 0..5 {
        let back = guest.submit(b"by pipe");
        std::io::Write::write_all(&mut kick, &[0; 8]).unwrap();
        guest.wait_used();
        assert_eq!(back.to_vec(), b"by pipe");
    }
    // The other end of the pipe closes: that is no kick, and no reason to spin or to end.
    drop(kick);
    std::thread::sleep(Duration::from_millis(20));
    let event = Event::new().unwrap();
    let fd = Some(event.share().unwrap());
    front_end.call(Request::SetVringKick { index: 0, fd }).unwrap();
    let part = memory.alloc(8).unwrap().readable();
    guest.queue.add(&[part], Placement::Direct).unwrap();
    guest.queue.publish();
    event.signal().unwrap();
    guest.wait_used();
    drop(front_end);
    served.assert_ends();
}
