//! Device types (virtio 1.4, 5).

/// The number by which a driver recognizes a kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceType(pub u32);

impl DeviceType {
    /// Network card (5.1).
    pub const NET: Self = Self(1);
    /// Block device (5.2).
    pub const BLOCK: Self = Self(2);
    /// Console (5.3).
    pub const CONSOLE: Self = Self(3);
    /// Entropy source (5.4).
    pub const ENTROPY: Self = Self(4);
    /// Memory balloon (5.5).
    pub const BALLOON: Self = Self(5);
    /// SCSI host (5.6).
    pub const SCSI: Self = Self(8);
    /// GPU (5.7).
    pub const GPU: Self = Self(16);
    /// Input device (5.8).
    pub const INPUT: Self = Self(18);
    /// Socket device (5.10).
    pub const VSOCK: Self = Self(19);
    /// Crypto device (5.9).
    pub const CRYPTO: Self = Self(20);
    /// IOMMU (5.13).
    pub const IOMMU: Self = Self(23);
    /// Memory device (5.15).
    pub const MEM: Self = Self(24);
    /// Sound device (5.14).
    pub const SOUND: Self = Self(25);
    /// File system (5.11).
    pub const FS: Self = Self(26);
    /// Persistent memory (5.19).
    pub const PMEM: Self = Self(27);

    /// The specification's short word for the type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NET => "net",
            Self::BLOCK => "block",
            Self::CONSOLE => "console",
            Self::ENTROPY => "entropy",
            Self::BALLOON => "balloon",
            Self::SCSI => "scsi",
            Self::GPU => "gpu",
            Self::INPUT => "input",
            Self::VSOCK => "vsock",
            Self::CRYPTO => "crypto",
            Self::IOMMU => "iommu",
            Self::MEM => "mem",
            Self::SOUND => "sound",
            Self::FS => "fs",
            Self::PMEM => "pmem",
            _ => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::virtio_ids as ids;

    #[test]
    fn numbers_agree_with_linux() {
        let pairs = [
            (DeviceType::NET, ids::VIRTIO_ID_NET),
            (DeviceType::BLOCK, ids::VIRTIO_ID_BLOCK),
            (DeviceType::CONSOLE, ids::VIRTIO_ID_CONSOLE),
            (DeviceType::ENTROPY, ids::VIRTIO_ID_RNG),
            (DeviceType::BALLOON, ids::VIRTIO_ID_BALLOON),
            (DeviceType::SCSI, ids::VIRTIO_ID_SCSI),
            (DeviceType::GPU, ids::VIRTIO_ID_GPU),
            (DeviceType::INPUT, ids::VIRTIO_ID_INPUT),
            (DeviceType::VSOCK, ids::VIRTIO_ID_VSOCK),
            (DeviceType::CRYPTO, ids::VIRTIO_ID_CRYPTO),
            (DeviceType::IOMMU, ids::VIRTIO_ID_IOMMU),
            (DeviceType::MEM, ids::VIRTIO_ID_MEM),
            (DeviceType::SOUND, ids::VIRTIO_ID_SOUND),
            (DeviceType::FS, ids::VIRTIO_ID_FS),
            (DeviceType::PMEM, ids::VIRTIO_ID_PMEM),
        ];
        for (ours, linux) in pairs {
            assert_eq!(ours.0, linux, "{}", ours.name());
        }
    }
}
