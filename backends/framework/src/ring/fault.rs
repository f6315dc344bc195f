//! How a driver can break the rules of a ring.

/// Why a ring has failed. Each is the driver's fault (or the front-end's, that set the ring up).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message names its fields")]
pub enum RingFault {
    /// More chains made available than there are descriptors.
    #[error("the driver moved its index from {from} to {to}, further than the {size} entries")]
    IndexJumped { from: u16, to: u16, size: u16 },
    /// A head or `next` outside the table.
    #[error("descriptor index {index} is outside the table of {size}")]
    BadIndex { index: u16, size: u16 },
    /// A chain that does not end.
    #[error("a chain has more than {most} descriptors: it loops, or is too long")]
    TooLong { most: u16 },
    /// A chain of more than 4 GiB.
    #[error("a chain is longer than 4 GiB")]
    TooManyBytes,
    /// A device-readable descriptor behind a device-writable one.
    #[error("a device-readable descriptor follows a device-writable one")]
    WrongOrder,
    /// A buffer that is not in guest memory.
    #[error("a buffer of {len} bytes at {address:#x} is not in guest memory")]
    NotMapped { address: u64, len: u32 },
    /// An indirect table although the feature was not negotiated.
    #[error("an indirect table, but INDIRECT_DESC was not negotiated")]
    IndirectNotNegotiated,
    /// An indirect table in an indirect table, or NEXT together with INDIRECT.
    #[error("an indirect descriptor inside an indirect table, or with NEXT set")]
    IndirectNested,
    /// An indirect table whose length is not a positive multiple of 16, or which is too long.
    #[error("an indirect table of {len} bytes")]
    IndirectLength { len: u32 },
    /// More chains in flight than descriptors.
    #[error("more chains are in flight than there are descriptors")]
    TooManyInFlight,
    /// The ring itself is no longer in guest memory.
    #[error("the ring is not in guest memory, or not aligned")]
    RingNotMapped,
    /// The in-flight region contradicts itself.
    #[error("the in-flight region is not consistent: {what}")]
    InFlight { what: &'static str },
}
