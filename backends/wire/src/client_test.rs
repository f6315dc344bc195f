//! A client against a back-end that answers, refuses, is silent, or lies.

use std::os::unix::net::UnixStream;
use std::thread;

use virtio_spec::vhost_user::FrontendRequest;

use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// A client, and a back-end that gives `answer` to each request.
fn client_with(answer: impl Fn(Frame) -> Option<Frame> + Send + 'static) -> Client {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        let mut channel = Channel::new(theirs.into());
        loop {
            let mut fds = [PollFd::new(&channel, PollFlags::IN)];
            poll(&mut fds, None).unwrap();
            match channel.receive() {
                Ok(Some(frame)) => {
                    if let Some(reply) = answer(frame) {
                        channel.queue(reply).unwrap();
                        channel.flush().unwrap();
                    }
                }
                Ok(None) => {}
                Err(_) => return,
            }
        }
    });
    Client::new(ours.into())
}

#[test]
fn a_call_returns_its_reply() {
    let mut client = client_with(|frame| Some(Reply::U64(0x1234).encode(frame.code)));
    let reply = client.call(Request::GetFeatures, soon()).unwrap();
    assert!(matches!(reply, Reply::U64(0x1234)));
}

#[test]
fn without_reply_ack_nothing_is_waited_for() {
    let mut client = client_with(|frame| {
        assert!(!frame.need_reply);
        None
    });
    let reply = client.call(Request::SetOwner, soon()).unwrap();
    assert!(matches!(reply, Reply::Ack(0)));
}

#[test]
fn with_reply_ack_requests_are_acknowledged_or_refused() {
    let refused = FrontendRequest::SetFeatures.number();
    let mut client = client_with(move |frame| {
        let success = frame.code != refused;
        frame.need_reply.then(|| Reply::ack(success).encode(frame.code))
    });
    client.use_reply_ack();
    assert!(matches!(client.call(Request::SetOwner, soon()), Ok(Reply::Ack(0))));
    let error = client.call(Request::SetFeatures(1), soon()).unwrap_err();
    assert!(matches!(error, Error::Refused { value: 1, .. }));
    assert!(error.to_string().contains("SET_FEATURES"), "{error}");
    // A refusal is an answer: the connection goes on.
    assert!(matches!(client.call(Request::SetOwner, soon()), Ok(Reply::Ack(0))));
}

/// HOSTILE: a back-end that hangs must not block the front-end for ever.
#[test]
fn a_silent_back_end_costs_the_time_limit_and_ends_the_connection() {
    let mut client = client_with(|_| None);
    let deadline = Instant::now() + Duration::from_millis(30);
    let error = client.call(Request::GetFeatures, deadline).unwrap_err();
    assert_eq!(error.to_string(), "the peer did not answer GET_FEATURES in time");
    // The reply might come yet, and would be taken for that of the next call.
    assert!(matches!(client.call(Request::GetFeatures, soon()), Err(Error::OutOfStep)));
}

#[test]
fn a_back_end_that_does_not_read_costs_the_time_limit() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let mut client = Client::new(ours.into());
    let deadline = Instant::now() + Duration::from_millis(30);
    let error = loop {
        if let Err(error) = client.send(Request::SetOwner, deadline) {
            break error;
        }
    };
    assert_eq!(error.to_string(), "the peer did not read SET_OWNER in time");
}

#[test]
fn the_reply_to_another_request_ends_the_connection() {
    let mut client = client_with(|frame| Some(Reply::U64(0).encode(frame.code + 1)));
    let error = client.call(Request::GetFeatures, soon()).unwrap_err();
    assert!(matches!(error, Error::NotTheReply { found: 2, .. }));
    assert!(matches!(client.call(Request::GetFeatures, soon()), Err(Error::OutOfStep)));
}

#[test]
fn a_reply_of_the_wrong_size_is_an_error() {
    let mut client = client_with(|frame| Some(Frame::reply(frame.code, vec![0; 4])));
    let error = client.call(Request::GetFeatures, soon()).unwrap_err();
    assert!(matches!(error, Error::PayloadSize { found: 4, .. }));
}
