//! The loop, in a thread, with real daemons: bash, which speaks on the socket that it is given.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

use super::*;
use crate::link::Link;

/// A process may start daemons from one thread only, and `cargo test` has several.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Bench {
    links: Vec<Link>,
    thread: JoinHandle<()>,
    /// Stands for the VMM's process.
    vmm: std::process::Child,
    /// Its socket, beside the links.
    life: OwnedFd,
    _turn: MutexGuard<'static, ()>,
}

/// Says `word` on its socket and then does what `then` says.
fn daemon(word: &str, then: &str) -> Daemon {
    let script = format!(r#"s=${{1#--fd=}}; echo {word} >&$s; {then}"#);
    Daemon {
        name: word.to_owned(),
        program: "/bin/bash".into(),
        arguments: ["-c", &script, "daemon"].map(Into::into).to_vec(),
        ..Daemon::default()
    }
}

const WAITS: &str = "read -u $s";

fn bench(daemons: Vec<Daemon>) -> Bench {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let vmm = std::process::Command::new("/bin/sleep").arg("600").spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(vmm.id()).unwrap()).unwrap();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let mut links = Vec::new();
    let mut all = Vec::new();
    for daemon in daemons {
        let (ours, theirs) = message::pair().unwrap();
        links.push(Link::new(daemon.name.clone(), ours));
        all.push(Supervised::new(daemon, theirs).unwrap());
    }
    let (life, theirs) = message::pair().unwrap();
    let mut supervised = Vmm::new(pidfd, theirs, Vec::new());
    let thread = std::thread::spawn(move || serve(&mut all, &mut supervised));
    Bench { links, thread, vmm, life, _turn: turn }
}

impl Bench {
    fn connect(&mut self, index: usize) -> UnixStream {
        self.links[index].connect(soon()).unwrap().into()
    }

    fn end(mut self) {
        self.links.clear();
        drop(self.life);
        self.thread.join().unwrap();
        self.vmm.kill().unwrap();
        self.vmm.wait().unwrap();
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// The next line on a socket.
fn line(mut socket: &UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while socket.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Waits for the daemon's last words.
fn last_words(link: &mut Link) -> String {
    let deadline = soon();
    loop {
        if let Some(words) = link.last_words() {
            return words;
        }
        assert!(Instant::now() < deadline, "the daemon lives on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn lives(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()).is_ok()
}

#[test]
fn daemons_start_unasked_and_end_with_their_links() {
    let mut bench = bench(vec![daemon("one", WAITS), daemon("two", WAITS)]);
    let sockets = [bench.connect(0), bench.connect(1)];
    assert_eq!(sockets.each_ref().map(line), ["one", "two"]);
    let pids = [0, 1].map(|index: usize| bench.links[index].pid().unwrap());
    bench.end();
    assert!(!pids.into_iter().any(lives));
}

#[test]
fn a_daemon_that_died_is_started_again() {
    let mut bench = bench(vec![daemon("x", "kill -SEGV $$")]);
    for _ in 0..3 {
        assert_eq!(line(&bench.connect(0)), "x");
        assert!(last_words(&mut bench.links[0]).starts_with("was killed by signal 11"));
    }
    bench.end();
}

#[test]
fn the_old_one_is_dead_before_the_new_one_starts() {
    let mut bench = bench(vec![daemon("x", WAITS)]);
    let first = bench.connect(0);
    assert_eq!(line(&first), "x");
    let old = bench.links[0].pid().unwrap();
    let second = bench.connect(0);
    assert!(!lives(old));
    assert_eq!(line(&second), "x");
    assert_ne!(bench.links[0].pid().unwrap(), old);
    bench.end();
}

#[test]
fn a_daemon_that_never_ends_is_killed() {
    let stubborn = "trap '' TERM; while :; do sleep 1; done";
    let mut bench = bench(vec![daemon("x", &format!("{stubborn}; :"))]);
    // The word comes before the trap, but a moment is enough.
    assert_eq!(line(&bench.connect(0)), "x");
    std::thread::sleep(Duration::from_millis(100));
    let old = bench.links[0].pid().unwrap();
    let start = Instant::now();
    let in_a_moment = start + Duration::from_millis(50);
    assert!(matches!(bench.links[0].connect(in_a_moment), Err(crate::Error::Late { .. })));
    assert_eq!(line(&bench.connect(0)), "x");
    assert!(start.elapsed() >= RESTART_GRACE && !lives(old));
    let last = bench.links[0].pid().unwrap();
    assert!(bench.links[0].kill(soon()) && !lives(last));
    assert!(last_words(&mut bench.links[0]).contains("signal 9"));
    assert!(bench.links[0].kill(soon()), "it is dead already");
    bench.end();
}

#[test]
fn what_a_daemon_started_ends_with_it() {
    let mut bench = bench(vec![daemon("x", "sleep 600 & echo $! >&$s; exit 3")]);
    let socket = bench.connect(0);
    line(&socket);
    let grandchild: u32 = line(&socket).parse().unwrap();
    assert_eq!(last_words(&mut bench.links[0]), "exited with status 3");
    let deadline = soon();
    // It is no child of ours, so only its parent can take it from the process table.
    while std::fs::read_to_string(format!("/proc/{grandchild}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
    {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    bench.end();
}

#[test]
fn a_daemon_that_does_not_start_says_why() {
    let missing = Daemon { program: "/no/such/daemon".into(), ..daemon("x", "") };
    let mut bench = bench(vec![missing]);
    for _ in 0..2 {
        let error = bench.links[0].connect(soon()).unwrap_err().to_string();
        assert_eq!(
            error,
            "x cannot be started: /no/such/daemon: No such file or directory (os error 2)"
        );
    }
    bench.end();
}

#[test]
fn state_survives_the_daemon() {
    let counts = r#"f=/proc/self/fd/${2#--state-fd=}; echo . >>$f; wc -l <$f >&$s"#;
    let mut bench = bench(vec![Daemon { keeps_state: true, ..daemon("x", counts) }]);
    for expected in ["1", "2", "3"] {
        let socket = bench.connect(0);
        line(&socket);
        assert_eq!(line(&socket), expected);
    }
    bench.end();
}

#[test]
fn all_ends_when_the_vmm_is_gone_even_if_its_sockets_are_not() {
    let mut bench = bench(vec![daemon("one", WAITS), daemon("two", WAITS)]);
    let sockets = [bench.connect(0), bench.connect(1)];
    assert_eq!(sockets.each_ref().map(line), ["one", "two"]);
    bench.vmm.kill().unwrap();
    bench.thread.join().unwrap();
    assert!(!bench.links.iter().any(|link| lives(link.pid().unwrap())));
    bench.vmm.wait().unwrap();
}

#[test]
fn each_run_has_a_socket_for_commands() {
    let answers = r#"c=${2#--control-fd=}; read -u $c ask; echo "$ask $$" >&$c; read -u $c"#;
    let mut bench = bench(vec![Daemon { takes_commands: true, ..daemon("x", answers) }]);
    let commands = bench.links[0].commands();
    let mut old = None;
    for _ in 0..2 {
        let socket = bench.connect(0);
        line(&socket);
        let mut ours = UnixStream::from(commands.take_new().unwrap());
        assert!(commands.take_new().is_none());
        ours.write_all(b"who\n").unwrap();
        assert_eq!(line(&ours), format!("who {}", bench.links[0].pid().unwrap()));
        // That of the run before is at its end.
        if let Some(mut old) = old.replace(ours) {
            assert_eq!(Read::read(&mut old, &mut [0]).unwrap(), 0);
        }
    }
    bench.end();
}

#[test]
fn niceness_is_the_daemons_own() {
    let show = r#"cut -d' ' -f19 /proc/$$/stat >&$s"#;
    let mut bench = bench(vec![Daemon { nice: Some(7), ..daemon("x", show) }]);
    let socket = bench.connect(0);
    line(&socket);
    assert_eq!(line(&socket), "7");
    bench.end();
}
