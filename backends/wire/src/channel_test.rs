//! Framing over a socket pair: pieces of any size, descriptors, floods, bad headers.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::*;

fn channel_and_peer() -> (Channel, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Channel::new(ours.into()), theirs)
}

fn two_channels() -> (Channel, Channel) {
    let (a, b) = channel_and_peer();
    (a, Channel::new(b.into()))
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

#[test]
fn a_message_that_arrives_byte_by_byte_is_whole_at_its_last_byte() {
    let (mut channel, mut peer) = channel_and_peer();
    let bytes = Frame::request(9, vec![7; 40]).needing_reply(true).to_bytes();
    let (last, first) = bytes.split_last().unwrap();
    for byte in first {
        peer.write_all(&[*byte]).unwrap();
        assert!(channel.receive().unwrap().is_none());
    }
    peer.write_all(&[*last]).unwrap();
    let frame = channel.receive().unwrap().unwrap();
    assert_eq!((frame.code, frame.reply, frame.need_reply), (9, false, true));
    assert_eq!(frame.payload, [7; 40]);
    assert!(channel.receive().unwrap().is_none());
}

#[test]
fn messages_sent_at_once_are_received_one_by_one_each_with_its_descriptors() {
    let (mut sender, mut receiver) = two_channels();
    for (code, fds) in [(1, 0), (5, 8), (2, 0), (12, 1)] {
        let fds = (0..fds).map(|_| null()).collect();
        sender.queue(Frame::request(code, vec![0; 8]).with_fds(fds)).unwrap();
    }
    assert!(sender.flush().unwrap());
    let received: Vec<_> = std::iter::from_fn(|| receiver.receive().unwrap())
        .map(|frame| (frame.code, frame.fds.len()))
        .collect();
    assert_eq!(received, [(1, 0), (5, 8), (2, 0), (12, 1)]);
}

#[test]
fn received_descriptors_are_closed_at_exec() {
    let (mut sender, mut receiver) = two_channels();
    sender.queue(Frame::request(21, Vec::new()).with_fds(vec![null()])).unwrap();
    sender.flush().unwrap();
    let frame = receiver.receive().unwrap().unwrap();
    let flags = rustix::io::fcntl_getfd(&frame.fds[0]).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn descriptors_of_a_dropped_frame_are_closed() {
    let (mut sender, mut receiver) = two_channels();
    let (mut reader, writer) = std::io::pipe().unwrap();
    sender.queue(Frame::request(1, Vec::new()).with_fds(vec![writer.into()])).unwrap();
    sender.flush().unwrap();
    drop(receiver.receive().unwrap());
    // Were a writer still open, this would block.
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_full_socket_keeps_the_rest_until_there_is_room() {
    let (mut sender, mut receiver) = two_channels();
    let mut sent = 0_u32;
    while sender.flush().unwrap() {
        sender.queue(Frame::request(sent, vec![1; MAX_PAYLOAD_SIZE])).unwrap();
        sent += 1;
    }
    assert!(sender.wants_write());
    let mut received = 0;
    while received < sent {
        while let Some(frame) = receiver.receive().unwrap() {
            assert_eq!(frame.code, received);
            assert_eq!(frame.payload.len(), MAX_PAYLOAD_SIZE);
            received += 1;
        }
        sender.flush().unwrap();
    }
    assert!(!sender.wants_write());
}

#[test]
fn a_peer_that_does_not_read_fills_the_queue_and_no_more() {
    let (mut channel, _peer) = channel_and_peer();
    let error = loop {
        channel.flush().unwrap();
        if let Err(error) = channel.queue(Frame::request(1, vec![0; 4096])) {
            break error;
        }
    };
    assert!(matches!(error, Error::QueueFull(MAX_QUEUED)));
    assert_eq!(channel.queued(), MAX_QUEUED);
}

#[test]
fn the_end_between_messages_is_told_from_the_end_within_one() {
    let (mut channel, peer) = channel_and_peer();
    drop(peer);
    assert!(matches!(channel.receive(), Err(Error::Closed)));
    assert!(matches!(channel.receive(), Err(Error::OutOfStep)));

    for kept in [1, HEADER_SIZE, HEADER_SIZE + 3] {
        let (mut channel, mut peer) = channel_and_peer();
        let bytes = Frame::request(1, vec![0; 8]).to_bytes();
        peer.write_all(&bytes[..kept]).unwrap();
        drop(peer);
        assert!(matches!(channel.receive(), Err(Error::ClosedInMessage)), "{kept} bytes");
    }
}

#[test]
fn messages_that_were_sent_before_the_end_are_still_received() {
    let (mut channel, mut peer) = channel_and_peer();
    peer.write_all(&Frame::request(3, Vec::new()).to_bytes()).unwrap();
    drop(peer);
    assert_eq!(channel.receive().unwrap().unwrap().code, 3);
    assert!(matches!(channel.receive(), Err(Error::Closed)));
}

#[test]
fn sending_to_a_peer_that_is_gone_is_an_error_and_no_signal() {
    let (mut channel, peer) = channel_and_peer();
    drop(peer);
    channel.queue(Frame::request(1, Vec::new())).unwrap();
    assert!(matches!(channel.flush(), Err(Error::Closed)));
}

#[test]
fn another_version_is_refused() {
    let (mut channel, mut peer) = channel_and_peer();
    let header: Vec<u8> = [1_u32, 2, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    peer.write_all(&header).unwrap();
    assert!(matches!(channel.receive(), Err(Error::Version(2))));
}

#[test]
fn a_payload_that_is_too_long_is_refused_before_it_is_read() {
    for size in [4097, u32::MAX] {
        let (mut channel, mut peer) = channel_and_peer();
        let header: Vec<u8> = [25_u32, 1, size].into_iter().flat_map(u32::to_ne_bytes).collect();
        peer.write_all(&header).unwrap();
        assert!(matches!(channel.receive(), Err(Error::TooLong { code: 25, .. })));
    }
}

/// HOSTILE: descriptors leaked by messages that should carry none, or repeated.
#[test]
fn more_descriptors_than_a_message_may_have_are_refused_and_closed() {
    let (mut channel, peer) = channel_and_peer();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let bytes = Frame::request(5, Vec::new()).to_bytes();
    // Twice 30: the kernel accepts each, together they are too many.
    for half in bytes.chunks(6) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(30))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [writer.as_fd(); 30];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&peer, &[IoSlice::new(half)], &mut control, SendFlags::empty()).unwrap();
    }
    assert!(matches!(channel.receive(), Err(Error::TooManyFds(MAX_FDS))));
    drop((writer, channel));
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn more_descriptors_than_the_buffer_holds_are_refused() {
    let (mut channel, peer) = channel_and_peer();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(40))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let file = null();
    let fds = [file.as_fd(); 40];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let bytes = Frame::request(5, Vec::new()).to_bytes();
    sendmsg(&peer, &[IoSlice::new(&bytes)], &mut control, SendFlags::empty()).unwrap();
    assert!(matches!(channel.receive(), Err(Error::TooManyFds(MAX_FDS))));
}

#[test]
fn the_sockets_own_flags_stay_as_they_are() {
    let (mut channel, _peer) = channel_and_peer();
    assert!(channel.receive().unwrap().is_none());
    assert!(channel.as_fd().as_raw_fd() >= 0);
    let flags = rustix::fs::fcntl_getfl(&channel).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
}

proptest::proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(0_u8.., 0..200)) {
        let (mut channel, mut peer) = channel_and_peer();
        peer.write_all(&bytes).unwrap();
        drop(peer);
        while let Ok(Some(_)) = channel.receive() {}
    }
}
