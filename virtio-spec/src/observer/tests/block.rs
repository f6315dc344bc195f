//! Requests to a block device, and its configuration.

use super::breaches;
use super::scene::{Outcome, Scene};
use crate::DeviceType;
use crate::block::{
    CONFIG_WCE, Config, DISCARD, FLUSH, RO, RequestHeader, RequestType, Segment, SegmentFlags,
    Status, WRITEBACK_OFFSET,
};
use crate::features::{Offered, VERSION_1, mask};
use crate::observer::clause::block::*;
use crate::observer::{BlockRequest, DeviceStep};
use crate::status::Status as DeviceStatus;

/// A block device with these features that is ready, of 1000 sectors.
fn disk(bits: &[u32]) -> Scene {
    let mut scene = Scene::of(DeviceType::BLOCK);
    scene.negotiated(bits);
    scene.driver_ok();
    let config = Config { capacity: 1000, max_discard_seg: 1, ..Config::default() };
    read_config(&mut scene, config).unwrap();
    scene
}

fn read_config(scene: &mut Scene, config: Config) -> Outcome {
    scene.step(DeviceStep::ConfigRead { offset: 0, data: &config.to_bytes() })
}

/// A request of this type that went well.
fn request(kind: RequestType) -> BlockRequest<'static> {
    let (data_out, data_in) = match kind {
        RequestType::In => (0, 512),
        RequestType::Out => (512, 0),
        _ => (0, 0),
    };
    BlockRequest {
        header: RequestHeader { request_type: kind.number(), reserved: 0, sector: 0 },
        data_out,
        data_in,
        segments: &[],
        has_status: true,
        status: Status::Ok.number(),
        used_len: u32::try_from(data_in).unwrap() + 1,
    }
}

fn with_segments<'a>(kind: RequestType, segments: &'a [Segment]) -> BlockRequest<'a> {
    let data_out = (segments.len() * Segment::SIZE) as u64;
    BlockRequest { data_out, segments, ..request(kind) }
}

breaches! {
    padding_that_is_not_zero breaks BLK_PADDING_ZERO: {
        let mut scene = disk(&[]);
        read_config(&mut scene, Config { unused0: 1, ..Config::default() })
    }

    writeback_without_flush breaks BLK_WRITEBACK_INITIAL: {
        let mut scene = Scene::of(DeviceType::BLOCK);
        let offered = Offered::of(&[VERSION_1, CONFIG_WCE, FLUSH]);
        scene.fine(DeviceStep::FeaturesOffered(offered));
        scene.fine(DeviceStep::FeaturesAcked(mask(VERSION_1) | mask(CONFIG_WCE)));
        scene.driver_ok();
        scene.step(DeviceStep::ConfigRead { offset: WRITEBACK_OFFSET, data: &[1] })
    }

    a_cache_mode_that_is_not_taken breaks BLK_WRITEBACK_READS_BACK: {
        let mut scene = disk(&[CONFIG_WCE, FLUSH]);
        scene.fine(DeviceStep::ConfigWritten { offset: WRITEBACK_OFFSET, data: &[1] });
        scene.step(DeviceStep::ConfigRead { offset: WRITEBACK_OFFSET, data: &[0] })
    }

    a_request_without_status breaks BLK_STATUS_WRITTEN: {
        let mut scene = disk(&[]);
        scene.step(BlockRequest { status: 255, ..request(RequestType::In) })
    }

    a_short_used_length breaks BLK_USED_LEN: {
        let mut scene = disk(&[]);
        scene.step(BlockRequest { used_len: 512, ..request(RequestType::In) })
    }

    a_write_to_a_read_only_disk breaks BLK_READ_ONLY: {
        let mut scene = disk(&[RO]);
        scene.step(request(RequestType::Out))
    }

    an_unknown_type breaks BLK_UNKNOWN_TYPE: {
        let mut scene = disk(&[]);
        let header = RequestHeader { request_type: 99, ..RequestHeader::default() };
        let status = Status::IoErr.number();
        scene.step(BlockRequest { header, status, ..request(RequestType::Flush) })
    }

    unknown_segment_flags breaks BLK_SEGMENT_FLAGS: {
        let mut scene = disk(&[]);
        let segments = [Segment { flags: 2, ..Segment::default() }];
        scene.step(with_segments(RequestType::WriteZeroes, &segments))
    }

    a_zone_report_without_zones breaks BLK_ZONE_UNSUPPORTED: {
        let mut scene = disk(&[]);
        scene.step(request(RequestType::ZoneReport))
    }

    success_that_cannot_be breaks BLK_NO_FALSE_OK: {
        let mut scene = disk(&[]);
        let request = BlockRequest { data_in: 100, used_len: 101, ..request(RequestType::In) };
        let driver = scene.step(request).unwrap_err();
        assert_eq!(driver.clause, &BLK_DATA_LENGTH);
        let device = scene.observer.violations().last().cloned().unwrap();
        Err(device)
    }

    writeback_read_early breaks BLK_WRITEBACK_EARLY: {
        let mut scene = Scene::of(DeviceType::BLOCK);
        scene.status(DeviceStatus::ACKNOWLEDGE);
        scene.step(DeviceStep::ConfigRead { offset: WRITEBACK_OFFSET, data: &[1] })
    }

    a_write_to_the_capacity breaks BLK_CONFIG_READ_ONLY: {
        let mut scene = disk(&[]);
        scene.step(DeviceStep::ConfigWritten { offset: 0, data: &[1] })
    }

    a_read_beyond_the_end breaks BLK_CAPACITY: {
        let mut scene = disk(&[]);
        let mut request = request(RequestType::In);
        request.header.sector = 1000;
        scene.step(BlockRequest { status: Status::IoErr.number(), ..request })
    }

    half_a_sector breaks BLK_DATA_LENGTH: {
        let mut scene = disk(&[]);
        let status = Status::IoErr.number();
        scene.step(BlockRequest { data_out: 256, status, ..request(RequestType::Out) })
    }

    too_many_segments breaks BLK_SEGMENT_COUNT: {
        let mut scene = disk(&[DISCARD]);
        let segments = [Segment::default(); 2];
        let status = Status::IoErr.number();
        scene.step(BlockRequest { status, ..with_segments(RequestType::Discard, &segments) })
    }

    a_flush_of_a_sector breaks BLK_FLUSH_SECTOR: {
        let mut scene = disk(&[FLUSH]);
        let mut request = request(RequestType::Flush);
        request.header.sector = 1;
        scene.step(request)
    }

    a_discard_with_unmap breaks BLK_DISCARD_UNMAP: {
        let mut scene = disk(&[DISCARD]);
        let flags = SegmentFlags::UNMAP.bits();
        let segments = [Segment { flags, ..Segment::default() }];
        let status = Status::Unsupported.number();
        scene.step(BlockRequest { status, ..with_segments(RequestType::Discard, &segments) })
    }

    no_room_for_the_status breaks BLK_STATUS_ROOM: {
        let mut scene = disk(&[]);
        scene.step(BlockRequest { has_status: false, ..request(RequestType::In) })
    }
}

#[test]
fn requests_that_went_well_conform() {
    let mut scene = disk(&[FLUSH, DISCARD, CONFIG_WCE]);
    for kind in [RequestType::In, RequestType::Out, RequestType::Flush] {
        scene.fine(request(kind));
    }
    let segments = [Segment { sector: 0, num_sectors: 8, flags: 0 }];
    scene.fine(with_segments(RequestType::Discard, &segments));
    scene.fine(DeviceStep::ConfigWritten { offset: WRITEBACK_OFFSET, data: &[1] });
    scene.fine(DeviceStep::ConfigRead { offset: WRITEBACK_OFFSET, data: &[1] });
}

#[test]
fn a_refused_write_to_a_read_only_disk_conforms() {
    let mut scene = disk(&[RO]);
    let status = Status::IoErr.number();
    scene.fine(BlockRequest { status, ..request(RequestType::Out) });
}
