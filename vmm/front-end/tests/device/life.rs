//! A device's life with a back-end that keeps to the protocol.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use front_end::{Listen, Log};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use virtio_pci::Device;
use wire::{BackendRequest, Channel};

use crate::back_end::{BackEnd, Reaction, Script, Seen, serve};
use crate::guest::{Guest, LONG};

#[test]
fn a_device_is_started_paused_resumed_reset_and_stopped() {
    let back_end = BackEnd::proper();
    let guest = Guest::ready(back_end.source());
    assert_eq!((guest.device.queues(), guest.device.config_size()), (2, 60));
    guest.start(false, 2);
    guest.wait_running();
    assert_eq!(back_end.count("SET_VRING_KICK"), 2);
    guest.device.quiesce();
    assert!(guest.device.wait_quiesced(Instant::now() + LONG));
    assert_eq!(back_end.count("GET_VRING_BASE"), 2);
    guest.device.resume();
    guest.wait_running();
    guest.reset();
    assert_eq!(back_end.count("RESET_DEVICE"), 1);
    guest.start(true, 1);
    guest.wait_running();
    assert!(guest.device.stop(Instant::now() + LONG));
    assert_eq!(back_end.count("GET_VRING_BASE"), 5);
    assert_eq!(guest.device.report().state, "stopped");
    assert_eq!(guest.device.report().losses, 0);
}

#[test]
fn rings_are_kicked_when_they_start() {
    let back_end = BackEnd::proper();
    let guest = Guest::ready(back_end.source());
    guest.start(false, 2);
    guest.wait("both are kicked", || guest.events[..2].iter().all(|(kick, _)| kick.is_signalled()));
    assert!(guest.events.iter().all(|(_, call)| !call.is_signalled()));
}

#[test]
fn a_queue_is_reset_while_the_other_runs() {
    let back_end = BackEnd::proper();
    let guest = Guest::ready(back_end.source());
    let queues = guest.start(false, 2);
    guest.wait_running();
    guest.device.reset_queue(1);
    guest.wait("the queue is reset", || guest.device.queue_is_reset(1));
    assert_eq!(back_end.count("GET_VRING_BASE"), 1);
    guest.device.start_queue(guest.pci_queue(1, &queues[1]));
    guest.wait_running();
    assert_eq!(back_end.count("SET_VRING_KICK"), 3);
}

#[test]
fn a_changed_configuration_reaches_the_driver() {
    let back_end = BackEnd::proper();
    let guest = Guest::ready(back_end.source());
    guest.start(false, 1);
    guest.wait_running();
    let socket = back_end.seen.channel.lock().unwrap().take().unwrap();
    let mut channel = Channel::new(socket);
    let mut bytes = [0; 60];
    let version = guest.device.read_config(0, &mut bytes);
    back_end.seen.config.lock().unwrap().fill(9);
    channel.queue(BackendRequest::ConfigChange.encode().needing_reply(true)).unwrap();
    assert!(channel.flush().unwrap());
    guest.wait("it is told", || guest.told.config_changes.load(Ordering::SeqCst) == 1);
    assert_ne!(guest.device.read_config(0, &mut bytes), version);
    assert_eq!(bytes, [9; 60]);
    guest.wait("it is acknowledged", || channel.receive().unwrap().is_some());
    // What is not served is refused; the device goes on.
    let unknown = BackendRequest::Unknown { code: 99 };
    channel.queue(unknown.encode().needing_reply(true)).unwrap();
    assert!(channel.flush().unwrap());
    guest.wait("it is refused", || match channel.receive() {
        Ok(frame) => frame.is_some_and(|frame| frame.payload[0] != 0),
        Err(error) => panic!("{error}"),
    });
}

#[test]
fn a_flood_of_requests_leaves_the_device_usable() {
    let back_end = BackEnd::proper();
    let guest = Guest::ready(back_end.source());
    let socket = back_end.seen.channel.lock().unwrap().take().unwrap();
    let flood = std::thread::spawn(move || {
        let mut channel = Channel::new(socket);
        for _ in 0..20_000 {
            // Answers are never read; at some time the channel is closed for it.
            let request = BackendRequest::ConfigChange.encode().needing_reply(true);
            while channel.queued() > 100 {
                match channel.flush() {
                    Ok(true) => {}
                    Ok(false) => std::thread::sleep(Duration::from_micros(50)),
                    Err(_) => return,
                }
            }
            channel.queue(request).unwrap();
        }
    });
    guest.start(false, 2);
    guest.wait_running();
    guest.reset();
    flood.join().unwrap();
    assert!(guest.device.stop(Instant::now() + LONG));
}

#[test]
fn a_write_to_the_configuration_space_reaches_the_back_end() {
    let back_end = BackEnd::proper();
    let guest = Guest::ready(back_end.source());
    guest.device.write_config(3, &[1, 2]);
    guest.wait("it is written", || back_end.count("SET_CONFIG") == 1);
}

#[test]
fn a_log_is_set() {
    let back_end = BackEnd::scripted(|request, _| match request {
        wire::Request::GetFeatures => {
            let bits = crate::back_end::features() | 1 << virtio_spec::vhost_user::F_LOG_ALL;
            Reaction::Send(wire::Reply::U64(bits).encode(request.code()))
        }
        _ => Reaction::Proper,
    });
    let guest = Guest::ready(back_end.source());
    guest.start(false, 2);
    guest.wait_running();
    let file = memfd_create("log", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 4096).unwrap();
    guest.device.set_log(Some(Log { file: Arc::new(file), size: 4096, offset: 0 })).unwrap();
    guest.wait("all is logged", || guest.device.log_is_set());
    assert_eq!(back_end.count("SET_LOG_BASE"), 1);
    guest.device.set_log(None).unwrap();
    guest.wait("nothing is logged", || guest.device.log_is_set());
}

#[test]
fn a_back_end_may_be_the_one_that_connects() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let guest = Guest::new(Listen::on(listener.into(), &path), |_| ());
    for _ in 0..2 {
        let socket = UnixStream::connect(&path).unwrap();
        let end = socket.try_clone().unwrap();
        let served = std::thread::spawn(move || {
            let seen = Seen::default();
            seen.config.lock().unwrap().resize(60, 0);
            let script: Arc<Script> = Arc::new(|_, _| Reaction::Proper);
            serve(socket, &seen, &script, 0);
        });
        guest.wait("it is connected", || guest.device.report().state == "connected");
        end.shutdown(std::net::Shutdown::Both).unwrap();
        served.join().unwrap();
        guest.wait("it is lost", || guest.device.report().state == "lost");
    }
}

/// DESIGN: no polling and no timer in an idle machine's VMM.
#[test]
fn an_idle_device_does_nothing() {
    let back_end = BackEnd::proper();
    let guest = Guest::new(back_end.source(), |config| config.name = "idle-device".into());
    guest.device.wait_until_ready(Instant::now() + LONG).unwrap();
    guest.start(false, 2);
    guest.wait_running();
    std::thread::sleep(Duration::from_millis(50));
    let before = wakes("vhost-idle-devi");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(wakes("vhost-idle-devi"), before);
}

/// How often the thread of this name has gone to sleep.
fn wakes(name: &str) -> String {
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        if fs::read_to_string(path.join("comm")).unwrap().trim() == name {
            let status = fs::read_to_string(path.join("status")).unwrap();
            let mut lines = status.lines();
            return lines.find(|line| line.starts_with("voluntary_ctxt")).unwrap().to_owned();
        }
    }
    panic!("there is no thread {name}");
}
