//! Calls, answers and losses in any order, against a back-end that keeps to the protocol; and
//! answers that do not.

use proptest::collection::vec;
use proptest::prelude::*;
use virtio_spec::features::{RING_PACKED, VERSION_1, mask};
use virtio_spec::vhost_user::{F_LOG_ALL, F_PROTOCOL_FEATURES, ProtocolFeatures};

use super::model::{HIGH, Kind, REGION, Stand, ring};
use super::{Answer, Effect};

/// Anything that happens to a session.
#[derive(Debug, Clone)]
enum Event {
    Step(u8),
    Connect,
    Lose,
    Start { packed: bool, queues: Vec<u16> },
    StartQueue(u16),
    ResetQueue(u16),
    Reset,
    Pause(bool),
    Log(bool),
    Memory(bool),
    Write(u32, u8),
    ConfigChange,
    RingFailed,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => any::<u8>().prop_map(Event::Step),
        2 => Just(Event::Connect),
        1 => Just(Event::Lose),
        2 => (any::<bool>(), vec(0..4_u16, 0..4))
            .prop_map(|(packed, queues)| Event::Start { packed, queues }),
        1 => (0..4_u16).prop_map(Event::StartQueue),
        2 => (0..4_u16).prop_map(Event::ResetQueue),
        2 => Just(Event::Reset),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => any::<bool>().prop_map(Event::Log),
        1 => any::<bool>().prop_map(Event::Memory),
        1 => (0..64_u32, any::<u8>()).prop_map(|(offset, byte)| Event::Write(offset, byte)),
        1 => Just(Event::ConfigChange),
        1 => Just(Event::RingFailed),
    ]
}

/// Back-ends with any set of extensions.
fn kind() -> impl Strategy<Value = Kind> {
    (any::<u64>(), any::<bool>(), any::<bool>()).prop_map(|(bits, protocol, log)| {
        let mut kind =
            Kind { protocol: ProtocolFeatures::from_bits_truncate(bits), ..Kind::default() };
        // As many queues as others, whether it says so or not.
        kind.features = mask(VERSION_1) | mask(RING_PACKED);
        if protocol {
            kind.features |= mask(F_PROTOCOL_FEATURES);
        }
        if log {
            kind.features |= mask(F_LOG_ALL);
        }
        kind
    })
}

/// What the transport guarantees: calls that the driver's state does not allow do not happen.
#[derive(Debug, Default)]
struct Driver {
    live: bool,
    queues: Vec<u16>,
}

impl Driver {
    fn happen(&mut self, stand: &mut Stand, event: Event) {
        match event {
            Event::Step(count) => {
                for _ in 0..count {
                    if stand.model.is_none() || !stand.step().unwrap() {
                        break;
                    }
                }
            }
            Event::Connect if stand.model.is_none() => stand.connect(),
            Event::Lose if stand.model.is_some() => stand.lose(),
            Event::Start { packed, queues } if !self.live && stand.session.is_reset() => {
                let queues: Vec<u16> =
                    queues.into_iter().filter(|q| *q < stand.session.queues()).collect();
                stand.start(if packed { mask(RING_PACKED) } else { 0 }, &queues);
                (self.live, self.queues) = (true, queues);
            }
            Event::StartQueue(queue)
                if self.live
                    && queue < stand.session.queues()
                    && !self.queues.contains(&queue)
                    && stand.session.queue_is_reset(queue) =>
            {
                stand.session.start_queue(ring(queue));
                self.queues.push(queue);
            }
            Event::ResetQueue(queue) if self.queues.contains(&queue) => {
                stand.session.reset_queue(queue);
                self.queues.retain(|there| *there != queue);
            }
            Event::Reset => {
                stand.session.reset();
                *self = Self::default();
            }
            Event::Pause(paused) => stand.session.set_paused(paused),
            Event::Log(on) => drop(stand.session.set_log(on.then_some(1))),
            Event::Memory(all) => {
                let memory = if all { vec![REGION, HIGH] } else { vec![REGION] };
                stand.session.set_memory(memory);
            }
            Event::Write(offset, byte) => stand.session.write_config(offset, &[byte]),
            Event::ConfigChange => stand.session.config_may_have_changed(),
            Event::RingFailed => stand.session.ring_failed(),
            _ => {}
        }
        let running = stand.model.as_ref().map_or(Vec::new(), |model| model.running());
        if stand.session.is_reset() && !self.live {
            assert!(running.is_empty(), "rings run after a reset");
        }
        if stand.session.is_paused() {
            assert!(running.is_empty(), "rings run in a pause");
        }
        for queue in 0..4 {
            let resets = stand.session.queue_is_reset(queue) && !self.queues.contains(&queue);
            assert!(!resets || !running.contains(&queue) || !self.live, "a reset queue runs");
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_it_ends_as_the_driver_wants(
        kind in kind(),
        events in vec(event(), 0..60),
    ) {
        let packed_may_be_lost = !kind.protocol.contains(ProtocolFeatures::INFLIGHT_SHMFD)
            || kind.features & mask(F_PROTOCOL_FEATURES) == 0;
        let mut stand = Stand::new(kind);
        let mut driver = Driver::default();
        for event in events {
            driver.happen(&mut stand, event);
        }
        stand.session.set_paused(false);
        if stand.model.is_none() {
            stand.connect();
        }
        stand.run().unwrap();
        let effects: Vec<Effect> =
            std::iter::from_fn(|| stand.session.effects().take()).collect();
        prop_assert!(effects.len() <= 10);
        prop_assert!(stand.session.is_reset());
        driver.queues.sort_unstable();
        driver.queues.dedup();
        let running = stand.model().running();
        let is_packed = stand.model().features.is_some_and(|bits| bits & mask(RING_PACKED) != 0);
        if is_packed && packed_may_be_lost {
            prop_assert!(running.iter().all(|queue| driver.queues.contains(queue)));
        } else {
            prop_assert_eq!(running, driver.queues);
        }
        stand.session.stop_for_good();
        stand.run().unwrap();
        prop_assert!(stand.session.is_stopped());
        prop_assert!(stand.model().running().is_empty());
    }

    #[test]
    fn answers_of_any_kind_are_survived(
        answers in vec(answer(), 0..200),
        queues in vec(0..4_u16, 0..4),
    ) {
        let mut stand = Stand::new(Kind::default());
        stand.connect();
        for (turn, answer) in answers.into_iter().enumerate() {
            if turn == 20 {
                stand.start(0, &queues);
            }
            if turn == 100 {
                stand.session.reset();
            }
            stand.session.next_step();
            if let Err(error) = stand.session.answered(answer) {
                stand.session.lost(&error);
                prop_assert!(stand.session.is_reset());
                stand.session.connected();
            }
            prop_assert!(stand.session.queues() <= 256);
            prop_assert!(stand.session.config_size() <= 256);
            let _ = stand.session.report();
        }
    }
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => Just(Answer::Done),
        1 => any::<u64>().prop_map(Answer::Refused),
        2 => any::<u64>().prop_map(Answer::Number),
        3 => Just(Answer::Number(Kind::default().features)),
        1 => vec(any::<u8>(), 0..300).prop_map(Answer::Config),
        1 => Just(Answer::Config(vec![0; 60])),
        1 => any::<u32>().prop_map(Answer::Base),
    ]
}
