//! One block request: what a descriptor chain asks for (virtio 1.4, 5.2.6).

use std::io;
use std::ops::Deref;

use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};
use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryMmap, Le32, Le64};

/// The 16 bytes that begin every request.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Header {
    kind: Le32,
    reserved: Le32,
    sector: Le64,
}

#[expect(unsafe_code, reason = "ByteValued lets vm-memory read the header out of guest memory")]
// SAFETY: the struct is made of integers without padding, so that any 16 bytes are a valid value.
unsafe impl ByteValued for Header {}

/// What the driver asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Read from the medium, beginning at a byte offset.
    Read(u64),
    /// Write to the medium, beginning at a byte offset.
    Write(u64),
    /// Make completed writes durable.
    Flush,
    /// Tell the serial number.
    GetId,
    /// Anything else.
    Unsupported,
}

/// A parsed chain; its data descriptors are handed back through the caller's vector.
pub(crate) struct Request {
    pub(crate) head: u16,
    pub(crate) operation: Operation,
    /// Where the status byte goes.
    pub(crate) status: GuestAddress,
    /// Bytes of data in all.
    pub(crate) bytes: u64,
}

impl Request {
    /// Reads a chain: a header descriptor, data descriptors into `data`, a status descriptor.
    ///
    /// # Errors
    /// A chain without header or status, or a header outside guest memory.
    pub(crate) fn parse<M>(
        chain: DescriptorChain<M>,
        memory: &GuestMemoryMmap,
        data: &mut Vec<Descriptor>,
    ) -> io::Result<Self>
    where
        M: Deref<Target = GuestMemoryMmap>,
    {
        let head = chain.head_index();
        let mut descriptors = chain;
        let first = descriptors.next().ok_or_else(|| invalid("chain without a header"))?;
        let header: Header = memory.read_obj(first.addr()).map_err(io::Error::other)?;
        data.clear();
        data.extend(descriptors);
        let status = data.pop().ok_or_else(|| invalid("chain without a status byte"))?;
        let offset = header.sector.to_native().wrapping_mul(512);
        let operation = match header.kind.to_native() {
            VIRTIO_BLK_T_IN => Operation::Read(offset),
            VIRTIO_BLK_T_OUT => Operation::Write(offset),
            VIRTIO_BLK_T_FLUSH => Operation::Flush,
            VIRTIO_BLK_T_GET_ID => Operation::GetId,
            _ => Operation::Unsupported,
        };
        let bytes = data.iter().map(|descriptor| u64::from(descriptor.len())).sum();
        Ok(Self { head, operation, status: status.addr(), bytes })
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
