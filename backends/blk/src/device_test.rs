use std::path::PathBuf;

use virtio_spec::block::{
    BLK_SIZE, DISCARD, MQ, RO, SECURE_ERASE, SEG_MAX, SIZE_MAX, TOPOLOGY, WRITE_ZEROES,
};
use virtio_spec::features::mask;

use super::*;
use crate::image::{Cache, Choice};

const MIB: u64 = 1 << 20;

const SETTINGS: Settings = Settings {
    num_queues: 4,
    queue_size: 256,
    workers: None,
    serial: [0; ID_LEN],
    writeback: true,
};

/// A file of 1 MiB that is gone when the value is dropped.
struct File {
    directory: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        let file = File { directory: tempfile::tempdir().unwrap() };
        file.resize(MIB);
        file
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("disk.img")
    }

    fn resize(&self, bytes: u64) {
        let mut options = std::fs::File::options();
        let file = options.create(true).truncate(false).write(true).open(self.path()).unwrap();
        file.set_len(bytes).unwrap();
    }

    fn device(&self, choice: &Choice) -> BlockDevice {
        BlockDevice::new(Image::open(&self.path(), choice).unwrap(), SETTINGS)
    }
}

fn writable() -> Choice {
    Choice { discard: true, ..Choice::default() }
}

fn null() -> BlockDevice {
    BlockDevice::new(Image::null(MIB, &writable()).unwrap(), SETTINGS)
}

fn space(device: &BlockDevice) -> Config {
    Config::from_prefix(&device.config()).unwrap()
}

fn negotiate(device: &mut BlockDevice, bits: &[u32]) {
    device.negotiated(Negotiated::assume(bits.iter().map(|bit| mask(*bit)).sum()));
}

#[test]
fn the_usual_features_are_offered() {
    let file = File::new();
    let offered = Offered::new(file.device(&writable()).features());
    for bit in [SIZE_MAX, SEG_MAX, BLK_SIZE, TOPOLOGY, FLUSH, CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES]
    {
        assert!(offered.has(bit), "{bit}");
    }
    assert!(!offered.has(RO) && !offered.has(SECURE_ERASE));
}

#[test]
fn a_read_only_disk_offers_nothing_that_writes() {
    let file = File::new();
    let device = file.device(&Choice { read_only: true, ..writable() });
    let offered = Offered::new(device.features());
    assert!(offered.has(RO) && offered.has(FLUSH));
    assert!(!offered.has(DISCARD) && !offered.has(WRITE_ZEROES) && !offered.has(SECURE_ERASE));
    let space = space(&device);
    assert_eq!((space.max_discard_seg, space.max_write_zeroes_seg), (0, 0));
}

#[test]
fn without_discard_no_space_is_given_up() {
    let file = File::new();
    let device = file.device(&Choice { discard: false, ..writable() });
    let offered = Offered::new(device.features());
    assert!(!offered.has(DISCARD) && offered.has(WRITE_ZEROES));
    assert_eq!(space(&device).write_zeroes_may_unmap, 0);
}

#[test]
fn the_config_space_describes_the_disk() {
    let file = File::new();
    let choice = Choice { logical_block_size: Some(4096), ..writable() };
    let space = space(&file.device(&choice));
    assert_eq!(space.capacity, 2048);
    assert_eq!((space.seg_max, space.num_queues), (126, 4));
    assert_eq!(space.blk_size, 4096);
    assert_eq!(space.topology.physical_block_exp, 0);
    assert_eq!(space.writeback, 1);
    assert_eq!(space.discard_sector_alignment, 8);
    assert_eq!(space.write_zeroes_may_unmap, 1);
    assert_eq!((space.unused0, space.unused1), (0, [0; 3]));
}

#[test]
fn writes_are_durable_unless_the_driver_manages_a_writeback_cache() {
    let mut device = null();
    assert!(device.disk.is_durable());
    for (bits, durable) in
        [(&[FLUSH][..], false), (&[FLUSH, CONFIG_WCE], false), (&[], true), (&[CONFIG_WCE], true)]
    {
        device.reset();
        negotiate(&mut device, bits);
        assert_eq!(device.disk.is_durable(), durable, "{bits:?}");
    }
}

#[test]
fn the_driver_switches_the_cache_mode() {
    let mut device = null();
    negotiate(&mut device, &[FLUSH, CONFIG_WCE]);
    device.write_config(WRITEBACK_OFFSET, &[0], ConfigWriter::Driver).unwrap();
    assert!(device.disk.is_durable());
    assert_eq!(space(&device).writeback, 0);
    device.write_config(WRITEBACK_OFFSET, &[1], ConfigWriter::Driver).unwrap();
    assert!(!device.disk.is_durable());
    assert_eq!(space(&device).writeback, 1);
}

#[test]
fn a_driver_without_flush_starts_with_writethrough_and_may_change_it() {
    let mut device = null();
    negotiate(&mut device, &[CONFIG_WCE]);
    assert_eq!(space(&device).writeback, 0);
    device.write_config(WRITEBACK_OFFSET, &[1], ConfigWriter::Driver).unwrap();
    // The same features again, as a front-end sends them to start logging.
    negotiate(&mut device, &[CONFIG_WCE]);
    assert_eq!(space(&device).writeback, 1);
}

#[test]
fn the_driver_may_write_nothing_else() {
    let mut device = null();
    let mut write = |offset, data: &[u8]| device.write_config(offset, data, ConfigWriter::Driver);
    assert!(write(WRITEBACK_OFFSET, &[0]).is_err(), "not negotiated");
    negotiate(&mut device, &[FLUSH, CONFIG_WCE]);
    let before = device.config();
    let mut write = |offset, data: &[u8]| device.write_config(offset, data, ConfigWriter::Driver);
    for (offset, data) in [
        (WRITEBACK_OFFSET, &[2][..]),
        (WRITEBACK_OFFSET, &[0, 0]),
        (WRITEBACK_OFFSET, &[]),
        (WRITEBACK_OFFSET + 1, &[0]),
        (0, &[0; 8]),
        (usize::MAX, &[0]),
    ] {
        assert!(write(offset, data).is_err(), "{offset} {data:?}");
    }
    assert_eq!(device.config(), before);
}

#[test]
fn a_migration_brings_what_the_driver_had_set() {
    let mut device = null();
    negotiate(&mut device, &[FLUSH, CONFIG_WCE]);
    let mut theirs = Config { capacity: 2048, ..Config::default() };
    device.write_config(0, &theirs.to_bytes(), ConfigWriter::Migration).unwrap();
    assert_eq!(space(&device).writeback, 0);
    theirs.capacity += 1;
    theirs.writeback = 1;
    let refused = device.write_config(0, &theirs.to_bytes(), ConfigWriter::Migration);
    assert!(refused.unwrap_err().to_string().contains("2049 sectors"));
    assert_eq!(space(&device).writeback, 0);
    assert!(device.write_config(usize::MAX, &[0], ConfigWriter::Migration).is_err());
}

#[test]
fn saved_state_is_taken_over() {
    let mut first = null();
    negotiate(&mut first, &[FLUSH, CONFIG_WCE]);
    first.write_config(WRITEBACK_OFFSET, &[0], ConfigWriter::Driver).unwrap();
    let mut second = null();
    second.load(&first.save()).unwrap();
    negotiate(&mut second, &[FLUSH, CONFIG_WCE]);
    assert_eq!(space(&second).writeback, 0);
    for state in [&[][..], &[1], &[1, 2], &[2, 0], &[1, 0, 0]] {
        assert!(second.load(state).is_err(), "{state:?}");
    }
}

#[test]
fn a_reset_forgets_what_the_driver_had_set() {
    let mut device = null();
    negotiate(&mut device, &[FLUSH, CONFIG_WCE]);
    device.write_config(WRITEBACK_OFFSET, &[0], ConfigWriter::Driver).unwrap();
    device.reset();
    assert_eq!(space(&device).writeback, 1);
    assert!(device.disk.is_durable());
}

#[test]
fn resize_reads_the_size_again() {
    let file = File::new();
    let mut device = file.device(&writable());
    let mut resize = || device.control("resize", &Value::Null, vec![]).unwrap();
    let outcome = resize().unwrap();
    assert!(!outcome.config_changed);
    file.resize(2 * MIB);
    let outcome = resize().unwrap();
    assert!(outcome.config_changed);
    assert_eq!(outcome.answer, json!({ "bytes": 2 * MIB, "bytes_before": MIB }));
    file.resize(2 * MIB + 1);
    assert!(resize().unwrap_err().to_string().contains("not a multiple"));
    assert_eq!(space(&device).capacity, 4096);
    assert!(null().control("resize", &Value::Null, vec![]).unwrap().is_err());
    assert!(null().control("eject", &Value::Null, vec![]).is_none());
}

#[test]
fn the_lock_is_held_from_acquire_to_release() {
    let file = File::new();
    let (mut first, mut second) = (file.device(&writable()), file.device(&writable()));
    assert_eq!(first.acquire().unwrap(), Acquired::Yes);
    assert_eq!(second.acquire().unwrap(), Acquired::NotYet);
    first.release();
    assert_eq!(second.acquire().unwrap(), Acquired::Yes);
}

#[test]
fn a_direct_disk_gives_its_workers_a_buffered_file_too() {
    let file = File::new();
    let device = |cache| file.device(&Choice { cache, ..writable() });
    assert_eq!(device(Cache::Writeback).service(0).unwrap().files.len(), 1);
    assert_eq!(device(Cache::None).service(0).unwrap().files.len(), 2);
    assert_eq!(null().service(0).unwrap().files.len(), 0);
}

#[test]
fn queues_are_dealt_out_to_workers() {
    let workers = |workers| {
        let device = BlockDevice::new(
            Image::null(MIB, &writable()).unwrap(),
            Settings { workers, ..SETTINGS },
        );
        (0..4).map(|queue| device.worker_of(queue)).collect::<Vec<_>>()
    };
    assert_eq!(workers(None), [0, 1, 2, 3]);
    assert_eq!(workers(Some(2)), [0, 1, 0, 1]);
    assert_eq!(workers(Some(9)), [0, 1, 2, 3]);
}

#[test]
fn stats_name_the_disk() {
    let stats = null().stats();
    assert_eq!(stats["medium"], "null");
    assert_eq!(stats["bytes"], MIB);
    assert_eq!(stats["reads"], 0);
}
