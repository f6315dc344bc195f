//! The host's end of a line to `guest-port`, which does what it is asked for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// For everything: a stream goes on for about a second, and boots take some.
const PATIENCE: Duration = Duration::from_secs(15);
/// Until a guest may have opened its end.
const RETRY: Duration = Duration::from_millis(50);
/// Between two reads of a stream.
const CALM: Duration = Duration::from_micros(100);
/// Bytes that a terminal in the guest holds.
const PASTED: usize = 2048;
/// Bytes that are written or read at a time.
const PIECE: usize = 64 << 10;
/// So many keys say how long one takes.
const ENOUGH: usize = 10;
/// The longest answer, bytes: who says more without end says nothing.
const ANSWER_MAX: usize = 4096;
/// Between two keys of somebody who types a request.
const TYPING: Duration = Duration::from_millis(5);

/// Something that bytes go through both ways.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// The host's end.
pub(super) struct Line {
    stream: Box<dyn Stream>,
    /// Whether requests are typed, a key at a time.
    typed: bool,
}

/// What a stream came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) bytes_per_second: f64,
    /// How many reads it took in the guest.
    pub(super) reads: Option<u64>,
}

impl Line {
    /// Connects to a Unix socket as soon as it listens.
    pub(super) fn unix(path: &Path) -> Result<Self> {
        let stream = retried(|| UnixStream::connect(path)).context("no Unix socket")?;
        Self::of_unix(stream)
    }

    /// On a socket that is connected already.
    pub(super) fn of_unix(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: Box::new(stream), typed: false })
    }

    /// Connects to a port of this machine as soon as it listens.
    pub(super) fn tcp(port: u16) -> Result<Self> {
        let stream = retried(|| TcpStream::connect(("127.0.0.1", port))).context("no TCP port")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: Box::new(stream), typed: false })
    }

    /// For a console that can take one key at a time, and none before the guest has written.
    pub(super) fn greeted(&mut self) -> Result<()> {
        self.typed = true;
        self.answer().map(drop)
    }

    /// Has the guest write so many bytes.
    pub(super) fn receive(&mut self, count: usize) -> Result<Flow> {
        let (mut left, mut piece) = (count, vec![0; PIECE]);
        let begun = Instant::now();
        self.ask("send", count)?;
        while left > 0 {
            let most = left.min(PIECE);
            match self.stream.read(piece.get_mut(..most).unwrap_or_default())? {
                0 => bail!("the guest is gone, {left} bytes of {count} short"),
                read if read < most => {
                    left -= read;
                    // Awake for every piece, the client would take more time than who serves it.
                    std::thread::sleep(CALM);
                }
                read => left -= read,
            }
        }
        Ok(Flow { bytes_per_second: rate(count, begun), reads: None })
    }

    /// Has the guest read so many bytes.
    pub(super) fn send(&mut self, count: usize) -> Result<Flow> {
        self.ask("take", count)?;
        self.expect("ready")?;
        let piece = vec![b'x'; PIECE];
        let (mut left, begun) = (count, Instant::now());
        while left > 0 {
            left -= self.stream.write(piece.get(..left.min(PIECE)).unwrap_or_default())?;
        }
        let answer = self.answer()?;
        let bytes_per_second = rate(count, begun);
        let reads = answer.parse().with_context(|| format!("no number of reads: {answer:?}"))?;
        Ok(Flow { bytes_per_second, reads: Some(reads) })
    }

    /// Has the guest read so many bytes as somebody would paste them: as many at a time as its terminal
    /// holds, the next when it has read those.
    pub(super) fn paste(&mut self, count: usize) -> Result<Flow> {
        self.ask("paste", count)?;
        self.expect("ready")?;
        let (mut left, begun) = (count, Instant::now());
        while left > 0 {
            let most = left.min(PASTED);
            self.stream.write_all(&vec![b'x'; most])?;
            let mut dot = [0];
            self.stream.read_exact(&mut dot).context("the guest does not read on")?;
            left -= most;
        }
        Ok(Flow { bytes_per_second: rate(count, begun), reads: None })
    }

    /// Presses so many keys, each when the one before has come back, and gives their times.
    pub(super) fn keys(&mut self, count: u16) -> Result<Vec<Duration>> {
        self.ask("echo", count.into())?;
        self.expect("ready")?;
        let mut times = Vec::new();
        for key in 0..count {
            let key = b'a' + u8::try_from(key % 26)?;
            let (begun, mut back) = (Instant::now(), [0]);
            self.stream.write_all(&[key])?;
            match self.stream.read_exact(&mut back) {
                // Such a console loses a guest's buffers now and then, until it has none.
                Err(_) if self.typed && times.len() >= ENOUGH => {
                    eprintln!("no answer to key {}", times.len() + 1);
                    return Ok(times);
                }
                read => read?,
            }
            times.push(begun.elapsed());
            if back != [key] {
                bail!("a {:?} came back as {:?}", char::from(key), char::from(back[0]));
            }
        }
        Ok(times)
    }

    /// Reads so many bytes, whatever they are.
    pub(super) fn skip(&mut self, count: usize) -> Result<()> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).context("what the driver wrote does not come")
    }

    /// Writes bytes.
    pub(super) fn type_in(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    fn ask(&mut self, verb: &str, count: usize) -> Result<()> {
        let request = format!("{verb} {count}\n");
        if !self.typed {
            return Ok(self.stream.write_all(request.as_bytes())?);
        }
        for key in request.bytes() {
            std::thread::sleep(TYPING);
            self.stream.write_all(&[key])?;
        }
        Ok(())
    }

    fn expect(&mut self, wanted: &str) -> Result<()> {
        let answer = self.answer()?;
        if answer == wanted { Ok(()) } else { bail!("the guest said {answer:?}, not {wanted:?}") }
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).context("the guest does not answer")?;
            if byte == *b"\n" {
                return Ok(String::from_utf8_lossy(&line).trim().to_owned());
            }
            ensure!(line.len() < ANSWER_MAX, "the guest's answer has no end");
            line.extend(byte);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn rate(bytes: usize, begun: Instant) -> f64 {
    bytes as f64 / begun.elapsed().as_secs_f64()
}

fn retried<T>(mut connect: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        match connect() {
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => std::thread::sleep(RETRY),
            connected => return connected,
        }
    }
}
