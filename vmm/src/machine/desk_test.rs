use super::*;

const POLICY: Policy =
    Policy { grace: Duration::from_secs(1), reset_on_triple_fault: false, end_on_panic: true };

/// A body whose devices finish when the test says so.
#[derive(Default)]
struct Busy {
    quiesced: bool,
    presses: u32,
}

impl Body for Busy {
    fn press_power_button(&mut self) {
        self.presses += 1;
    }
    fn park(&mut self) -> Result<(), Outcome> {
        Ok(())
    }
    fn quiesce(&mut self) {}
    fn is_quiesced(&self) -> bool {
        self.quiesced
    }
    fn release(&mut self) {}
    fn drain(&mut self) {}
    fn is_drained(&self) -> bool {
        true
    }
    fn reload(&mut self) -> Result<(), Outcome> {
        Ok(())
    }
}

fn paused() -> Desk<Busy> {
    let mut desk = Desk::new(POLICY, Busy::default());
    assert!(!desk.is_pausing());
    desk.happen(Event::Pause).unwrap();
    desk.tick();
    desk
}

#[test]
fn a_pause_lasts_until_the_devices_are_quiet() {
    let mut desk = paused();
    assert!(desk.is_pausing());
    assert_eq!(desk.leisure(), Some(DRAIN_POLL));
    desk.body.quiesced = true;
    assert!(!desk.is_pausing());
    desk.tick();
    assert_eq!(desk.leisure(), None, "a paused machine does not wake");
}

#[test]
fn a_device_that_is_never_quiet_is_not_waited_for_for_ever() {
    let mut desk = paused();
    desk.quiesce_until = Some(Instant::now());
    assert!(!desk.is_pausing());
    desk.tick();
    assert_eq!(desk.leisure(), None);
}

#[test]
fn a_machine_that_goes_on_is_not_pausing() {
    for event in [Event::Resume, Event::Reset] {
        let mut desk = paused();
        desk.happen(event).unwrap();
        assert!(!desk.is_pausing());
    }
}

#[test]
fn after_a_signal_the_button_is_pressed_again_and_again() {
    let mut desk = Desk::new(POLICY, Busy::default());
    desk.tick();
    assert_eq!(desk.leisure(), None);
    desk.happen(Event::Signal).unwrap();
    desk.tick();
    assert_eq!(desk.body.presses, 1);
    for presses in 2..4 {
        desk.press_at = Some(Instant::now());
        desk.tick();
        desk.tick();
        assert_eq!(desk.body.presses, presses);
    }
}

#[test]
fn on_request_the_button_is_pressed_once() {
    let mut desk = Desk::new(POLICY, Busy::default());
    desk.happen(Event::PowerButton).unwrap();
    desk.tick();
    assert_eq!((desk.body.presses, desk.leisure()), (1, None));
}
