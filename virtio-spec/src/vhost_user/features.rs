//! Feature bits that belong to vhost-user, and its protocol features.

/// Feature bit: the back-end marks in the dirty log what it writes into guest memory.
pub const F_LOG_ALL: u32 = 26;
/// Feature bit: protocol features can be negotiated. Never shown to a driver.
pub const F_PROTOCOL_FEATURES: u32 = 30;

bitflags::bitflags! {
    /// Extensions of the protocol, each negotiated by a bit (section "Protocol features").
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct ProtocolFeatures: u64 {
        /// GET_QUEUE_NUM tells how many queues there are.
        const MQ = 1 << 0;
        /// SET_LOG_BASE carries the dirty log as a file descriptor.
        const LOG_SHMFD = 1 << 1;
        /// SEND_RARP.
        const RARP = 1 << 2;
        /// A sender can ask for an acknowledgement of any message.
        const REPLY_ACK = 1 << 3;
        /// NET_SET_MTU.
        const NET_MTU = 1 << 4;
        /// The back-end can send requests on a socket of its own.
        const BACKEND_REQ = 1 << 5;
        /// Byte order of legacy rings can be set.
        const CROSS_ENDIAN = 1 << 6;
        /// Sessions of crypto devices.
        const CRYPTO_SESSION = 1 << 7;
        /// Postcopy migration.
        const PAGEFAULT = 1 << 8;
        /// GET_CONFIG and SET_CONFIG.
        const CONFIG = 1 << 9;
        /// The back-end's requests can carry file descriptors.
        const BACKEND_SEND_FD = 1 << 10;
        /// The back-end can give the guest a page to kick it by.
        const HOST_NOTIFIER = 1 << 11;
        /// In-flight requests are recorded in shared memory.
        const INFLIGHT_SHMFD = 1 << 12;
        /// RESET_DEVICE.
        const RESET_DEVICE = 1 << 13;
        /// Kicks and calls as messages. Needs `BACKEND_REQ` and `REPLY_ACK`.
        const INBAND_NOTIFICATIONS = 1 << 14;
        /// Memory regions can be added and removed one by one.
        const CONFIGURE_MEM_SLOTS = 1 << 15;
        /// SET_STATUS and GET_STATUS.
        const STATUS = 1 << 16;
        /// Memory of Xen guests.
        const XEN_MMAP = 1 << 17;
        /// Objects shared between back-ends.
        const SHARED_OBJECT = 1 << 18;
        /// The device's state can be saved and loaded.
        const DEVICE_STATE = 1 << 19;
        /// GET_VRING_BASE may leave requests in flight. Needs `INFLIGHT_SHMFD`.
        const GET_VRING_BASE_INFLIGHT = 1 << 20;
        /// Addresses in messages are guest addresses.
        const GPA_ADDRESSES = 1 << 21;
        /// The back-end can map memory into the guest.
        const SHMEM_MAP = 1 << 22;
    }
}

impl ProtocolFeatures {
    /// The features in this set that lack one they need; empty if the set may be negotiated.
    ///
    /// A front-end that sets in-band notifications without their channel is to be disconnected
    /// (section "In-band notifications").
    #[must_use]
    pub const fn lacking_support(self) -> Self {
        let mut lacking = Self::empty();
        let inband_needs = Self::BACKEND_REQ.union(Self::REPLY_ACK);
        if self.contains(Self::INBAND_NOTIFICATIONS) && !self.contains(inband_needs) {
            lacking = lacking.union(Self::INBAND_NOTIFICATIONS);
        }
        if self.contains(Self::GET_VRING_BASE_INFLIGHT) && !self.contains(Self::INFLIGHT_SHMFD) {
            lacking = lacking.union(Self::GET_VRING_BASE_INFLIGHT);
        }
        lacking
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};

    #[test]
    fn numbers_agree_with_the_vhost_crate() {
        assert_eq!(1 << F_LOG_ALL, VhostUserVirtioFeatures::LOG_ALL.bits());
        assert_eq!(1 << F_PROTOCOL_FEATURES, VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits());
        for (name, theirs) in VhostUserProtocolFeatures::all().iter_names() {
            // The crate's words for two features are not the specification's.
            let name = match name {
                "MTU" => "NET_MTU",
                "SHMEM" => "SHMEM_MAP",
                other => other,
            };
            let ours = ProtocolFeatures::from_name(name);
            assert_eq!(ours.map(|f| f.bits()), Some(theirs.bits()), "{name}");
        }
    }

    #[test]
    fn features_that_stand_on_others_are_found() {
        let inband = ProtocolFeatures::INBAND_NOTIFICATIONS;
        assert_eq!((inband | ProtocolFeatures::REPLY_ACK).lacking_support(), inband);
        let whole = inband | ProtocolFeatures::REPLY_ACK | ProtocolFeatures::BACKEND_REQ;
        assert!(whole.lacking_support().is_empty());
        let base = ProtocolFeatures::GET_VRING_BASE_INFLIGHT;
        assert_eq!(base.lacking_support(), base);
    }
}
