//! The in-flight region: memory that a back-end shares with its successors through us.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{fcntl_get_seals, fstat};
use rustix::io::pwrite;
use virtio_spec::vhost_user::Inflight;
use virtio_spec::vhost_user::inflight::region_size;

use crate::{Error, Result};

/// A region as some back-end has made it.
#[derive(Debug)]
pub(crate) struct InFlight {
    place: Inflight,
    file: OwnedFd,
}

impl InFlight {
    /// Takes the region that a back-end has made, for so many queues of this size.
    ///
    /// The file must be memory: of any other kind a write could block for ever.
    ///
    /// # Errors
    /// [`Error::WrongAnswer`] when it is not what was asked for.
    pub(crate) fn accept(place: Inflight, file: OwnedFd, queues: u16, size: u16) -> Result<Self> {
        let wrong = |what: String| Error::WrongAnswer { message: "GET_INFLIGHT_FD", what };
        if fcntl_get_seals(&file).is_err() {
            return Err(wrong("a file that is not shared memory".into()));
        }
        let stat = fstat(&file).map_err(Error::system("looking at the in-flight region"))?;
        let end = place.mmap_offset.checked_add(place.mmap_size);
        let fits = end.is_some_and(|end| u64::try_from(stat.st_size).is_ok_and(|len| end <= len));
        if place.mmap_size == 0 || !fits {
            let (offset, bytes) = (place.mmap_offset, place.mmap_size);
            return Err(wrong(format!("{bytes} bytes at {offset} in a file of {}", stat.st_size)));
        }
        // The shape is what was asked for, whatever the answer repeats of it.
        Ok(Self { place: Inflight { num_queues: queues, queue_size: size, ..place }, file })
    }

    /// What SET_INFLIGHT_FD carries.
    pub(crate) fn share(&self) -> Result<(Inflight, OwnedFd)> {
        let file = self.file.try_clone().map_err(Error::system("duplicating a descriptor"))?;
        Ok((self.place, file))
    }

    /// Clears the parts of these queues, which nobody serves now: what they tell is of the past.
    ///
    /// # Errors
    /// When the region is laid out in an unknown way, or is sealed.
    pub(crate) fn clear(&self, queues: &[u16], packed: bool) -> io::Result<()> {
        let part = region_size(packed, self.place.queue_size);
        let zeroes = vec![0; part];
        let bytes = u64::try_from(part).unwrap_or(u64::MAX);
        for queue in queues {
            let start = u64::from(*queue).saturating_mul(bytes);
            if start.saturating_add(bytes) > self.place.mmap_size {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if pwrite(&self.file, &zeroes, self.place.mmap_offset.saturating_add(start))? != part {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::io::pread;
    use rustix::pipe::pipe;

    fn file(len: u64) -> OwnedFd {
        let file = memfd_create("region", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, len).unwrap();
        file
    }

    fn place(mmap_size: u64, mmap_offset: u64) -> Inflight {
        Inflight { mmap_size, mmap_offset, num_queues: 0, queue_size: 0 }
    }

    #[test]
    fn a_region_must_be_in_its_file() {
        assert!(InFlight::accept(place(4096, 0), file(4096), 1, 64).is_ok());
        assert!(InFlight::accept(place(4096, 4096), file(8192), 1, 64).is_ok());
        for (size, offset) in [(0, 0), (4097, 0), (4096, 1), (u64::MAX, 2), (1, u64::MAX)] {
            assert!(InFlight::accept(place(size, offset), file(4096), 1, 64).is_err());
        }
        let (reader, _writer) = pipe().unwrap();
        assert!(InFlight::accept(place(1, 0), reader, 1, 64).is_err());
    }

    #[test]
    fn the_part_of_one_queue_is_cleared() {
        let part = region_size(false, 64);
        let bytes = u64::try_from(3 * part).unwrap();
        let region = InFlight::accept(place(bytes, 64), file(bytes + 64), 3, 64).unwrap();
        pwrite(&region.file, &vec![7; 3 * part + 64], 0).unwrap();
        region.clear(&[1], false).unwrap();
        let mut found = vec![0; 3 * part + 64];
        pread(&region.file, &mut found, 0).unwrap();
        let cleared = |at: usize| (64 + part..64 + 2 * part).contains(&at);
        assert!(found.iter().enumerate().all(|(at, byte)| *byte == u8::from(!cleared(at)) * 7));
        assert!(region.clear(&[3], false).is_err());
        assert!(region.clear(&[u16::MAX], true).is_err());
    }
}
