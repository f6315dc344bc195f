use proptest::prelude::*;

use super::*;

const POLICY: Policy =
    Policy { grace: Duration::from_secs(60), reset_on_triple_fault: false, end_on_panic: true };

fn life() -> (Life, Instant) {
    (Life::new(POLICY), Instant::now())
}

fn triple_fault() -> Event {
    Event::TripleFault { vcpu: 0, state: "rip 0".into() }
}

#[test]
fn a_signal_presses_the_button_and_the_grace_time_ends_it() {
    let (mut life, now) = life();
    assert_eq!(life.on(Event::Signal, now), Ok(vec![Step::PressPowerButton]));
    let deadline = now + POLICY.grace;
    assert_eq!(life.deadline(), Some(deadline));
    assert_eq!(life.on(Event::GraceOver, deadline - Duration::from_millis(1)), Ok(vec![]));
    let over = Outcome::Forced(Force::GraceOver);
    assert_eq!(life.on(Event::GraceOver, deadline), Ok(vec![Step::End(over)]));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut life, now) = life();
    life.on(Event::Signal, now).unwrap();
    let second = Outcome::Forced(Force::SecondSignal);
    assert_eq!(life.on(Event::Signal, now), Ok(vec![Step::End(second)]));
}

#[test]
fn a_guest_that_obeys_the_signal_has_switched_itself_off() {
    let (mut life, now) = life();
    life.on(Event::Signal, now).unwrap();
    assert_eq!(life.on(Event::PowerOff, now), Ok(vec![Step::End(Outcome::PoweredOff)]));
}

#[test]
fn a_signal_wakes_a_paused_guest() {
    let (mut life, now) = life();
    assert_eq!(life.on(Event::Pause, now), Ok(vec![Step::Park, Step::Quiesce]));
    assert_eq!(life.on(Event::Signal, now), Ok(vec![Step::PressPowerButton, Step::Release]));
    assert_eq!(life.state(), &State::Running);
}

#[test]
fn a_reset_drains_devices_before_it_loads_the_kernel() {
    let (mut life, now) = life();
    assert_eq!(life.on(Event::Reset, now), Ok(vec![Step::Park, Step::Drain]));
    assert_eq!(life.on(Event::Reset, now), Ok(vec![]), "two vCPUs asked at once");
    assert_eq!(life.on(triple_fault(), now), Ok(vec![]), "it tried everything to be reset");
    assert_eq!(life.on(Event::Pause, now), Err(Refusal::NotRunning));
    assert_eq!(life.on(Event::PowerButton, now), Err(Refusal::Resetting));
    assert_eq!(life.on(Event::Drained, now), Ok(vec![Step::Reload, Step::Release]));
    assert_eq!(life.state(), &State::Running);
}

#[test]
fn a_signal_during_a_reset_is_heard_by_the_new_guest() {
    let (mut life, now) = life();
    life.on(Event::Reset, now).unwrap();
    assert_eq!(life.on(Event::Signal, now), Ok(vec![]));
    assert_eq!(
        life.on(Event::Drained, now),
        Ok(vec![Step::Reload, Step::PressPowerButton, Step::Release])
    );
}

#[test]
fn faults_and_panics_follow_the_policy() {
    let (mut life, now) = life();
    assert!(matches!(
        life.on(triple_fault(), now).unwrap().as_slice(),
        [Step::End(Outcome::TripleFault { vcpu: 0, .. })]
    ));
    let lenient = Policy { reset_on_triple_fault: true, end_on_panic: false, ..POLICY };
    let mut life = Life::new(lenient);
    assert_eq!(life.on(Event::Panic, now), Ok(vec![]));
    assert_eq!(life.on(triple_fault(), now), Ok(vec![Step::Park, Step::Drain]));
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Pause),
        3 => Just(Event::Resume),
        3 => Just(Event::Reset),
        3 => Just(Event::Drained),
        2 => Just(Event::PowerButton),
        1 => Just(Event::Signal),
        1 => Just(Event::GraceOver),
        1 => Just(Event::Stop),
        1 => Just(Event::PowerOff),
        1 => Just(Event::Panic),
        1 => Just(triple_fault()),
    ]
}

proptest! {
    /// The vCPUs, parked and released as told: they run exactly when the state says so, the kernel is only
    /// loaded while they are parked and the devices drained, and the first end is the only one.
    #[test]
    fn steps_are_consistent_with_the_state(events in prop::collection::vec((event(), 0_u64..90), 0..40)) {
        let (mut life, mut now) = life();
        let (mut parked, mut drained, mut ended) = (false, true, None);
        for (event, seconds) in events {
            now += Duration::from_secs(seconds);
            if event == Event::Drained {
                drained = true;
            }
            let before = life.state().clone();
            let Ok(steps) = life.on(event, now) else {
                prop_assert_eq!(life.state(), &before, "a refusal changes nothing");
                continue;
            };
            for step in steps {
                prop_assert!(ended.is_none(), "nothing is done after the end");
                match step {
                    Step::Park => parked = true,
                    Step::Release => parked = false,
                    Step::Drain => drained = false,
                    Step::Reload => prop_assert!(parked && drained),
                    Step::End(outcome) => ended = Some(outcome),
                    Step::Quiesce => prop_assert!(parked),
                    Step::PressPowerButton => {}
                }
            }
            match life.state() {
                State::Running => prop_assert!(!parked),
                State::Paused | State::Resetting => prop_assert!(parked),
                State::Ended(outcome) => prop_assert_eq!(Some(outcome), ended.as_ref()),
            }
        }
    }
}
