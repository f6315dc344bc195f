//! User Mode Linux with a console of ours: a real kernel's drivers, and somebody who logs in.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{ConsoleScene, Desk, Kind, Kit, Place, Typist, require};

/// Bytes through the third port, each way.
const BULK: usize = 100 << 20;
/// How long they may take each way: "seconds", on a busy machine.
const SECONDS: Duration = Duration::from_secs(20);

fn desk(name: &str) -> Option<Desk> {
    let place = Place::of_workspace().unwrap();
    let kit = require(name, Kit::cached(&place, Kind::Uml))?;
    let mut desk = ConsoleScene::new(name, &kit).start(&place).unwrap();
    desk.await_user("first").unwrap();
    Some(desk)
}

#[test]
fn a_login_an_agent_and_a_driver_that_goes_and_comes() {
    let Some(mut desk) = desk("uml-console") else { return };
    // What was said before anybody looked is there for whoever comes.
    let mut console = desk.log_in().unwrap();
    console.ask("echo $((6 * 7))", "\r\n42\r\n").unwrap();

    console.ask("stty size", "24 80").unwrap();
    desk.resize(132, 43).unwrap();
    console.ask("sleep 0.2; stty size", "43 132").unwrap();

    let mut agent = desk.attach("agent").unwrap();
    let version = agent.ask("kernel", "\n").unwrap();
    console.ask("uname -r", version.trim().trim_start_matches("kernel ")).unwrap();

    // A port that comes and goes while the guest runs.
    let file = desk.add_port("late").unwrap();
    let find =
        "sleep 0.3; for p in /sys/class/virtio-ports/*; do grep -qx late $p/name && break; done";
    console.ask(&format!("{find}; cat $p/name"), "\r\nlate\r\n").unwrap();
    console.ask("echo at run time >/dev/${p##*/}; echo written-$?", "written-0").unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "at run time\n");
    desk.remove_port("late").unwrap();
    console.ask("sleep 0.3; ls -d $p | wc -l", "\r\n0\r\n").unwrap();

    // Away and back: the guest has noticed nothing.
    console.ask("export KEPT=yes", "# ").unwrap();
    drop(console);
    let mut console = desk.attach("con").unwrap();
    console.ask("echo kept=$KEPT", "kept=yes").unwrap();
    console.ask("exit", "\r\n").unwrap();
    drop((console, agent));

    // The driver was unbound and bound: ports have their names, and the terminal its size.
    desk.await_user("second").unwrap();
    let mut console = desk.log_in().unwrap();
    console.ask("stty size", "43 132").unwrap();
    let mut agent = desk.attach("agent").unwrap();
    agent.ask("memory", " kB\n").unwrap();
    console.send(b"exit\n").unwrap();
    desk.finish().unwrap();
}

#[test]
fn a_hundred_megabytes_go_through_a_port_each_way() {
    let Some(desk) = desk("uml-console-bulk") else { return };
    let mut console = desk.log_in().unwrap();
    let bytes: Vec<u8> =
        (0..BULK / 8).flat_map(|n| (n.wrapping_mul(0x9e37_79b9) as u64).to_be_bytes()).collect();
    let sum = sum(&bytes);
    let mut peer = desk.attach("bulk").unwrap();

    let begun = Instant::now();
    console.send(b"cat /dev/virtio-ports/bulk > /tmp/bulk; echo all-$((1 + 1))-there\n").unwrap();
    peer.send(&bytes).unwrap();
    // The guest reads to the end, which comes when the host's end is closed.
    drop(peer);
    console.read_until("all-2-there").unwrap();
    let to_guest = begun.elapsed();
    console.ask("sha256sum /tmp/bulk", &sum).unwrap();

    let mut peer = desk.attach("bulk").unwrap();
    let begun = Instant::now();
    console.send(b"cat /tmp/bulk > /dev/virtio-ports/bulk\n").unwrap();
    let back = peer.receive(BULK).unwrap();
    let to_host = begun.elapsed();
    assert!(back == bytes, "what came back is not what was sent");
    eprintln!("{BULK} bytes: {to_guest:.2?} to the guest, {to_host:.2?} to the host");
    assert!(to_guest < SECONDS && to_host < SECONDS, "{to_guest:?} {to_host:?}");
    finish(console, desk);
}

/// Both users leave.
fn finish(console: Typist, mut desk: Desk) {
    let mut first = console;
    first.ask("exit", "\r\n").unwrap();
    drop(first);
    desk.await_user("second").unwrap();
    desk.log_in().unwrap().send(b"exit\n").unwrap();
    desk.finish().unwrap();
}

/// As another program sees it.
fn sum(bytes: &[u8]) -> String {
    let mut program = Command::new("sha256sum");
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}
