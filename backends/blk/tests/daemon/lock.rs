//! Two daemons on one image: the second serves nothing until the first is done with it.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use driver::Operation;
use tempfile::TempDir;

use crate::process::{Daemon, Driver};

fn image(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("disk.img");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    path
}

#[test]
fn a_second_daemon_waits_for_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(&directory);
    let start = || Daemon::start(["--blk-file", path.to_str().unwrap()]);
    let (first, second) = (start(), start());
    let mut one = Driver::connect(&first.socket());
    one.disk.write(0, &[1; 512]).unwrap();

    let mut two = Driver::connect(&second.socket());
    let token = two.disk.submit(Operation::Read { sector: 0, len: 512 }).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(two.disk.block().reap().unwrap().is_none(), "the first daemon has the image");
    // Messages are answered meanwhile.
    two.front_end.read_config(0, 8).unwrap();
    one.disk.write(0, &[2; 512]).unwrap();

    one.front_end.stop_ring(0).unwrap();
    let done = two.disk.wait_for(token).unwrap();
    assert!(done.into_data().unwrap() == [2; 512]);
}

#[test]
fn readers_share_an_image() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(&directory);
    let start = || Daemon::start(["--read-only", "--blk-file", path.to_str().unwrap()]);
    let (first, second) = (start(), start());
    let mut one = Driver::connect(&first.socket());
    let mut two = Driver::connect(&second.socket());
    one.disk.read(0, 512).unwrap();
    two.disk.read(0, 512).unwrap();
}
