//! Commands for the daemons, and their answers.
//!
//! Theory of operation. Each run of a daemon has a socket for commands, which comes with its first words
//! ([`supervisor::Commands`]); a daemon that is started anew has a new one, and what the old one has not
//! answered is answered here with that. Nothing waits: the relay has an epoll of its own, whose descriptor
//! is all that its owner watches, and a timer in it for daemons that do not answer. What they say is as
//! hostile as anything from a back-end: bounded, and judged before it is passed on.

mod conversation;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use serde_json::Value;
use supervisor::Commands;

use self::conversation::Conversation;
use crate::control::protocol::{Pending, Promise};
use crate::control::{Answer, DeviceRequest};

/// How long a daemon may take to answer. Less than `outrigger ctl` waits.
const LIMIT: Duration = Duration::from_secs(10);
/// The most events that are taken at a time.
const EVENTS: usize = 16;
/// The timer's mark in the epoll; lines count from zero.
const TIMER: u64 = u64::MAX;
const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The ways to all daemons of ours.
#[derive(Debug)]
pub struct Relay {
    epoll: OwnedFd,
    timer: OwnedFd,
    lines: Vec<Line>,
}

/// The way to one.
#[derive(Debug)]
struct Line {
    device: String,
    kind: &'static str,
    commands: Commands,
    conversation: Option<Conversation>,
}

impl Relay {
    /// Goes these ways: device, kind of daemon, and where its commands go.
    ///
    /// # Errors
    /// When the kernel has no epoll or timer left for this process.
    pub fn new<'a>(
        ways: impl Iterator<Item = (&'a str, &'static str, Commands)>,
    ) -> rustix::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        let line = |(device, kind, commands): (&str, _, _)| Line {
            device: device.to_owned(),
            kind,
            commands,
            conversation: None,
        };
        Ok(Self { epoll, timer, lines: ways.map(line).collect() })
    }

    /// Passes a command on. `None`: its answer is to come.
    pub fn pass_on(&mut self, request: &mut DeviceRequest) -> Option<Answer> {
        let index = match self.find(&request.device) {
            Ok(index) => index,
            Err(complaint) => return Some(Err(complaint)),
        };
        let line = self.lines.get_mut(index)?;
        line.renew();
        let pending = Pending::default();
        let fds = std::mem::take(&mut request.fds);
        let until = Instant::now() + LIMIT;
        match line.ask(&request.ask, fds, pending.promise(), until) {
            Ok(()) => request.pending = Some(pending),
            Err(complaint) => return Some(Err(complaint)),
        }
        self.settle(index);
        self.set_timer();
        request.pending.as_ref().and_then(Pending::take)
    }

    /// Does what can be done without waiting. To be called when the descriptor is readable.
    pub fn work(&mut self) {
        let none =
            epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [none; EVENTS];
        // Interrupted is the only error; then the descriptor stays readable.
        let count = epoll::wait(&self.epoll, &mut events, Some(&NEVER)).unwrap_or(0);
        for event in events.iter().take(count) {
            match usize::try_from(event.data.u64()) {
                Ok(index) if event.data.u64() != TIMER => {
                    if let Some(line) = self.lines.get_mut(index) {
                        line.work();
                        self.settle(index);
                    }
                }
                _ => self.look_at_time(),
            }
        }
    }

    /// The line that a name means.
    fn find(&self, device: &str) -> Result<usize, String> {
        if let Some(index) = self.lines.iter().position(|line| line.device == device) {
            return Ok(index);
        }
        let mut of_kind = self.lines.iter().enumerate().filter(|(_, line)| line.kind == device);
        match (of_kind.next(), of_kind.next()) {
            (Some((index, _)), None) => Ok(index),
            (Some(_), Some(_)) => Err(format!("there are several: say one of {}", self.names())),
            (None, _) if self.lines.is_empty() => {
                Err("this machine has no daemon of its own to be commanded".to_owned())
            }
            (None, _) => Err(format!(
                "no daemon of this machine is called {device:?}: say one of {}",
                self.names()
            )),
        }
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.lines.iter().map(|line| line.device.as_str()).collect();
        names.join(", ")
    }

    /// Watches for what a conversation waits for now.
    fn settle(&mut self, index: usize) {
        let Some(line) = self.lines.get_mut(index) else { return };
        let Some(conversation) = &mut line.conversation else { return };
        if conversation.watch(&self.epoll, index as u64).is_err() {
            line.end("it cannot be listened to");
        }
    }

    fn look_at_time(&mut self) {
        // What it read does not matter: it was readable, and is not any more.
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        let now = Instant::now();
        for line in &mut self.lines {
            if let Some(conversation) = &mut line.conversation {
                conversation.expire(now, LIMIT);
            }
        }
        self.set_timer();
    }

    /// Sets the timer to the first time at which an answer is late.
    fn set_timer(&self) {
        let conversations = self.lines.iter().filter_map(|line| line.conversation.as_ref());
        let until = conversations.filter_map(Conversation::until).min();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let it_value = left
            .and_then(|left| Timespec::try_from(left.max(Duration::from_millis(1))).ok())
            .unwrap_or(NEVER);
        let once = Itimerspec { it_interval: NEVER, it_value };
        // It does not fail for a time that is none of the past.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Line {
    /// Goes on with the daemon's latest run.
    fn renew(&mut self) {
        if let Some(socket) = self.commands.take_new() {
            self.end("it was started anew before it answered: ask again");
            self.conversation = Some(Conversation::new(socket));
        }
    }

    fn ask(
        &mut self,
        ask: &Value,
        fds: Vec<OwnedFd>,
        promise: Promise,
        until: Instant,
    ) -> Result<(), String> {
        let device = &self.device;
        let gone = || format!("{device}: its daemon is not there now; it is started again");
        let conversation = self.conversation.as_mut().ok_or_else(gone)?;
        conversation.ask(ask, fds, promise, until)?;
        self.work();
        Ok(())
    }

    fn work(&mut self) {
        let Some(conversation) = &mut self.conversation else { return };
        if let Err(why) = conversation.work() {
            self.end(&why);
        }
    }

    /// Ends the conversation with a run that is over.
    fn end(&mut self, why: &str) {
        if let Some(conversation) = self.conversation.take() {
            conversation.fail(&format!("{}: {why}", self.device));
        }
    }
}

#[cfg(test)]
#[path = "relay_test.rs"]
mod tests;
