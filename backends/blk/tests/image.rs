//! Opening images: what is served, and what is refused in which words.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use outrigger_blk::image::{Cache, Choice, Image, Medium};
use tempfile::TempDir;

const WRITABLE: Choice =
    Choice { read_only: false, cache: Cache::Writeback, logical_block_size: None, discard: true };
const READ_ONLY: Choice = Choice { read_only: true, ..WRITABLE };
const DIRECT: Choice = Choice { cache: Cache::None, ..WRITABLE };

fn file(directory: &TempDir, bytes: u64) -> PathBuf {
    let path = directory.path().join("disk.img");
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

fn complaint(path: &Path, choice: &Choice) -> String {
    Image::open(path, choice).unwrap_err().to_string()
}

/// Runs without the rights of root, if it has them: root may write everything.
fn as_nobody(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65534);
                // For this thread alone.
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            body();
        });
    });
}

#[test]
fn a_file_is_a_disk() {
    let directory = tempfile::tempdir().unwrap();
    let image = Image::open(&file(&directory, 1 << 20), &WRITABLE).unwrap();
    assert_eq!(image.medium(), Medium::File);
    assert_eq!(image.bytes(), 1 << 20);
    assert_eq!(image.sizes().logical, 512);
    assert_eq!(image.direct(), None);
    assert_eq!(image.files().len(), 1);
    assert!(image.abilities().discard.is_some() && image.abilities().unmap);
}

#[test]
fn looking_for_abilities_leaves_the_image_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, 0);
    let contents: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    fs::write(&path, &contents).unwrap();
    Image::open(&path, &WRITABLE).unwrap();
    assert!(fs::read(&path).unwrap() == contents);
}

#[test]
fn direct_io_shows_the_blocks_that_it_needs() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, 1 << 20);
    let image = match Image::open(&path, &DIRECT) {
        Ok(image) => image,
        Err(error) => {
            assert!(error.to_string().contains("--cache=writeback"), "{error}");
            return;
        }
    };
    let direct = image.direct().unwrap();
    assert_eq!(image.sizes().logical, direct.offset);
    assert!(direct.memory.is_power_of_two());
    assert_eq!(image.files().len(), 2);
    if direct.offset > 512 {
        let choice = Choice { logical_block_size: Some(512), ..DIRECT };
        let text = complaint(&path, &choice);
        assert!(text.contains("--logical-block-size=512 is less than"), "{text}");
    }
}

#[test]
fn a_larger_block_size_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, 1 << 20);
    let choice = Choice { logical_block_size: Some(4096), ..WRITABLE };
    assert_eq!(Image::open(&path, &choice).unwrap().sizes().logical, 4096);
    let odd = file(&directory, (1 << 20) + 512);
    let text = complaint(&odd, &choice);
    assert!(text.contains("not a multiple of its block size of 4096"), "{text}");
}

#[test]
fn what_is_no_image_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let text = complaint(&missing, &WRITABLE);
    assert!(text.contains("no image") && text.contains("truncate -s"), "{text}");
    let below = file(&directory, 512).join("below");
    assert!(complaint(&below, &WRITABLE).contains("no image"));
    let text = complaint(directory.path(), &WRITABLE);
    assert!(text.contains("is a directory"), "{text}");
    let text = complaint(Path::new("/dev/zero"), &WRITABLE);
    assert!(text.contains("is a character device"), "{text}");
}

#[test]
fn a_fifo_is_refused_without_waiting_for_a_writer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(complaint(&path, &WRITABLE).contains("is a FIFO"));
}

#[test]
fn empty_and_odd_sizes_are_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let text = complaint(&file(&directory, 0), &WRITABLE);
    assert!(text.contains("is empty") && text.contains("truncate -s"), "{text}");
    let text = complaint(&file(&directory, 1000), &WRITABLE);
    assert!(text.contains("1000 bytes") && text.contains("truncate -s %512"), "{text}");
}

#[test]
fn a_file_that_cannot_be_written_needs_read_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, 4096);
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    as_nobody(|| {
        let text = complaint(&path, &WRITABLE);
        assert!(text.contains("add --read-only"), "{text}");
        let image = Image::open(&path, &READ_ONLY).unwrap();
        assert!(image.is_read_only());
        assert_eq!(image.abilities().discard, None);
    });
}

#[test]
fn a_file_that_cannot_be_read_is_told_from_one_that_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, 4096);
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    as_nobody(|| {
        for choice in [WRITABLE, READ_ONLY] {
            let text = complaint(&path, &choice);
            assert!(text.contains("no permission"), "{text}");
        }
    });
}

#[test]
fn an_image_is_not_probed_for_a_format() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, 0);
    let mut contents = vec![0; 4096];
    contents[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    fs::write(&path, &contents).unwrap();
    let image = Image::open(&path, &WRITABLE).unwrap();
    assert_eq!(image.bytes(), 4096);
}
