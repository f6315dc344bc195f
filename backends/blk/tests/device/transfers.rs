//! Transfers that come out short, fail, or have to be tried again.

use driver::Operation;
use outrigger_blk::disk::MAIN;
use rustix::io::Errno;
use virtio_spec::block::Status;

use crate::guest::{DISK, Setup, pattern};
use crate::medium::{Asked, Fault, When};

#[test]
fn a_short_read_is_continued() {
    for when in [When::AtOnce, When::Later] {
        let mut guest = Setup::default().start();
        guest.medium.lock().when = when;
        guest.medium.lock().faults.extend([Fault::Short(1000), Fault::Short(1)]);
        assert!(guest.read(8, 4096) == pattern()[4096..8192]);
        assert_eq!(
            guest.medium.lock().asked,
            [
                Asked::Read { file: MAIN, offset: 4096, len: 4096 },
                Asked::Read { file: MAIN, offset: 5096, len: 3096 },
                Asked::Read { file: MAIN, offset: 5097, len: 3095 },
            ]
        );
    }
}

#[test]
fn a_short_write_is_continued() {
    let mut guest = Setup::default().start();
    guest.medium.lock().faults.extend([Fault::Short(1000), Fault::Short(3000)]);
    let data: Vec<u8> = (0..4096).map(|n| (n % 239) as u8).collect();
    guest.write(8, &data);
    assert!(guest.medium.lock().bytes[4096..8192] == data);
    assert_eq!(guest.medium.lock().asked.len(), 3);
}

/// The class "short I/O reported as OK" (CVE-2011-1750).
#[test]
fn short_io_is_not_reported_as_ok() {
    let mut guest = Setup::default().start();
    // The image was cut after the device learnt its size.
    guest.medium.lock().bytes.truncate(DISK / 2 + 100);
    let sector = (DISK / 2 / 512) as u64;
    let done = guest.run(Operation::Read { sector, len: 4096 });
    assert_eq!(done.status, Status::IoErr.number());
    assert_eq!(done.written, Some(100));
    let status = guest.status(Operation::Write { sector: sector + 1, data: vec![1; 512] });
    assert_eq!(status, Status::IoErr);
}

#[test]
fn a_disk_that_fails_is_an_error_to_the_driver_and_no_more() {
    let mut guest = Setup::default().start();
    for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::NOMEM, Errno::NXIO] {
        guest.medium.lock().faults.push_back(Fault::Error(errno));
        let status = guest.status(Operation::Write { sector: 0, data: vec![1; 512] });
        assert_eq!(status, Status::IoErr);
        guest.medium.lock().faults.push_back(Fault::Error(errno));
        assert_eq!(guest.status(Operation::Read { sector: 0, len: 512 }), Status::IoErr);
    }
    guest.assert_alive();
}

#[test]
fn a_transfer_that_fails_half_way_says_how_far_it_came() {
    let mut guest = Setup::default().start();
    guest.medium.lock().faults.extend([Fault::Short(512), Fault::Error(Errno::IO)]);
    let done = guest.run(Operation::Read { sector: 0, len: 4096 });
    assert_eq!((done.status, done.written), (Status::IoErr.number(), Some(512)));
}

#[test]
fn an_interrupted_operation_is_tried_again_but_not_for_ever() {
    for (when, errno) in [(When::AtOnce, Errno::INTR), (When::Later, Errno::AGAIN)] {
        let mut guest = Setup::default().start();
        guest.medium.lock().when = when;
        guest.medium.lock().faults.extend([Fault::Error(errno); 16]);
        assert!(guest.read(0, 512) == pattern()[..512]);
        guest.medium.lock().faults.extend([Fault::Error(errno); 100]);
        assert_eq!(guest.status(Operation::Read { sector: 0, len: 512 }), Status::IoErr);
        assert_eq!(guest.medium.lock().faults.len(), 100 - 17);
    }
}
