//! `guest-kexec KERNEL INITRD COMMAND_LINE`: starts another kernel in place of the running one.
//!
//! Nobody shuts anything down: the new kernel finds the devices as the old one left them. Runs inside a
//! guest, so it uses the standard library and the C library alone.
#![expect(clippy::print_stdout, reason = "the console is how a guest speaks to the host")]

use std::ffi::{CString, c_long};
use std::fs::File;
use std::io::{self, Error};
use std::os::fd::AsRawFd;
use std::process::ExitCode;

/// System calls and their constants on x86-64 (kexec_file_load(2), reboot(2)).
const KEXEC_FILE_LOAD: c_long = 320;
const REBOOT: c_long = 169;
const MAGIC: [c_long; 2] = [0xfee1_dead, 672_274_793];
const KEXEC: c_long = 0x4558_4543;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

fn main() -> ExitCode {
    // Only failures come back.
    if let Err(error) = run() {
        println!("guest-kexec: {error}");
    }
    ExitCode::FAILURE
}

fn run() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, initrd, command_line] = &words[..] else {
        return Err(Error::other("usage: guest-kexec KERNEL INITRD COMMAND_LINE"));
    };
    let (kernel, initrd) = (File::open(kernel)?, File::open(initrd)?);
    let command_line = CString::new(command_line.as_str())?;
    let length = command_line.as_bytes_with_nul().len();
    // SAFETY: the descriptors are open and the text is there, with its zero, during the call.
    let loaded = unsafe {
        let (kernel, initrd) = (kernel.as_raw_fd(), initrd.as_raw_fd());
        syscall(KEXEC_FILE_LOAD, kernel, initrd, length, command_line.as_ptr(), 0_usize)
    };
    if loaded != 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: takes numbers only.
    unsafe { syscall(REBOOT, MAGIC[0], MAGIC[1], KEXEC, 0_usize) };
    Err(Error::last_os_error())
}
