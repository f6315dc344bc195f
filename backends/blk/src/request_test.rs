use proptest::collection::vec;
use proptest::prelude::*;
use virtio_spec::features::mask;

use super::*;

const DISK: u64 = 1 << 20;

fn limits() -> Limits {
    let features = mask(DISCARD) | mask(WRITE_ZEROES) | mask(SECURE_ERASE);
    Limits { bytes: DISK, read_only: false, features: Negotiated::assume(features) }
}

fn header(request_type: u32, sector: u64) -> [u8; 16] {
    RequestHeader { request_type, reserved: 0, sector }.to_bytes()
}

fn parse(kind: RequestType, sector: u64, readable: u64, writable: u64) -> Result<Request, Status> {
    Request::parse(header(kind.number(), sector), DataLengths { readable, writable }, &limits())
}

fn parse_ranges(kind: EraseKind, segments: &[Segment]) -> (Result<(), Status>, Vec<Range>) {
    let mut ranges = Vec::new();
    let result = limits().ranges(kind, segments.iter().map(|s| s.to_bytes()), &mut ranges);
    (result, ranges)
}

fn segment(sector: u64, num_sectors: u32, flags: u32) -> Segment {
    Segment { sector, num_sectors, flags }
}

#[test]
fn io_not_a_multiple_of_the_sector() {
    for len in [1, 511, 513, 4095] {
        assert_eq!(parse(RequestType::In, 0, 0, len), Err(Status::IoErr));
        assert_eq!(parse(RequestType::Out, 0, len, 0), Err(Status::IoErr));
    }
}

#[test]
fn io_past_the_end_of_the_disk() {
    let sectors = DISK / SECTOR_SIZE;
    let last = Extent { offset: DISK - 512, len: 512 };
    assert_eq!(parse(RequestType::In, sectors - 1, 0, 512), Ok(Request::Read(last)));
    for (sector, len) in [
        (sectors - 1, 1024),
        (sectors, 512),
        (u64::MAX, 512),
        (u64::MAX / 512, 512),
        (u64::MAX / 512, 0),
        (1 << 55, 0),
    ] {
        assert_eq!(parse(RequestType::In, sector, 0, len), Err(Status::IoErr), "{sector}");
        assert_eq!(parse(RequestType::Out, sector, len, 0), Err(Status::IoErr), "{sector}");
    }
}

#[test]
fn writes_discards_and_zeroes_on_a_read_only_device() {
    let limits = Limits { read_only: true, features: Negotiated::NONE, ..limits() };
    let parse = |kind: RequestType, readable| {
        let data = DataLengths { readable, writable: 0 };
        Request::parse(header(kind.number(), 0), data, &limits)
    };
    assert_eq!(parse(RequestType::Out, 512), Err(Status::IoErr));
    assert_eq!(parse(RequestType::Out, 0), Err(Status::IoErr));
    for kind in [RequestType::Discard, RequestType::WriteZeroes, RequestType::SecureErase] {
        assert_eq!(parse(kind, 16), Err(Status::Unsupported));
    }
}

#[test]
fn requests_that_were_not_negotiated_are_unsupported() {
    let limits = Limits { features: Negotiated::NONE, ..limits() };
    for kind in [RequestType::Discard, RequestType::WriteZeroes, RequestType::SecureErase] {
        let data = DataLengths { readable: 16, writable: 0 };
        let parsed = Request::parse(header(kind.number(), 0), data, &limits);
        assert_eq!(parsed, Err(Status::Unsupported));
    }
}

#[test]
fn zone_and_lifetime_requests_are_unsupported() {
    let unsupported = RequestType::ALL.into_iter().filter(|kind| {
        kind.number() > RequestType::SecureErase.number() || *kind == RequestType::GetLifetime
    });
    for kind in unsupported {
        assert_eq!(parse(kind, 0, 512, 512), Err(Status::Unsupported), "{kind:?}");
    }
}

#[test]
fn more_ranges_than_offered_or_pieces_of_one_are_errors() {
    for kind in [RequestType::Discard, RequestType::WriteZeroes, RequestType::SecureErase] {
        assert!(parse(kind, 0, 16, 0).is_ok());
        assert!(parse(kind, 0, 16 * MAX_RANGES as u64, 0).is_ok());
        for len in [0, 15, 17, 16 * (MAX_RANGES as u64 + 1), u64::MAX - 15] {
            assert_eq!(parse(kind, 0, len, 0), Err(Status::IoErr), "{len}");
        }
    }
}

#[test]
fn an_unknown_flag_goes_before_every_other_error() {
    for kind in [EraseKind::Discard, EraseKind::WriteZeroes, EraseKind::SecureErase] {
        let segments = [segment(u64::MAX, 1, 0), segment(0, 1, 2)];
        assert_eq!(parse_ranges(kind, &segments).0, Err(Status::Unsupported));
        assert_eq!(parse_ranges(kind, &segments[..1]).0, Err(Status::IoErr));
    }
}

#[test]
fn unmap_is_for_zeroes_alone() {
    let unmap = [segment(8, 8, 1)];
    assert_eq!(parse_ranges(EraseKind::Discard, &unmap).0, Err(Status::Unsupported));
    assert_eq!(parse_ranges(EraseKind::SecureErase, &unmap).0, Err(Status::Unsupported));
    let range = Range { extent: Extent { offset: 4096, len: 4096 }, unmap: true };
    assert_eq!(parse_ranges(EraseKind::WriteZeroes, &unmap), (Ok(()), vec![range]));
}

#[test]
fn longer_ranges_than_offered_are_errors() {
    let limits = Limits { bytes: u64::MAX / 2, ..limits() };
    let parse = |sectors| {
        let segments = [segment(0, sectors, 0).to_bytes()].into_iter();
        limits.ranges(EraseKind::Discard, segments, &mut Vec::new())
    };
    assert_eq!(parse(MAX_RANGE_SECTORS), Ok(()));
    assert_eq!(parse(MAX_RANGE_SECTORS + 1), Err(Status::IoErr));
    assert_eq!(parse(u32::MAX), Err(Status::IoErr));
}

/// Whether a transfer is allowed, computed with room to spare.
fn allowed(sector: u64, len: u64, bytes: u64) -> bool {
    len.is_multiple_of(512) && u128::from(sector) * 512 + u128::from(len) <= u128::from(bytes)
}

proptest! {
    #[test]
    fn every_header_is_judged_as_by_the_model(
        number in prop_oneof![0..30_u32, any::<u32>()],
        reserved: u32,
        sector in prop_oneof![0..2100_u64, any::<u64>()],
        readable in prop_oneof![(0..40_u64).prop_map(|n| n * 512), 0..2000_u64],
        writable in prop_oneof![(0..40_u64).prop_map(|n| n * 512), 0..2000_u64],
        read_only: bool,
    ) {
        let limits = Limits { read_only, ..limits() };
        let bytes = RequestHeader { request_type: number, reserved, sector }.to_bytes();
        let parsed = Request::parse(bytes, DataLengths { readable, writable }, &limits);
        let expected_status = match number {
            0 if allowed(sector, writable, DISK) => None,
            1 if !read_only && allowed(sector, readable, DISK) => None,
            0 | 1 => Some(Status::IoErr),
            4 | 8 => None,
            11 | 13 | 14 if read_only => Some(Status::Unsupported),
            11 | 13 | 14 if readable % 16 == 0 && (1..=32).contains(&(readable / 16)) => None,
            11 | 13 | 14 => Some(Status::IoErr),
            _ => Some(Status::Unsupported),
        };
        prop_assert_eq!(parsed.err(), expected_status);
        if let Ok(Request::Read(extent) | Request::Write(extent)) = parsed {
            prop_assert!(extent.offset + extent.len <= DISK);
            prop_assert_eq!(extent.offset, sector * 512);
        }
    }

    #[test]
    fn every_range_that_passes_is_on_the_disk(
        segments in vec(
            (prop_oneof![0..2100_u64, any::<u64>()], prop_oneof![0..64_u32, any::<u32>()], 0..3_u32),
            1..33,
        ),
    ) {
        let segments: Vec<_> = segments.into_iter().map(|(s, n, f)| segment(s, n, f)).collect();
        let (result, ranges) = parse_ranges(EraseKind::WriteZeroes, &segments);
        let good = |s: &Segment| s.num_sectors <= MAX_RANGE_SECTORS
            && allowed(s.sector, u64::from(s.num_sectors) * 512, DISK);
        let expected = if segments.iter().any(|s| s.flags > 1) {
            Err(Status::Unsupported)
        } else if segments.iter().all(good) {
            Ok(())
        } else {
            Err(Status::IoErr)
        };
        prop_assert_eq!(result, expected);
        for range in ranges {
            prop_assert!(range.extent.offset + range.extent.len <= DISK);
        }
    }
}
