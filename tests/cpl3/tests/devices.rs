//! The VMM's device code under this machine's real KVM, driven by a guest without a kernel.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cpl3::{Cost, Error, Report, Scene, Stage};
use e2e::{Daemon, Place, Plan, Programs, RunDir, make_image, require};
use front_end::{Config, FrontEnd, Hooks, Region, Socket};
use virtio_pci::Device;
use virtio_spec::DeviceType;

/// For a scene; it takes some milliseconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes of the disk.
const DISK: u64 = 16 << 20;

fn stage(test: &str) -> Option<Stage> {
    let stage = Stage::new().map_err(|error| match error {
        Error::Hypervisor(hypervisor::Error::Missing | hypervisor::Error::Forbidden) => {
            e2e::Error::Missing { what: "KVM".into(), how: error.to_string() }
        }
        error => panic!("{error}"),
    });
    require(test, stage)
}

/// What the front-end tells a back-end of the guest's memory.
fn regions(stage: &Stage) -> Vec<Region> {
    let region = |region: &hypervisor::memory::Region| Region {
        guest_addr: region.start().0,
        size: region.size(),
        user_addr: region.host_address(),
        file: Arc::new(region.fd().as_fd().try_clone_to_owned().unwrap()),
        offset: region.offset(),
    };
    stage.memory().regions().iter().map(region).collect()
}

#[test]
fn a_bus_without_devices_has_a_bridge() {
    let Some(stage) = stage("cpl3 enumeration") else { return };
    let report = stage.play(Scene::Enumerate, Vec::new(), LIMIT).unwrap();
    assert_eq!(report.get("functions"), "1");
    assert_ne!(report.get("function_00"), "");
}

/// A stage, and a device on it with a daemon of its own.
struct Rig {
    stage: Stage,
    device: Arc<FrontEnd>,
    daemon: Daemon,
    run: RunDir,
}

impl Rig {
    /// None: there is no KVM. `arguments` are made from the rig's folder.
    fn new(
        kind: DeviceType,
        name: &str,
        arguments: impl FnOnce(&RunDir) -> Vec<String>,
    ) -> Option<Self> {
        let stage = stage(&format!("cpl3 {name}"))?;
        let run = RunDir::create(&Place::of_workspace().unwrap(), &format!("cpl3-{name}")).unwrap();
        let arguments = arguments(&run);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let plan = Plan::new(&run, &Programs::on_demand(), name, &arguments).unwrap();
        let daemon = plan.start().unwrap();
        let source = Box::new(Socket::new(plan.socket()));
        let config = Config::new(name, kind);
        let device = FrontEnd::spawn(config, source, regions(&stage), Hooks::default()).unwrap();
        device.wait_until_ready(Instant::now() + LIMIT).unwrap();
        Some(Self { stage, device, daemon, run })
    }

    /// Plays a scene to its good end.
    fn play(&self, scene: Scene) -> Report {
        let device = Arc::clone(&self.device) as Arc<dyn Device>;
        let report = self.stage.play(scene, vec![device], LIMIT).unwrap();
        assert_eq!(report.get("functions"), "2");
        assert_eq!(report.get("done"), "ok");
        report
    }

    fn end(self) {
        assert!(self.device.stop(Instant::now() + LIMIT));
        self.daemon.stop().unwrap();
    }
}

#[test]
fn a_disk_is_driven_by_polling() {
    let rig = Rig::new(DeviceType::BLOCK, "blk", |run| {
        let image = run.file("disk.img");
        make_image(&image, DISK).unwrap();
        vec![format!("--blk-file={}", image.display()), "--serial=bare".into()]
    });
    let Some(rig) = rig else { return };
    let report = rig.play(Scene::Block);
    assert_eq!(report.number("capacity"), Some(DISK));
    assert_eq!(report.get("id"), "bare");
    assert_eq!(report.get("requests"), "ok");
    assert_eq!(report.get("pending"), "ok");
    print_costs(&report);
    rig.end();
}

#[test]
fn a_network_card_is_driven_by_polling() {
    let arguments = |_: &RunDir| vec!["--echo".to_owned(), "--mac=02:00:00:00:00:42".to_owned()];
    let Some(rig) = Rig::new(DeviceType::NET, "net", arguments) else { return };
    let report = rig.play(Scene::Net);
    assert_eq!(report.get("mac"), "02:00:00:00:00:42");
    rig.end();
}

#[test]
fn a_console_is_driven_by_polling() {
    let socket = |run: &RunDir| run.socket("port");
    let rig = Rig::new(DeviceType::CONSOLE, "console", |run| {
        vec![format!("--port=backend=unix:{}", socket(run).display())]
    });
    let Some(rig) = rig else { return };
    let host = UnixStream::connect(socket(&rig.run)).unwrap();
    host.set_read_timeout(Some(LIMIT)).unwrap();
    let (said, mut lines) = ("from the host\n", BufReader::new(&host).lines());
    (&host).write_all(said.as_bytes()).unwrap();
    let report = rig.play(Scene::Console);
    assert_eq!(report.number("returned"), Some(said.len() as u64));
    let mut line = || lines.next().unwrap().unwrap();
    assert_eq!([line(), line()], ["from the guest", "from the host"]);
    rig.end();
}

#[test]
fn a_balloon_is_driven_by_polling() {
    /// As many pages as one list of them holds easily.
    const PAGES: u64 = 64;
    let target = |_: &RunDir| vec![format!("--target={}", PAGES * 4096)];
    let Some(rig) = Rig::new(DeviceType::BALLOON, "balloon", target) else { return };
    let report = rig.play(Scene::Balloon);
    assert_eq!(report.number("wanted"), Some(PAGES));
    rig.end();
}

/// For a look at a test's output; how long things take differs from machine to machine.
fn print_costs(report: &Report) {
    eprintln!("{:?} with {} exits", report.took, report.exits);
    for cost in [Cost::Kick, Cost::RegisterRead, Cost::PortWrite, Cost::Request, Cost::Stores] {
        eprintln!("{cost:?}: {:?}", report.cost(cost).unwrap());
    }
}
