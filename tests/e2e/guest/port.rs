//! `guest-port PATH`: the guest's end of a console or port, doing what the host's end asks for.
//!
//! | asked | done |
//! |---|---|
//! | `send N` | writes N bytes |
//! | `take N` | says `ready`, reads N bytes, and then says how many reads that took |
//! | `paste N` | says `ready`, reads N bytes, and answers each 2048 of them with a dot |
//! | `echo N` | says `ready`, and sends each of N bytes back at once |
//! | `quit` | ends |
//!
//! A request is a line; so is an answer. A terminal has to be in raw mode. Reading a port that is no
//! console gives what one buffer holds at most, so the number of reads is that of used buffers.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Bytes that are written or read at a time.
const PIECE: usize = 64 << 10;
/// Bytes that are pasted at a time: a terminal holds them.
const PASTED: usize = 2048;
/// While nobody is at the host's end, reading ends at once.
const PAUSE: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: guest-port PATH");
        return ExitCode::FAILURE;
    };
    match open(&path).and_then(|mut line| serve(&mut line)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest-port {path}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn open(path: &str) -> io::Result<Line> {
    Ok(Line { file: OpenOptions::new().read(true).write(true).open(path)? })
}

/// One end of the line.
struct Line {
    file: File,
}

impl Line {
    /// Bytes that have come, at least one.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(into) {
                Ok(0) => std::thread::sleep(PAUSE),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// The next line, read byte by byte, so that nothing of what follows is taken.
    fn request(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            self.read(&mut byte)?;
            if byte == *b"\n" {
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            line.extend(byte);
        }
    }

    fn say(&mut self, answer: &str) -> io::Result<()> {
        self.file.write_all(format!("{answer}\n").as_bytes())
    }
}

fn serve(line: &mut Line) -> io::Result<()> {
    loop {
        let request = line.request()?;
        let (verb, count) = request.split_once(' ').unwrap_or((&request, "0"));
        let count: usize = count.trim().parse().unwrap_or(0);
        match verb.trim() {
            "send" => send(line, count)?,
            "take" => take(line, count)?,
            "paste" => paste(line, count)?,
            "echo" => echo(line, count)?,
            "quit" => return Ok(()),
            _ => line.say("?")?,
        }
    }
}

/// The bytes repeat at a prime distance, so that none is taken for another of a page elsewhere. They are
/// text, since there are consoles that take nothing else.
fn send(line: &mut Line, count: usize) -> io::Result<()> {
    let source: Vec<u8> = (b' '..=b'x').cycle().take(PIECE).collect();
    let mut left = count;
    while left > 0 {
        let piece = source.get(..left.min(PIECE)).unwrap_or(&source);
        left -= line.file.write(piece)?;
    }
    Ok(())
}

fn take(line: &mut Line, count: usize) -> io::Result<()> {
    line.say("ready")?;
    let (mut left, mut reads, mut piece) = (count, 0_u64, vec![0; PIECE]);
    while left > 0 {
        let most = left.min(PIECE);
        left -= line.read(piece.get_mut(..most).unwrap_or_default())?;
        reads += 1;
    }
    line.say(&reads.to_string())
}

fn paste(line: &mut Line, count: usize) -> io::Result<()> {
    line.say("ready")?;
    let (mut left, mut piece) = (count, [0; PASTED]);
    while left > 0 {
        let (mut read, most) = (0, left.min(PASTED));
        while read < most {
            read += line.read(piece.get_mut(read..most).unwrap_or_default())?;
        }
        left -= most;
        line.file.write_all(b".")?;
    }
    Ok(())
}

fn echo(line: &mut Line, count: usize) -> io::Result<()> {
    line.say("ready")?;
    for _ in 0..count {
        let mut byte = [0];
        line.read(&mut byte)?;
        line.file.write_all(&byte)?;
    }
    Ok(())
}
