//! The structures that messages carry, under one trait so that decoders can be generic over them.
//! The layouts themselves are virtio-spec's.

use virtio_spec::vhost_user::{
    ConfigHeader, Inflight, Log, MemoryRegion, MemoryTableHeader, SingleMemoryRegion,
    TransferDeviceState, VringAddr, VringState,
};

/// Most regions in a memory table that are accepted. The specification's table has 8; some
/// front-ends send more.
pub const MAX_REGIONS: usize = 32;

/// A payload of fixed size.
pub(crate) trait Layout: Sized {
    /// Bytes in the encoding.
    const SIZE: usize;
    /// Decodes the first `SIZE` bytes; `None` if there are fewer.
    fn from_prefix(bytes: &[u8]) -> Option<Self>;
}

macro_rules! layouts {
    ($($name:ident),* $(,)?) => {$(
        impl Layout for $name {
            const SIZE: usize = $name::SIZE;
            fn from_prefix(bytes: &[u8]) -> Option<Self> {
                $name::from_prefix(bytes)
            }
        }
    )*};
}
layouts!(
    ConfigHeader,
    Inflight,
    Log,
    MemoryRegion,
    MemoryTableHeader,
    SingleMemoryRegion,
    TransferDeviceState,
    VringAddr,
    VringState,
);

impl Layout for u64 {
    const SIZE: usize = size_of::<u64>();
    fn from_prefix(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|bytes| Self::from_le_bytes(*bytes))
    }
}
