//! A disk that grows while the guest runs: the control socket tells the daemon, the daemon tells
//! the front-end, and the driver learns the new capacity and can use it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use e2e::{FIRST, Job, Kind, Kit, Place, Scene, make_image, require};
use serde_json::json;

#[test]
fn user_mode_linux_sees_the_new_capacity() {
    grow("uml-resize", Kind::Uml);
}

#[test]
fn qemu_sees_the_new_capacity() {
    grow("qemu-resize", Kind::Qemu);
}

fn grow(name: &str, kind: Kind) {
    let place = Place::of_workspace().unwrap();
    let Some(kit) = require(name, Kit::cached(&place, kind)) else { return };
    let scene = Scene::new(name, &kit);
    let job = Job::new().describe(FIRST).await_resize(FIRST).end_of_disk(FIRST);
    let mut stage = scene.start(&place, job).unwrap();

    stage.guest.wait_for("waiting").unwrap();
    let larger = scene.size + (64 << 20);
    make_image(&stage.image, larger).unwrap();
    stage.daemon.control(&json!({"cmd": "resize"})).unwrap();

    let report = stage.finish().unwrap();
    assert_eq!(report.number("capacity").unwrap(), scene.size);
    assert_eq!(report.number("resized").unwrap(), larger);
    assert_eq!(report.get("end"), "ok");
}
