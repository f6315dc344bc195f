//! One front-end after the other, on a daemon that is confined since its start.

use std::fs::File;

use crate::process::{Daemon, Driver};

/// Workers come and go, and each finds the io_uring that was set aside for it before.
#[test]
fn every_connection_and_every_reset_finds_its_io_uring() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    let daemon = Daemon::start(["--num-queues=2", "--blk-file", path.to_str().unwrap()]);
    let mut engines = Vec::new();
    for round in 0..20_u8 {
        let mut driver = Driver::connect(&daemon.socket());
        driver.disk.write(u64::from(round), &[round; 512]).unwrap();
        if round > 0 {
            let former = round - 1;
            assert!(driver.disk.read(former.into(), 512).unwrap() == [former; 512]);
        }
        let answer = daemon.control(r#"{"cmd":"stats"}"#);
        engines.push(answer["engine"].as_str().unwrap().to_owned());
        if round % 2 == 1 {
            driver.front_end.reset_device().unwrap();
        }
    }
    engines.dedup();
    assert_eq!(engines.len(), 1, "the engine has changed: {engines:?}");
    assert_eq!(daemon.terminate(), Some(0));
}
