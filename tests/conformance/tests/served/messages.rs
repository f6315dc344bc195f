//! Replies and acknowledgements.

use driver::Negotiation;
use virtio_spec::vhost_user::{FrontendRequest, ProtocolFeatures, VringState};
use wire::{Frame, Request};

use crate::back_end::{BackEnd, PAUSE, USUAL};

fn ask(back_end: &mut BackEnd, frame: Frame) -> Frame {
    let deadline = back_end.front_end.deadline().instant();
    back_end.front_end.client().send_frame(frame, deadline).unwrap();
    back_end.front_end.client().receive_frame(deadline).unwrap()
}

/// vhost-user, "REPLY_ACK": zero for success, anything else for failure, to each request that asks.
#[test]
fn requests_that_ask_for_it_are_acknowledged() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    let mut outcome = |request: Request| {
        let code = request.code();
        let reply = ask(&mut back_end, request.encode().needing_reply(true));
        assert!(reply.reply && reply.code == code && reply.fds.is_empty());
        u64::from_le_bytes(reply.payload.try_into().unwrap())
    };
    assert_eq!(outcome(Request::SetOwner), 0);
    assert_eq!(outcome(Request::ResetOwner), 0);
    assert_eq!(outcome(Request::SetVringNum(VringState { index: 0, num: 64 })), 0);
    assert_ne!(outcome(Request::SetVringNum(VringState { index: 0, num: 0 })), 0);
    assert_ne!(outcome(Request::SetVringNum(VringState { index: 2, num: 64 })), 0);
    assert_eq!(outcome(Request::SetVringEnable { index: 0, enable: true }), 0);
    assert_ne!(outcome(Request::NetSetMtu(1500)), 0);
    assert_ne!(outcome(Request::Unknown { code: 999 }), 0);
    back_end.end();
}

/// vhost-user, "REPLY_ACK": a request with a reply of its own has that one only.
#[test]
fn a_reply_is_not_acknowledged_as_well() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    let reply = ask(&mut back_end, Request::GetFeatures.encode().needing_reply(true));
    assert_eq!((reply.code, reply.payload.len()), (FrontendRequest::GetFeatures.number(), 8));
    let reply = ask(&mut back_end, Request::GetQueueNum.encode());
    assert_eq!(reply.code, FrontendRequest::GetQueueNum.number());
    back_end.end();
}

/// vhost-user, "REPLY_ACK": without the feature there is no such reply, whatever the flag says.
#[test]
fn without_the_feature_nothing_is_acknowledged() {
    let mut back_end = BackEnd::start().unwatched();
    let protocol = ProtocolFeatures::all() - ProtocolFeatures::REPLY_ACK;
    let protocol = protocol - ProtocolFeatures::INBAND_NOTIFICATIONS;
    let wanted = Negotiation::new(USUAL).with_protocol(protocol);
    back_end.front_end.negotiate(&wanted).unwrap();
    let deadline = back_end.front_end.deadline().instant();
    let owner = Request::SetOwner.encode().needing_reply(true);
    back_end.front_end.client().send_frame(owner, deadline).unwrap();
    let reply = ask(&mut back_end, Request::GetFeatures.encode());
    assert_eq!(reply.code, FrontendRequest::GetFeatures.number());
    back_end.end();
}

/// vhost-user, "Header": replies have the reply flag, and no request for another one.
#[test]
fn replies_say_that_they_are_replies() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    for request in [
        Request::GetFeatures,
        Request::GetProtocolFeatures,
        Request::GetQueueNum,
        Request::GetMaxMemSlots,
        Request::GetStatus,
        Request::GetVringBase { index: 0 },
        Request::CheckDeviceState,
    ] {
        let code = request.code();
        let reply = ask(&mut back_end, request.encode());
        assert!(reply.reply && !reply.need_reply);
        assert_eq!((reply.code, reply.payload.len()), (code, 8));
    }
    back_end.end();
}

/// vhost-user, "RESET_OWNER": it is ignored, as it is recommended.
#[test]
fn reset_owner_changes_nothing() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    let mut disk = back_end.disk(0);
    back_end.front_end.call(Request::ResetOwner).unwrap();
    assert!(disk.read(1, 512).unwrap() == [1; 512]);
    back_end.end();
}

/// vhost-user, "Communication": a refusal is no reason to end the connection.
#[test]
fn a_request_that_fails_leaves_the_connection_as_it_was() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    let mut disk = back_end.disk(0);
    for _ in 0..3 {
        let wrong = Request::SetVringNum(VringState { index: 9, num: 1 });
        assert!(back_end.front_end.call(wrong).is_err());
        assert!(back_end.front_end.write_config(0, &[1]).is_err());
        assert!(disk.read(1, 512).unwrap() == [1; 512]);
    }
    std::thread::sleep(PAUSE);
    back_end.end();
}
