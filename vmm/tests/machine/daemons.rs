//! A machine and the daemons that it has started: what is told of their end, and who waits for whom.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::program::Program;
use crate::vm::Vm;

/// The daemon of a disk.
const DAEMON: &str = "outrigger-blk";
/// Bytes of the disk.
const DISK: u64 = 1 << 20;
/// Set by `cargo xtask test`, which has built all programs.
const REQUIRE: &str = "OUTRIGGER_REQUIRE";

/// Whether there is such a daemon beside our program; says so if not.
pub(crate) fn is_built(daemon: &str) -> bool {
    let program = Path::new(env!("CARGO_BIN_EXE_outrigger")).with_file_name(daemon);
    let built = program.exists();
    assert!(built || std::env::var_os(REQUIRE).is_none(), "{} is missing", program.display());
    if !built {
        eprintln!("skipped: build {daemon} first");
    }
    built
}

/// A machine with a disk, whose guest has said hello.
fn start(program: &Program, disk: &str, arguments: &[&str]) -> Option<Vm> {
    if !is_built(DAEMON) {
        return None;
    }
    let folder = tempfile::TempDir::new().expect("a directory");
    let image = folder.path().join("image");
    File::create(&image).and_then(|file| file.set_len(DISK)).expect("a disk");
    let disk = format!("--disk=path={}{disk}", image.display());
    let mut vm = Vm::start(program, &[&[disk.as_str()], arguments].concat())?;
    vm.keep(folder);
    vm.await_serial("hello");
    Some(vm)
}

fn hello() -> Program {
    Program::default().say("hello\n")
}

#[test]
fn a_lost_device_has_a_status_of_its_own_if_it_is_to_stop_the_machine() {
    let Some(vm) = start(&hello().stop(), ",on-loss=stop", &[]) else { return };
    kill_process(vm.process(DAEMON).expect("a daemon"), Signal::KILL).expect("it runs");
    let end = vm.end();
    assert_eq!(end.status, Some(6), "{end:?}");
    assert!(end.words.contains("disk0"), "{end:?}");
}

#[test]
fn a_lost_device_is_there_again_if_it_is_not() {
    let program = hello().await_power_button().power_off();
    let Some(mut vm) = start(&program, "", &[]) else { return };
    let first = vm.process(DAEMON).expect("a daemon");
    kill_process(first, Signal::KILL).expect("it runs");
    vm.wait_until(|vm| vm.process(DAEMON).is_some_and(|now| now != first), "another daemon");
    vm.signal(Signal::TERM);
    assert_eq!(vm.end().status, Some(0));
}

/// Class: what is sent while the machine is taken down was heard by nobody.
#[test]
fn a_signal_is_heard_while_a_daemon_does_not_end() {
    let Some(mut vm) = start(&hello().stop(), "", &[]) else { return };
    let daemon = vm.process(DAEMON).expect("a daemon");
    kill_process(daemon, Signal::STOP).expect("it runs");
    vm.ctl("stop").expect("it stops");
    thread::sleep(Duration::from_millis(300));
    assert!(!vm.has_ended(), "it waits for its daemon");
    let begun = Instant::now();
    vm.signal(Signal::TERM);
    vm.wait_until_ended();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let process = format!("/proc/{}", daemon.as_raw_nonzero());
    assert_eq!(vm.end().status, Some(7));
    // The supervisor has the patience, and ends it.
    let until = Instant::now() + Duration::from_secs(20);
    while Path::new(&process).exists() {
        assert!(Instant::now() < until, "the daemon is still there");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Class: one who asks without end holds up neither others nor the machine.
#[test]
fn a_flood_of_requests_holds_up_nobody() {
    let program = hello().await_power_button().power_off();
    let Some(vm) = Vm::start(&program, &[]) else { return };
    let mut vm = vm;
    vm.await_serial("hello");
    let path = vm.path("control");
    let flood = |reads: bool| {
        let path = path.clone();
        thread::spawn(move || {
            let mut socket = UnixStream::connect(path).expect("a connection");
            socket.set_write_timeout(Some(Duration::from_millis(100))).expect("a limit");
            if reads {
                let mut from = socket.try_clone().expect("a copy");
                thread::spawn(move || std::io::copy(&mut from, &mut std::io::sink()));
            }
            let lines = b"{\"cmd\":\"stats\"}\n".repeat(1000);
            let mut sent = 0;
            // Until the machine is gone.
            loop {
                match socket.write(&lines) {
                    Ok(count) => sent += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => return sent,
                }
            }
        })
    };
    let floods = [flood(true), flood(true), flood(false), flood(false)];
    thread::sleep(Duration::from_millis(300));
    for command in ["status", "pause", "status", "resume", "devices"] {
        let begun = Instant::now();
        vm.ctl(command).expect("an answer");
        assert!(begun.elapsed() < Duration::from_secs(5), "{command}: {:?}", begun.elapsed());
    }
    vm.signal(Signal::TERM);
    assert_eq!(vm.end().status, Some(0));
    let sent: usize = floods.map(|flood| flood.join().expect("it ends")).iter().sum();
    assert!(sent > 100_000, "{sent}");
}
