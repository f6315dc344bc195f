//! As much of the FUSE protocol as a file system needs that is a single file.

use std::io;

/// The largest read or write, bytes.
pub(super) const LARGEST: u32 = 1 << 20;
/// Room for a request: a write and its headers.
pub(super) const REQUEST_SIZE: usize = LARGEST as usize + 4096;

const HEADER: usize = 40;
/// The version that is spoken: the kernel adapts to it.
const VERSION: (u32, u32) = (7, 31);
/// Requests in the background that the kernel lets through at once.
const BACKGROUND: u16 = 4096;

const ASYNC_READ: u32 = 1 << 0;
const BIG_WRITES: u32 = 1 << 5;
const ASYNC_DIO: u32 = 1 << 15;
const MAX_PAGES: u32 = 1 << 22;

/// What the kernel asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Init,
    Attributes,
    Open,
    Read {
        offset: u64,
        size: u32,
    },
    Write {
        offset: u64,
        data: Vec<u8>,
    },
    Sync,
    /// Nothing is to be done, and success is to be answered.
    Nothing,
    /// Nothing is to be done, and nothing to be answered.
    Silence,
    Unknown,
}

/// Splits a request into its number and what is asked. None: it is too short.
pub(super) fn decode(request: &[u8]) -> Option<(u64, Ask)> {
    let unique = u64_at(request, 8)?;
    let body = request.get(HEADER..)?;
    let ask = match u32_at(request, 4)? {
        26 => Ask::Init,
        3 | 4 => Ask::Attributes,
        14 => Ask::Open,
        15 => Ask::Read { offset: u64_at(body, 8)?, size: u32_at(body, 16)? },
        16 => {
            let size = usize::try_from(u32_at(body, 16)?).ok()?;
            let data = body.get(40..)?.get(..size)?.to_vec();
            Ask::Write { offset: u64_at(body, 8)?, data }
        }
        20 => Ask::Sync,
        // RELEASE and FLUSH; DESTROY.
        18 | 25 | 38 => Ask::Nothing,
        // FORGET, INTERRUPT and BATCH_FORGET.
        2 | 36 | 42 => Ask::Silence,
        _ => Ask::Unknown,
    };
    Some((unique, ask))
}

/// An answer that goes well.
pub(super) fn answer(unique: u64, body: &[u8]) -> Vec<u8> {
    framed(unique, 0, body)
}

/// The answer to what is not known here; the kernel does not ask again.
pub(super) fn not_implemented(unique: u64) -> Vec<u8> {
    let errno = io::Error::from(rustix::io::Errno::NOSYS).raw_os_error().unwrap_or(1);
    framed(unique, -errno, &[])
}

fn framed(unique: u64, error: i32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let head = [&length.to_le_bytes()[..], &error.to_le_bytes(), &unique.to_le_bytes()].concat();
    [&head, body].concat()
}

/// Agrees on direct I/O that goes on when its caller does not.
pub(super) fn init() -> Vec<u8> {
    let flags = ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES;
    let mut body = Vec::with_capacity(64);
    for word in [VERSION.0, VERSION.1, 0, flags] {
        body.extend(word.to_le_bytes());
    }
    body.extend(BACKGROUND.to_le_bytes()); // max_background
    body.extend(BACKGROUND.to_le_bytes()); // congestion_threshold
    body.extend(LARGEST.to_le_bytes()); // max_write
    body.extend(1_u32.to_le_bytes()); // time_gran
    body.extend((LARGEST / 4096).to_le_bytes()); // max_pages, and map_alignment: zero
    body.resize(64, 0);
    body
}

/// A regular file of so many bytes. Valid for an hour: nothing but the server changes it.
pub(super) fn attributes(bytes: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(104);
    let (inode, blocks, times) = (1_u64, bytes / 512, [0_u64; 3]);
    for word in [3600, 0, inode, bytes, blocks].into_iter().chain(times) {
        body.extend(word.to_le_bytes());
    }
    let (mode, links, block) = (0o100_600_u32, 1, 4096);
    for word in [0, 0, 0, mode, links, 0, 0, 0, block, 0] {
        body.extend(word.to_le_bytes());
    }
    body
}

/// An open file; any number will do for it.
pub(super) fn opened() -> Vec<u8> {
    vec![0; 16]
}

/// So many bytes were written.
pub(super) fn written(bytes: usize) -> Vec<u8> {
    u64::try_from(bytes).unwrap_or_default().to_le_bytes().to_vec()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_taken_apart() {
        let mut request = vec![0; HEADER + 40];
        request[4] = 16;
        request[8] = 9;
        request[HEADER + 9] = 2;
        request[HEADER + 16] = 3;
        request.extend([1, 2, 3]);
        let data = vec![1, 2, 3];
        assert_eq!(decode(&request), Some((9, Ask::Write { offset: 512, data })));
        request.pop();
        assert_eq!(decode(&request), None);
    }

    #[test]
    fn answers_have_the_kernels_sizes() {
        assert_eq!(init().len(), 64);
        assert_eq!(attributes(4096).len(), 104);
        assert_eq!(answer(1, &opened()).len(), 32);
        assert_eq!(not_implemented(1)[4..8], (-38_i32).to_le_bytes());
    }
}
