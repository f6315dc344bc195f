//! In-flight regions with anything in them: they come back from the front-end, and the device that
//! goes on from one is not to be led astray.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use framework::memory::Mapping;
use framework::worker::InFlightArea;
use virtio_spec::vhost_user::inflight::{
    DescStatePacked, DescStateSplit, QueueRegionPacked, QueueRegionSplit, VERSION, region_size,
};

use crate::ring::Scene;
use crate::step::{Place, Shape};

/// What a front-end hands over.
#[derive(Arbitrary, Debug)]
struct Input {
    packed: bool,
    shape: Shape,
    base: u32,
    /// How many descriptors the region is for, beside those of the ring.
    more: i8,
    offset: u8,
    header: Header,
    states: Vec<State>,
    scribbles: Vec<(u16, [u8; 4])>,
}

/// The head of a region, whose fields are in other places in split and packed ones.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Header {
    /// Otherwise as it should be.
    any_version: Option<u16>,
    any_size: Option<u16>,
    /// `last_batch_head`, or `free_head`.
    first: u8,
    old_first: u8,
    used: u8,
    old_used: u8,
    wraps: [bool; 2],
}

/// An entry.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct State {
    in_flight: bool,
    next: u8,
    last: u8,
    num: u8,
    counter: u8,
    place: Place,
    len: u16,
    id: u16,
    flags: u8,
}

/// A region, a ring that starts from it, and then anything.
pub fn run(data: &[u8]) {
    let mut unstructured = Unstructured::new(data);
    let Ok(input) = Input::arbitrary(&mut unstructured) else { return };
    let size = input.shape.size(input.packed);
    let room = size.saturating_add_signed(input.more.into()).max(1);
    let Some(mapping) = region(&input, size, room) else { return };
    let area = InFlightArea {
        mapping: Arc::new(mapping),
        offset: usize::from(input.offset % 3) * 64,
        size: room,
    };
    let Some(mut scene) = Scene::new(input.shape, input.packed, Some((area, input.base))) else {
        return;
    };
    scene.play(&mut unstructured);
}

/// The memory of the region.
fn region(input: &Input, size: u16, room: u16) -> Option<Mapping> {
    let mapping = Mapping::owned(region_size(input.packed, room) + 64).ok()?;
    let header = if input.packed { packed_header(input, size) } else { split_header(input, size) };
    mapping.write(0, &header);
    let (start, step) = if input.packed {
        (QueueRegionPacked::SIZE, DescStatePacked::SIZE)
    } else {
        (QueueRegionSplit::SIZE, DescStateSplit::SIZE)
    };
    for (n, state) in input.states.iter().enumerate().take(room.into()) {
        mapping.write(start + n * step, &if input.packed { packed(state) } else { split(state) });
    }
    for (at, bytes) in &input.scribbles {
        mapping.write(usize::from(*at) % mapping.len(), bytes);
    }
    Some(mapping)
}

fn split_header(input: &Input, size: u16) -> Vec<u8> {
    let Header { any_version, any_size, first, used, .. } = input.header;
    QueueRegionSplit {
        version: any_version.unwrap_or(VERSION),
        desc_num: any_size.unwrap_or(size),
        last_batch_head: first.into(),
        used_idx: u16::from(used).wrapping_sub(20),
        ..QueueRegionSplit::default()
    }
    .to_bytes()
    .to_vec()
}

fn packed_header(input: &Input, size: u16) -> Vec<u8> {
    let header = input.header;
    QueueRegionPacked {
        version: header.any_version.unwrap_or(VERSION),
        desc_num: header.any_size.unwrap_or(size),
        free_head: header.first.into(),
        old_free_head: header.old_first.into(),
        used_idx: u16::from(header.used) % (size + 1),
        old_used_idx: u16::from(header.old_used) % (size + 1),
        used_wrap_counter: header.wraps[0].into(),
        old_used_wrap_counter: header.wraps[1].into(),
        ..QueueRegionPacked::default()
    }
    .to_bytes()
    .to_vec()
}

fn split(state: &State) -> Vec<u8> {
    DescStateSplit {
        inflight: state.in_flight.into(),
        next: state.next.into(),
        counter: state.counter.into(),
        ..DescStateSplit::default()
    }
    .to_bytes()
    .to_vec()
}

fn packed(state: &State) -> Vec<u8> {
    DescStatePacked {
        inflight: state.in_flight.into(),
        next: u16::from(state.next) % 70,
        last: u16::from(state.last) % 70,
        num: u16::from(state.num) % 5,
        counter: state.counter.into(),
        id: state.id,
        flags: u16::from(state.flags) & 7,
        len: state.len.into(),
        addr: state.place.address(),
        ..DescStatePacked::default()
    }
    .to_bytes()
    .to_vec()
}
