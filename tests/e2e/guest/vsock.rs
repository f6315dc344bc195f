//! `guest-vsock serve PATH`: takes one connection at a Unix socket, and answers its first line with
//! `heard LINE`. `guest-vsock say PORT LINE`: says a line to the host's vsock port, and prints the answer.
//!
//! Uses the standard library and the C library alone.
#![expect(clippy::print_stdout, reason = "the console is how a guest speaks to the host")]

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Error, Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

/// Constants of vsock(7), and the host's address.
const AF_VSOCK: c_int = 40;
const SOCK_STREAM: c_int = 1;
const HOST: u32 = 2;

/// `struct sockaddr_vm`.
#[repr(C)]
struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn connect(socket: c_int, address: *const Address, length: u32) -> c_int;
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("guest-vsock: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", path] => serve(path),
        ["say", port, line] => say(port.parse().map_err(Error::other)?, line),
        _ => Err(Error::other("usage: guest-vsock serve PATH | guest-vsock say PORT LINE")),
    }
}

fn serve(path: &str) -> io::Result<()> {
    let (stream, _) = UnixListener::bind(path)?.accept()?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    write!(&stream, "heard {line}")
}

fn say(port: u32, line: &str) -> io::Result<()> {
    let mut stream = dial(port)?;
    writeln!(stream, "{line}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    print!("{answer}");
    Ok(())
}

/// A connection to the host, which can be read and written like a file.
fn dial(port: u32) -> io::Result<File> {
    // SAFETY: takes numbers only.
    let number = unsafe { socket(AF_VSOCK, SOCK_STREAM, 0) };
    if number < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the socket was just made, and belongs to nobody else.
    let stream = unsafe { File::from_raw_fd(number) };
    let address = Address { family: 40, reserved: 0, port, cid: HOST, zero: [0; 4] };
    // SAFETY: the address is one of vsock's, of that length, during the call.
    match unsafe { connect(number, &raw const address, size_of::<Address>() as u32) } {
        0 => Ok(stream),
        _ => Err(Error::last_os_error()),
    }
}
