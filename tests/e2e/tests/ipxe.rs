//! iPXE, a driver of its own that knows no offloads, boots from the network: DHCP and TFTP over UDP, a
//! page over TCP. It drops what has a wrong checksum, and so does the raw socket on the host's side.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::mpsc::{Receiver as Answers, channel};
use std::time::Duration;

use e2e::{Firmware, Kind, Kit, Namespace, Place, Receiver, require};

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// Fetched by DHCP's word: iPXE's own language, which has it fetch a page, and then another.
const SCRIPT: &str = "#!ipxe\n\
                      imgfetch http://192.0.2.1/page || exit\n\
                      imgfetch http://192.0.2.1/fetched || exit\n";
/// Bytes of the page.
const PAGE: usize = 300_000;
/// From power on until the page is there.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn ipxe_boots_from_the_network() {
    let test = "ipxe";
    let place = Place::of_workspace().unwrap();
    let Some(kit) = require(test, Kit::cached(&place, Kind::NewQemu)) else { return };
    let Some(stage) = require(test, Firmware::new(test, &kit).start(&place)) else { return };
    let host = stage.namespace();
    host.ip("route add 255.255.255.255 dev tap0").unwrap();
    let receiver = Receiver::start(host, HOST).unwrap();
    let fetched = serve(host);
    assert_eq!(fetched.recv_timeout(LIMIT).as_deref(), Ok("/fetched"));
    let seen = receiver.finish().unwrap();
    assert_eq!(seen.wrong, 0, "{seen:?}");
    assert!(seen.tcp > 10 && seen.udp > 0, "{seen:?}");
    let features = stage.features().unwrap();
    assert!(!features.iter().any(|name| name == "GUEST_CSUM"), "{features:?}");
    stage.finish().unwrap();
}

/// Answers in a namespace, and says when the last page is asked for.
fn serve(namespace: &Namespace) -> Answers<String> {
    let (fetched, answers) = channel();
    let (dhcp, tftp, http) = std::thread::scope(|scope| {
        let opened = scope.spawn(|| {
            namespace.enter().unwrap();
            let dhcp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).unwrap();
            dhcp.set_broadcast(true).unwrap();
            let tftp = UdpSocket::bind((HOST, 69)).unwrap();
            (dhcp, tftp, TcpListener::bind((HOST, 80)).unwrap())
        });
        opened.join().unwrap()
    });
    // These wait until the test's process ends.
    std::thread::spawn(move || lease(&dhcp));
    std::thread::spawn(move || hand_out(&tftp));
    std::thread::spawn(move || {
        for stream in http.incoming().flatten() {
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {PAGE}\r\n\r\n");
            let page = [head.into_bytes(), vec![b'x'; PAGE]].concat();
            // Of the last page nobody reads all.
            let _ = (&stream).write_all(&page);
            if path == "/fetched" {
                let _ = fetched.send(path);
            }
        }
    });
    answers
}

/// Gives every client the guest's address (RFC 2131).
fn lease(socket: &UdpSocket) {
    let mut request = [0; 1500];
    while let Ok((length, _)) = socket.recv_from(&mut request) {
        let Some(kind) = option(&request[..length], 53) else { continue };
        let answer = if kind[0] == 1 { 2 } else { 5 };
        let mut reply = vec![0; 236];
        reply[..4].copy_from_slice(&[2, 1, 6, 0]);
        // Its number, its flags and its hardware address.
        for part in [4..8, 10..12, 28..44] {
            reply[part.clone()].copy_from_slice(&request[part]);
        }
        reply[16..20].copy_from_slice(&GUEST.octets());
        reply[20..24].copy_from_slice(&HOST.octets());
        reply[108..112].copy_from_slice(b"boot");
        reply.extend_from_slice(&[99, 130, 83, 99, 53, 1, answer, 54, 4]);
        reply.extend_from_slice(&HOST.octets());
        reply.extend_from_slice(&[51, 4, 0, 0, 14, 16, 1, 4, 255, 255, 255, 0, 255]);
        let _ = socket.send_to(&reply, (Ipv4Addr::BROADCAST, 68));
    }
}

/// A DHCP option's value.
fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = message.get(240..)?;
    loop {
        match *rest.first()? {
            255 => return None,
            0 => rest = rest.get(1..)?,
            code => {
                let length = usize::from(*rest.get(1)?);
                let value = rest.get(2..2 + length)?;
                if code == wanted {
                    return Some(value);
                }
                rest = rest.get(2 + length..)?;
            }
        }
    }
}

/// Gives everyone the script, which fits one block (RFC 1350), without options.
fn hand_out(socket: &UdpSocket) {
    let mut request = [0; 1500];
    while let Ok((_, client)) = socket.recv_from(&mut request) {
        if request[..2] == [0, 1] {
            let block = [&[0, 3, 0, 1], SCRIPT.as_bytes()].concat();
            let _ = socket.send_to(&block, client);
        }
    }
}
