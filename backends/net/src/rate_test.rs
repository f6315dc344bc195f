use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_bucket_is_full_at_first_and_fills_again() {
    let mut bucket = Bucket::new(1000, 1, SECOND);
    assert_eq!(bucket.available(SECOND), 50);
    bucket.take(50);
    assert_eq!(bucket.available(SECOND), 0);
    assert_eq!(bucket.wait(), Duration::from_millis(1));
    assert_eq!(bucket.available(SECOND + Duration::from_millis(10)), 10);
    assert_eq!(bucket.available(100 * SECOND), 50, "no more than it holds");
}

#[test]
fn what_was_overdrawn_is_waited_for() {
    let mut bucket = Bucket::new(1000, 1, SECOND);
    bucket.take(550);
    assert_eq!(bucket.available(SECOND), 0);
    assert_eq!(bucket.wait(), Duration::from_millis(501));
    assert_eq!(bucket.available(SECOND + bucket.wait()), 1);
}

#[test]
fn the_extremes_are_no_panic() {
    for rate in [0, 1, u64::MAX] {
        let mut bucket = Bucket::new(rate, u64::MAX, Duration::ZERO);
        bucket.take(u64::MAX);
        bucket.take(u64::MAX);
        assert!(bucket.wait() > Duration::ZERO);
        bucket.available(Duration::MAX);
        bucket.available(Duration::ZERO);
    }
}

#[test]
fn without_a_limit_everything_is_admitted() {
    let meter = Meter::default();
    meter.charge(1000, 1 << 40);
    assert_eq!(meter.admit(256, SECOND), Admission::Frames(256));
    meter.set(Limit { packets_per_second: Some(100), ..Limit::default() });
    assert_eq!(meter.admit(256, SECOND), Admission::Frames(5));
    meter.charge(5, 5000);
    assert_eq!(meter.admit(256, SECOND), Admission::Wait(Duration::from_millis(10)));
    meter.set(Limit::default());
    assert_eq!(meter.admit(256, SECOND), Admission::Frames(256));
}

/// Runs a meter with frames of these lengths, as fast as it admits them: how long it took.
fn run(limit: Limit, lengths: &[u64]) -> Duration {
    let meter = Meter::default();
    meter.set(limit);
    let (mut now, mut lengths) = (SECOND, lengths.iter());
    while lengths.len() > 0 {
        match meter.admit(256, now) {
            Admission::Frames(n) => {
                let taken: Vec<u64> = lengths.by_ref().take(n).copied().collect();
                meter.charge(taken.len() as u64, taken.iter().sum());
            }
            Admission::Wait(time) => now += time,
        }
    }
    now - SECOND
}

proptest! {
    #[test]
    fn in_the_long_run_the_rates_hold(
        lengths in vec(14..65_000_u64, 1..400),
        bytes in prop::option::of(1_000..100_000_000_u64),
        packets in prop::option::of(10..100_000_u64),
    ) {
        let limit = Limit { bytes_per_second: bytes, packets_per_second: packets };
        let took = run(limit, &lengths).as_secs_f64();
        let total = lengths.iter().sum::<u64>() as f64;
        let count = lengths.len() as f64;
        let per_second = |rate: Option<u64>, n: f64| rate.map_or(0.0, |rate| n / rate as f64);
        // The last round may overdraw: by frames that are longer than usual.
        let round = |rate: Option<u64>| rate.map_or(0.0, |rate| rate as f64 * 0.05 + 65_536.0);
        let slack = round(bytes) / 1514.0 * 65_000.0 + round(bytes) + 65_000.0;
        let least = per_second(bytes, (total - slack).max(0.0));
        let least = least.max(per_second(packets, (count - 5.0).max(0.0)) - 0.05);
        let most = per_second(bytes, total) + per_second(packets, count) + 0.001 * count + 0.01;
        prop_assert!(took >= least && took <= most, "{took} is not within {least}..{most}");
    }
}
