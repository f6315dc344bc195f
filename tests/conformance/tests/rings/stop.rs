//! Stopping a ring: what was taken ends first, what was not taken stays.

use framework::worker::{Answer, Command};

use crate::bench::{BOTH, Bench};

/// The base at which the ring has stopped, if it has.
fn stopped(bench: &Bench) -> Option<u32> {
    bench.answers.lock().unwrap().iter().find_map(|answer| match answer {
        Answer::Stopped { base, .. } => Some(*base),
        _ => None,
    })
}

/// vhost-user, GET_VRING_BASE: in-flight chains are used and shown before the answer, which is where
/// the driver stands then.
#[test]
fn a_ring_stops_when_what_it_has_taken_is_used() {
    for features in BOTH {
        let mut bench = Bench::new(features);
        bench.plan.lock().at_once = false;
        bench.send_empty(3);
        bench.turn();
        bench.command(Command::Stop { queue: 0 });
        // Too late to be taken.
        bench.send_empty(2);
        for ended in [1, 0] {
            bench.turn();
            assert_eq!(stopped(&bench), None);
            bench.plan.lock().end = vec![ended];
        }
        bench.turn();
        assert_eq!(stopped(&bench), None, "one is still in flight");
        bench.plan.lock().end = vec![2];
        bench.turn();
        let base = stopped(&bench).unwrap();
        assert_eq!(bench.reap().len(), 3);
        assert_eq!(base, bench.queue.reaped_base());

        // What was left is taken after the next start.
        bench.start();
        bench.plan.lock().at_once = true;
        bench.turn();
        assert_eq!(bench.reap().len(), 2);
    }
}
