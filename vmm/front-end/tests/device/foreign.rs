//! Back-ends that nobody here wrote.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use driver::{BlockQueue, Disk};
use e2e::{Kit, Place};
use front_end::Socket;
use tempfile::TempDir;
use virtio_pci::Device;

use crate::guest::{Guest, LONG};

/// QEMU's storage daemon, serving a disk of 4 MiB.
struct StorageDaemon {
    child: Child,
    directory: TempDir,
}

impl StorageDaemon {
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("disk.img"), vec![0; 4 << 20]).unwrap();
        let child = spawn(directory.path())?;
        Some(Self { child, directory })
    }

    fn again(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // It leaves its socket behind, and does not replace one that is there.
        let _ = fs::remove_file(self.directory.path().join("s"));
        self.child = spawn(self.directory.path()).unwrap();
    }
}

impl Drop for StorageDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts one in this directory; none if the program is not on this machine.
fn spawn(directory: &Path) -> Option<Child> {
    let socket = directory.join("s");
    let file = format!(
        "driver=file,node-name=f,filename={},aio=threads",
        directory.join("disk.img").display()
    );
    let export = format!(
        "type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path={},writable=on,num-queues=2",
        socket.display()
    );
    // The one that was fetched, if it was; else the machine's own.
    let fetched = Place::of_workspace().and_then(|place| Kit::peers(&place));
    let program = fetched.map_or("qemu-storage-daemon".into(), |f| f.join("qemu-storage-daemon"));
    Command::new(program)
        .args(["--blockdev", &file, "--export", &export])
        .stdin(Stdio::null())
        .spawn()
        .ok()
}

#[test]
fn qemus_storage_daemon_serves_a_disk_and_is_replaced() {
    let Some(mut daemon) = StorageDaemon::start() else {
        return skip("qemu-storage-daemon");
    };
    let guest = Guest::new(Socket::new(daemon.directory.path().join("s")), |config| {
        config.limits = front_end::Limits::default();
    });
    guest.device.wait_until_ready(Instant::now() + LONG).unwrap();
    assert_eq!(guest.device.queues(), 2);
    for round in 1..4_u8 {
        let queue = guest.start(false, 1).remove(0);
        let block = BlockQueue::new(queue, &guest.memory);
        let mut disk = Disk::new(block, guest.doorbell(0)).with_limit(LONG);
        disk.write(8, &[round; 4096]).unwrap();
        guest.device.quiesce();
        assert!(guest.device.wait_quiesced(Instant::now() + LONG));
        guest.device.resume();
        assert_eq!(disk.read(8, 4096).unwrap(), [round; 4096]);
        daemon.again();
        disk.write(16, &[round; 512]).unwrap();
        assert_eq!(disk.read(16, 512).unwrap(), [round; 512]);
        guest.reset();
    }
    assert!(guest.device.stop(Instant::now() + LONG));
    assert_eq!(guest.device.report().losses, 3);
}

fn skip(program: &str) {
    assert!(std::env::var_os(e2e::REQUIRE).is_none(), "{program} was to be there");
    // The harness would keep this to itself if it were printed by a macro.
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "\n!!! NOT RUN: {program} is not on this machine\n");
}
