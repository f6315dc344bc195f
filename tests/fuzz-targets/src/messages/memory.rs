//! The memory that front-end and back-end share, and the driver in it.

use std::os::fd::OwnedFd;

use framework::session::Action;
use rustix::fs::MemfdFlags;
use virtio_spec::block::RequestHeader;
use virtio_spec::vhost_user::{Inflight, MemoryRegion, VringAddr, VringState};
use virtio_spec::{packed, split};
use wire::{Reply, Request};

use super::call::{Bits, GuestChain, Message, RegionInput};
use super::fds::{Fds, Kind};

/// Where the memory is, for the guest and for the front-end.
const GUEST: u64 = 0x10_0000;
pub(super) const USER: u64 = 0x7f00_0000_0000;
const PAGES: u64 = 16;

/// The memory that front-end and back-end share, and what the back-end has given.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) packed: bool,
    memory: OwnedFd,
    pub(super) inflight: Option<(Inflight, OwnedFd)>,
    /// Where each ring's driver is: available index, or next place.
    next: [u16; 4],
}

impl Shared {
    pub(super) fn new(packed: bool) -> Self {
        let memory = rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&memory, PAGES * 4096).unwrap();
        Shared { packed, memory, inflight: None, next: [0; 4] }
    }

    pub(super) fn truncate(&self, pages: u64) {
        rustix::fs::ftruncate(&self.memory, pages * 4096).unwrap();
    }

    /// Takes what an answer brings. Always true.
    pub(super) fn answered(&mut self, action: Action) -> bool {
        if let Action::Reply { reply: Reply::Inflight(region, fd), .. } = action {
            self.inflight = Some((region, fd));
        }
        true
    }

    /// Makes a request available: header, data, status, one after the other in one page.
    pub(super) fn guest(&mut self, chain: &GuestChain) {
        let GuestChain { ring, kind, sector, pages, at, jump } = *chain;
        let ring = usize::from(ring % 4);
        let page = GUEST + (8 + u64::from(pages % 8)) * 4096;
        let at = u64::from(at % 0x800);
        let request_type = [0, 1, 4, 8, 11, 13, 99, 0][usize::from(kind % 8)];
        let header = RequestHeader { request_type, reserved: 0, sector: sector.into() };
        self.write(page - GUEST + at, &header.to_bytes());
        let data_flags = if request_type == 1 { 0 } else { split::DESC_F_WRITE };
        let buffers =
            [(at, 16, 0), (at + 0x100, 512, data_flags), (at + 0x80, 1, split::DESC_F_WRITE)];
        let start = ring as u64 * 4096;
        for (n, (at, len, flags)) in (0_u16..).zip(buffers) {
            let more = if n < 2 { split::DESC_F_NEXT } else { 0 };
            let addr = page + at;
            let bytes = if self.packed {
                let index = (self.next[ring] + n) % 8;
                let flags = flags
                    | more
                    | packed::avail_flags(((self.next[ring] + n) / 8).is_multiple_of(2));
                (index, packed::Descriptor { addr, len, id: n, flags }.to_le_bytes())
            } else {
                (n, split::Descriptor { addr, len, flags: flags | more, next: n + 1 }.to_le_bytes())
            };
            self.write(start + u64::from(bytes.0) * 16, &bytes.1);
        }
        if self.packed {
            self.next[ring] = (self.next[ring] + 3) % 16;
        } else {
            self.next[ring] = self.next[ring].wrapping_add(jump.unwrap_or(1));
            self.write(start + 0x400 + 2, &self.next[ring].to_le_bytes());
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let _ = rustix::io::pwrite(&self.memory, bytes, at);
    }

    fn file(&self) -> OwnedFd {
        self.memory.try_clone().unwrap()
    }

    /// The addresses of a ring as they should be.
    pub(super) fn addresses(&self, ring: u8, flags: u32) -> VringAddr {
        let start = USER + u64::from(ring % 4) * 4096;
        VringAddr {
            index: ring.into(),
            flags,
            descriptor: start,
            available: start + 0x400,
            used: start + 0x800,
            log: GUEST + u64::from(ring % 4) * 4096 + 0x800,
        }
    }

    /// All that it takes to start a ring, from the negotiation on.
    pub(super) fn set_up(&self, ring: u8, fds: &mut Fds) -> Vec<Request> {
        let index = ring % 4;
        let state = |num| VringState { index: index.into(), num };
        let base = if self.packed { 0x8000_8000 } else { 0 };
        vec![
            Message::SetProtocolFeatures(Bits::Usual).request(self, fds),
            Message::SetFeatures(Bits::Usual).request(self, fds),
            Request::SetMemTable(vec![self.region(RegionInput::Whole, fds)]),
            Request::SetVringNum(state(8)),
            Request::SetVringBase(state(base)),
            Request::SetVringAddr(self.addresses(index, 0)),
            Request::SetVringCall { index, fd: Some(fds.make(Kind::Eventfd)) },
            Request::SetVringKick { index, fd: Some(fds.make(Kind::Eventfd)) },
            Request::SetVringEnable { index: index.into(), enable: true },
        ]
    }

    pub(super) fn region(&self, input: RegionInput, fds: &mut Fds) -> (MemoryRegion, OwnedFd) {
        let part = |first: u64, pages: u64| MemoryRegion {
            guest_addr: GUEST + first * 4096,
            size: pages * 4096,
            user_addr: USER + first * 4096,
            mmap_offset: first * 4096,
        };
        match input {
            RegionInput::Whole => (part(0, PAGES), self.file()),
            RegionInput::Part { first, pages } => {
                (part((first % 16).into(), (pages % 17).into()), self.file())
            }
            RegionInput::Other { kind, guest, user, size, offset } => {
                let region = MemoryRegion {
                    guest_addr: guest.value(),
                    size: size.value(),
                    user_addr: user.value(),
                    mmap_offset: offset.value(),
                };
                (region, fds.make(kind))
            }
        }
    }
}
