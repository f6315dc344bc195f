//! The control socket: resize and stats.

use std::fs::File;

use virtio_spec::block::Config;

use crate::process::{Daemon, Driver};

fn capacity(driver: &mut Driver) -> u64 {
    let config = driver.front_end.read_config(0, Config::SIZE as u32).unwrap();
    Config::from_prefix(&config).unwrap().capacity
}

#[test]
fn a_disk_is_resized_while_it_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    let file = File::create(&path).unwrap();
    file.set_len(1 << 20).unwrap();
    let daemon = Daemon::start(["--blk-file", path.to_str().unwrap()]);
    let mut driver = Driver::connect(&daemon.socket());
    assert_eq!(capacity(&mut driver), 2048);
    assert!(driver.disk.read(2048, 512).is_err());

    file.set_len(2 << 20).unwrap();
    let answer = daemon.control(r#"{"cmd":"resize"}"#);
    assert_eq!((&answer["ok"], &answer["bytes"]), (&true.into(), &(2 << 20).into()), "{answer}");
    assert_eq!(capacity(&mut driver), 4096);
    assert!(driver.disk.read(2048, 512).unwrap() == [0; 512]);

    file.set_len(1000).unwrap();
    let answer = daemon.control(r#"{"cmd":"resize"}"#);
    assert_eq!(answer["ok"], false, "{answer}");
    assert!(answer.to_string().contains("not a multiple"), "{answer}");
    assert_eq!(capacity(&mut driver), 4096);
}

#[test]
fn stats_count_requests_by_kind() {
    let daemon = Daemon::start(["--null=1M"]);
    let mut driver = Driver::connect(&daemon.socket());
    driver.disk.write(0, &[1; 4096]).unwrap();
    driver.disk.flush().unwrap();
    driver.disk.flush().unwrap();
    assert!(driver.disk.write(5000, &[1; 512]).is_err());
    let answer = daemon.control(r#"{"cmd":"stats"}"#);
    let text = answer.to_string();
    assert_eq!(answer["ok"], true, "{text}");
    for expected in [r#""writes":1"#, r#""flushes":2"#, r#""errors":1"#, r#""medium":"null""#] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}
