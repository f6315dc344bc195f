use super::*;
use crate::vhost_user::{MAX_CONFIG_SIZE, MAX_MEM_TABLE_REGIONS, MAX_PAYLOAD_SIZE};
use proptest::prelude::*;
use vhost::vhost_user::message as vhost;
use vm_memory::ByteValued;

/// The bytes of one of the `vhost` crate's messages.
fn bytes_of(message: &impl ByteValued) -> &[u8] {
    message.as_slice()
}

#[test]
fn sizes_agree_with_the_vhost_crate() {
    assert_eq!(VringState::SIZE, size_of::<vhost::VhostUserVringState>());
    assert_eq!(VringAddr::SIZE, size_of::<vhost::VhostUserVringAddr>());
    assert_eq!(MemoryRegion::SIZE, size_of::<vhost::VhostUserMemoryRegion>());
    assert_eq!(MemoryTableHeader::SIZE, size_of::<vhost::VhostUserMemory>());
    assert_eq!(SingleMemoryRegion::SIZE, size_of::<vhost::VhostUserSingleMemoryRegion>());
    assert_eq!(Log::SIZE, size_of::<vhost::VhostUserLog>());
    assert_eq!(ConfigHeader::SIZE, size_of::<vhost::VhostUserConfig>());
    assert_eq!(Inflight::SIZE, size_of::<vhost::VhostUserInflight>());
    assert_eq!(TransferDeviceState::SIZE, size_of::<vhost::VhostUserTransferDeviceState>());
}

#[test]
fn limits_agree_with_the_vhost_crate() {
    assert_eq!(MAX_PAYLOAD_SIZE, vhost::MAX_MSG_SIZE);
    const { assert!(MAX_PAYLOAD_SIZE >= ConfigHeader::SIZE + MAX_CONFIG_SIZE) };
    let table = MemoryTableHeader::SIZE + MAX_MEM_TABLE_REGIONS * MemoryRegion::SIZE;
    assert!(MAX_PAYLOAD_SIZE >= table);
}

#[test]
fn encodings_agree_with_the_vhost_crate() {
    let state = VringState { index: 1, num: 2 };
    assert_eq!(bytes_of(&vhost::VhostUserVringState::new(1, 2)), state.to_bytes());

    let addr = VringAddr { index: 1, flags: 1, descriptor: 2, used: 3, available: 4, log: 5 };
    let flags = vhost::VhostUserVringAddrFlags::VHOST_VRING_F_LOG;
    assert_eq!(bytes_of(&vhost::VhostUserVringAddr::new(1, flags, 2, 3, 4, 5)), addr.to_bytes());

    let region = MemoryRegion { guest_addr: 1, size: 2, user_addr: 3, mmap_offset: 4 };
    assert_eq!(bytes_of(&vhost::VhostUserMemoryRegion::new(1, 2, 3, 4)), region.to_bytes());
    let single = SingleMemoryRegion { padding: 0, region };
    assert_eq!(bytes_of(&vhost::VhostUserSingleMemoryRegion::new(1, 2, 3, 4)), single.to_bytes());

    let log = Log { mmap_size: 1, mmap_offset: 2 };
    assert_eq!(bytes_of(&vhost::VhostUserLog::new(1, 2)), log.to_bytes());

    let config = ConfigHeader { offset: 1, size: 2, flags: ConfigFlags::MIGRATION.bits() };
    let flags = vhost::VhostUserConfigFlags::LIVE_MIGRATION;
    let theirs = vhost::VhostUserConfig::new(1, 2, flags);
    assert_eq!(bytes_of(&theirs)[..8], config.to_bytes()[..8]);

    let inflight = Inflight { mmap_size: 1, mmap_offset: 2, num_queues: 3, queue_size: 4 };
    let theirs = vhost::VhostUserInflight::new(1, 2, 3, 4);
    // The bytes after these are padding, in which the other crate leaves what was there.
    let unpadded = &bytes_of(&theirs)[..Inflight::UNPADDED_SIZE];
    assert_eq!(unpadded, &inflight.to_bytes()[..Inflight::UNPADDED_SIZE]);
    assert_eq!(Inflight::from_payload(bytes_of(&theirs)), Some(inflight));
    assert_eq!(Inflight::from_payload(unpadded), Some(inflight));
    assert_eq!(Inflight::from_payload(&unpadded[1..]), None);
}

#[test]
fn a_ring_fd_payload_has_an_index_and_a_flag() {
    let payload = VringFd::from_bits_retain(0x1_0000_0103);
    assert_eq!(payload.index(), 3);
    assert!(payload.contains(VringFd::NO_FD));
}

proptest! {
    #[test]
    fn addresses_round_trip(bytes in proptest::array::uniform32(any::<u8>()), rest: [u8; 8]) {
        let mut all = [0; VringAddr::SIZE];
        all[..32].copy_from_slice(&bytes);
        all[32..].copy_from_slice(&rest);
        prop_assert_eq!(VringAddr::from_bytes(&all).to_bytes(), all);
    }

    #[test]
    fn inflight_descriptions_round_trip(mut bytes: [u8; Inflight::SIZE]) {
        bytes[Inflight::UNPADDED_SIZE..].fill(0);
        prop_assert_eq!(Inflight::from_bytes(&bytes).to_bytes(), bytes);
    }
}
