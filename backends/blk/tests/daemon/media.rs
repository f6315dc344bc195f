//! Real media under real engines: what the driver sees, and what is in the image then.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use driver::Operation;
use tempfile::TempDir;
use virtio_spec::block::Status;
use virtio_spec::features::{RING_PACKED, mask};

use crate::process::{Daemon, Driver};

const BYTES: u64 = 4 << 20;

fn image(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("disk.img");
    File::create(&path).unwrap().set_len(BYTES).unwrap();
    path
}

fn sectors(count: u64, seed: u8) -> Vec<u8> {
    (0..count * 512).map(|n| (n % 249) as u8 ^ seed).collect()
}

/// Every request on a fresh device whose contents can be seen at `path`.
fn exercise(path: &Path, options: &[&str]) {
    let mut arguments = vec!["--blk-file", path.to_str().unwrap(), "--serial=disk-1"];
    arguments.extend(options);
    let daemon = Daemon::start(arguments);
    let mut driver = Driver::connect(&daemon.socket());
    let disk = &mut driver.disk;
    let file = File::open(path).unwrap();
    let in_image = |sector: u64, len: usize| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, sector * 512).unwrap();
        bytes
    };

    let (small, large) = (sectors(8, 1), sectors(2048, 2));
    disk.write(8, &small).unwrap();
    disk.write(1024, &large).unwrap();
    disk.flush().unwrap();
    assert!(disk.read(8, small.len()).unwrap() == small, "{options:?}");
    assert!(disk.read(1024, large.len()).unwrap() == large, "{options:?}");
    assert!(in_image(8, small.len()) == small && in_image(1024, large.len()) == large);
    // Less than a block of any medium.
    disk.write(9, &sectors(1, 7)).unwrap();
    assert!(disk.read(9, 512).unwrap() == sectors(1, 7));
    assert!(disk.read(8, 512).unwrap() == small[..512]);

    disk.write_zeroes(1024, 16, true).unwrap();
    disk.write_zeroes(1049, 3, false).unwrap();
    assert!(disk.read(1024, 16 * 512).unwrap() == [0; 16 * 512]);
    assert!(disk.read(1049, 3 * 512).unwrap() == [0; 3 * 512]);
    assert!(disk.read(1040, 9 * 512).unwrap() == large[16 * 512..25 * 512]);
    match disk.run(Operation::discard(2048, 1024)).unwrap().status {
        0 | 2 => {}
        status => panic!("{options:?}: a discard ends with {status}"),
    }
    assert_eq!(disk.get_id().unwrap(), "disk-1");
    let behind = disk.run(Operation::Read { sector: BYTES / 512, len: 512 }).unwrap();
    assert_eq!(behind.status, Status::IoErr.number());

    // Many at once.
    let writes = (0..80).map(|n| Operation::Write { sector: n * 16, data: sectors(8, n as u8) });
    disk.submit_all(writes).unwrap();
    assert!(disk.wait_for_all().unwrap().iter().all(|done| done.status == 0));
    for n in (0..80).step_by(7) {
        assert!(disk.read(n * 16, 4096).unwrap() == sectors(8, n as u8), "{options:?} {n}");
    }
    drop(driver);
    assert_eq!(daemon.terminate(), Some(0), "{options:?}");
}

const ENGINES: [&str; 2] = ["--engine=auto", "--engine=threads"];

#[test]
fn a_file() {
    let directory = tempfile::tempdir().unwrap();
    for engine in ENGINES {
        for cache in ["--cache=writeback", "--cache=writethrough"] {
            exercise(&image(&directory), &[engine, cache]);
        }
    }
}

#[test]
fn a_file_with_direct_io() {
    let directory = tempfile::tempdir().unwrap();
    for engine in ENGINES {
        exercise(&image(&directory), &[engine, "--cache=none"]);
    }
}

#[test]
fn a_file_in_memory() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    for engine in ENGINES {
        exercise(&image(&directory), &[engine]);
    }
}

#[test]
fn without_sandbox_and_polling() {
    let directory = tempfile::tempdir().unwrap();
    exercise(&image(&directory), &["--sandbox=off", "--poll-us=0"]);
}

#[test]
fn a_packed_ring() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(&directory);
    let daemon = Daemon::start(["--packed", "--blk-file", path.to_str().unwrap()]);
    let mut driver = Driver::connect_with(&daemon.socket(), mask(RING_PACKED));
    assert!(driver.front_end.negotiated().has(RING_PACKED));
    for n in 0..600 {
        driver.disk.write(n, &sectors(1, n as u8)).unwrap();
        assert!(driver.disk.read(n, 512).unwrap() == sectors(1, n as u8));
    }
}

/// A loop device; given back when dropped.
struct Loop(PathBuf);

impl Loop {
    /// None where there are none to be had, and why.
    fn over(path: &Path, options: &[&str]) -> Option<Self> {
        let output =
            Command::new("losetup").args(options).args(["--find", "--show"]).arg(path).output();
        let output = output.ok().filter(|output| output.status.success())?;
        let device = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Some(Loop(device.into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn a_block_device_of_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(&directory);
    for options in [&[][..], &["--sector-size", "4096"]] {
        let Some(device) = Loop::over(&path, options) else {
            eprintln!("SKIPPED: no loop device: run as root, with losetup (package mount)");
            return;
        };
        for cache in ["--cache=writeback", "--cache=none"] {
            exercise(&device.0, &[cache]);
        }
    }
}

/// A small tmpfs; unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn of(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path());
        mount.output().ok()?.status.success().then_some(SmallDisk(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_an_error_and_nothing_that_was_written_is_lost() {
    let Some(small) = SmallDisk::of("1M") else {
        eprintln!("SKIPPED: no small file system: run as root, with mount");
        return;
    };
    let path = image(&small.0);
    let daemon = Daemon::start(["--blk-file", path.to_str().unwrap()]);
    let mut driver = Driver::connect(&daemon.socket());
    let disk = &mut driver.disk;
    let chunk = sectors(128, 3);
    let written = (0..BYTES / 65536).take_while(|n| disk.write(n * 128, &chunk).is_ok()).count();
    assert!((1..=16).contains(&written), "{written} of 64 KiB in 1 MiB");
    for n in 0..written as u64 {
        assert!(disk.read(n * 128, chunk.len()).unwrap() == chunk);
    }
    // Space that is given back can be used.
    disk.discard(0, 128).unwrap();
    disk.write(2048, &chunk).unwrap();
    assert!(disk.read(2048, chunk.len()).unwrap() == chunk);
    assert!(daemon.control(r#"{"cmd":"stats"}"#)["ok"].as_bool().unwrap());
}

#[test]
fn a_read_only_disk_is_never_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(&directory);
    fs::write(&path, sectors(8, 5)).unwrap();
    let daemon = Daemon::start(["--read-only", "--blk-file", path.to_str().unwrap()]);
    let mut driver = Driver::connect(&daemon.socket());
    assert!(driver.disk.read(0, 4096).unwrap() == sectors(8, 5));
    assert!(driver.disk.write(0, &[1; 512]).is_err());
    assert!(driver.disk.discard(0, 8).is_err());
    assert!(driver.disk.write_zeroes(0, 8, true).is_err());
    driver.disk.flush().unwrap();
    assert!(fs::read(&path).unwrap() == sectors(8, 5));
}
