//! Device types that this project has no back-end for, served by those that nobody here wrote: a
//! file system by virtiofsd, a socket device by vhost-device-vsock, a network card by passt. They
//! come from Debian and are fetched where everything is required; else they are used if they are
//! there.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use driver::{Buffer, Deadline, Notifier, Part, Placement, Queue};
use e2e::{PackageSet, Place, REQUIRE, Root, Suite};
use front_end::{Config, Limits, Socket};
use tempfile::TempDir;
use virtio_pci::Device;
use virtio_spec::DeviceType;

use crate::guest::{Guest, LONG};

const PEERS: PackageSet = PackageSet {
    name: "peers",
    purpose: "back-ends of other projects",
    suites: &[Suite::Named("sid"), Suite::Named("testing")],
    packages: &["passt", "virtiofsd", "vhost-device-vsock"],
    keep: &[],
};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

/// A program of another project, and a device that it serves.
struct Peer {
    child: Child,
    guest: Guest,
    directory: TempDir,
}

impl Peer {
    /// Starts the program with these arguments, in which `DIR` stands for a directory of its own
    /// and `DIR/s` is the socket. None: it is not there, or does not run here.
    fn start(program: &str, arguments: &[&str], adapt: impl FnOnce(&mut Config)) -> Option<Self> {
        let Some(root) = root() else { return skipped(program, "it was not fetched") };
        let directory = tempfile::tempdir().unwrap();
        // Some give up their rights before they make their sockets.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let path = directory.path().display().to_string();
        let mut command: Command = root.command(program).unwrap();
        command.args(arguments.iter().map(|argument| argument.replace("DIR", &path)));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let guest = Guest::new(Socket::new(directory.path().join("s")), |config| {
            config.limits = Limits::default();
            adapt(config);
        });
        let until = Instant::now() + LONG;
        while guest.device.wait_until_ready(Instant::now() + Duration::from_millis(50)).is_err() {
            if child.try_wait().unwrap().is_some() {
                return skipped(program, "it ends at once, perhaps for want of namespaces");
            }
            assert!(Instant::now() < until, "{:?}", guest.device);
        }
        Some(Self { child, guest, directory })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a chain available in queue `index`.
    fn submit(&self, index: u16, queue: &mut Queue, parts: &[Part]) {
        queue.add(parts, Placement::Direct).unwrap();
        queue.publish();
        self.guest.doorbell(index).kick().unwrap();
    }

    /// Waits until a chain of queue `index` is used. Returns how many bytes were written.
    fn wait_used(&self, index: u16, queue: &mut Queue) -> u32 {
        loop {
            if let Some(used) = queue.reap().unwrap() {
                return used.written;
            }
            if !queue.enable_calls() {
                let called = self.guest.doorbell(index).wait(Deadline::after(LONG)).unwrap();
                assert!(called, "{:?}", self.guest.device);
            }
        }
    }

    fn buffer(&self, bytes: &[u8]) -> Buffer {
        self.guest.memory.alloc_with(bytes).unwrap()
    }

    fn end(&self) {
        self.guest.reset();
        assert!(self.guest.device.stop(Instant::now() + LONG));
        assert_eq!(self.guest.device.report().losses, 0);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The packages, fetched if everything is required.
fn root() -> Option<Root> {
    let place = Place::of_workspace().unwrap();
    if std::env::var_os(REQUIRE).is_none() {
        return Root::cached(&place, &PEERS);
    }
    let _lock = place.lock().unwrap();
    Some(Root::fetch(&place, &PEERS).unwrap())
}

fn skipped(program: &str, why: &str) -> Option<Peer> {
    assert!(std::env::var_os(REQUIRE).is_none(), "{program}: {why}");
    // The harness would keep this to itself if it were printed by a macro.
    let _ = writeln!(std::io::stderr(), "\n!!! NOT RUN: {program}: {why}\n");
    None
}

#[test]
fn virtiofsd_serves_a_file_system() {
    let arguments = ["--socket-path=DIR/s", "--tag=share", "--sandbox=none", "--shared-dir=DIR"];
    let fs = |config: &mut Config| config.device_type = DeviceType::FS;
    let Some(peer) = Peer::start("usr/libexec/virtiofsd", &arguments, fs) else { return };
    let mut tag = [0; 8];
    peer.guest.device.read_config(0, &mut tag);
    assert_eq!(&tag, b"share\0\0\0");
    // FUSE_INIT: length, opcode, a number to recognize the answer by; version and limits.
    let mut init = [0; 56];
    init[..16].copy_from_slice(&[56, 0, 0, 0, 26, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0]);
    init[40..52].copy_from_slice(&[7, 0, 0, 0, 31, 0, 0, 0, 0, 16, 0, 0]);
    for _ in 0..2 {
        let mut queue = peer.guest.start(false, 2).remove(1);
        let (request, answer) = (peer.buffer(&init), peer.guest.memory.alloc(80).unwrap());
        peer.submit(1, &mut queue, &[request.readable(), answer.writable()]);
        assert_eq!(peer.wait_used(1, &mut queue), 80);
        // No error, and it answers what was asked.
        assert_eq!(answer.to_vec()[4..12], [0, 0, 0, 0, 99, 0, 0, 0]);
        peer.guest.device.quiesce();
        assert!(peer.guest.device.wait_quiesced(Instant::now() + LONG));
        peer.guest.device.resume();
        peer.guest.wait_running();
        peer.guest.reset();
    }
    peer.end();
}

#[test]
fn vhost_device_vsock_connects_a_guest_to_its_host() {
    let arguments = ["--guest-cid=77", "--socket=DIR/s", "--uds-path=DIR/vm"];
    let vsock = |config: &mut Config| config.device_type = DeviceType::VSOCK;
    let Some(peer) = Peer::start("usr/bin/vhost-device-vsock", &arguments, vsock) else { return };
    let mut cid = [0; 8];
    peer.guest.device.read_config(0, &mut cid);
    assert_eq!(u64::from_le_bytes(cid), 77);
    let host = UnixListener::bind(peer.file("vm_1234")).unwrap();
    let mut connections = Vec::new();
    for port in [5000_u32, 5001] {
        let mut queues = peer.guest.start(false, 3);
        let answer = peer.guest.memory.alloc(4096).unwrap();
        peer.submit(0, &mut queues[0], &[answer.writable()]);
        // A request for a stream from us to the host's port 1234 (virtio 1.4, 5.10.6).
        let mut request = [77_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat();
        request.extend([port.to_le_bytes(), 1234_u32.to_le_bytes(), [0; 4]].concat());
        request.extend([1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        let request = peer.buffer(&request);
        peer.submit(1, &mut queues[1], &[request.readable()]);
        // Kept: to lose one while its rings are stopped ends a thread of this back-end.
        connections.push(host.accept().unwrap());
        assert_eq!(peer.wait_used(0, &mut queues[0]), 44);
        // A stream, and the response that it is open.
        assert_eq!(answer.to_vec()[28..32], [1, 0, 2, 0]);
        peer.guest.reset();
    }
    peer.end();
}

#[test]
fn passt_serves_a_network_card() {
    let arguments = ["--vhost-user", "--foreground", "--one-off", "--socket", "DIR/s"];
    let net = |config: &mut Config| {
        config.device_type = DeviceType::NET;
        config.mac = Some(MAC);
    };
    let Some(peer) = Peer::start("usr/bin/passt", &arguments, net) else { return };
    let mut mac = [0; 6];
    peer.guest.device.read_config(0, &mut mac);
    assert_eq!(mac, MAC);
    let mut queues = peer.guest.start(false, 2);
    let answer = peer.guest.memory.alloc(2048).unwrap();
    peer.submit(0, &mut queues[0], &[answer.writable()]);
    // Behind the virtio header: who has 10.0.0.1? Tell 10.0.0.9. passt answers for everybody.
    let head = [&[0; 12][..], &[0xff; 6], &MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    let mut frame = [&head[..], &MAC, &[10, 0, 0, 9], &[0; 6], &[10, 0, 0, 1]].concat();
    frame.resize(72, 0);
    let request = peer.buffer(&frame);
    peer.submit(1, &mut queues[1], &[request.readable()]);
    assert_eq!(peer.wait_used(1, &mut queues[1]), 0);
    assert!(peer.wait_used(0, &mut queues[0]) >= 12 + 42);
    // To us, ARP, a reply from that address.
    let frame = answer.to_vec();
    assert_eq!((&frame[12..18], &frame[24..26]), (&MAC[..], &[8, 6][..]));
    assert_eq!((&frame[32..34], &frame[40..44]), (&[0, 2][..], &[10, 0, 0, 1][..]));
    peer.end();
}
