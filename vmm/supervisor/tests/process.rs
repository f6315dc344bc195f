//! The supervisor as a process of its own: how it looks from outside, and what is left of it after any
//! end of the VMM. The VMM is this very program, run again with one thread, as the supervisor demands;
//! so it brings a small test runner along.
#![expect(clippy::print_stdout, reason = "a test runner")]
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; clippy knows only #[test] functions"
)]

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, getpgid, getsid, kill_process};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use supervisor::Daemon;

const TESTS: [(&str, fn()); 7] = [
    ("kill_9_of_the_vmm_leaves_nothing", kill_9_of_the_vmm_leaves_nothing),
    ("kill_9_of_the_vmm_restores_the_terminal", kill_9_of_the_vmm_restores_the_terminal),
    ("an_orderly_end_leaves_nothing", an_orderly_end_leaves_nothing),
    ("only_its_own_descriptors_reach_a_daemon", only_its_own_descriptors_reach_a_daemon),
    ("the_terminal_does_not_reach_it", the_terminal_does_not_reach_it),
    ("signals_do_not_end_it", signals_do_not_end_it),
    ("kill_9_of_the_supervisor_kills_the_daemons", kill_9_of_the_supervisor_kills_the_daemons),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|found| found == word);
    if words.first().is_some_and(|word| word == "vmm") {
        if has("descriptors") {
            vmm_with_descriptors();
        } else {
            vmm(has("orderly"));
        }
        return ExitCode::SUCCESS;
    }
    let filter = words.iter().find(|word| !word.starts_with('-') && *word != "terse");
    let chosen = TESTS.iter().filter(|(name, _)| filter.is_none_or(|text| name.contains(text)));
    for (name, test) in chosen {
        if has("--list") {
            if !has("--ignored") {
                println!("{name}: test");
            }
        } else {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

/// Starts two daemons, one of which does not care for SIGTERM, and says which processes there are.
fn vmm(orderly: bool) {
    let folder = std::env::var_os("FILES").map(std::path::PathBuf::from);
    let files: Vec<_> = folder.iter().map(|folder| folder.join("control")).collect();
    let _listeners: Vec<_> = files.iter().map(|path| UnixListener::bind(path).unwrap()).collect();
    let daemon = |script: &str| Daemon {
        name: "daemon".into(),
        program: "/bin/bash".into(),
        arguments: ["-c", script, "daemon"].map(Into::into).to_vec(),
        ..Daemon::default()
    };
    let ready = "echo >&${1#--fd=}; read -u ${1#--fd=}";
    let daemons =
        vec![daemon(ready), daemon(&format!("trap '' TERM; {ready}; while :; do sleep 1; done"))];
    let (supervisor, mut links) = supervisor::start(daemons, files).unwrap();
    println!("{}", supervisor.pid());
    if let Ok(mut terminal) = tcgetattr(std::io::stdin()) {
        terminal.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &terminal).unwrap();
    }
    let mut sockets = Vec::new();
    for link in &mut links {
        let socket = link.connect(Instant::now() + Duration::from_secs(10)).unwrap();
        // It has set its trap now.
        assert_eq!(rustix::io::read(&socket, &mut [0; 1]), Ok(1));
        println!("{}", link.pid().unwrap());
        sockets.push(socket);
    }
    println!("ready");
    if orderly {
        drop((links, sockets));
        assert!(supervisor.wait(Instant::now() + Duration::from_secs(20)));
    } else {
        std::thread::sleep(Duration::from_secs(600));
    }
}

/// Starts a daemon that is to inherit one of two descriptors, and shows what it has, then what it should
/// have.
fn vmm_with_descriptors() {
    let inherited = [(); 2].map(|()| {
        let (read, _) = rustix::pipe::pipe().unwrap();
        read
    });
    // Looking into the directory would open one more.
    let show = r#"s=${1#--fd=}; for n in {0..99}; do [ -e /proc/$$/fd/$n ] && echo $n >&$s; done
        echo 0 1 2 $s ${2#--state-fd=} >&$s"#;
    let [given, _kept] = &inherited;
    let daemon = Daemon {
        name: "daemon".into(),
        program: "/bin/bash".into(),
        arguments: ["-c", show, "daemon"].map(Into::into).to_vec(),
        keeps_state: true,
        inherited_fds: vec![given.as_raw_fd()],
        ..Daemon::default()
    };
    let (_supervisor, mut links) = supervisor::start(vec![daemon], Vec::new()).unwrap();
    let link = links.first_mut().unwrap();
    let socket = link.connect(Instant::now() + Duration::from_secs(10)).unwrap();
    let mut shown = String::new();
    UnixStream::from(socket).read_to_string(&mut shown).unwrap();
    let mut lines: Vec<&str> = shown.lines().collect();
    let expected = lines.pop().unwrap();
    let mut expected: Vec<&str> = expected.split_whitespace().collect();
    let given = given.as_raw_fd().to_string();
    expected.push(&given);
    expected.sort_unstable_by_key(|fd| fd.parse::<i32>().unwrap());
    assert_eq!(lines, expected);
}

/// A VMM that runs, and the processes that it has.
struct Running {
    vmm: Child,
    supervisor: Pid,
    daemons: Vec<Pid>,
    _output: BufReader<ChildStdout>,
}

fn start(words: &[&str]) -> Running {
    start_with(words, None, Stdio::null())
}

fn start_with(words: &[&str], files: Option<&Path>, stdin: Stdio) -> Running {
    let mut vmm = Command::new(std::env::current_exe().unwrap())
        .arg("vmm")
        .envs(files.map(|folder| ("FILES", folder)))
        .args(words)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(vmm.stdout.take().unwrap());
    let mut pids = Vec::new();
    loop {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        match line.trim().parse() {
            Ok(number) => pids.push(Pid::from_raw(number).unwrap()),
            Err(_) => break assert_eq!(line, "ready\n"),
        }
    }
    let supervisor = pids.remove(0);
    Running { vmm, supervisor, daemons: pids, _output: output }
}

/// Whether a process runs; one that only waits to be reaped does not.
fn runs(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

impl Running {
    fn all(&self) -> impl Iterator<Item = Pid> {
        self.daemons.iter().copied().chain([self.supervisor])
    }

    fn wait_for_the_end(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.all().any(runs) {
            assert!(Instant::now() < deadline, "something is left");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn kill_9_of_the_vmm_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start_with(&[], Some(folder.path()), Stdio::null());
    assert!(running.all().all(runs) && folder.path().join("control").exists());
    running.vmm.kill().unwrap();
    running.vmm.wait().unwrap();
    running.wait_for_the_end();
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

fn kill_9_of_the_vmm_restores_the_terminal() {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
    let shown = || format!("{:?}", tcgetattr(&slave).unwrap());
    let before = shown();
    let mut running = start_with(&[], None, slave.try_clone().unwrap().into());
    assert_ne!(shown(), before);
    running.vmm.kill().unwrap();
    running.vmm.wait().unwrap();
    running.wait_for_the_end();
    assert_eq!(shown(), before);
}

fn an_orderly_end_leaves_nothing() {
    let mut running = start(&["orderly"]);
    assert!(running.vmm.wait().unwrap().success());
    // Not even for a moment.
    assert!(!running.all().any(runs));
}

fn only_its_own_descriptors_reach_a_daemon() {
    let program = std::env::current_exe().unwrap();
    let vmm = Command::new(program).args(["vmm", "descriptors"]).status().unwrap();
    assert!(vmm.success());
}

fn the_terminal_does_not_reach_it() {
    let mut running = start(&[]);
    let name = std::fs::read_to_string(format!("/proc/{}/comm", running.supervisor)).unwrap();
    assert_eq!(name, "outrigger-sup\n");
    assert_eq!(getsid(Some(running.supervisor)), Ok(running.supervisor));
    for &daemon in &running.daemons {
        assert_eq!(getsid(Some(daemon)), Ok(running.supervisor));
        assert_eq!(getpgid(Some(daemon)), Ok(daemon));
    }
    running.vmm.kill().unwrap();
    running.vmm.wait().unwrap();
    running.wait_for_the_end();
}

fn signals_do_not_end_it() {
    let mut running = start(&[]);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1] {
        kill_process(running.supervisor, signal).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    assert!(running.all().all(runs));
    running.vmm.kill().unwrap();
    running.vmm.wait().unwrap();
    running.wait_for_the_end();
}

fn kill_9_of_the_supervisor_kills_the_daemons() {
    let mut running = start(&[]);
    kill_process(running.supervisor, Signal::KILL).unwrap();
    running.wait_for_the_end();
    running.vmm.kill().unwrap();
    running.vmm.wait().unwrap();
}
