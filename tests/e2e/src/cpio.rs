//! Writes the archive format a Linux kernel unpacks as its first file system ("newc" cpio).

/// The name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// An archive being written into memory. Parents have to be added before what is in them.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds an empty directory.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, &[]);
    }

    /// Adds a file with the given permission bits.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.entry(path, REGULAR | permissions, content);
    }

    /// Ends the archive and returns it.
    #[must_use]
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }

    /// A header of 13 numbers in eight hexadecimal digits each, the name with a NUL, the content;
    /// name and content each end on a multiple of four.
    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = 1 + u32::from(mode & DIRECTORY != 0);
        let (user, group, time, major, minor) = (0, 0, 0, 0, 0);
        let header = [
            self.entries,
            mode,
            user,
            group,
            links,
            time,
            digits(content.len()),
            major,
            minor,
            major,
            minor,
            digits(path.len() + 1),
            0, // no checksum in this variant
        ];
        self.bytes.extend_from_slice(b"070701");
        for number in header {
            self.bytes.extend_from_slice(format!("{number:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Sizes in this format have 32 bits; what goes into an initrd is a thousand times smaller.
#[expect(clippy::expect_used, reason = "only files of this project's own choosing come here")]
fn digits(size: usize) -> u32 {
    u32::try_from(size).expect("a file in an initrd is smaller than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_ended() {
        let mut archive = Archive::default();
        archive.directory("bin");
        archive.file("bin/x", 0o755, b"hello");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"070701000000010000"));
        let text = String::from_utf8_lossy(&bytes);
        // "bin\0" follows 110 bytes of header and ends on a multiple of four by padding.
        let second = text.rfind("bin/x").unwrap() - 110;
        assert_eq!(second % 4, 0);
        assert_eq!(text.get(second..second + 6), Some("070701"));
        assert_eq!(text.get(second + 54..second + 62), Some("00000005"));
        assert!(text.trim_end_matches('\0').ends_with(TRAILER));
    }
}
