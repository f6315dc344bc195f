//! Files that are loaded, and what they turn out to be.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// Enough of a file to see what it is: the ELF header, and the setup header's magic.
const HEAD: usize = 0x240;
/// Offset of the setup header's magic (Linux's boot protocol, "header").
const SETUP_MAGIC: usize = 0x202;

/// A kernel or initrd: a regular file that is open.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    file: File,
}

/// A kernel's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Linux bzImage, what distributions call `vmlinuz`.
    BzImage,
    /// An ELF file, such as Linux's `vmlinux`.
    Elf,
}

/// Beginnings of files that are not kernels but are taken for one: offset, magic, what, what to do.
const MISTAKEN: &[(usize, &[u8], &str, &str)] = &[
    (0, b"\x1f\x8b", "it is compressed with gzip", "Unpack it with `gunzip`."),
    (0, b"\x28\xb5\x2f\xfd", "it is compressed with zstd", "Unpack it with `unzstd`."),
    (0, b"\xfd7zXZ\0", "it is compressed with xz", "Unpack it with `unxz`."),
    (0, b"BZh", "it is compressed with bzip2", "Unpack it with `bunzip2`."),
    (0, b"\x02\x21\x4c\x18", "it is compressed with lz4", "Unpack it with `unlz4`."),
    (0, b"QFI\xfb", "it is a qcow2 disk image", "Attach it as a disk, and name a vmlinuz here."),
    (0, b"KDMV", "it is a VMDK disk image", "Attach it as a disk, and name a vmlinuz here."),
    (0, b"07070", "it is an initrd (cpio archive)", "Name it as the initrd, and a vmlinuz here."),
    (0x38, b"ARMd", "it is a kernel for arm64", "Use one that was built for x86-64."),
    (0x38, b"RSC\x05", "it is a kernel for RISC-V", "Use one that was built for x86-64."),
    (0, b"MZ", "it is an EFI program", "Use the vmlinuz that was packed into it."),
    (0x1fe, b"\x55\xaa", "it is a disk image", "Attach it as a disk, and name a vmlinuz here."),
    (0, b"!<arch>", "it is a package or library", "Unpack it, and name the vmlinuz in it."),
];

impl Image {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// When it cannot be opened, is not a regular file, or is empty.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| file_error("open", path, source))?;
        Self::new(path.to_owned(), file)
    }

    /// Takes a file that is open already; `path` is what messages call it.
    ///
    /// # Errors
    /// When it is not a regular file, or is empty.
    pub fn new(path: PathBuf, file: File) -> Result<Self, Error> {
        let metadata = file.metadata().map_err(|source| file_error("examine", &path, source))?;
        match (metadata.is_file(), metadata.len()) {
            (false, _) => Err(Error::NotRegular { path }),
            (true, 0) => Err(Error::Empty { path }),
            (true, _) => Ok(Self { path, file }),
        }
    }

    /// What messages call it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes, now.
    pub(crate) fn size(&self) -> Result<u64, Error> {
        let metadata = self.file.metadata();
        metadata.map(|m| m.len()).map_err(|source| file_error("examine", &self.path, source))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Up to `length` bytes at `offset`, fewer only at the end of the file.
    pub(crate) fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.file_error("read", source)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    pub(crate) fn file_error(&self, action: &'static str, source: io::Error) -> Error {
        file_error(action, &self.path, source)
    }

    pub(crate) fn unbootable(&self, what: impl Into<String>, advice: &'static str) -> Error {
        Error::Kernel { path: self.path.clone(), what: what.into(), advice }
    }

    /// Which format of kernel it is, by its header.
    ///
    /// # Errors
    /// When it cannot be read or is no kernel; the message says what it is, where that can be told.
    pub fn kind(&self) -> Result<Kind, Error> {
        let head = self.read_at(0, HEAD)?;
        let has = |offset: usize, magic: &[u8]| {
            head.get(offset..).is_some_and(|bytes| bytes.starts_with(magic))
        };
        if has(0, b"\x7fELF") {
            return Ok(Kind::Elf);
        }
        if has(SETUP_MAGIC, b"HdrS") {
            return Ok(Kind::BzImage);
        }
        let mistaken = MISTAKEN.iter().find(|&&(offset, magic, ..)| has(offset, magic));
        let (what, advice) = mistaken.map_or(
            (
                "it has neither the header of a bzImage nor that of an ELF file",
                "Name a vmlinuz for x86-64, such as /boot/vmlinuz of a distribution.",
            ),
            |&(.., what, advice)| (what, advice),
        );
        Err(Error::NotAKernel { path: self.path.clone(), what, advice })
    }
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}
