//! Several queues of one tap.

use std::time::{Duration, Instant};

use virtio_spec::net::control::{ACK_OK, Command};
use virtio_spec::net::{CTRL_RX, MQ};

use crate::card::LONG;
use crate::driver_with_commands::Driver;
use crate::interface::{bring_up, enter_new_network, send_datagram};
use crate::program::Daemon;

const BITS: [u32; 2] = [CTRL_RX, MQ];
const FLOWS: usize = 40;

/// Sends a datagram of each of so many flows; gives how many came by which pair.
fn send(driver: &mut Driver) -> [usize; 2] {
    (0..FLOWS).for_each(|_| send_datagram());
    let until = Instant::now() + LONG;
    let mut sums = [0, 0];
    while sums[0] + sums[1] < FLOWS && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
        let more = driver.datagrams();
        sums = [sums[0] + more[0], sums[1] + more[1]];
    }
    sums
}

#[test]
fn a_tap_has_packets_for_the_pairs_in_use_and_for_no_others() {
    if !enter_new_network() {
        return;
    }
    let daemon = Daemon::start(&["--tap=tap0", "--queue-pairs=2", "--ctrl-vq"]);
    daemon.wait_until_there();
    bring_up();
    let mut driver = Driver::connect(&daemon.path("s"), &BITS);
    assert_eq!(send(&mut driver), [FLOWS, 0], "one pair, until the driver says otherwise");
    assert_eq!(driver.command(Command::MqPairsSet, &[2, 0]), ACK_OK);
    // The other worker learns of it a moment later.
    std::thread::sleep(Duration::from_millis(100));
    let [first, second] = send(&mut driver);
    assert!(first + second == FLOWS && second > 0, "{first} and {second}");
    assert_eq!(driver.command(Command::MqPairsSet, &[1, 0]), ACK_OK);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(send(&mut driver), [FLOWS, 0]);
    assert_eq!(daemon.count("uplink_errors"), 0);
}

#[test]
fn what_the_driver_has_set_survives_the_death_of_the_program() {
    if !enter_new_network() {
        return;
    }
    let arguments = ["--tap=tap0", "--queue-pairs=2", "--ctrl-vq", "--mac=52:54:00:00:00:06"];
    let directory = tempfile::tempdir().unwrap();
    let state = format!("--state-path={}", directory.path().join("state").display());
    let start = || {
        let daemon = Daemon::start(&[&arguments[..], &[&state]].concat());
        daemon.wait_until_there();
        bring_up();
        daemon
    };
    let daemon = start();
    let mut driver = Driver::connect(&daemon.path("s"), &BITS);
    assert_eq!(driver.command(Command::MqPairsSet, &[2, 0]), ACK_OK);
    assert_eq!(driver.command(Command::RxPromisc, &[0]), ACK_OK);
    // Killed as soon as the command is acknowledged.
    drop(daemon);
    let daemon = start();
    let mut driver = Driver::connect(&daemon.path("s"), &BITS);
    assert_eq!(daemon.count("pairs_in_use"), 2);
    send_datagram();
    daemon.wait_for("rx_filtered", 1);
    assert_eq!(driver.datagrams(), [0, 0], "the host sends to another address than the card's");
}
