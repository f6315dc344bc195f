//! The VMM's device code under this machine's real KVM, driven by a guest without a kernel.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cpl3::{Cost, Error, Report, Scene, Stage};
use e2e::{Place, Plan, Programs, RunDir, make_image, require};
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

#[test]
fn a_disk_is_driven_by_polling() {
    let Some(stage) = stage("cpl3 disk") else { return };
    let run = RunDir::create(&Place::of_workspace().unwrap(), "cpl3-disk").unwrap();
    let image = run.file("disk.img");
    make_image(&image, DISK).unwrap();
    let file = format!("--blk-file={}", image.display());
    let arguments = [file.as_str(), "--serial=bare"];
    let plan = Plan::new(&run, &Programs::on_demand(), "blk", &arguments).unwrap();
    let daemon = plan.start().unwrap();

    let config = Config::new("disk0", DeviceType::BLOCK);
    let source = Box::new(Socket::new(plan.socket()));
    let disk = FrontEnd::spawn(config, source, regions(&stage), Hooks::default()).unwrap();
    disk.wait_until_ready(Instant::now() + LIMIT).unwrap();
    let report =
        stage.play(Scene::Block, vec![Arc::clone(&disk) as Arc<dyn Device>], LIMIT).unwrap();

    assert_eq!(report.get("functions"), "2");
    assert_eq!(report.number("capacity"), Some(DISK));
    assert_eq!(report.get("id"), "bare");
    assert_eq!(report.get("requests"), "ok");
    assert_eq!(report.get("pending"), "ok");
    assert_eq!(report.get("done"), "ok");
    print_costs(&report);
    assert!(disk.stop(Instant::now() + LIMIT));
    daemon.stop().unwrap();
}

/// For a look at a test's output; how long things take differs from machine to machine.
fn print_costs(report: &Report) {
    eprintln!("{:?} with {} exits", report.took, report.exits);
    for cost in [Cost::Kick, Cost::RegisterRead, Cost::PortWrite, Cost::Request, Cost::Stores] {
        eprintln!("{cost:?}: {:?}", report.cost(cost).unwrap());
    }
}
