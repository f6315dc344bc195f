//! Bytes both ways.
//!
//! Theory of operation. One loop waits for the keyboard, the port and signals. What is typed is looked
//! through for the escape key even if the guest takes nothing: what it does not take waits within a bound,
//! and input that is not typed is left where it is until there is room. When the port's end is closed, it is
//! found out why: the daemon was started anew (attach again), somebody took our place, or all is over.

use std::io::{self, Write, stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::keys::Keys;
use super::port::{DaemonRun, Manner, Port};
use super::screen::{self, Raw, Sign, Signs};
use super::{Console, Error};

/// Bytes that wait for the guest at most.
const WAITING: usize = 64 << 10;
/// Bytes of one read.
const PIECE: usize = 16 << 10;
/// How long a lost daemon may take to be there again, and how often that is looked for.
const RETURN: (Duration, Duration) = (Duration::from_secs(20), Duration::from_millis(200));

/// Why it is over for now.
enum End {
    /// The user leaves, or this program is to end.
    Leave,
    /// The port's end was closed.
    Closed,
}

/// Attaches, until the user leaves or the machine has ended.
pub(super) fn run(port: &Port, arguments: &Console) -> Result<(), Error> {
    let size = screen::size();
    let mut manner = Manner { read_only: arguments.read_only, take: arguments.take, size };
    let (mut stream, mut run) = port.attach(manner)?;
    let signs = Signs::block().map_err(Error::system("wait for signals"))?;
    let raw = Raw::enter().map_err(Error::system("make this terminal raw"))?;
    let mut session = Session {
        port,
        signs,
        raw,
        keys: Keys::new(arguments.escape, arguments.read_only),
        reads_input: true,
        waiting: Vec::new(),
    };
    session.note(&format!("attached to {}; {} q leaves", port.name(), arguments.escape));
    loop {
        match session.serve(&stream).map_err(Error::system("go on"))? {
            End::Leave => return Ok(()),
            End::Closed => {}
        }
        manner = Manner { size: screen::size(), take: false, ..manner };
        match session.attach_again(manner, run)? {
            Some(again) => (stream, run) = again,
            None => return Ok(()),
        }
    }
}

struct Session<'a> {
    port: &'a Port,
    signs: Signs,
    raw: Option<Raw>,
    keys: Keys,
    /// Whether standard input has not ended.
    reads_input: bool,
    /// Typed, and not taken by the port yet.
    waiting: Vec<u8>,
}

impl Session<'_> {
    /// Says something to whoever sits at the terminal.
    fn note(&self, text: &str) {
        if self.raw.is_some() {
            // Nobody is left to tell that it cannot be said.
            let _ = write!(stderr(), "[outrigger: {text}]\r\n");
        }
    }

    fn serve(&mut self, stream: &UnixStream) -> io::Result<End> {
        loop {
            let [typed, port, signs] = self.wait(stream)?;
            if !signs.is_empty() && self.heed_signs()? {
                return Ok(End::Leave);
            }
            if !port.is_empty() && !show(stream)? {
                return Ok(End::Closed);
            }
            if !typed.is_empty() && self.take_keys()? {
                return Ok(End::Leave);
            }
            self.hand_over(stream);
        }
    }

    /// Waits until there is something to do.
    fn wait(&self, stream: &UnixStream) -> io::Result<[PollFlags; 3]> {
        // A terminal is always read from, or there would be no escape.
        let reads = self.reads_input && (self.raw.is_some() || self.waiting.len() < WAITING);
        let input = if reads { PollFlags::IN } else { PollFlags::empty() };
        let mut events = PollFlags::IN;
        events.set(PollFlags::OUT, !self.waiting.is_empty());
        let keyboard = stdin();
        let mut fds = [
            PollFd::new(stream, events),
            PollFd::new(&self.signs, PollFlags::IN),
            PollFd::new(&keyboard, input),
        ];
        // Even if nothing is asked for, a hang-up would be reported, over and over.
        let asked = if reads { fds.len() } else { 2 };
        match poll(fds.get_mut(..asked).unwrap_or_default(), None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok([PollFlags::empty(); 3]),
            Err(errno) => return Err(errno.into()),
        }
        let [port, signs, typed] = fds.map(|fd| fd.revents());
        Ok([typed, port, signs])
    }

    /// True: this program is to end.
    fn heed_signs(&mut self) -> io::Result<bool> {
        while let Some(sign) = self.signs.take() {
            match sign {
                Sign::End => return Ok(true),
                Sign::Continued => self.raw.as_ref().map_or(Ok(()), Raw::again)?,
                Sign::Resized => {}
            }
            // The screen is that of who types: who looks on does not change it.
            if let Some(size) = screen::size().filter(|_| !self.keys.looks_on) {
                self.port.resize(size);
            }
        }
        Ok(false)
    }

    /// True: the user leaves.
    fn take_keys(&mut self) -> io::Result<bool> {
        let mut piece = [0; PIECE];
        match rustix::io::read(stdin(), &mut piece) {
            Ok(0) => {
                self.reads_input = false;
                // A terminal that is gone has nobody at it.
                Ok(self.raw.is_some())
            }
            Ok(count) => {
                let typed = piece.get(..count).unwrap_or(&piece);
                if self.raw.is_none() {
                    self.waiting.extend(typed);
                    return Ok(false);
                }
                let mut rest = Vec::new();
                let leaves = self.keys.look(typed, &mut rest);
                rest.truncate(WAITING.saturating_sub(self.waiting.len()));
                self.waiting.extend(rest);
                Ok(leaves)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(false),
            Err(_) => Ok(true),
        }
    }

    /// Gives the port what waits for it, as far as it takes it.
    fn hand_over(&mut self, stream: &UnixStream) {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        while !self.waiting.is_empty() {
            // That it is gone shows when it is read from.
            let Ok(count) = send(stream, &self.waiting, flags) else { return };
            self.waiting.drain(..count.min(self.waiting.len()));
        }
    }

    /// None: it is over, and the user was told why.
    fn attach_again(
        &mut self,
        manner: Manner,
        before: DaemonRun,
    ) -> Result<Option<(UnixStream, DaemonRun)>, Error> {
        let (limit, pause) = RETURN;
        let end = Instant::now() + limit;
        let (mut told, mut refused) = (false, None);
        while Instant::now() < end {
            match self.port.run() {
                // The machine is gone, and its control socket with it.
                Err(_) => break,
                Ok(Some(now)) if now == before => {
                    self.note("sent away: the port is somebody else's now, or detached");
                    return Ok(None);
                }
                Ok(Some(_)) => match self.port.attach(manner) {
                    // It may have died once more in between.
                    Err(Error::Refused(why)) => refused = Some(why),
                    outcome => return outcome.map(Some),
                },
                Ok(None) => {}
            }
            if !std::mem::replace(&mut told, true) {
                self.note("the console's daemon is gone; waiting for the next one");
            }
            if self.is_interrupted(pause) {
                return Ok(None);
            }
        }
        if let Some(why) = refused {
            return Err(Error::Refused(why));
        }
        self.note("the machine has ended");
        Ok(None)
    }

    /// Waits a moment. True: the user does not.
    fn is_interrupted(&mut self, pause: Duration) -> bool {
        std::thread::sleep(pause);
        let keyboard = stdin();
        let mut fds = [PollFd::new(&keyboard, PollFlags::IN)];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let typed =
            self.raw.is_some() && poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0);
        typed && self.take_keys().unwrap_or(true) || self.heed_signs().unwrap_or(true)
    }
}

/// Shows what the guest has written. False: there will be no more.
fn show(stream: &UnixStream) -> io::Result<bool> {
    let mut piece = [0; PIECE];
    match recv(stream.as_fd(), &mut piece, RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Ok(false),
        Ok((_, count)) => {
            let mut out = stdout().lock();
            out.write_all(piece.get(..count).unwrap_or(&piece))?;
            out.flush()?;
            Ok(true)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(true),
        Err(_) => Ok(false),
    }
}
