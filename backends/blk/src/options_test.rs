use clap::CommandFactory;

use super::*;

fn parse(words: &[&str]) -> Result<Options, String> {
    let words = ["outrigger-blk"].iter().chain(words);
    Options::try_parse_from(words).map_err(|error| error.to_string())
}

#[test]
fn the_definition_is_consistent() {
    Options::command().debug_assert();
}

#[test]
fn the_defaults() {
    let options = parse(&["--blk-file=disk.img"]).unwrap();
    assert_eq!(options.cache, Cache::Writeback);
    assert_eq!(options.discard, Switch::On);
    let settings = options.settings();
    assert_eq!((settings.num_queues, settings.queue_size), (16, 1024));
    assert_eq!(settings.workers, None);
    assert_eq!(settings.serial, [0; ID_LEN]);
    assert!(settings.writeback);
}

#[test]
fn everything_can_be_chosen() {
    let options = parse(&[
        "--blk-file=disk.img",
        "--read-only",
        "--cache=writethrough",
        "--logical-block-size=4096",
        "--serial=0123456789abcdefghij",
        "--discard=off",
        "--num-queues=4",
        "--queue-size=256",
        "--workers=2",
    ])
    .unwrap();
    assert!(options.read_only);
    assert_eq!(options.logical_block_size, Some(4096));
    let settings = options.settings();
    assert_eq!(&settings.serial, b"0123456789abcdefghij");
    assert_eq!((settings.num_queues, settings.queue_size), (4, 256));
    assert_eq!(settings.workers, Some(2));
    assert!(!settings.writeback);
}

#[test]
fn sizes_have_units() {
    for (text, bytes) in
        [("512", 512), ("4K", 4096), ("3m", 3 << 20), ("2G", 2 << 30), ("1T", 1 << 40)]
    {
        assert_eq!(parse(&["--null", text]).unwrap().null, Some(bytes));
    }
}

#[test]
fn mistakes_are_explained() {
    let disk = "--blk-file=disk.img";
    for (words, expected) in [
        (&[][..], "--blk-file"),
        (&[disk, "--null=1G"], "cannot be used with"),
        (&["--null=1X"], "is not a size"),
        (&["--null=G"], "is not a size"),
        (&["--null="], "is not a size"),
        (&["--null=é"], "is not a size"),
        (&["--null=99999999T"], "is not a size"),
        (&[disk, "--serial=0123456789abcdefghijk"], "21 bytes, but at most 20"),
        (&[disk, "--serial=é"], "printable ASCII"),
        (&[disk, "--queue-size=100"], "not a power of two"),
        (&[disk, "--queue-size=8"], "from 16 to 32768"),
        (&[disk, "--num-queues=0"], "not in 1..=1024"),
        (&[disk, "--logical-block-size=256"], "not a power of two from 512"),
        (&[disk, "--cache=unsafe"], "possible values: none, writeback, writethrough"),
        (&[disk, "--discard=maybe"], "possible values: on, off"),
    ] {
        let text = parse(words).unwrap_err();
        assert!(text.contains(expected), "{words:?}: {text}");
    }
}

#[test]
fn a_null_disk_is_a_whole_number_of_blocks() {
    let open = |words: &[&str]| parse(words).unwrap().open().map(|image| image.bytes());
    assert_eq!(open(&["--null=1M"]).unwrap(), 1 << 20);
    assert!(open(&["--null=1000"]).is_err());
    assert!(open(&["--null=512", "--logical-block-size=4096"]).is_err());
}

/// What is installed in /usr/share/qemu/vhost-user, for management software to find the program.
#[test]
fn the_descriptor_file_is_as_the_conventions_want_it() {
    let descriptor = framework::capabilities::Descriptor {
        description: "Outrigger block back-end".into(),
        device: CAPABILITIES.device,
        binary: "/usr/libexec/outrigger-blk".into(),
    };
    assert_eq!(include_str!("../50-outrigger-blk.json"), descriptor.to_json());
}
