//! One connection to a back-end: messages out and in, each with a limit on how long it may take.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use virtio_pci::Event;
use wire::{BackendRequest, Channel, Frame, Reply};

use crate::allowance::Allowance;
use crate::config::Limits;
use crate::exchange::Descriptors;
use crate::in_flight::InFlight;
use crate::session::{Answer, Step};
use crate::source::timespec;
use crate::two_sides::Shared;
use crate::{Error, Result};

/// Messages that may wait to be sent before the back-end has to read some.
const MAX_UNSENT: usize = 16;
/// At least so much time is between two lines of log about refusals.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// A connection.
pub(crate) struct Connection {
    channel: Channel,
    /// Our end of the channel for the back-end's requests, while the back-end holds the other.
    requests: Option<Channel>,
    error: Event,
    /// When the back-end must have answered, or read, what was sent last.
    deadline: Option<Instant>,
    /// When all that is in flight must be done, while it is waited for: there may be many rings,
    /// and no one of them may take as long as all.
    drain_until: Option<Instant>,
    /// What the back-end may still say unasked.
    unasked: Allowance,
    /// When a refusal may be logged again: a driver can make the back-end refuse all the time.
    next_log: Instant,
}

/// What has happened.
#[derive(Debug, Default)]
struct Ready {
    wake: bool,
    channel: bool,
    requests: bool,
    error: bool,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Result<Self> {
        let error = Event::new().map_err(Error::system("making an eventfd"))?;
        Ok(Self {
            channel: Channel::new(socket),
            requests: None,
            error,
            deadline: None,
            drain_until: None,
            unasked: Allowance::new(Instant::now()),
            next_log: Instant::now(),
        })
    }

    /// Says what there is to say, waits until something happens, and hands it to the session.
    ///
    /// # Errors
    /// When the connection has to be given up.
    pub(crate) fn turn(&mut self, shared: &Shared, region: &mut Option<InFlight>) -> Result<()> {
        self.speak(shared, region)?;
        shared.carry_out();
        if shared.lock().session.is_stopped() {
            return Ok(());
        }
        let ready = self.wait(shared)?;
        if ready.wake {
            shared.wake().take();
        }
        if ready.error && self.error.take() {
            self.unasked.take(Instant::now());
            shared.lock().session.ring_failed();
        }
        if ready.requests {
            self.serve_requests(shared);
        }
        if ready.channel {
            self.listen(shared, region)?;
        }
        self.check_deadline(shared)
    }

    /// Sends requests until one has to be answered first.
    fn speak(&mut self, shared: &Shared, region: &mut Option<InFlight>) -> Result<()> {
        while self.channel.queued() < MAX_UNSENT {
            let (step, acknowledged, limits) = {
                let session = &mut shared.lock().session;
                let Some(step) = session.next_step() else { break };
                (step, session.acknowledges(), session.config().limits)
            };
            let channel = match step {
                Step::OpenChannel => Some(self.open_channel()?),
                _ => None,
            };
            let mut descriptors =
                Descriptors { shared, error: &self.error, in_flight: region, channel };
            let request = descriptors.request(&step)?;
            let acknowledged = acknowledged && !request.has_reply();
            let answered = acknowledged || request.has_reply();
            self.channel.queue(request.encode().needing_reply(acknowledged))?;
            self.limit(&step, &limits);
            if !answered {
                shared.lock().session.answered(Answer::Done)?;
            }
        }
        self.flush(shared)
    }

    /// Sets the time limit for the answer to a step.
    fn limit(&mut self, step: &Step, limits: &Limits) {
        let now = Instant::now();
        if step.drains() {
            self.drain_until = self.drain_until.or_else(|| now.checked_add(limits.drain));
            self.deadline = self.drain_until;
        } else {
            self.drain_until = None;
            let limit = if *step == Step::GetFeatures { limits.first } else { limits.reply };
            self.deadline = now.checked_add(limit);
        }
    }

    fn flush(&mut self, shared: &Shared) -> Result<()> {
        let sent = self.channel.flush()?;
        if sent && shared.lock().session.outstanding().is_none() {
            (self.deadline, self.drain_until) = (None, None);
        }
        Ok(())
    }

    fn open_channel(&mut self) -> Result<OwnedFd> {
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.map_err(Error::system("making a socket pair"))?;
        self.requests = Some(Channel::new(ours));
        Ok(theirs)
    }

    fn wait(&mut self, shared: &Shared) -> Result<Ready> {
        let both = |channel: &Channel| match channel.wants_write() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        let now = Instant::now();
        let rest = self.unasked.pause(now);
        let mut fds = vec![
            PollFd::new(shared.wake(), PollFlags::IN),
            PollFd::new(&self.channel, both(&self.channel)),
        ];
        if rest.is_none() {
            fds.push(PollFd::new(&self.error, PollFlags::IN));
            let requests = self.requests.iter();
            fds.extend(requests.map(|requests| PollFd::new(requests, both(requests))));
        }
        let left = self.deadline.map(|at| at.saturating_duration_since(now));
        let left = left.into_iter().chain(rest).min();
        match poll(&mut fds, left.map(timespec).as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(Error::system("waiting for messages")(error)),
        }
        let mut happened = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || happened.next().unwrap_or(false);
        Ok(Ready { wake: next(), channel: next(), error: next(), requests: next() })
    }

    /// Takes the answer, if it has come.
    fn listen(&mut self, shared: &Shared, region: &mut Option<InFlight>) -> Result<()> {
        self.flush(shared)?;
        let Some(frame) = self.channel.receive()? else { return Ok(()) };
        let step = shared.lock().session.outstanding().cloned();
        let Some(step) = step else { return Err(Error::Unsolicited { code: frame.code }) };
        let reply = Reply::decode(step.code().number(), frame)?;
        let mut descriptors =
            Descriptors { shared, error: &self.error, in_flight: region, channel: None };
        let answer = descriptors.answer(&step, reply)?;
        self.deadline = None;
        let refused = {
            let session = &mut shared.lock().session;
            session.answered(answer)?;
            session.take_refusal().map(|message| (message, session.config().name.clone()))
        };
        if let (Some((message, device)), true) = (refused, self.next_log <= Instant::now()) {
            self.next_log = Instant::now() + LOG_PAUSE;
            tracing::warn!(device, message, "the back-end has refused something");
        }
        Ok(())
    }

    fn check_deadline(&self, shared: &Shared) -> Result<()> {
        if self.deadline.is_none_or(|at| Instant::now() < at) {
            return Ok(());
        }
        let waits = shared.lock().session.outstanding().map(Step::name);
        let what = match waits {
            Some(message) => format!("answer {message}"),
            None => "read its messages".into(),
        };
        Err(wire::Error::Timeout(what).into())
    }

    /// Says that nothing more will be said, and waits until the back-end has closed its side too: then it
    /// touches guest memory no more. Says whether it has, by the deadline, or before the session is to stop.
    pub(crate) fn part(mut self, shared: &Shared, deadline: Instant) -> bool {
        self.requests = None;
        // It fails if the other side is closed, which will show.
        let _ = shutdown(&self.channel, Shutdown::Write);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // What the back-end still says is not looked at; that it hangs up is told unasked.
            let closed = PollFd::new(&self.channel, PollFlags::empty());
            let mut fds = [closed, PollFd::new(shared.wake(), PollFlags::IN)];
            match poll(&mut fds, Some(&timespec(left))) {
                Ok(0) => return false,
                Err(Errno::INTR) => continue,
                Err(_) => return false,
                Ok(_) => {}
            }
            let [closed, wake] = fds.map(|fd| !fd.revents().is_empty());
            if closed {
                return true;
            }
            if wake && shared.wake().take() && shared.lock().session.is_stopping() {
                return false;
            }
        }
    }

    /// Answers the back-end's own requests. A channel that is misused is closed; the device goes on
    /// without.
    fn serve_requests(&mut self, shared: &Shared) {
        let Some(mut channel) = self.requests.take() else { return };
        match serve(&mut channel, &mut self.unasked, shared) {
            Ok(()) => self.requests = Some(channel),
            Err(wire::Error::Closed) => {}
            Err(error) => tracing::warn!(%error, "the back-end's own channel is closed"),
        }
    }
}

fn serve(channel: &mut Channel, unasked: &mut Allowance, shared: &Shared) -> wire::Result<()> {
    while unasked.take(Instant::now()) {
        let Some(frame) = channel.receive()? else { break };
        let (code, need_reply) = (frame.code, frame.need_reply);
        let known = take_request(frame, shared)?;
        // At once: the back-end may wait for it before it answers what we have asked.
        if need_reply {
            channel.queue(Reply::ack(known).encode(code))?;
        }
    }
    channel.flush().map(drop)
}

/// Whether the request was one that is served here.
fn take_request(frame: Frame, shared: &Shared) -> wire::Result<bool> {
    match BackendRequest::decode(frame)? {
        BackendRequest::ConfigChange => {
            shared.lock().session.config_may_have_changed();
            Ok(true)
        }
        _ => Ok(false),
    }
}
