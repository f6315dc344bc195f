//! Bytes as the stream of a network card's peer, in pieces of any size.

use arbitrary::Unstructured;
use framework::engine::Bounce;
use outrigger_net::header::FRAME_MAX;
use outrigger_net::uplink::stream::framing::{BUFFER, Incoming, Next, PREFIX};

/// One input: cuts, then what comes, repeated so that buffers fill up.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let cuts = input.arbitrary::<[u16; 8]>().unwrap_or([7; 8]);
    let times = usize::from(input.arbitrary::<u8>().unwrap_or(1));
    let stream = input.take_rest().repeat(times.min(1 + (1 << 18) / data.len().max(1)));

    let mut pool = Bounce::new(BUFFER, 1);
    let mut incoming = Incoming::new(pool.lend(BUFFER).unwrap().expect("the pool has one"));
    let (mut at, mut found, mut broken) = (0, Vec::new(), false);
    for cut in cuts.iter().cycle() {
        let room = &incoming.room()[0];
        assert!(!room.is_empty(), "there is always a way on");
        let end = stream.len().min(at + 1 + usize::from(*cut));
        let n = room.write(0, &stream[at..end]);
        incoming.filled(n);
        at += n;
        broken = take_all(&mut incoming, &mut found);
        if broken || at == stream.len() {
            break;
        }
    }
    check(&stream, &found, broken);
}

/// Takes all frames that are there. True: what follows is none.
fn take_all(incoming: &mut Incoming, to: &mut Vec<Vec<u8>>) -> bool {
    loop {
        match incoming.next() {
            Next::Partial => return false,
            Next::Broken { .. } => return true,
            Next::Frame { at, length } => {
                let mut frame = vec![0; length];
                assert_eq!(incoming.bytes().read(at, &mut frame), length);
                to.push(frame);
                incoming.pop();
            }
        }
    }
}

/// The same, from a stream that is there as a whole.
fn check(stream: &[u8], found: &[Vec<u8>], broken: bool) {
    let mut rest = stream;
    for frame in found {
        let (prefix, after) = rest.split_at(PREFIX);
        assert_eq!(prefix, u32::try_from(frame.len()).expect("frames are short").to_be_bytes());
        assert!((1..=FRAME_MAX).contains(&frame.len()));
        let (body, after) = after.split_at(frame.len());
        assert!(body == frame, "the bytes are those of the stream");
        rest = after;
    }
    let next = rest.first_chunk().map(|prefix| u32::from_be_bytes(*prefix) as usize);
    let sensible = next.is_none_or(|length| (1..=FRAME_MAX).contains(&length));
    assert_eq!(broken, !sensible);
    if !broken {
        assert!(next.is_none_or(|length| rest.len() < PREFIX + length), "no frame is left behind");
    }
}
