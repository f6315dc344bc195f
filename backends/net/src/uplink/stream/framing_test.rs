use framework::engine::Bounce;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A pool of buffers as an engine has it.
fn pool() -> Bounce {
    Bounce::new(128 << 10, 3)
}

fn buffer(pool: &mut Bounce) -> BounceBuffer {
    pool.lend(BUFFER).unwrap().unwrap()
}

fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
    let with_length =
        |frame: &Vec<u8>| [&u32::try_from(frame.len()).unwrap().to_be_bytes()[..], frame].concat();
    frames.iter().flat_map(with_length).collect()
}

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let length = prop_oneof![6 => 1..200_usize, 1 => 60_000..=FRAME_MAX];
    let frame = (length, any::<u8>()).prop_map(|(length, seed)| {
        (0..length).map(|n| seed.wrapping_add(u8::try_from(n % 251).unwrap())).collect()
    });
    vec(frame, 1..20)
}

/// Takes all frames that are there.
fn take_all(incoming: &mut Incoming, to: &mut Vec<Vec<u8>>) {
    while let Next::Frame { at, length } = incoming.next() {
        let mut frame = vec![0; length];
        assert_eq!(incoming.bytes().read(at, &mut frame), length);
        to.push(frame);
        incoming.pop();
    }
}

/// Reads some bytes into a buffer, as many as it has room for.
fn feed(incoming: &mut Incoming, bytes: &[u8]) -> usize {
    let n = incoming.room()[0].write(0, bytes);
    incoming.filled(n);
    n
}

#[test]
fn lengths_that_no_frame_has_break_a_stream() {
    let mut pool = pool();
    for length in [0, u32::try_from(FRAME_MAX).unwrap() + 1, u32::MAX] {
        let mut incoming = Incoming::new(buffer(&mut pool));
        feed(&mut incoming, &length.to_be_bytes()[..3]);
        assert_eq!(incoming.next(), Next::Partial);
        feed(&mut incoming, &length.to_be_bytes()[3..]);
        assert_eq!(incoming.next(), Next::Broken { length });
        incoming.pop();
        assert_eq!(incoming.next(), Next::Broken { length });
        incoming.clear();
        assert_eq!(incoming.next(), Next::Partial);
    }
}

#[test]
fn a_peer_that_does_not_read_fills_a_buffer_and_no_more() {
    let mut pool = pool();
    let mut outgoing = Outgoing::new(buffer(&mut pool));
    let frame = pool.lend(1500).unwrap().unwrap();
    let pushed = (0..1000).take_while(|_| outgoing.push(frame.segments())).count();
    assert!((40..100).contains(&pushed), "{pushed}");
    let before = outgoing.unsent()[0].len();
    assert!(!outgoing.push(frame.segments()) && outgoing.unsent()[0].len() == before);
    outgoing.sent(before);
    assert!(outgoing.is_empty() && outgoing.push(frame.segments()));
}

proptest! {
    #[test]
    fn frames_arrive_whole_however_the_stream_is_cut(
        frames in frames(), cuts in vec(1..70_000_usize, 1..50),
    ) {
        let mut pool = pool();
        let mut incoming = Incoming::new(buffer(&mut pool));
        let bytes = stream(&frames);
        let (mut at, mut found) = (0, Vec::new());
        for cut in cuts.iter().cycle() {
            let piece = &bytes[at..(at + cut).min(bytes.len())];
            let n = feed(&mut incoming, piece);
            prop_assert!(n > 0 || piece.is_empty());
            at += n;
            take_all(&mut incoming, &mut found);
            if at == bytes.len() { break; }
        }
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn the_stream_is_the_same_however_little_the_peer_takes(
        frames in frames(), takes in vec(0..90_000_usize, 1..50),
    ) {
        let mut pool = pool();
        let mut outgoing = Outgoing::new(buffer(&mut pool));
        let mut sent = Vec::new();
        let mut take = |outgoing: &mut Outgoing, n: usize| {
            let mut piece = vec![0; n];
            let n = outgoing.unsent()[0].read(0, &mut piece);
            sent.extend_from_slice(&piece[..n]);
            outgoing.sent(n);
        };
        let mut takes_again = takes.iter().cycle();
        for frame in &frames {
            while !outgoing.has_room() {
                take(&mut outgoing, takes_again.next().unwrap() + 1);
            }
            let mut whole = pool.lend(128 << 10).unwrap().unwrap();
            whole.bytes().write(0, frame);
            prop_assert!(outgoing.push(whole.part(0, frame.len())));
            pool.give_back(whole);
        }
        while !outgoing.is_empty() {
            take(&mut outgoing, 1 << 20);
        }
        prop_assert_eq!(sent, stream(&frames));
    }
}
