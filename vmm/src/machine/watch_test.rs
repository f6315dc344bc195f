use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use nix::sys::signal::{Signal, raise};
use rustix::pipe::pipe;

use super::*;
use crate::machine::lifecycle::Policy;
use crate::machine::outcome::Force;

/// Notes what it is made to do.
#[derive(Default)]
struct Notebook {
    done: Arc<Mutex<Vec<&'static str>>>,
    drained_after: Option<Instant>,
    hangs: bool,
    /// What a vCPU posts just before it is parked.
    late: Option<(Mailbox, Event)>,
}

impl Notebook {
    fn note(&self, what: &'static str) {
        self.done.lock().unwrap().push(what);
    }
}

impl Body for Notebook {
    fn press_power_button(&mut self) {
        self.note("button");
    }
    fn park(&mut self) -> Result<(), Outcome> {
        self.note("park");
        if let Some((mailbox, event)) = self.late.take() {
            mailbox.post(event);
        }
        if self.hangs { Err(Outcome::Failed("stuck".into())) } else { Ok(()) }
    }
    fn quiesce(&mut self) {
        self.note("quiesce");
    }
    fn is_quiesced(&self) -> bool {
        true
    }
    fn release(&mut self) {
        self.note("release");
    }
    fn drain(&mut self) {
        self.note("drain");
    }
    fn is_drained(&self) -> bool {
        self.drained_after.is_none_or(|time| Instant::now() >= time)
    }
    fn reload(&mut self) -> Result<(), Outcome> {
        self.note("reload");
        Ok(())
    }
}

const POLICY: Policy =
    Policy { grace: Duration::from_millis(30), reset_on_triple_fault: true, end_on_panic: true };

fn watch() -> (Watch<Notebook>, Mailbox) {
    let mailbox = Mailbox::new().unwrap();
    (Watch::new(Signals::new().unwrap(), mailbox.clone()).unwrap(), mailbox)
}

/// Watches over `body` until its end, and says what was done to it.
fn run(mut watch: Watch<Notebook>, body: Notebook) -> (Outcome, Vec<&'static str>) {
    let done = body.done.clone();
    let outcome = watch.run(&mut Desk::new(POLICY, body)).unwrap();
    let done = done.lock().unwrap().clone();
    (outcome, done)
}

#[test]
fn a_reset_waits_for_the_devices() {
    let (watch, mailbox) = watch();
    let until = Instant::now() + Duration::from_millis(20);
    mailbox.post(Event::Reset);
    let poster = thread::spawn(move || {
        thread::sleep(Duration::from_millis(60));
        mailbox.post(Event::PowerOff);
    });
    let body = Notebook { drained_after: Some(until), ..Notebook::default() };
    let (outcome, done) = run(watch, body);
    poster.join().unwrap();
    assert_eq!(outcome, Outcome::PoweredOff);
    assert_eq!(done, ["park", "drain", "reload", "release"]);
}

/// A guest that faults after it asked for a reset, before it is parked.
#[test]
fn what_was_posted_before_a_reset_does_not_disturb_the_next_life() {
    let (watch, mailbox) = watch();
    mailbox.post(Event::Reset);
    let body = Notebook { late: Some((mailbox.clone(), fault())), ..Notebook::default() };
    let poster = thread::spawn(move || {
        thread::sleep(Duration::from_millis(40));
        mailbox.post(Event::PowerOff);
    });
    let (outcome, done) = run(watch, body);
    poster.join().unwrap();
    assert_eq!(outcome, Outcome::PoweredOff);
    assert_eq!(done, ["park", "drain", "reload", "release"], "one reset");
}

fn fault() -> Event {
    Event::TripleFault { vcpu: 0, state: String::new() }
}

#[test]
fn a_guest_that_ignores_its_button_is_stopped() {
    let (watch, _mailbox) = watch();
    raise(Signal::SIGTERM).unwrap();
    let start = Instant::now();
    let (outcome, done) = run(watch, Notebook::default());
    assert_eq!((outcome, done), (Outcome::Forced(Force::GraceOver), vec!["button"]));
    assert!(start.elapsed() >= POLICY.grace);
}

#[test]
fn a_vcpu_that_hangs_ends_the_machine() {
    let (watch, mailbox) = watch();
    mailbox.post(Event::Reset);
    let (outcome, done) = run(watch, Notebook { hangs: true, ..Notebook::default() });
    assert_eq!((outcome, done), (Outcome::Failed("stuck".into()), vec!["park"]));
}

/// Stops the machine when it has read all there is.
struct Reader(OwnedFd);

impl Visitor<Notebook> for Reader {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
    fn attend(&mut self, desk: &mut Desk<Notebook>) -> Next {
        let mut byte = [0];
        match rustix::io::read(&self.0, &mut byte) {
            Ok(1) => Next::Stay,
            _ => {
                desk.happen(Event::Stop).unwrap();
                Next::Leave
            }
        }
    }
}

#[test]
fn visitors_are_attended_to_until_they_leave() {
    let (mut watch, _mailbox) = watch();
    let (reader, writer) = pipe().unwrap();
    rustix::io::write(&writer, b"ab").unwrap();
    drop(writer);
    watch.admit(Box::new(Reader(reader))).unwrap();
    let (outcome, _) = run(watch, Notebook::default());
    assert_eq!(outcome, Outcome::Forced(Force::Control));
}

#[test]
fn nothing_is_due_in_an_idle_machine() {
    let desk = Desk::new(POLICY, Notebook::default());
    assert_eq!(desk.leisure(), None);
}
