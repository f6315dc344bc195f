//! The whole server, with a small device, real threads and a fake front-end.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;
use std::time::Duration;

use driver::{
    Buffer, Deadline, FrontEnd, Memory, Negotiation, Notifier, Placement, Queue, RingEvents,
};
use serde_json::Value;
use virtio_spec::DeviceType;
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, RING_PACKED, mask};
use virtio_spec::vhost_user::{ProtocolFeatures, TransferDirection};
use wire::{BackendRequest, Request};

use super::daemon::Parts;
use super::echo::{Echo, Knobs};
use super::port::PortSetup;
use super::workers::Seats;
use super::{About, Server};
use crate::control;
use crate::engine::Choice;
use crate::program::listener::{Connector, Endpoint, Listener};
use crate::program::notify::Notifier as ServiceManager;
use crate::program::signals::Signals;
use crate::program::socket_file::SocketAccess;
use crate::program::state_file::StateFile;
use crate::sandbox::Report;
use crate::session::RingOffer;
use crate::worker::{PollWindow, ThreadSettings};

const OFFER: RingOffer = RingOffer { packed: true, in_order: false, inband: true };

/// A server on a thread of its own, until its connection ends.
fn serve(endpoint: Endpoint, knobs: &Arc<Knobs>, control: Option<&Path>) -> JoinHandle<()> {
    let device = Echo::new(knobs);
    let seats = Seats::reserve(&device, &settings()).unwrap();
    let setup = PortSetup { device, endpoint, state: None, seats };
    let control = control.map(|path| {
        let listener = Listener::bind(path, SocketAccess::OWNER).unwrap();
        control::server::Server::new(Some(listener)).unwrap()
    });
    std::thread::spawn(move || serve_port(setup, control))
}

fn serve_port(setup: PortSetup<Echo>, control: Option<control::server::Server>) {
    let about = About { name: "echo".into(), sandbox: Report::Off, config: Value::Null };
    let notifier = ServiceManager::default();
    let parts = Parts { control, signals: Signals::block().unwrap(), notifier, about };
    Server::new(vec![setup], OFFER, &settings(), parts).unwrap().serve().unwrap();
}

fn settings() -> ThreadSettings {
    ThreadSettings {
        name: "echo".into(),
        engine: Choice::Auto,
        restricted: true,
        polling: PollWindow::Fixed(Duration::ZERO),
        cpus: None,
    }
}

/// A server with one connection, and the front-end of that.
fn connected(knobs: &Arc<Knobs>, memory: &Memory) -> (JoinHandle<()>, FrontEnd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = serve(Endpoint::from_fd(theirs.into()).unwrap(), knobs, None);
    (server, FrontEnd::new(ours, memory))
}

/// A guest's view of one queue.
struct Guest {
    memory: Memory,
    queue: Queue,
    events: RingEvents,
}

impl Guest {
    /// Negotiates, shares memory, and starts ring 0.
    fn start(front_end: &mut FrontEnd, memory: &Memory, wanted: u64) -> Self {
        front_end.negotiate(&Negotiation::new(wanted)).unwrap();
        front_end.share_memory().unwrap();
        let queue = front_end.queue(0, 64).unwrap();
        let events = front_end.start_ring(0, &queue, queue.reaped_base()).unwrap();
        Guest { memory: memory.clone(), queue, events }
    }

    /// Sends `text`, without waiting for its echo; what comes back goes to the buffer returned.
    fn submit(&mut self, text: &[u8]) -> Buffer {
        let out = self.memory.alloc_with(text).unwrap();
        let back = self.memory.alloc(text.len()).unwrap();
        self.queue.add(&[out.readable(), back.writable()], Placement::Direct).unwrap();
        self.queue.publish();
        self.events.kick().unwrap();
        back
    }

    fn wait_used(&mut self) -> u32 {
        loop {
            if let Some(used) = self.queue.reap().unwrap() {
                return used.written;
            }
            if !self.queue.enable_calls() {
                assert!(self.events.wait(Deadline::after(Deadline::DEFAULT)).unwrap());
            }
        }
    }

    fn echoes(&mut self, text: &[u8]) {
        let back = self.submit(text);
        assert_eq!(self.wait_used() as usize, text.len());
        assert_eq!(back.to_vec(), text);
    }
}

fn ring_features() -> [u64; 2] {
    let split = mask(EVENT_IDX) | mask(INDIRECT_DESC);
    [split, split | mask(RING_PACKED)]
}

#[test]
fn requests_are_served_until_the_front_end_leaves() {
    for wanted in ring_features() {
        let (knobs, memory) = (Arc::default(), Memory::new(1 << 20).unwrap());
        let (server, mut front_end) = connected(&knobs, &memory);
        let mut guest = Guest::start(&mut front_end, &memory, wanted);
        for round in 0..200_u8 {
            guest.echoes(&[round; 100]);
        }
        let base = front_end.stop_ring(0).unwrap();
        assert_eq!(base, guest.queue.reaped_base());
        assert_eq!(knobs.released.load(SeqCst), 1);
        drop(front_end);
        server.join().unwrap();
        assert_eq!((knobs.acquired.load(SeqCst), knobs.released.load(SeqCst)), (1, 1));
    }
}

#[test]
fn a_stop_waits_for_what_is_in_flight() {
    for wanted in ring_features() {
        let (knobs, memory) = (Arc::<Knobs>::default(), Memory::new(1 << 20).unwrap());
        let (server, mut front_end) = connected(&knobs, &memory);
        let mut guest = Guest::start(&mut front_end, &memory, wanted);
        guest.echoes(b"at once");
        knobs.delay.store(50_000, SeqCst);
        guest.submit(b"slow");
        guest.submit(b"slow too");
        // Without a pause the ring would often stop before it is looked at.
        std::thread::sleep(Duration::from_millis(20));
        let base = front_end.stop_ring(0).unwrap();
        assert!(guest.queue.reap().unwrap().is_some() && guest.queue.reap().unwrap().is_some());
        assert_eq!(base, guest.queue.reaped_base());

        knobs.delay.store(0, SeqCst);
        guest.events = front_end.start_ring(0, &guest.queue, base).unwrap();
        guest.echoes(b"and on it goes");
        drop(front_end);
        server.join().unwrap();
    }
}

#[test]
fn the_next_connection_is_served_when_the_last_has_drained() {
    let (knobs, memory) = (Arc::<Knobs>::default(), Memory::new(1 << 20).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo.sock");
    let access = SocketAccess { mode: None, group: None };
    let listener = Listener::bind(&path, access).unwrap();
    serve(Endpoint::Listening(listener), &knobs, None);

    let mut first = FrontEnd::connect(&path, &memory).unwrap();
    let mut guest = Guest::start(&mut first, &memory, 0);
    knobs.delay.store(100_000, SeqCst);
    let slow = guest.submit(b"slow");
    std::thread::sleep(Duration::from_millis(20));
    drop(first);

    knobs.delay.store(0, SeqCst);
    let fresh = Memory::new(1 << 20).unwrap();
    let mut second = FrontEnd::connect(&path, &fresh).unwrap();
    let mut next = Guest::start(&mut second, &fresh, 0);
    assert_eq!(slow.to_vec(), b"slow", "the first connection's request was finished first");
    assert_eq!(guest.wait_used(), 4);
    assert_eq!(knobs.released.load(SeqCst), 1);
    next.echoes(b"the second front-end");
}

#[test]
fn a_front_end_that_listens_is_connected_to_again_and_again() {
    let (knobs, memory) = (Arc::<Knobs>::default(), Memory::new(1 << 20).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo.sock");
    let connector = Connector::new(&path).unwrap();
    serve(Endpoint::Connecting(connector), &knobs, None);
    std::thread::sleep(Duration::from_millis(30));
    let listener = UnixListener::bind(&path).unwrap();
    for _ in 0..3 {
        let (socket, _) = listener.accept().unwrap();
        let mut front_end = FrontEnd::new(socket, &memory);
        Guest::start(&mut front_end, &memory, 0).echoes(b"hello again");
    }
}

#[test]
fn a_front_end_that_dies_while_a_ring_drains_makes_room_for_the_next() {
    let (knobs, memory) = (Arc::<Knobs>::default(), Memory::new(1 << 20).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo.sock");
    let listener = Listener::bind(&path, SocketAccess { mode: None, group: None }).unwrap();
    serve(Endpoint::Listening(listener), &knobs, None);
    let mut first = FrontEnd::connect(&path, &memory).unwrap();
    first.negotiate(&Negotiation::new(0)).unwrap();
    // Nobody ever closes the writing end, so the answer never comes.
    let _transfer = first.begin_transfer(TransferDirection::Load).unwrap();
    let deadline = first.deadline().instant();
    first.client().send(Request::CheckDeviceState, deadline).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    drop(first);
    let mut second = FrontEnd::connect(&path, &memory).unwrap();
    Guest::start(&mut second, &memory, 0).echoes(b"next");
}

#[test]
fn a_ring_waits_for_what_the_device_must_hold() {
    let (knobs, memory) = (Arc::<Knobs>::default(), Memory::new(1 << 20).unwrap());
    knobs.not_yet.store(u32::MAX, SeqCst);
    let (server, mut front_end) = connected(&knobs, &memory);
    let mut guest = Guest::start(&mut front_end, &memory, 0);
    guest.submit(b"later");
    assert_eq!(front_end.read_config(0, 8).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(front_end.stop_ring(0).unwrap(), 0);

    guest.events = front_end.start_ring(0, &guest.queue, 0).unwrap();
    assert_eq!(knobs.acquired.load(SeqCst), 0);
    knobs.not_yet.store(3, SeqCst);
    assert_eq!(guest.wait_used(), 5);
    assert_eq!(knobs.acquired.load(SeqCst), 1);
    drop(front_end);
    server.join().unwrap();
}

#[test]
fn kicks_and_calls_can_be_messages() {
    let (knobs, memory) = (Arc::default(), Memory::new(1 << 20).unwrap());
    let (server, mut front_end) = connected(&knobs, &memory);
    let inband = Negotiation::new(0).with_protocol(ProtocolFeatures::all());
    front_end.negotiate(&inband).unwrap();
    front_end.open_back_channel().unwrap();
    front_end.share_memory().unwrap();
    let mut queue = front_end.queue(1, 64).unwrap();
    front_end.configure_ring(1, &queue, 0).unwrap();
    front_end.enable_ring(1, true).unwrap();
    for _ in 0..10 {
        let buffer = memory.alloc_with(b"in-band").unwrap();
        queue.add(&[buffer.readable()], Placement::Direct).unwrap();
        if queue.publish() {
            front_end.kick_in_band(1).unwrap();
        }
        let request = front_end.next_backend_request().unwrap();
        assert_eq!(request, BackendRequest::VringCall { index: 1 });
        assert!(queue.reap().unwrap().is_some());
    }
    drop(front_end);
    server.join().unwrap();
}

#[test]
fn the_device_state_moves_to_another_connection() {
    let (knobs, memory) = (Arc::default(), Memory::new(1 << 20).unwrap());
    let (_source, mut from) = connected(&knobs, &memory);
    let (_destination, mut to) = connected(&knobs, &memory);
    from.negotiate(&Negotiation::new(0)).unwrap();
    to.negotiate(&Negotiation::new(0)).unwrap();
    from.restore_config(0, &[42]).unwrap();
    let state = from.save_state().unwrap();
    to.load_state(&state).unwrap();
    assert_eq!(to.read_config(0, 8).unwrap(), [42, 2, 3, 4, 5, 6, 7, 8]);
    assert!(to.load_state(&state[1..]).is_err());
    assert_eq!(to.read_config(0, 1).unwrap(), [42]);

    from.share_memory().unwrap();
    let queue = from.queue(0, 64).unwrap();
    from.start_ring(0, &queue, 0).unwrap();
    assert!(from.save_state().is_err(), "the device is not suspended");
}

#[test]
fn control_clients_see_and_change_the_device() {
    let (knobs, memory) = (Arc::default(), Memory::new(1 << 20).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = serve(Endpoint::from_fd(theirs.into()).unwrap(), &knobs, Some(&path));
    let mut front_end = FrontEnd::new(ours, &memory);
    let mut guest = Guest::start(&mut front_end, &memory, mask(EVENT_IDX));
    front_end.open_back_channel().unwrap();
    guest.echoes(b"counted");

    let mut client = Client::connect(&path);
    let stats = client.ask(r#"{"cmd":"stats"}"#);
    assert_eq!(stats["ok"], true, "{stats}");
    assert_eq!(stats["queues"][0]["chains"], 1, "{stats}");
    assert_eq!(stats["connection"]["features"][0], "EVENT_IDX");
    assert_eq!(stats["connection"]["rings"][0]["state"], "running");
    let metrics = client.ask(r#"{"cmd":"metrics"}"#);
    let text = metrics["text"].as_str().unwrap();
    assert!(text.contains("outrigger_connected{device=\"echo\"} 1"), "{text}");
    assert_eq!(client.ask(r#"{"cmd":"poke","value":9}"#)["poked"], 9);
    front_end.wait_for_config_change().unwrap();
    assert_eq!(front_end.read_config(0, 1).unwrap(), [9]);
    assert_eq!(client.ask(r#"{"cmd":"nonsense"}"#)["ok"], false);
    drop(front_end);
    server.join().unwrap();
}

#[test]
fn both_sides_of_a_device_can_wake_each_other() {
    let (knobs, memory) = (Arc::default(), Memory::new(1 << 20).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = serve(Endpoint::from_fd(theirs.into()).unwrap(), &knobs, Some(&path));
    let mut front_end = FrontEnd::new(ours, &memory);
    let mut guest = Guest::start(&mut front_end, &memory, 0);
    let mut client = Client::connect(&path);
    for round in 1..=3 {
        client.ask(r#"{"cmd":"poke","value":9}"#);
        let heard = || [&knobs.nudged, &knobs.rung].map(|count| count.load(SeqCst));
        let patience = std::time::Instant::now() + Duration::from_secs(10);
        while heard() != [round, round] {
            assert!(std::time::Instant::now() < patience, "{:?} in round {round}", heard());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    guest.echoes(b"still served");
    drop(front_end);
    server.join().unwrap();
}

#[test]
fn what_was_acknowledged_is_kept_already() {
    let (knobs, memory) = (Arc::default(), Memory::new(1 << 20).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let open = || StateFile::at_path(&path, DeviceType::ENTROPY.0).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let setup = PortSetup {
        device: Echo::new(&knobs),
        endpoint: Endpoint::from_fd(theirs.into()).unwrap(),
        state: Some(open()),
        seats: Seats::default(),
    };
    let server = std::thread::spawn(move || serve_port(setup, None));
    let mut front_end = FrontEnd::new(ours, &memory);
    front_end.negotiate(&Negotiation::new(0)).unwrap();
    let copy = folder.path().join("copy");
    for value in 0..100_u8 {
        front_end.write_config(4, &[value]).unwrap();
        // What a successor would find if the daemon were killed now.
        std::fs::copy(&path, &copy).unwrap();
        let kept = StateFile::at_path(&copy, DeviceType::ENTROPY.0).unwrap();
        assert_eq!(kept.saved().unwrap().1[4], value);
    }
    drop(front_end);
    server.join().unwrap();
}

#[test]
fn nonsense_ends_the_connection_and_nothing_else() {
    let (knobs, memory) = (Arc::default(), Memory::new(1 << 20).unwrap());
    let (server, mut front_end) = connected(&knobs, &memory);
    front_end.negotiate(&Negotiation::new(0)).unwrap();
    let deadline = front_end.deadline().instant();
    front_end.client().send(Request::SetFeatures(u64::MAX), deadline).unwrap();
    front_end.wait_for_close().unwrap();
    server.join().unwrap();
}

/// A client of the control socket.
struct Client(BufReader<UnixStream>);

impl Client {
    fn connect(path: &Path) -> Self {
        Client(BufReader::new(UnixStream::connect(path).unwrap()))
    }

    fn ask(&mut self, line: &str) -> Value {
        writeln!(self.0.get_mut(), "{line}").unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}
