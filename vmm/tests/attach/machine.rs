//! A machine with a console of two ports, as it shows itself on its control socket.

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

/// For everything that takes a moment.
pub(crate) const MOMENT: Duration = Duration::from_secs(10);

/// The machine.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
    requests: mpsc::Receiver<(Value, Option<OwnedFd>)>,
    run: Arc<AtomicU64>,
}

/// The machine's end of a port.
pub(crate) struct Port(UnixStream);

impl Machine {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("vm.ctl")).unwrap();
        let (sender, requests) = mpsc::channel();
        let run = Arc::new(AtomicU64::new(1));
        let current = run.clone();
        std::thread::spawn(move || {
            while let Ok((mut socket, _)) = listener.accept() {
                let (request, fd) = receive(&socket);
                let answer = answer(&request, current.load(Ordering::Relaxed));
                let _ = writeln!(socket, "{answer}");
                if sender.send((request, fd)).is_err() {
                    return;
                }
            }
        });
        Self { folder, requests, run }
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.path().join("vm.ctl")
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until somebody is attached.
    pub(crate) fn attached(&self) -> (Value, Port) {
        loop {
            let (request, fd) = self.requests.recv_timeout(MOMENT).unwrap();
            if let (Some(fd), "attach") = (fd, request["ask"]["cmd"].as_str().unwrap_or_default()) {
                let stream = UnixStream::from(fd);
                stream.set_read_timeout(Some(MOMENT)).unwrap();
                return (request["ask"].clone(), Port(stream));
            }
        }
    }

    /// Waits until the daemon is told this.
    pub(crate) fn heard(&self, ask: &Value) {
        while self.requests.recv_timeout(MOMENT).unwrap().0["ask"] != *ask {}
    }

    /// There is another daemon.
    pub(crate) fn restart_daemon(&self) {
        self.run.fetch_add(1, Ordering::Relaxed);
    }
}

fn receive(socket: &UnixStream) -> (Value, Option<OwnedFd>) {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let length = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let line = bytes.get(..length).and_then(|line| line.strip_suffix(b"\n")).unwrap();
    (serde_json::from_slice(line).unwrap(), fd)
}

fn answer(request: &Value, run: u64) -> Value {
    if request["cmd"] == "devices" {
        let device = |name, kind| json!({"name": name, "device_type": kind});
        return json!({"ok": true, "devices": [device("disk0", "block"), device("console0", "console")]});
    }
    match (request["ask"]["cmd"].as_str(), request["ask"]["name"].as_str()) {
        (Some("ports"), _) => {
            json!({"ok": true, "run": run, "ports": [{"name": "shell"}, {"name": "agent"}]})
        }
        (Some("attach"), Some("shell")) => json!({"ok": true, "run": run}),
        (Some("resize"), _) => json!({"ok": true}),
        _ => json!({"ok": false, "error": "somebody is attached: detach them first"}),
    }
}

impl Port {
    pub(crate) fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// What the user typed, so many bytes.
    pub(crate) fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Whether nothing was typed.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        self.0.read(&mut [0]).is_err()
    }
}
