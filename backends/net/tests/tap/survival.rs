//! What happens to an interface, and what the program makes of it.

use std::time::{Duration, Instant};

use virtio_spec::net::{GUEST_CSUM, Header, MRG_RXBUF};

use crate::card::{Card, LONG, frame};
use crate::interface::{
    NAME, bring_up, enter_new_network, ip, is_datagram, packets, send_datagram, shown,
};
use crate::program::Daemon;

fn start() -> Option<(Daemon, Card)> {
    if !enter_new_network() {
        return None;
    }
    let daemon = Daemon::start(&["--tap=tap0"]);
    daemon.wait_until_there();
    bring_up();
    let mut card = Card::connect(&daemon.path("s"), &[MRG_RXBUF, GUEST_CSUM]);
    card.post(64, 2048);
    Some((daemon, card))
}

/// Whether a datagram of the host arrives at the guest.
fn receives(card: &mut Card) -> bool {
    send_datagram();
    let until = Instant::now() + LONG;
    while Instant::now() < until {
        if let Some((_, frame)) = card.receive(LONG)
            && is_datagram(&frame)
        {
            return true;
        }
    }
    false
}

#[test]
fn packets_cross_a_tap_both_ways() {
    let Some((_daemon, mut card)) = start() else { return };
    assert!(receives(&mut card));
    let before = packets();
    card.send(&(0..100).map(|n| frame(n, 60 + n)).collect::<Vec<_>>());
    assert_eq!(packets(), before + 100);
}

#[test]
fn an_interface_that_is_down_comes_up_again() {
    let Some((daemon, mut card)) = start() else { return };
    assert!(ip(&format!("link set {NAME} down")));
    card.send(&[frame(1, 60)]);
    assert!(daemon.count("tx_dropped") == 1 && daemon.count("uplink_errors") > 0);
    let stats = daemon.control(r#"{"cmd":"stats"}"#);
    assert!(stats["device_stats"]["uplink_error"].is_string(), "{stats}");
    assert!(ip(&format!("link set {NAME} up")));
    assert!(ip("neigh replace 10.9.0.2 lladdr 52:54:00:00:00:05 dev tap0"));
    assert!(receives(&mut card));
    card.send(&[frame(1, 60)]);
    assert_eq!(daemon.count("tx_frames"), 1);
}

#[test]
fn an_interface_that_is_deleted_costs_next_to_nothing() {
    let Some((daemon, mut card)) = start() else { return };
    assert!(receives(&mut card));
    assert!(ip(&format!("link delete {NAME}")));
    card.send(&[frame(1, 60)]);
    daemon.wait_for("uplink_errors", 2);
    let before = daemon.cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    assert!(daemon.cpu_time() - before <= Duration::from_millis(50));
    assert_eq!(daemon.count("tx_dropped"), 1);
}

#[test]
fn the_host_sees_whether_there_is_a_link() {
    let Some((daemon, mut card)) = start() else { return };
    let carrier = || {
        let flags = shown()["flags"].clone();
        !flags.as_array().unwrap().iter().any(|flag| flag == "NO-CARRIER")
    };
    assert!(carrier());
    let answer = daemon.control(r#"{"cmd":"link","state":"down"}"#);
    assert!(answer["ok"] == true && !carrier(), "{answer}");
    card.send(&[frame(1, 60)]);
    assert_eq!(daemon.count("tx_dropped"), 1);
    daemon.control(r#"{"cmd":"link","state":"up"}"#);
    assert!(carrier() && receives(&mut card));
}

#[test]
fn the_program_announces_a_guest_that_cannot_do_so_itself() {
    let Some((daemon, _card)) = start() else { return };
    let answer = daemon.control(r#"{"cmd":"announce"}"#);
    assert!(answer["error"].as_str().unwrap().contains("--mac"), "{answer}");
    drop(daemon);
    let daemon = Daemon::start(&["--tap=tap0", "--mac=52:54:00:00:00:05"]);
    daemon.wait_until_there();
    bring_up();
    let before = packets();
    let answer = daemon.control(r#"{"cmd":"announce"}"#);
    assert_eq!(answer["announced_by"], "card", "{answer}");
    assert_eq!(packets(), before + 1);
}

/// Killed while packets cross both ways; from then on, nobody waits for anything but the program.
#[test]
fn traffic_resumes_within_a_second_of_a_restart_after_kill_9() {
    if !enter_new_network() || !ip(&format!("tuntap add dev {NAME} mode tap vnet_hdr")) {
        return;
    }
    let start = || {
        let daemon = Daemon::start(&["--tap=tap0"]);
        daemon.wait_until_there();
        daemon
    };
    let mut daemon = start();
    bring_up();
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let network = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        scope.spawn(|| {
            nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                send_datagram();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for _ in 0..3 {
            let mut card = Card::connect(&daemon.path("s"), &[MRG_RXBUF]);
            card.post(64, 2048);
            assert!(receives(&mut card));
            card.submit_with(&Header::default(), &frame(1, 60));
            card.kick();
            drop(daemon);
            let restart = Instant::now();
            daemon = start();
            let mut card = Card::connect(&daemon.path("s"), &[MRG_RXBUF]);
            card.post(64, 2048);
            assert!(receives(&mut card));
            let silence = restart.elapsed();
            assert!(silence < Duration::from_secs(1), "{silence:?}");
        }
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
