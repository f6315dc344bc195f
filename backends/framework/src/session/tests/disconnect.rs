//! The end of a connection, at any moment, and what is left of it.

use std::sync::atomic::Ordering::SeqCst;

use super::*;

/// A front-end's life, message by message.
fn life() -> Vec<Request> {
    let kick = |index| Request::SetVringKick { index, fd: Some(event()) };
    let (more, fd) = region(1 << 20, USER + (1 << 20), 4096);
    let protocol = ProtocolFeatures::REPLY_ACK
        | ProtocolFeatures::STATUS
        | ProtocolFeatures::CONFIGURE_MEM_SLOTS;
    let state = |index, num| VringState { index, num };
    vec![
        Request::SetProtocolFeatures(protocol.bits()),
        Request::SetFeatures(FEATURES),
        Request::SetMemTable(vec![region(0, USER, 1 << 20)]),
        Request::SetVringNum(state(0, 64)),
        Request::SetVringAddr(addresses(0)),
        Request::SetVringCall { index: 0, fd: Some(event()) },
        kick(0),
        Request::SetVringEnable { index: 0, enable: true },
        Request::SetVringNum(state(3, 64)),
        Request::SetVringAddr(addresses(3)),
        kick(3),
        Request::AddMemReg(more, fd),
        Request::RemMemReg(more),
        Request::SetStatus(15),
        Request::GetVringBase { index: 3 },
        kick(3),
        Request::SetStatus(0),
        kick(0),
        Request::ResetDevice,
    ]
}

#[test]
fn a_connection_can_end_after_and_within_any_message() {
    for end in 0..life().len() {
        for answered in [true, false] {
            let mut bench = Bench::silent();
            for (step, request) in life().into_iter().take(end + 1).enumerate() {
                let seen = bench.say(request, true);
                if step < end || answered {
                    bench.through(seen);
                }
            }
            bench.close();
            assert!(bench.session.is_closed(), "after message {end}");
            let (held, given) = (&bench.knobs.acquired, &bench.knobs.released);
            assert_eq!(held.load(SeqCst), given.load(SeqCst), "after message {end}");
            assert_eq!(
                bench.knobs.resets.load(SeqCst),
                u32::from(end == life().len() - 1 && answered)
            );
        }
    }
}

#[test]
fn every_worker_is_told_to_quit_once_and_waited_for() {
    let mut bench = Bench::running();
    bench.start(3);
    bench.told();
    bench.session.close(&mut bench.device, &mut bench.notes);
    bench.session.close(&mut bench.device, &mut bench.notes);
    assert!(matches!(bench.told()[..], [Command::Quit, Command::Quit]));
    bench.answer();
    assert!(!bench.session.is_closed());
    assert_eq!(bench.knobs.released.load(SeqCst), 0);
    bench.answer();
    assert!(bench.session.is_closed());
    assert_eq!(bench.knobs.released.load(SeqCst), 1);
}

#[test]
fn descriptors_do_not_outlive_their_use() {
    let mut bench = Bench::running();
    let mut traces = Vec::new();
    for _ in 0..3 {
        for make in [
            |fd| Request::SetVringCall { index: 1, fd: Some(fd) },
            |fd| Request::SetVringErr { index: 1, fd: Some(fd) },
            |fd| Request::SetVringCall { index: 77, fd: Some(fd) },
            Request::SetLogFd,
            Request::SetBackendReqFd,
        ] {
            let (fd, trace) = traced();
            bench.ask_ack(make(fd));
            traces.push(trace);
        }
    }
    let open = traces.iter().filter(|trace| !is_closed(trace)).count();
    assert_eq!(open, 3, "the latest call, error and channel");
    bench.close();
    drop(bench.session);
    assert!(traces.iter().all(is_closed));
}

#[test]
fn a_broken_worker_ends_the_connection() {
    let mut bench = Bench::running();
    let broken = Answer::Broken { why: "memory vanished".into() };
    let error = seen(bench.session.answered(&mut bench.device, 0, broken)).error();
    assert!(error.to_string().contains("memory vanished"));
    bench.close();
    assert!(bench.session.is_closed());
}

#[test]
fn a_worker_that_ends_by_itself_ends_the_connection() {
    let mut bench = Bench::running();
    let ended = seen(bench.session.answered(&mut bench.device, 0, Answer::Ended));
    assert!(matches!(ended, Seen::Closed(Error::Broken { .. })));
    bench.close();
    assert!(bench.session.is_closed());
    assert_eq!(bench.knobs.released.load(SeqCst), 1);
}
