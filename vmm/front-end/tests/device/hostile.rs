//! Whatever a back-end answers, the front-end does not panic, and does not wait longer than it
//! says (HOSTILE: replies with wrong sizes, queue counts, features).

use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::pipe;
use virtio_pci::Device;
use wire::Frame;

use crate::back_end::{BackEnd, Reaction};
use crate::guest::{Guest, LONG};

/// What is sent instead of an answer.
#[derive(Debug, Clone)]
struct Bad {
    /// The request that is answered badly, counted over all connections.
    at: usize,
    code: Option<u32>,
    reply: bool,
    payload: Vec<u8>,
    fds: usize,
    pipe: bool,
}

fn bad() -> impl Strategy<Value = Bad> {
    let payload = prop_oneof![
        vec(any::<u8>(), 0..40),
        vec(any::<u8>(), 8),
        Just(vec![0xff; 8]),
        Just(vec![0; 24]),
        vec(any::<u8>(), 0..4096),
    ];
    let code = prop_oneof![4 => Just(None), 1 => any::<u32>().prop_map(Some)];
    (0..60_usize, code, prop::bool::weighted(0.9), payload, 0..4_usize, any::<bool>()).prop_map(
        |(at, code, reply, payload, fds, pipe)| Bad { at, code, reply, payload, fds, pipe },
    )
}

impl Bad {
    fn frame(&self, code: u32) -> Frame {
        let fd = |_| -> OwnedFd {
            match self.pipe {
                true => pipe().unwrap().0,
                false => memfd_create("fd", MemfdFlags::CLOEXEC).unwrap(),
            }
        };
        Frame {
            code: self.code.unwrap_or(code),
            reply: self.reply,
            need_reply: false,
            payload: self.payload.clone(),
            fds: (0..self.fds).map(fd).collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_answer_is_survived(bad in vec(bad(), 1..4)) {
        let turn = Mutex::new(0);
        let answers = bad.clone();
        let back_end = BackEnd::scripted(move |request, _| {
            let mut turn = turn.lock().unwrap();
            *turn += 1;
            match answers.iter().find(|bad| bad.at + 1 == *turn) {
                Some(bad) => Reaction::Send(bad.frame(request.code())),
                None => Reaction::Proper,
            }
        });
        let guest = Guest::new(back_end.source(), |config| {
            config.limits.reply = Duration::from_millis(40);
            config.limits.first = config.limits.reply;
            config.limits.drain = Duration::from_millis(40);
        });
        guest.device.wait_until_ready(Instant::now() + LONG).unwrap();
        // A device that was found out to be less than it needs to be is not started.
        if guest.device.queues() >= 2 {
            guest.start(false, 2);
            guest.wait("it runs, or does not for a reason", || {
                let report = guest.device.report();
                let runs = report.queues.iter().all(|queue| queue.state == "running");
                runs || report.needs_reset || report.last_error.is_some()
            });
        }
        guest.device.write_config(0, &[1]);
        guest.device.reset();
        guest.wait("the reset is over", || guest.device.is_reset());
        prop_assert!(guest.device.queues() <= 256);
        let begin = Instant::now();
        prop_assert!(guest.device.stop(begin + LONG));
        prop_assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
